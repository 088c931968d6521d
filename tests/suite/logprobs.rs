//! How likely tokens were, by the engine itself: drafts, neighbours and constraints change none of it.

use owlet::engine::{Constraint, Engine, Event, Request, Sampling, Speculation, TokenLogprob};
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
