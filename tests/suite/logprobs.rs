//! How likely tokens were, by the engine itself: drafts, neighbours and constraints change none of it.

use ggml::Cancel;
use owlet::engine::{Constraint, Engine, Event, Request, Sampling, Speculation, TokenLogprob};
use owlet::model::{Decoder, Input, KvType, Row};
use owlet::prompt::Message;

use crate::engine::{engine, engine_with, request};
use crate::models::Kind;

fn asked(sampling: Sampling, constraint: Option<Constraint>) -> Request {
    let messages = vec![Message::user("la li lo la li lo la li", [])];
    Request { sampling, constraint, max_tokens: 60, logprobs: Some(4), ..request(messages, vec![]) }
}

fn told(engine: &Engine, request: Request) -> (Vec<TokenLogprob>, Vec<u32>) {
    let ticket = engine.submit(request).unwrap();
    let mut tokens = Vec::new();
    loop {
        match ticket.next_event() {
            Event::Chosen(token) => tokens.push(token),
            Event::Done(outcome) => return (tokens, outcome.ids),
            Event::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
}

#[test]
fn they_belong_to_their_tokens() {
    let hot = Sampling { temperature: 2.0, repeat_penalty: 1.5, seed: 5, ..Sampling::GREEDY };
    for kind in [Kind::Random, Kind::Endless] {
        for sampling in [Sampling::GREEDY, hot] {
            let plain = engine_with(kind, |options| options.speculation = Speculation::Off);
            let (tokens, ids) = told(&plain, asked(sampling, None));
            assert_eq!(tokens.iter().map(|token| token.id).collect::<Vec<_>>(), ids, "{kind:?}");
            for token in &tokens {
                let sorted = token.top.windows(2).all(|pair| pair[0].1 >= pair[1].1);
                assert!(token.top.len() == 4 && sorted && token.logprob <= token.top[0].1, "{token:?}");
                if sampling == Sampling::GREEDY {
                    assert_eq!((token.id, token.logprob), token.top[0], "the likeliest was taken");
                }
            }
            let drafting = engine_with(kind, |options| options.speculation = Speculation::Always);
            assert_eq!(told(&drafting, asked(sampling, None)).0, tokens, "{kind:?} with drafts");
        }
    }
}

/// It is what the network says: a constraint forbids tokens, and does not make others likelier.
#[test]
fn a_constraint_does_not_change_them() {
    let engine = engine(Kind::Random, 1);
    let free = told(&engine, asked(Sampling::GREEDY, None)).0;
    let only = Constraint::choice(&["la li lo", "lo"]).unwrap();
    let bound = told(&engine, asked(Sampling::GREEDY, Some(only))).0;
    assert_eq!(bound[0].top, free[0].top);
    assert!(bound.iter().any(|token| token.id != token.top[0].0), "{bound:?}");
}

#[test]
fn nobody_who_did_not_ask_is_told() {
    let engine = engine(Kind::Random, 1);
    let (tokens, ids) = told(&engine, Request { logprobs: None, ..asked(Sampling::GREEDY, None) });
    assert!(tokens.is_empty() && ids.len() == 60);
}

/// Of a prompt's tokens, to the bit what the decoder says, whatever is known of them, and whatever comes behind.
#[test]
fn a_prompt_is_scored_as_the_network_has_it() {
    let engine = engine(Kind::Random, 2);
    let model = engine.loaded();
    let text = "la li lo and so on, and what of that? ".repeat(20);
    let ids = model.tokenizer.encode(&text).unwrap();
    assert!(ids.len() > 200, "more than a pass takes");
    let mut decoder = Decoder::new(&model.model, 1024, 1, KvType::F32).unwrap();
    let row = |(pos, &id): (u32, &u32)| Row { input: Input::Token(id), seq: 0, pos, want_logits: true };
    let rows: Vec<Row> = (0..).zip(&ids).map(row).collect();
    let logits = decoder.forward(&rows, &[], &Cancel::new()).unwrap();
    let scored = |(&id, logits): (&u32, &[f32])| (id, Some(TokenLogprob::new(logits, id, 3)));
    let expected: Vec<_> = ids[1..].iter().zip(logits.rows()).map(scored).collect();

    let request = |scores_prompt, max_tokens| Request {
        continues: true,
        ids: Some(ids.clone()),
        logprobs: Some(3),
        scores_prompt,
        max_tokens,
        ..Request::new(vec![Message::user(text.clone(), [])], vec![])
    };
    let (free, free_ids) = told(&engine, request(false, 5));
    for max_tokens in [5, 0] {
        let ticket = engine.submit(request(true, max_tokens)).unwrap();
        let (mut read, mut chosen) = (Vec::new(), Vec::new());
        let outcome = loop {
            match ticket.next_event() {
                Event::Read(id, scored) => read.push((id, scored)),
                Event::Chosen(token) => chosen.push(token),
                Event::Done(outcome) => break outcome,
                Event::Failed(error) => panic!("{error}"),
                _ => {}
            }
        };
        assert_eq!((read[0].clone(), outcome.n_reused), ((ids[0], None), 0));
        assert!(read[1..] == expected, "other figures than the decoder's");
        let n = max_tokens as usize;
        assert_eq!((&chosen[..], &outcome.ids[..]), (&free[..n], &free_ids[..n]));
    }
    let wrong = Request { ids: Some(vec![1, 1 << 30]), ..request(true, 1) };
    let error = engine.submit(wrong).err().unwrap().to_string();
    assert!(error.starts_with("prompt[1]: expected a token below "), "{error}");
}
