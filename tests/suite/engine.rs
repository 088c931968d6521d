//! The engine through its own door: slots, reuse, cancelling. Random weights: one wrong position changes every token.

use std::path::Path;
use std::sync::Arc;

use owlet::engine::{
    CacheOptions, EmbeddingSource, Engine, Event, FinishReason, Loaded, Options, Outcome, Request, Scope,
    Speculation, Ticket,
};
use owlet::model::KvType;
use owlet::prompt::{Message, Pixels};

use crate::models::{Kind, path};

pub fn engine(kind: Kind, n_slots: u32) -> Engine {
    engine_with(kind, |options| options.n_slots = n_slots)
}

/// One slot, unless `change` says otherwise.
pub fn engine_with(kind: Kind, change: impl FnOnce(&mut Options)) -> Engine {
    engine_of(&path(kind), change)
}

/// On the model in `file`.
pub fn engine_of(file: &Path, change: impl FnOnce(&mut Options)) -> Engine {
    let loaded = Loaded::open(Some(file), 1).unwrap();
    let mut options = Options {
        n_ctx: 2048,
        n_slots: 1,
        kv_type: KvType::F32,
        cache: CacheOptions::default(),
        speculation: Speculation::Auto,
        low_memory: false,
    };
    change(&mut options);
    Engine::start(loaded, options).unwrap()
}

pub fn pixels(size_px: usize, seed: u8) -> Arc<Pixels> {
    let rgb: Vec<u8> = (0..size_px * size_px * 3).map(|i| (i as u8).wrapping_mul(seed)).collect();
    let planes = rgb.iter().map(|&byte| f32::from(byte) / 127.5 - 1.0).collect();
    Arc::new(Pixels { size_px, rgb: rgb.into(), planes })
}

pub fn request(messages: Vec<Message>, images: Vec<Arc<Pixels>>) -> Request {
    Request { max_tokens: 12, ..Request::new(messages, images) }
}

fn asked(question: &str, seed: u8) -> Request {
    request(vec![Message::user(question, [0])], vec![pixels(112, seed)])
}

/// Waits for the end; yields it, the text that was streamed, and where the pictures came from.
pub fn finish(ticket: &Ticket) -> (Outcome, String, Vec<EmbeddingSource>) {
    let (mut text, mut sources) = (String::new(), Vec::new());
    loop {
        match ticket.next_event() {
            Event::Text(piece) => text += &piece,
            Event::Encoded { source, .. } => sources.push(source),
            Event::Encoding { done, total, .. } => assert!(done < total),
            Event::Prefill { done, total } => assert!(done <= total),
            event @ (Event::Chosen(_) | Event::Read(..)) => panic!("{event:?}"),
            Event::Warning(text) => panic!("{text}"),
            Event::Done(outcome) => return (outcome, text, sources),
            Event::Failed(error) => panic!("{error}"),
        }
    }
}

fn answer(engine: &Engine, request: Request) -> Outcome {
    let (outcome, text, _) = finish(&engine.submit(request).unwrap());
    assert_eq!(text, outcome.text, "what was streamed is the answer");
    outcome
}

#[test]
fn several_slots_answer_as_one_does() {
    let alone: Vec<_> =
        [3, 5, 7, 9].map(|seed| answer(&engine(Kind::Random, 1), asked("What?", seed)).ids).into();
    assert_ne!(alone[0], alone[1], "another picture, another answer");
    let crowd = engine(Kind::Random, 3);
    // Four requests for three slots, prompts of different lengths beside each other.
    let tickets: Vec<_> = [3, 5, 7, 9].map(|seed| crowd.submit(asked("What?", seed)).unwrap()).into();
    let long = crowd.submit(request(vec![Message::user("long ".repeat(100), [])], vec![])).unwrap();
    let together: Vec<_> = tickets.iter().map(|ticket| finish(ticket).0.ids).collect();
    assert_eq!(together, alone);
    let (outcome, ..) = finish(&long);
    assert_eq!(
        outcome.ids,
        answer(&engine(Kind::Random, 1), request(vec![Message::user("long ".repeat(100), [])], vec![])).ids
    );
}

#[test]
fn reuse_changes_no_answer() {
    let turns = |first: &Outcome| {
        let messages =
            vec![Message::user("What?", [0]), Message::bot(&first.text), Message::user("And why?", [1])];
        request(messages, vec![pixels(112, 3), pixels(112, 5)])
    };
    let warm = engine(Kind::Random, 1);
    let first = answer(&warm, asked("What?", 3));
    assert_eq!(first.n_reused, 0);
    let (second, _, sources) = finish(&warm.submit(turns(&first)).unwrap());
    assert!(second.n_reused >= first.n_prompt, "{second:?}");
    assert_eq!(sources, [EmbeddingSource::Computed], "only the new picture is looked at");
    let fresh = answer(&engine(Kind::Random, 1), turns(&first));
    assert_eq!((fresh.n_reused, &fresh.ids), (0, &second.ids));

    // Another conversation with a picture that was seen: nothing of the sequence is left, its embedding is.
    let other = request(vec![Message::user("Else?", [0])], vec![pixels(112, 5)]);
    let (_, _, sources) = finish(&warm.submit(other).unwrap());
    assert_eq!(sources, [EmbeddingSource::Reused]);

    // The same question again: all but the last position is known, and the words are the same.
    let again = answer(&warm, turns(&first));
    assert_eq!(again.ids, second.ids);
    let once_more = answer(&warm, turns(&first));
    assert_eq!((once_more.n_reused, &once_more.ids), (once_more.n_prompt - 1, &second.ids));
}

/// The cache starts small; that it grows, and when, changes no answer.
#[test]
fn a_cache_that_grows_changes_no_answer() {
    let long = |n_words| {
        let messages =
            vec![Message::user("What?", [0]), Message::bot("so ".repeat(n_words)), Message::user("Why?", [])];
        request(messages, vec![pixels(112, 3)])
    };
    let grown = engine(Kind::Random, 1);
    let mut reused = Vec::new();
    for n_words in [100, 160, 170, 330, 360] {
        let outcome = answer(&grown, long(n_words));
        let fresh = answer(&engine(Kind::Random, 1), long(n_words));
        assert_eq!((&outcome.ids, outcome.n_prompt), (&fresh.ids, fresh.n_prompt), "{n_words} words");
        reused.push((outcome.n_reused, outcome.n_prompt));
    }
    assert!(
        reused.iter().any(|(_, n_prompt)| *n_prompt < 512)
            && reused.iter().any(|(_, n_prompt)| *n_prompt > 1024),
        "{reused:?}"
    );
    assert!(
        reused[1..].windows(2).all(|pair| pair[1].0 > pair[0].1 / 2),
        "what was there is kept: {reused:?}"
    );
}

#[test]
fn a_cancelled_request_leaves_the_next_one_alone() {
    let engine = engine(Kind::Endless, 1);
    let mut endless = request(vec![Message::user("Sing!", [])], vec![]);
    endless.max_tokens = 1900;
    let first = engine.submit(endless.clone()).unwrap();
    let second = engine.submit(request(vec![Message::user("Sing!", [])], vec![])).unwrap();
    while !matches!(first.next_event(), Event::Text(_)) {}
    first.cancel().cancel();
    let (outcome, rest, _) = finish(&first);
    assert_eq!(outcome.finish_reason, FinishReason::Cancelled);
    assert!(outcome.text.ends_with(&rest) && outcome.text.starts_with("la"), "{}", outcome.text);
    let (outcome, ..) = finish(&second);
    assert_eq!((outcome.finish_reason, outcome.ids.len()), (FinishReason::Length, 12));

    // A door that leaves without a word.
    drop(engine.submit(endless).unwrap());
    assert_eq!(answer(&engine, request(vec![Message::user("Sing!", [])], vec![])).ids.len(), 12);
}

#[test]
fn requests_that_make_no_sense() {
    let engine = engine(Kind::Random, 1);
    let messages = |n: usize| vec![Message::user("What?", 0..n)];
    let mut no_tokens = request(messages(0), vec![]);
    no_tokens.max_tokens = 0;
    let mut cold = request(messages(0), vec![]);
    cold.sampling.temperature = f32::NAN;
    let cases = [
        (no_tokens, "max tokens: expected at least 1, found 0"),
        (cold, "temperature: expected a finite number of at least 0, found NaN"),
        (request(vec![], vec![]), "expected a question as the last message"),
        (request(messages(1), vec![]), "picture 1: the request brings 0"),
    ];
    for (request, text) in cases {
        assert_eq!(engine.submit(request).err().map(|error| error.to_string()).as_deref(), Some(text));
    }
    // Pixels of another size are found out by the tower; the engine lives on.
    let ticket = engine.submit(request(messages(1), vec![pixels(28, 1)])).unwrap();
    let failed = loop {
        if let Event::Failed(error) = ticket.next_event() {
            break error.to_string();
        }
    };
    assert_eq!(failed, "picture: expected [112, 112, 3] values, found 2352");
    assert_eq!(answer(&engine, request(messages(0), vec![])).ids.len(), 12);
}

/// What a picture without numbers leaves behind is forgotten by decoder and slot alike: the next request, which begins
/// with the same positions, is answered as if nothing had been.
#[test]
fn a_poisoned_sequence_is_forgotten() {
    let engine = engine(Kind::Random, 1);
    let mut poison = pixels(112, 3).as_ref().clone();
    poison.planes.fill(f32::NAN);
    for _ in 0..2 {
        let ticket =
            engine.submit(request(vec![Message::user("What?", [0])], vec![Arc::new(poison.clone())]));
        let ticket = ticket.unwrap();
        let failed = loop {
            if let Event::Failed(error) = ticket.next_event() {
                break error.to_string();
            }
        };
        assert!(failed.ends_with("logits: expected numbers, found infinities or NaN"), "{failed}");
    }
    let outcome = answer(&engine, asked("What?", 5));
    assert_eq!(outcome.ids, answer(&self::engine(Kind::Random, 1), asked("What?", 5)).ids);
}

/// A few common words at the beginning are no reason to take a conversation's slot.
#[test]
fn a_new_conversation_takes_the_slot_that_nobody_used_for_longest() {
    let engine = engine(Kind::Random, 2);
    for seed in [3, 5] {
        answer(&engine, asked("What?", seed));
    }
    for seed in [5, 3] {
        let again = answer(&engine, asked("What?", seed));
        assert_eq!(again.n_reused, again.n_prompt - 1, "picture {seed}");
    }
    answer(&engine, asked("What?", 7));
    let [three, five] = [3, 5].map(|seed| answer(&engine, asked("What?", seed)));
    assert!(three.n_reused == three.n_prompt - 1 && five.n_reused < 16, "{three:?} {five:?}");
}

/// A question that begins as one in another slot does gets that slot's rows, a picture's too, and the same answer.
#[test]
fn what_another_slot_knows_is_copied() {
    // Heads of 16 do not fill blocks of q8_0; the copy's own test has those.
    for kv_type in [KvType::F16, KvType::F32] {
        let engine = |n_slots| {
            engine_with(Kind::Random, |options| (options.n_slots, options.kv_type) = (n_slots, kv_type))
        };
        // So long that what they share is less than half: a slot of its own.
        let long = |word: &str| {
            let question = format!("{} {word}", "and what of that, please? ".repeat(30));
            request(vec![Message::user(question, [0])], vec![pixels(112, 3)])
        };
        let other =
            request(vec![Message::user(format!("{}?", "why ".repeat(150)), [0])], vec![pixels(112, 3)]);
        let [first, second] = [long("this"), other];
        let expected = [&first, &second].map(|asked| answer(&engine(1), asked.clone()));
        let crowd = engine(3);
        let of_first = answer(&crowd, first.clone());
        assert_eq!((of_first.n_reused, of_first.n_copied), (0, 0));
        let (of_second, _, sources) = finish(&crowd.submit(second.clone()).unwrap());
        let n_picture = Loaded::open(Some(&path(Kind::Random)), 1).unwrap().n_image_tokens().unwrap();
        assert!(of_second.n_copied > n_picture, "{of_second:?}");
        assert_eq!(of_second.n_reused, of_second.n_copied);
        assert_eq!(sources, [], "its picture's rows are there");
        assert_eq!([&of_first.ids, &of_second.ids], expected.each_ref().map(|outcome| &outcome.ids));
        assert_ne!(of_first.ids, of_second.ids);
        // Each slot kept its own, so nothing is copied any more.
        for (asked, expected) in [(first, &expected[0]), (second, &expected[1])] {
            let again = answer(&crowd, asked);
            assert_eq!((again.n_copied, again.n_reused, &again.ids), (0, again.n_prompt - 1, &expected.ids));
        }
    }
}

/// Nothing that one left tells another anything: neither of its words nor of its pictures, in memory or on disk.
#[test]
fn scopes_share_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Some((dir.path().to_path_buf(), 1 << 20));
    let engine = |n_slots| {
        engine_with(Kind::Random, |options| {
            options.n_slots = n_slots;
            options.cache = CacheOptions { disk: disk.clone(), ..CacheOptions::default() };
        })
    };
    let [a, b] = [Scope::of(b"a"), Scope::of(b"b")];
    let ask = |engine: &Engine, scope: Scope| {
        let ticket = engine.answer(engine.check_in(scope, asked("What?", 5)).unwrap()).unwrap();
        let (outcome, _, sources) = finish(&ticket);
        (outcome.n_reused > 0, sources, outcome.ids)
    };
    let (_, _, ids) = ask(&self::engine(Kind::Random, 1), Scope::SHARED);
    let computed = (false, vec![EmbeddingSource::Computed], ids.clone());
    for n_slots in [1, 3] {
        let engine = engine(n_slots);
        for scope in [Scope::SHARED, a, b] {
            let known = match n_slots {
                1 => computed.clone(),
                _ => (false, vec![EmbeddingSource::Stored], ids.clone()),
            };
            assert_eq!(ask(&engine, scope), known, "{n_slots} slots, {scope:?}");
            assert_eq!(ask(&engine, scope), (true, vec![], ids.clone()), "{n_slots} slots, {scope:?}");
        }
    }
}
