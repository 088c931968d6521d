//! Conversations in files: saved with what the decoder remembers of them, and brought back without computing anything.
//!
//! In: messages, pictures, a path; out: a file, and the other way round. docs/sessions.md is the format. A file that is
//! loaded is hostile: sizes come from the engine's own model and are compared with what the file says, memory beyond
//! the cache and the pictures stays within a few rows, and a checksum stands behind all of it. Must not know commands.

mod head;
mod restore;
mod save;
mod sums;

use crate::engine::Request;
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

impl Conversation {
    /// What `request` and the answer to it come to, for a file; pictures have numbers for names.
    pub(super) fn of(request: &Request, answer: &str) -> Conversation {
        let named = |(n, pixels): (usize, &Arc<Pixels>)| NamedPicture {
            name: format!("picture {n}"),
            pixels: Arc::clone(pixels),
        };
        let mut messages = request.messages.clone();
        if !answer.is_empty() {
            messages.push(Message::bot(answer));
        }
        let pictures = (1..).zip(&request.images).map(named).collect();
        Conversation { system: request.system.clone(), messages, pictures }.for_file()
    }

    /// The same with what goes to a file: floats, four times as large as the bytes that bring them back, do not. The bytes are shared.
    pub(super) fn for_file(mut self) -> Conversation {
        for picture in &mut self.pictures {
            let Pixels { size_px, ref rgb, .. } = *picture.pixels;
            picture.pixels = Arc::new(Pixels { size_px, rgb: Arc::clone(rgb), planes: Vec::new() });
        }
        self
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A slot keeps what was said after every answer, so that costs no copy of its pictures; their floats go with the request.
    #[test]
    fn what_was_said_shares_its_pictures() {
        let pixels = Arc::new(Pixels { size_px: 2, rgb: vec![7; 12].into(), planes: vec![0.5; 12] });
        let request = Request::new(vec![Message::user("What?", [0])], vec![Arc::clone(&pixels)]);
        let said = Conversation::of(&request, "This.");
        let kept = &said.pictures[0].pixels;
        assert!(Arc::ptr_eq(&kept.rgb, &pixels.rgb) && kept.planes.is_empty());
        drop(request);
        assert_eq!(Arc::strong_count(&pixels), 1);
    }
}
