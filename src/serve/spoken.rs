//! The tokens of an answer and how likely they were, as clients read that. A token's text may be a part of a character: its bytes
//! tell. All bytes together are the answer before white space was taken off its ends and before a stop text cut it.

use super::fault::{Fault, Result};
use super::fields::Fields;
use crate::engine::TokenLogprob;
use crate::prompt::Tokenizer;
use crate::token::TokenId;
use serde_json::{Map, Value, json};

/// Most others that a client may ask about beside each token.
const MAX_TOP: u64 = 20;

/// Takes the fields that ask for it, as chats have them; yields how many others.
///
/// # Errors
/// `Request`, naming the field.
pub fn asked(fields: &mut Fields) -> Result<Option<u32>> {
    let wants = fields.flag("logprobs")?;
    match fields.count("top_logprobs", 0, MAX_TOP)?.map(|n| n as u32) {
        n_top if wants => Ok(Some(n_top.unwrap_or(0))),
        None | Some(0) => Ok(None),
        Some(_) => Err(Fault::of("top_logprobs", "expected logprobs to be true beside it")),
    }
}

/// Tokens that were chosen, or read, in order.
pub struct Spoken {
    tokenizer: Tokenizer,
    tokens: Vec<Token>,
}

struct Token {
    text: String,
    /// Of that in the answer or prompt, where a special token is not.
    n_characters: usize,
    /// Absent where nothing stands before it.
    scored: Option<TokenLogprob>,
}

impl Spoken {
    pub fn new(tokenizer: Tokenizer) -> Spoken {
        Spoken { tokenizer, tokens: Vec::new() }
    }

    pub fn push(&mut self, token: TokenLogprob) {
        self.add(token.id, self.text(token.id), Some(token));
    }

    /// The token with which a text begins. A space may stand before it (`is_spaced`) that is none of the text's.
    pub fn push_first(&mut self, id: TokenId, is_spaced: bool) {
        let mut text = self.text(id);
        if is_spaced && text.starts_with(' ') {
            text.remove(0);
        }
        self.add(id, text, None);
    }

    fn add(&mut self, id: TokenId, text: String, scored: Option<TokenLogprob>) {
        let n_characters = self.tokenizer.bytes(id).map_or(0, |_| text.chars().count());
        self.tokens.push(Token { text, n_characters, scored });
    }

    /// Those since the last call, none left.
    pub fn take(&mut self) -> Spoken {
        Spoken { tokenizer: self.tokenizer.clone(), tokens: std::mem::take(&mut self.tokens) }
    }

    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Of all their texts.
    pub fn n_characters(&self) -> usize {
        self.tokens.iter().map(|token| token.n_characters).sum()
    }

    /// As chats have it: an object a token, with the likeliest others.
    pub fn list(&self) -> Vec<Value> {
        let entry = |token: &TokenLogprob| {
            let mut entry = self.one(token.id, token.logprob);
            entry["top_logprobs"] = token.top.iter().map(|&(id, logprob)| self.one(id, logprob)).collect();
            entry
        };
        self.tokens.iter().filter_map(|token| token.scored.as_ref()).map(entry).collect()
    }

    /// As completions have it: a list of texts, one of numbers and so on; texts stand behind `n_before` characters.
    pub fn columns(&self, n_before: usize) -> Value {
        let offsets = self.tokens.iter().scan(n_before, |at, token| {
            let here = *at;
            *at += token.n_characters;
            Some(here)
        });
        let offsets: Vec<usize> = offsets.collect();
        let scored = || self.tokens.iter().map(|token| token.scored.as_ref());
        // Of tokens with the same text the likeliest one counts, which comes first.
        let top = |token: &TokenLogprob| {
            let mut top = Map::new();
            for &(id, logprob) in token.top.iter().chain([&(token.id, token.logprob)]) {
                top.entry(self.text(id)).or_insert(json!(logprob));
            }
            Value::Object(top)
        };
        json!({
            "tokens": self.tokens.iter().map(|token| &token.text).collect::<Vec<_>>(),
            "token_logprobs": scored().map(|token| token.map(|token| token.logprob)).collect::<Vec<_>>(),
            "top_logprobs": scored().map(|token| token.map(top)).collect::<Vec<_>>(),
            "text_offset": offsets,
        })
    }

    fn one(&self, id: u32, logprob: f32) -> Value {
        json!({"token": self.text(id), "logprob": logprob, "bytes": self.tokenizer.bytes(id)})
    }

    /// A special token is spelled.
    fn text(&self, id: u32) -> String {
        match self.tokenizer.bytes(id) {
            Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            None => self.tokenizer.piece(id).unwrap_or_default().to_string(),
        }
    }
}
