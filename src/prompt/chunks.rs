//! The prompt as the network takes it: runs of tokens, and pictures between them.
//!
//! Comes in: a template's segments. Goes out: chunks in sequence order, BOS first. Each token is one position, each
//! picture `n_tokens` of them. Must not know what a picture looks like.

use super::template::{ImageIndex, Segment};
use super::tokenizer::{Place, Tokenizer};
use crate::Result;
use crate::token::TokenId;

/// A run of positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// At least one token.
    Tokens(Vec<TokenId>),
    /// The embedding rows of the request's picture `index`.
    Image { index: ImageIndex, n_tokens: usize },
}

impl Chunk {
    /// Positions that this chunk takes in the sequence.
    pub fn n_positions(&self) -> usize {
        match self {
            Chunk::Tokens(ids) => ids.len(),
            Chunk::Image { n_tokens, .. } => *n_tokens,
        }
    }
}

/// Positions that all `chunks` take in the sequence.
pub fn n_positions(chunks: &[Chunk]) -> usize {
    chunks.iter().map(Chunk::n_positions).sum()
}

/// Tokenizes `segments`. Text between two special tokens is tokenized as one text, however many segments it came in, and
/// text behind a break as if nothing were before it.
/// Neighbouring tokens share a chunk; a picture is a chunk of `n_image_tokens` positions.
///
/// # Errors
/// `Limit` when one text is longer than the tokenizer takes.
pub fn chunks(segments: &[Segment], tokenizer: &Tokenizer, n_image_tokens: usize) -> Result<Vec<Chunk>> {
    let mut chunks = Vec::new();
    let mut ids: Vec<TokenId> = tokenizer.bos_id().into_iter().collect();
    let mut text = String::new();
    let mut place = Place::Start;
    for segment in segments {
        match *segment {
            Segment::Text(ref more) => text.push_str(more),
            Segment::Break => {
                ids.extend(tokenizer.encode_segment(&std::mem::take(&mut text), place.at_the_end())?);
                place = Place::Start;
            }
            Segment::Token(id) => {
                ids.extend(tokenizer.encode_segment(&std::mem::take(&mut text), place)?);
                ids.push(id);
                place = Place::AfterSpecial;
            }
            Segment::Image(index) => {
                ids.extend(tokenizer.encode_segment(&std::mem::take(&mut text), place)?);
                push_tokens(&mut chunks, &mut ids);
                chunks.push(Chunk::Image { index, n_tokens: n_image_tokens });
                place = Place::AfterSpecial;
            }
        }
    }
    ids.extend(tokenizer.encode_segment(&text, place.at_the_end())?);
    push_tokens(&mut chunks, &mut ids);
    Ok(chunks)
}

fn push_tokens(chunks: &mut Vec<Chunk>, ids: &mut Vec<TokenId>) {
    if !ids.is_empty() {
        chunks.push(Chunk::Tokens(std::mem::take(ids)));
    }
}
