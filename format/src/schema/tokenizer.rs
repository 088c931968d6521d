//! The vocabulary: a SentencePiece BPE, under llama.cpp's key names.

use super::{TextConfig, id_in};
use crate::{Metadata, Result, Strings};

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

/// Longer than any piece of any vocabulary that is known; a stranger's could otherwise be megabytes.
const MAX_TOKEN_BYTES: usize = 1024;
const MODEL: &str = "tokenizer.ggml.model";
const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const KINDS: &str = "tokenizer.ggml.token_type";
const BOS_ID: &str = "tokenizer.ggml.bos_token_id";
const EOS_ID: &str = "tokenizer.ggml.eos_token_id";
const UNK_ID: &str = "tokenizer.ggml.unknown_token_id";
const PAD_ID: &str = "tokenizer.ggml.padding_token_id";

impl TokenizerConfig {
    /// # Errors
    /// Where a key is missing, of another type or out of its range, an array is not one item a token, or an id
    /// is outside of the vocabulary.
    pub(super) fn read(metadata: &Metadata, text: &TextConfig) -> Result<Self> {
        let model = metadata.str(MODEL)?;
        if model != "llama" {
            let found = crate::error::Shown(model);
            return Err(metadata.wrong(MODEL, format!("expected llama (SentencePiece BPE), found {found}")));
        }
        let n_vocab = text.n_vocab as usize;
        let one_each = |key, n_items: usize| match n_items == n_vocab {
            true => Ok(()),
            false => {
                Err(metadata.wrong(key, format!("expected {n_vocab} items, one a token, found {n_items}")))
            }
        };
        let tokens = metadata.strings(TOKENS)?.clone();
        one_each(TOKENS, tokens.len())?;
        let scores = metadata.f32s(SCORES)?.to_vec();
        one_each(SCORES, scores.len())?;
        let kinds = metadata.i32s(KINDS)?;
        one_each(KINDS, kinds.len())?;
        check_tokens(metadata, &tokens, &scores)?;
        Ok(Self {
            tokens,
            scores,
            kinds: read_kinds(metadata, kinds)?,
            bos_id: id_in(metadata, BOS_ID, text)?,
            eos_id: id_in(metadata, EOS_ID, text)?,
            unk_id: id_in(metadata, UNK_ID, text)?,
            pad_id: metadata.get(PAD_ID).map(|_| id_in(metadata, PAD_ID, text)).transpose()?,
            add_bos: metadata.bool("tokenizer.ggml.add_bos_token")?,
            add_eos: metadata.bool("tokenizer.ggml.add_eos_token")?,
            add_space_prefix: metadata.bool("tokenizer.ggml.add_space_prefix")?,
            remove_extra_whitespaces: metadata.bool("tokenizer.ggml.remove_extra_whitespaces")?,
            legacy: metadata.bool("owlet.tokenizer.legacy")?,
        })
    }

    pub(super) fn write(&self, metadata: &mut Metadata) {
        metadata.put(MODEL, "llama");
        metadata.put("tokenizer.ggml.pre", "default");
        metadata.put(TOKENS, self.tokens.clone());
        metadata.put(SCORES, self.scores.clone());
        let kinds: Vec<_> = self.kinds.iter().map(|&kind| kind as i32).collect();
        metadata.put(KINDS, kinds);
        metadata.put(BOS_ID, self.bos_id);
        metadata.put(EOS_ID, self.eos_id);
        metadata.put(UNK_ID, self.unk_id);
        if let Some(id) = self.pad_id {
            metadata.put(PAD_ID, id);
        }
        metadata.put("tokenizer.ggml.add_bos_token", self.add_bos);
        metadata.put("tokenizer.ggml.add_eos_token", self.add_eos);
        metadata.put("tokenizer.ggml.add_space_prefix", self.add_space_prefix);
        metadata.put("tokenizer.ggml.remove_extra_whitespaces", self.remove_extra_whitespaces);
        metadata.put("owlet.tokenizer.legacy", self.legacy);
    }
}

fn check_tokens(metadata: &Metadata, tokens: &Strings, scores: &[f32]) -> Result<()> {
    for (id, token) in tokens.iter().enumerate() {
        if !(1..=MAX_TOKEN_BYTES).contains(&token.len()) {
            let found = token.len();
            let problem = format!("expected token {id} to have 1 to {MAX_TOKEN_BYTES} bytes, found {found}");
            return Err(metadata.wrong(TOKENS, problem));
        }
    }
    match scores.iter().enumerate().find(|(_, score)| !score.is_finite()) {
        None => Ok(()),
        Some((id, score)) => {
            Err(metadata.wrong(SCORES, format!("expected a finite score for token {id}, found {score}")))
        }
    }
}

fn read_kinds(metadata: &Metadata, kinds: &[i32]) -> Result<Vec<TokenKind>> {
    let kind = |(id, &kind): (usize, &i32)| {
        Ok(match kind {
            1 => TokenKind::Normal,
            2 => TokenKind::Unknown,
            3 => TokenKind::Control,
            4 => TokenKind::UserDefined,
            5 => TokenKind::Unused,
            6 => TokenKind::Byte,
            n => return Err(metadata.wrong(KINDS, format!("expected 1 to 6 for token {id}, found {n}"))),
        })
    };
    kinds.iter().enumerate().map(kind).collect()
}
