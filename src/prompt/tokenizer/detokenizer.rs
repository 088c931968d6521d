//! Token ids back to text, one at a time.
//!
//! Comes in: the ids that the network yields. Goes out: text that can be shown at once: a character whose bytes arrive
//! in several tokens is held back until it is whole. Special tokens have no text.

use std::sync::Arc;

use owlet_format::TokenKind;

use super::vocab::{Vocab, byte_of};
use crate::token::TokenId;

/// A stream of text. Made by [`super::Tokenizer::detokenizer`], one an answer.
#[derive(Clone, Debug)]
pub struct Detokenizer {
    vocab: Arc<Vocab>,
    /// Bytes of a character that is not whole yet: at most three between calls.
    pending: Vec<u8>,
    at_start: bool,
}

impl Detokenizer {
    pub(super) fn new(vocab: Arc<Vocab>) -> Detokenizer {
        Detokenizer { vocab, pending: Vec::new(), at_start: true }
    }

    /// Something stands before what comes: the space of the first piece is part of the text.
    pub fn within_a_text(self) -> Detokenizer {
        Detokenizer { at_start: false, ..self }
    }

    /// The text that `id` completes; may be empty. The one space that the first piece brings along from the space prefix
    /// is left out. An id outside the vocabulary has no text.
    pub fn push(&mut self, id: TokenId) -> String {
        let mut text = String::new();
        let (Some(piece), Some(kind)) = (self.vocab.piece(id), self.vocab.kind(id)) else { return text };
        match kind {
            TokenKind::Control | TokenKind::Unknown => return text,
            TokenKind::Byte => {
                self.pending.extend(byte_of(piece));
                take_characters(&mut self.pending, false, &mut text);
            }
            TokenKind::Normal | TokenKind::UserDefined | TokenKind::Unused => {
                take_characters(&mut self.pending, true, &mut text);
                let piece = piece.strip_prefix('▁').filter(|_| self.at_start).unwrap_or(piece);
                text.extend(piece.chars().map(|c| if c == '▁' { ' ' } else { c }));
            }
        }
        self.at_start = false;
        text
    }

    /// The end of the stream: what is left of a character that never became whole, as U+FFFD a byte. The next [`push`]
    /// starts a new text.
    ///
    /// [`push`]: Detokenizer::push
    pub fn flush(&mut self) -> String {
        let mut text = String::new();
        take_characters(&mut self.pending, true, &mut text);
        self.at_start = true;
        text
    }
}

/// Moves characters from `bytes` to `text`, each wrong byte as U+FFFD. What may still become a character stays, unless
/// nothing more is coming (`is_end`).
fn take_characters(bytes: &mut Vec<u8>, is_end: bool, text: &mut String) {
    while !bytes.is_empty() {
        let n_taken = match std::str::from_utf8(bytes) {
            Ok(valid) => {
                text.push_str(valid);
                bytes.len()
            }
            Err(error) if error.valid_up_to() > 0 => {
                text.push_str(&String::from_utf8_lossy(&bytes[..error.valid_up_to()]));
                error.valid_up_to()
            }
            Err(error) if error.error_len().is_none() && !is_end => return,
            Err(_) => {
                text.push(char::REPLACEMENT_CHARACTER);
                1
            }
        };
        bytes.drain(..n_taken);
    }
}
