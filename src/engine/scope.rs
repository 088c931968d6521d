//! Who shares what was computed.

use sha2::{Digest, Sha256};

/// Requests of one scope find what others of it left in caches of prompts and pictures. What another scope left is for them as if it
/// had never been, so that the time of an answer tells nothing about what others asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope(Option<[u8; 32]>);

impl Scope {
    /// Of everybody who says nothing else.
    pub const SHARED: Scope = Scope(None);

    /// Of those who know `secret`.
    pub fn of(secret: &[u8]) -> Scope {
        let mut hash = Sha256::new_with_prefix(b"owlet scope 1\0");
        hash.update(secret);
        Scope(Some(hash.finalize().into()))
    }

    /// What tells it from others.
    pub fn digest(&self) -> Option<&[u8; 32]> {
        self.0.as_ref()
    }
}
