//! The vocabulary, indexed for merging.
//!
//! Comes in: pieces, scores and kinds of a model file. Goes out: the id of a piece that text may become, its score, the
//! byte pieces, the user-defined piece that a text starts with. Control, unknown and byte pieces are not in the index, so
//! no text can spell them.

use std::collections::HashMap;

use owlet_format::{Strings, TokenKind, TokenizerConfig};

use crate::token::TokenId;
use crate::{Error, Result};

const PLACE: &str = "tokenizer";

#[derive(Debug)]
pub(super) struct Vocab {
    tokens: Strings,
    kinds: Vec<TokenKind>,
    scores: Vec<f32>,
    /// Pieces that merging may form: normal, user-defined and unused ones.
    ids: HashMap<Box<str>, TokenId>,
    n_longest_bytes: usize,
    /// By first byte, the distinct lengths of user-defined pieces, longest first.
    user_defined_lengths: HashMap<u8, Vec<usize>>,
    /// Ids of `<0x00>` to `<0xFF>`.
    byte_ids: Option<Box<[TokenId; 256]>>,
    pub(super) unk_id: TokenId,
}

impl Vocab {
    /// # Errors
    /// `Format` when the lists differ in length, a piece appears twice, a score is no number, the byte pieces are
    /// incomplete, or `unk_id` is no unknown piece.
    pub(super) fn new(config: &TokenizerConfig) -> Result<Vocab> {
        let n = config.tokens.len();
        for (what, found) in [("scores", config.scores.len()), ("kinds", config.kinds.len())] {
            if found != n {
                return Err(Error::format(PLACE, format!("expected {n} {what}, one a token, found {found}")));
            }
        }
        let mut vocab = Vocab {
            tokens: config.tokens.clone(),
            kinds: config.kinds.clone(),
            scores: Vec::with_capacity(n),
            ids: HashMap::with_capacity(n),
            n_longest_bytes: 0,
            user_defined_lengths: HashMap::new(),
            byte_ids: None,
            unk_id: config.unk_id,
        };
        if vocab.kind(config.unk_id) != Some(TokenKind::Unknown) {
            let problem = format!("expected unk_id {} to be the unknown piece", config.unk_id);
            return Err(Error::format(PLACE, problem));
        }
        let mut byte_ids = [None; 256];
        for (id, ((piece, &score), &kind)) in
            config.tokens.iter().zip(&config.scores).zip(&config.kinds).enumerate()
        {
            let id = TokenId::try_from(id).map_err(|_| Error::format(PLACE, "too many tokens"))?;
            vocab.index(id, piece, score, kind, &mut byte_ids)?;
        }
        vocab.byte_ids = complete(&byte_ids)?;
        for lengths in vocab.user_defined_lengths.values_mut() {
            lengths.sort_unstable_by(|a, b| b.cmp(a));
            lengths.dedup();
        }
        Ok(vocab)
    }

    fn index(
        &mut self,
        id: TokenId,
        piece: &str,
        score: f32,
        kind: TokenKind,
        byte_ids: &mut [Option<TokenId>; 256],
    ) -> Result<()> {
        if score.is_nan() {
            return Err(Error::format(PLACE, format!("token {id}: the score is not a number")));
        }
        // SentencePiece gives the first merge -0.0, and tools append pieces with 0.0: these two are a tie.
        self.scores.push(score + 0.0);
        match kind {
            TokenKind::Normal | TokenKind::UserDefined | TokenKind::Unused => {
                if piece.is_empty() {
                    return Err(Error::format(PLACE, format!("token {id}: the piece is empty")));
                }
                if let Some(earlier) = self.ids.insert(piece.into(), id) {
                    let problem = format!("token {id}: {piece:?} is already token {earlier}");
                    return Err(Error::format(PLACE, problem));
                }
                self.n_longest_bytes = self.n_longest_bytes.max(piece.len());
                if kind == TokenKind::UserDefined {
                    self.user_defined_lengths.entry(piece.as_bytes()[0]).or_default().push(piece.len());
                }
            }
            TokenKind::Byte => {
                let byte = byte_of(piece)
                    .ok_or_else(|| Error::format(PLACE, format!("token {id}: {piece:?} names no byte")))?;
                if byte_ids[usize::from(byte)].replace(id).is_some() {
                    return Err(Error::format(PLACE, format!("token {id}: a second piece for {piece}")));
                }
            }
            TokenKind::Unknown | TokenKind::Control => {}
        }
        Ok(())
    }

    pub(super) fn n_vocab(&self) -> usize {
        self.tokens.len()
    }

    /// The spelling of `id` in the vocabulary.
    pub(super) fn piece(&self, id: TokenId) -> Option<&str> {
        self.tokens.get(id as usize)
    }

    pub(super) fn kind(&self, id: TokenId) -> Option<TokenKind> {
        self.kinds.get(id as usize).copied()
    }

    pub(super) fn score(&self, id: TokenId) -> f32 {
        self.scores[id as usize]
    }

    /// The id of `piece` if text may become it.
    pub(super) fn id(&self, piece: &str) -> Option<TokenId> {
        // Long runs of text are asked about while merging; most need no hash.
        if piece.len() > self.n_longest_bytes { None } else { self.ids.get(piece).copied() }
    }

    pub(super) fn byte_ids(&self) -> Option<&[TokenId; 256]> {
        self.byte_ids.as_deref()
    }

    /// Length in bytes of the longest user-defined piece that `text` starts with.
    pub(super) fn user_defined_prefix(&self, text: &str) -> Option<usize> {
        let lengths = self.user_defined_lengths.get(text.as_bytes().first()?)?;
        lengths.iter().copied().find(|&n| {
            let id = text.get(..n).and_then(|piece| self.id(piece));
            id.and_then(|id| self.kind(id)) == Some(TokenKind::UserDefined)
        })
    }
}

/// The byte that a byte piece such as `<0x0A>` stands for.
pub(super) fn byte_of(piece: &str) -> Option<u8> {
    let hex = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    let upper_hex = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
    (hex.len() == 2 && hex.bytes().all(upper_hex)).then(|| u8::from_str_radix(hex, 16).ok())?
}

/// All 256 byte pieces or none; anything between could not spell every text.
fn complete(byte_ids: &[Option<TokenId>; 256]) -> Result<Option<Box<[TokenId; 256]>>> {
    let n = byte_ids.iter().flatten().count();
    match n {
        0 => Ok(None),
        256 => Ok(Some(Box::new(byte_ids.map(Option::unwrap_or_default)))),
        _ => Err(Error::format(PLACE, format!("expected 256 byte pieces or none, found {n}"))),
    }
}
