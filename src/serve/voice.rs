//! How a dialect says an answer: the joint between the one way of answering ([`exchange`](super::exchange)) and the several forms that
//! clients read.

use super::fault::Fault;
use crate::engine::{EmbeddingSource, Outcome, TokenLogprob};
use crate::token::TokenId;
use serde_json::Value;

/// Says an answer, whole or in pieces. Pieces are text as it goes over the wire.
pub trait Voice: Send + Sync {
    /// What a streamed response is, for its header.
    fn content_type(&self) -> &'static str;

    /// Choice `n` begins.
    fn begin(&mut self, n: u32) -> String;

    /// Choice `n` goes on.
    fn text(&mut self, n: u32, text: &str) -> String;

    /// Choice `n` goes on with a token, whose text comes later.
    fn chose(&mut self, _n: u32, _token: TokenLogprob) {}

    /// Choice `n` is about a text of which this is the next token, the first one without what tells how likely it was.
    fn read(&mut self, _n: u32, _id: TokenId, _logprob: Option<TokenLogprob>) {}

    /// The picture `image` is ready.
    fn saw_picture(&mut self, _image: usize, _source: EmbeddingSource) {}

    /// Choice `n` is done, and was not cut off.
    fn end(&mut self, n: u32, outcome: Outcome) -> String;

    /// So are all of them.
    fn last(&mut self) -> String;

    /// Something that clients skip, about how far things are; nothing where the dialect has no such thing.
    fn remark(&self, text: &str) -> Option<String>;

    /// The answer ends with `fault`.
    fn fault(&self, fault: &Fault) -> String;

    /// All choices in one, when all are done.
    fn whole(&self) -> Value;
}

/// A remark of server-sent events.
pub fn comment(text: &str) -> Option<String> {
    Some(format!(": {text}\n\n"))
}
