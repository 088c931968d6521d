//! Answers that are drafted ahead are the answers that are not. `Always` drafts at every token, mostly wrong, so that
//! right and wrong drafts meet every way in which an answer can end.

use owlet::engine::{Engine, FinishReason, Outcome, Request, Sampling, Speculation};
use owlet::prompt::Message;

use crate::engine::{engine_with, finish, pixels, request};
use crate::models::Kind;

fn drafting(kind: Kind, speculation: Speculation) -> Engine {
    engine_with(kind, |options| options.speculation = speculation)
}

fn ask(engine: &Engine, request: &Request) -> Outcome {
    let (outcome, streamed, _) = finish(&engine.submit(request.clone()).unwrap());
    assert_eq!(streamed, outcome.text);
    outcome
}

/// All of an answer but what it took.
fn words(outcome: &Outcome) -> (&[u32], &str, FinishReason, usize, usize) {
    (&outcome.ids, &outcome.text, outcome.finish_reason, outcome.n_prompt, outcome.n_reused)
}

/// Settings of every kind, for questions that repeat themselves and the answer.
fn requests() -> Vec<Request> {
    let samplings = [
        Sampling::GREEDY,
        Sampling { repeat_penalty: 1.3, ..Sampling::GREEDY },
        Sampling { temperature: 0.3, seed: 1, ..Sampling::GREEDY },
        Sampling { temperature: 0.7, top_k: 3, repeat_penalty: 1.1, seed: 2, ..Sampling::GREEDY },
        Sampling { temperature: 1.0, top_p: 0.8, min_p: 0.1, seed: 3, ..Sampling::GREEDY },
    ];
    let questions = ["la li lo la li lo", "What?", "A red circle, A red circle, A"];
    let stops: [&[&str]; 4] = [&[], &["li lo"], &["lo la li l", "zzz"], &["a", "\u{fffd}e"]];
    let mut requests = Vec::new();
    for (n, sampling) in samplings.into_iter().enumerate() {
        for (m, question) in questions.into_iter().enumerate() {
            for (s, stop) in stops.into_iter().enumerate() {
                let with_picture = (n + m + s) % 2 == 0;
                let (images, shown) =
                    if with_picture { (vec![pixels(112, 3)], 0..1) } else { (vec![], 0..0) };
                let mut request = request(vec![Message::user(question, shown)], images);
                request.sampling = sampling;
                request.stop = stop.iter().map(|text| text.to_string()).collect();
                request.max_tokens = [1, 2, 17, 40][(n + 2 * m + s) % 4];
                requests.push(request);
            }
        }
    }
    requests
}

#[test]
fn drafts_change_no_answer() {
    for kind in [Kind::Random, Kind::Endless, Kind::Story] {
        let [plain, always, auto] =
            [Speculation::Off, Speculation::Always, Speculation::Auto].map(|s| drafting(kind, s));
        let (mut n_accepted, mut n_rejected) = (0, 0);
        for request in requests() {
            let expected = ask(&plain, &request);
            assert_eq!((expected.n_drafted, expected.n_accepted), (0, 0));
            for engine in [&always, &auto] {
                let found = ask(engine, &request);
                assert_eq!(words(&found), words(&expected), "{kind:?}: {request:?}");
            }
            // The next turn finds the same of this one in the cache.
            let mut next = request.clone();
            next.messages.extend([Message::bot(&expected.text), Message::user("And?", [])]);
            let expected = ask(&plain, &next);
            for engine in [&always, &auto] {
                let found = ask(engine, &next);
                assert_eq!(words(&found), words(&expected), "{kind:?}: {next:?}");
                n_accepted += found.n_accepted;
                n_rejected += found.n_drafted - found.n_accepted;
            }
        }
        assert!(n_accepted > 0 && n_rejected > 0, "{kind:?}: {n_accepted} right, {n_rejected} wrong");
    }
}

/// Up to the last position and no further; where a cache begins to grow as well.
#[test]
fn drafts_end_with_the_context() {
    for kind in [Kind::Endless, Kind::Random] {
        let mut song = request(vec![Message::user("la li lo la li lo", [])], vec![]);
        song.max_tokens = 600;
        let n_prompt =
            ask(&drafting(kind, Speculation::Off), &Request { max_tokens: 1, ..song.clone() }).n_prompt;
        for n_ctx in (n_prompt as u32..n_prompt as u32 + 20).chain([255, 256, 257, 511, 512, 513, 530]) {
            let [plain, always] = [Speculation::Off, Speculation::Always].map(|speculation| {
                engine_with(kind, |options| (options.n_ctx, options.speculation) = (n_ctx, speculation))
            });
            let (expected, found) = (ask(&plain, &song), ask(&always, &song));
            assert_eq!(words(&found), words(&expected), "{kind:?}, a context of {n_ctx}");
            if kind == Kind::Endless {
                assert_eq!(found.finish_reason, FinishReason::Context);
            }
        }
    }
}

/// Others come and go while an answer is drafted.
#[test]
fn drafts_live_beside_other_answers() {
    let requests = requests();
    let plain = drafting(Kind::Random, Speculation::Off);
    let crowd = engine_with(Kind::Random, |options| {
        (options.n_slots, options.speculation) = (3, Speculation::Always);
    });
    let tickets: Vec<_> = requests.iter().map(|request| crowd.submit(request.clone()).unwrap()).collect();
    for (request, ticket) in requests.iter().zip(&tickets) {
        let (expected, (found, ..)) = (ask(&plain, request), finish(ticket));
        assert_eq!((&found.ids, &found.text), (&expected.ids, &expected.text), "{request:?}");
    }
}

/// Text that goes round is soon drafted, and then takes fewer passes than tokens.
#[test]
fn what_repeats_is_drafted() {
    let mut song = request(vec![Message::user("Sing!", [])], vec![]);
    song.max_tokens = 400;
    let outcome = ask(&drafting(Kind::Endless, Speculation::Always), &song);
    assert!(outcome.n_accepted > 350, "{} of {} drafted", outcome.n_accepted, outcome.n_drafted);
    // Whether it pays is up to the clock; that what was chosen was drafted is not.
    let auto = ask(&drafting(Kind::Endless, Speculation::Auto), &song);
    assert!(auto.n_accepted <= auto.n_drafted && auto.n_drafted <= 400 * 15);
    assert_eq!(auto.ids, outcome.ids);
}
