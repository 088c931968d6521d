//! Rows, as the decoder takes them: what each is made of and where in its sequence it stands.

use crate::token::TokenId;

/// What one row is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    Token(TokenId),
    /// Row of the embeddings that the call brings along.
    Embd(usize),
}

/// One row: the next position of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub input: Input,
    pub seq: u32,
    pub pos: u32,
    pub want_logits: bool,
}
