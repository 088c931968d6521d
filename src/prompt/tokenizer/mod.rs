//! SentencePiece BPE: text to token ids, and back.
//!
//! Comes in: the vocabulary of a model file and text. Goes out: ids, bit for bit those of the sentencepiece package and
//! of transformers' LlamaTokenizer around it, whose two ways of treating the text behind a special token (`legacy` and
//! not) are both here. No text becomes a special token. Must not know templates or pictures.

mod detokenizer;
mod merge;
mod vocab;

use std::sync::Arc;

use owlet_format::{TokenKind, TokenizerConfig};

pub use detokenizer::Detokenizer;
use vocab::Vocab;

use crate::token::TokenId;
use crate::{Error, Result};

/// Longest text that is tokenized in one piece; the merge needs some fifty bytes a byte of text.
pub const MAX_TEXT_BYTES: u64 = 16 << 20;

/// Where a run of plain text stands in the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is all there is.
    Alone,
    /// Nothing is before it, a special token or a picture behind.
    Start,
    /// A special token or a picture is before it.
    AfterSpecial,
}

impl Place {
    /// The place of a run that nothing follows.
    pub fn at_the_end(self) -> Place {
        if self == Place::Start { Place::Alone } else { self }
    }
}

/// The tokenizer of one model. Cloning shares the vocabulary.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    vocab: Arc<Vocab>,
    bos_id: Option<TokenId>,
    add_space_prefix: bool,
    legacy: bool,
    /// Text that stands before a segment while it is merged and is cut off afterwards: the unknown token, spelled out.
    guard: String,
    n_guard_tokens: usize,
}

impl Tokenizer {
    /// # Errors
    /// `Format` when the vocabulary contradicts itself, `Unsupported` when it wants white space squeezed or every text
    /// ended by EOS, which no model of these families does.
    pub fn new(config: &TokenizerConfig) -> Result<Tokenizer> {
        if config.remove_extra_whitespaces {
            return Err(Error::unsupported(
                "tokenizer",
                "remove_extra_whitespaces: expected false, found true",
            ));
        }
        if config.add_eos {
            return Err(Error::unsupported("tokenizer", "add_eos: expected false, found true"));
        }
        let vocab = Vocab::new(config)?;
        if config.bos_id as usize >= vocab.n_vocab() {
            let problem = format!("expected bos_id below {}, found {}", vocab.n_vocab(), config.bos_id);
            return Err(Error::format("tokenizer", problem));
        }
        let guard = vocab.piece(config.unk_id).unwrap_or_default().to_owned();
        let mut tokenizer = Tokenizer {
            vocab: Arc::new(vocab),
            bos_id: config.add_bos.then_some(config.bos_id),
            add_space_prefix: config.add_space_prefix,
            legacy: config.legacy,
            guard,
            n_guard_tokens: 0,
        };
        tokenizer.n_guard_tokens = tokenizer.encode_with("", &tokenizer.guard)?.len();
        Ok(tokenizer)
    }

    pub fn n_vocab(&self) -> usize {
        self.vocab.n_vocab()
    }

    /// The token that every prompt starts with, if this model wants one.
    pub fn bos_id(&self) -> Option<TokenId> {
        self.bos_id
    }

    /// The spelling of `id` in the vocabulary: `▁` for a space, `<0x0A>` for a byte.
    pub fn piece(&self, id: TokenId) -> Option<&str> {
        self.vocab.piece(id)
    }

    /// What `id` adds to a text that has begun: a piece's text, with spaces, or a byte piece's byte. `None` where it
    /// has no text.
    pub fn bytes(&self, id: TokenId) -> Option<Vec<u8>> {
        let piece = self.piece(id)?;
        match self.vocab.kind(id)? {
            TokenKind::Control | TokenKind::Unknown => None,
            TokenKind::Byte => vocab::byte_of(piece).map(|byte| vec![byte]),
            TokenKind::Normal | TokenKind::UserDefined | TokenKind::Unused => {
                Some(piece.replace('▁', " ").into_bytes())
            }
        }
    }

    /// Whether `id` stands for one byte of a text, which no piece of the vocabulary spells.
    pub fn is_byte(&self, id: TokenId) -> bool {
        self.vocab.kind(id) == Some(TokenKind::Byte)
    }

    /// Whether `id` has no text: control tokens, added special tokens and the unknown token.
    pub fn is_special(&self, id: TokenId) -> bool {
        matches!(self.vocab.kind(id), Some(TokenKind::Control | TokenKind::Unknown))
    }

    /// The ids of `text` as the sentencepiece package encodes it: one text on its own, without BOS.
    ///
    /// # Errors
    /// `Limit` when the text is longer than [`MAX_TEXT_BYTES`].
    pub fn encode(&self, text: &str) -> Result<Vec<TokenId>> {
        let prefix = if self.add_space_prefix && !text.is_empty() { "▁" } else { "" };
        self.encode_with(prefix, text)
    }

    /// The ids of a run of plain text within a prompt, as transformers' slow LlamaTokenizer has them.
    ///
    /// In legacy mode every run is a text on its own. Otherwise only the prompt as a whole gets the space prefix, and a run
    /// that begins with a space is merged behind the unknown token's spelling, whose pieces are then cut off. Nothing is
    /// left of a prefix that stands alone before a special token.
    ///
    /// # Errors
    /// `Limit` when the text is longer than [`MAX_TEXT_BYTES`].
    pub fn encode_segment(&self, text: &str, place: Place) -> Result<Vec<TokenId>> {
        if text.is_empty() || self.legacy {
            return self.encode(text);
        }
        let prefix = match place {
            Place::Alone | Place::Start => format!("{}▁", self.guard),
            Place::AfterSpecial if text.starts_with([' ', '▁']) => self.guard.clone(),
            Place::AfterSpecial => return self.encode_with("", text),
        };
        let mut ids = self.encode_with(&prefix, text)?;
        if ids.len() >= self.n_guard_tokens {
            ids.drain(..self.n_guard_tokens);
        }
        if place == Place::Start && ids.len() == 1 && self.piece(ids[0]) == Some("▁") {
            ids.clear();
        }
        Ok(ids)
    }

    fn encode_with(&self, prefix: &str, text: &str) -> Result<Vec<TokenId>> {
        let n_bytes = text.len() as u64;
        if n_bytes > MAX_TEXT_BYTES {
            return Err(Error::limit("prompt: bytes of text in one piece", MAX_TEXT_BYTES, n_bytes));
        }
        let mut ids = Vec::new();
        merge::merge(&self.vocab, &escape(prefix, text), &mut ids);
        Ok(ids)
    }

    /// A fresh stream of text from ids.
    pub fn detokenizer(&self) -> Detokenizer {
        Detokenizer::new(Arc::clone(&self.vocab))
    }

    /// Whether a text that is all there is has a space before its first token.
    pub fn begins_with_space(&self) -> bool {
        !self.legacy || self.add_space_prefix
    }

    /// The text of `ids`, as one stream.
    pub fn decode(&self, ids: &[TokenId]) -> String {
        Self::stream(self.detokenizer(), ids)
    }

    /// What `ids` add to a text that has begun.
    pub fn decode_within(&self, ids: &[TokenId]) -> String {
        Self::stream(self.detokenizer().within_a_text(), ids)
    }

    fn stream(mut stream: Detokenizer, ids: &[TokenId]) -> String {
        let mut text: String = ids.iter().map(|&id| stream.push(id)).collect();
        text.push_str(&stream.flush());
        text
    }
}

/// `prefix` and `text` with every space as `▁`. Other white space stays what it is.
fn escape(prefix: &str, text: &str) -> String {
    let n_spaces = text.bytes().filter(|&b| b == b' ').count();
    let mut escaped = String::with_capacity(prefix.len() + text.len() + n_spaces * 2);
    for part in [prefix, text] {
        escaped.extend(part.chars().map(|c| if c == ' ' { '▁' } else { c }));
    }
    escaped
}
