//! tokenizer.model: a SentencePiece ModelProto. Only BPE models with byte fallback and the identity normalizer
//! are accepted, as LLaMA's is; field numbers and defaults are those of sentencepiece_model.proto.

use std::path::Path;

use super::protobuf::{Field, Fields};
use crate::checkpoint::file::read_small;
use crate::error::{Error, Result};
use owlet_format::TokenKind;

const FILE_BYTES_MAX: u64 = 64 << 20;
const N_PIECES_MAX: usize = 1 << 20;
const PIECE_BYTES_MAX: usize = 1024;

#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    pub text: String,
    pub score: f32,
    pub kind: TokenKind,
}

/// The vocabulary with what text goes through before it is cut into pieces.
#[derive(Debug, Clone, PartialEq)]
pub struct SentencePiece {
    pub pieces: Vec<Piece>,
    pub add_dummy_prefix: bool,
}

impl SentencePiece {
    /// # Errors
    /// For a file that is no model, and for a model of another kind.
    pub fn read(path: &Path) -> Result<SentencePiece> {
        SentencePiece::parse(&read_small(path, FILE_BYTES_MAX)?, &path.display().to_string())
    }

    /// As [`SentencePiece::read`], from bytes that errors call `label`.
    pub fn parse(bytes: &[u8], label: &str) -> Result<SentencePiece> {
        let bad = |what: String| Error::format(label, what);
        let mut pieces = Vec::new();
        let (mut trainer, mut normalizer) = (Trainer::default(), Normalizer::default());
        for field in Fields::of(bytes) {
            match field.map_err(bad)? {
                Field::Bytes(1, piece) => {
                    let i = pieces.len();
                    if i == N_PIECES_MAX {
                        return Err(Error::limit(label, "pieces", N_PIECES_MAX as u64));
                    }
                    pieces.push(read_piece(piece).map_err(|what| bad(format!("piece {i}: {what}")))?);
                }
                Field::Bytes(2, spec) => {
                    trainer.read(spec).map_err(|what| bad(format!("trainer_spec: {what}")))?;
                }
                Field::Bytes(3, spec) => {
                    normalizer.read(spec).map_err(|what| bad(format!("normalizer_spec: {what}")))?;
                }
                _ => {}
            }
        }
        if pieces.is_empty() {
            return Err(bad("expected a SentencePiece model, found no pieces".into()));
        }
        trainer.check(label)?;
        normalizer.check(label)?;
        check_bytes(&pieces, label)?;
        Ok(SentencePiece { pieces, add_dummy_prefix: normalizer.add_dummy_prefix })
    }
}

fn read_piece(bytes: &[u8]) -> Result<Piece, String> {
    let mut piece = Piece { text: String::new(), score: 0.0, kind: TokenKind::Normal };
    for field in Fields::of(bytes) {
        match field? {
            Field::Bytes(1, text) => {
                if text.len() > PIECE_BYTES_MAX {
                    return Err(format!("expected at most {PIECE_BYTES_MAX} bytes, found {}", text.len()));
                }
                piece.text = std::str::from_utf8(text).map_err(|_| "expected UTF-8")?.to_string();
            }
            Field::Fixed32(2, bits) => {
                piece.score = f32::from_bits(bits);
                if !piece.score.is_finite() {
                    return Err(format!("expected a finite score, found {}", piece.score));
                }
            }
            Field::Varint(3, kind) => {
                piece.kind = match kind {
                    1 => TokenKind::Normal,
                    2 => TokenKind::Unknown,
                    3 => TokenKind::Control,
                    4 => TokenKind::UserDefined,
                    5 => TokenKind::Unused,
                    6 => TokenKind::Byte,
                    other => return Err(format!("expected a type from 1 to 6, found {other}")),
                }
            }
            _ => {}
        }
    }
    if piece.text.is_empty() {
        return Err("expected a text, found none".into());
    }
    Ok(piece)
}

struct Trainer {
    model_type: u64,
    byte_fallback: bool,
    whitespace_as_suffix: bool,
}

impl Default for Trainer {
    fn default() -> Trainer {
        Trainer { model_type: 1, byte_fallback: false, whitespace_as_suffix: false }
    }
}

impl Trainer {
    fn read(&mut self, bytes: &[u8]) -> Result<(), String> {
        for field in Fields::of(bytes) {
            match field? {
                Field::Varint(3, value) => self.model_type = value,
                Field::Varint(24, value) => self.whitespace_as_suffix = value != 0,
                Field::Varint(35, value) => self.byte_fallback = value != 0,
                _ => {}
            }
        }
        Ok(())
    }

    fn check(&self, label: &str) -> Result<()> {
        let kind = match self.model_type {
            2 => None,
            1 => Some("unigram"),
            3 => Some("word"),
            4 => Some("char"),
            _ => Some("an unknown one"),
        };
        if let Some(kind) = kind {
            let what = format!("a tokenizer of another kind: expected model_type bpe, found {kind}");
            return Err(Error::unsupported(label, what));
        }
        if !self.byte_fallback {
            let what = "a tokenizer of another kind: expected byte_fallback true, found false";
            return Err(Error::unsupported(label, what));
        }
        if self.whitespace_as_suffix {
            let what = "a tokenizer of another kind: expected treat_whitespace_as_suffix false, found true";
            return Err(Error::unsupported(label, what));
        }
        Ok(())
    }
}

struct Normalizer {
    charsmap_bytes: usize,
    add_dummy_prefix: bool,
    remove_extra_whitespaces: bool,
    escape_whitespaces: bool,
}

impl Default for Normalizer {
    fn default() -> Normalizer {
        Normalizer {
            charsmap_bytes: 0,
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
        }
    }
}

impl Normalizer {
    fn read(&mut self, bytes: &[u8]) -> Result<(), String> {
        for field in Fields::of(bytes) {
            match field? {
                Field::Bytes(2, map) => self.charsmap_bytes = map.len(),
                Field::Varint(3, value) => self.add_dummy_prefix = value != 0,
                Field::Varint(4, value) => self.remove_extra_whitespaces = value != 0,
                Field::Varint(5, value) => self.escape_whitespaces = value != 0,
                _ => {}
            }
        }
        Ok(())
    }

    fn check(&self, label: &str) -> Result<()> {
        let other = |what: String| {
            Err(Error::unsupported(label, format!("a tokenizer of another kind: normalizer_spec.{what}")))
        };
        if self.charsmap_bytes > 0 {
            let n = self.charsmap_bytes;
            return other(format!("precompiled_charsmap: expected none (identity), found {n} bytes"));
        }
        if self.remove_extra_whitespaces {
            return other("remove_extra_whitespaces: expected false, found true".into());
        }
        if !self.escape_whitespaces {
            return other("escape_whitespaces: expected true, found false".into());
        }
        Ok(())
    }
}

/// Byte fallback needs a piece for every byte, spelled `<0x0A>`, once.
fn check_bytes(pieces: &[Piece], label: &str) -> Result<()> {
    let mut seen = [false; 256];
    for (i, piece) in pieces.iter().enumerate().filter(|(_, piece)| piece.kind == TokenKind::Byte) {
        let hex = piece.text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
        let byte = hex
            .filter(|hex| hex.len() == 2 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let Some(byte) = byte.filter(|byte| !seen[usize::from(*byte)]) else {
            let what =
                format!("piece {i}: expected one byte piece a byte such as <0x0A>, found {:?}", piece.text);
            return Err(Error::format(label, what));
        };
        seen[usize::from(byte)] = true;
    }
    match seen.iter().position(|seen| !seen) {
        None => Ok(()),
        Some(byte) => Err(Error::format(label, format!("expected a byte piece <0x{byte:02X}>, found none"))),
    }
}

#[cfg(test)]
#[path = "sentencepiece_tests.rs"]
pub(crate) mod tests;
