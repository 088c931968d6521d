//! The vocabulary: a SentencePiece BPE, under llama.cpp's key names.

use crate::Strings;

/// What a piece is for; the numbers are SentencePiece's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TokenKind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// A SentencePiece BPE vocabulary. `tokens`, `scores` and `kinds` have one entry an id.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenizerConfig {
    /// The pieces as SentencePiece spells them: `▁` for a space, `<0x0A>` for a byte.
    pub tokens: Strings,
    /// The higher, the earlier two pieces merge into this one.
    pub scores: Vec<f32>,
    pub kinds: Vec<TokenKind>,
    pub bos_id: u32,
    pub eos_id: u32,
    pub unk_id: u32,
    pub pad_id: Option<u32>,
    pub add_bos: bool,
    pub add_eos: bool,
    /// SentencePiece's `add_dummy_prefix`.
    pub add_space_prefix: bool,
    pub remove_extra_whitespaces: bool,
    /// Every segment behind a special token gets the space prefix, as transformers' legacy mode does.
    pub legacy: bool,
}
