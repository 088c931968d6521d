//! Conversations in files: saved with what the decoder remembers of them, and brought back without computing anything.
//!
//! In: messages, pictures, a path; out: a file, and the other way round. docs/sessions.md is the format. A file that is
//! loaded is hostile: sizes come from the engine's own model and are compared with what the file says, memory beyond
//! the cache and the pictures stays within a few rows, and a checksum stands behind all of it. Must not know commands.

mod head;
mod restore;
mod save;
mod sums;

use crate::model::{KvHalf, KvRows};
use crate::prompt::{Message, Pixels};
use std::sync::Arc;

/// A conversation as a door keeps it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversation {
    /// Stands before the conversation; `None` is what the model's file says.
    pub system: Option<String>,
    /// Question, answer, question, …
    pub messages: Vec<Message>,
    /// The pictures that the messages name by index.
    pub pictures: Vec<NamedPicture>,
}

/// A picture, and what people call it.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedPicture {
    pub name: String,
    pub pixels: Arc<Pixels>,
}

/// A conversation went to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Positions that need no prefill when it comes back.
    pub n_positions: usize,
    pub n_bytes: u64,
}

/// A conversation came back from a file. The next request with it and one more question starts behind its positions.
#[derive(Clone, Debug, PartialEq)]
pub struct Restored {
    pub conversation: Conversation,
    /// Positions that need no prefill.
    pub n_positions: usize,
}

const MAGIC: &[u8; 8] = b"owletcht";
const VERSION: u32 = 1;

/// Magic, version, bytes of the head.
const N_PREFIX_BYTES: usize = MAGIC.len() + 4 + 4;

/// Longest head: some hundred times what the longest context says.
const MAX_HEAD_BYTES: usize = 16 << 20;

/// Cached rows go through memory in pieces of at most this size, or one row.
const MAX_PIECE_BYTES: u64 = 4 << 20;

/// The rows of `n_positions` positions in the order of the file: layer by layer keys, then values, in pieces.
fn pieces(n_layer: u32, n_positions: u32, row_bytes: u64) -> impl Iterator<Item = KvRows> {
    let n_rows = (MAX_PIECE_BYTES / row_bytes.max(1)).clamp(1, u32::MAX.into()) as u32;
    let halves = (0..n_layer).flat_map(|layer| [KvHalf::Keys, KvHalf::Values].map(|half| (layer, half)));
    halves.flat_map(move |(layer, half)| {
        let firsts = (0..n_positions).step_by(n_rows as usize);
        firsts.map(move |first| KvRows { layer, half, first, n: n_rows.min(n_positions - first) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_everything_once_and_in_order() {
        let rows_of_a_mib = 1 << 20;
        for (n_positions, row_bytes, sizes) in [
            (9, rows_of_a_mib, vec![4, 4, 1]),
            (8, rows_of_a_mib, vec![4, 4]),
            (2, 1 << 30, vec![1, 1]),
            (0, 8, vec![]),
        ] {
            let pieces: Vec<_> = pieces(2, n_positions, row_bytes).collect();
            let halves = [(0, KvHalf::Keys), (0, KvHalf::Values), (1, KvHalf::Keys), (1, KvHalf::Values)];
            assert_eq!(pieces.len(), halves.len() * sizes.len());
            for (pieces, half) in pieces.chunks(sizes.len().max(1)).zip(halves) {
                assert!(pieces.iter().all(|piece| (piece.layer, piece.half) == half));
                assert_eq!(pieces.iter().map(|piece| piece.n).collect::<Vec<_>>(), sizes);
                let firsts: Vec<_> =
                    sizes.iter().scan(0, |at, n| Some(std::mem::replace(at, *at + n))).collect();
                assert_eq!(pieces.iter().map(|piece| piece.first).collect::<Vec<_>>(), firsts);
            }
        }
    }
}
