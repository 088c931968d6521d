//! How a vocabulary spells: the bytes of each token, as the parser of grammars wants them.
//!
//! SentencePiece has traps. A token that ends answers, or any other special one, spells nothing, so no grammar can let it
//! into a text. Most characters of ASCII have a piece and a byte piece; tokenizing never yields the latter, so an answer
//! may not either. Bytes that UTF-8 does not have spell nothing: one of them would mean a special token to the parser.
//! The space before a word belongs to its piece, also at the beginning of an answer, where it is not shown; grammars
//! allow for one there.

use super::Constraint;
use super::digits::{Digits, WithDigits, with_digits};
use super::guide::{Guide, Numbers, failed};
use crate::error::{Error, Result};
use crate::prompt::Tokenizer;
use crate::token::TokenId;
use llguidance::api::ParserLimits;
use llguidance::toktrie::{ApproximateTokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

/// A token of more bytes is not used under a constraint; the parser's tree of tokens has levels for as many.
const MAX_TOKEN_BYTES: usize = 512;

/// Bytes of all tokens; the parser's tree has nodes for four million.
const MAX_VOCABULARY_BYTES: usize = 4_000_000;

/// Work and memory that one grammar may take: some tens of milliseconds when it is made, at most some tens a token, and
/// states of the lexer, a kilobyte or two each.
const LIMITS: ParserLimits = ParserLimits {
    max_items_in_row: 2000,
    initial_lexer_fuel: 1_000_000,
    step_lexer_fuel: 200_000,
    step_max_items: 50_000,
    max_lexer_states: 50_000,
    max_grammar_size: 200_000,
    precompute_large_lexemes: true,
    verbose_errors: false,
};

/// A vocabulary that answers can be guided in.
pub struct Spelling {
    factory: ParserFactory,
    with_digits: WithDigits,
    /// Knows how a text is tokenized, and whether it can be; `None` of bytes alone.
    tokenizer: Option<Tokenizer>,
}

impl Spelling {
    /// Of a model's vocabulary; `stop_ids` end answers.
    ///
    /// # Errors
    /// `Unsupported` where the vocabulary is too large.
    pub fn new(tokenizer: &Tokenizer, stop_ids: &[TokenId]) -> Result<Spelling> {
        let mut spelling = Self::with(&words(tokenizer, stop_ids), stop_ids)?;
        spelling.tokenizer = Some(tokenizer.clone());
        Ok(spelling)
    }

    /// Of a vocabulary of single bytes, for whoever has no model yet.
    pub(super) fn of_bytes() -> Result<&'static Spelling> {
        static BYTES: OnceLock<Spelling> = OnceLock::new();
        if let Some(spelling) = BYTES.get() {
            return Ok(spelling);
        }
        let mut words: Vec<Vec<u8>> =
            (0..=u8::MAX).map(|byte| if is_of_utf8(byte) { vec![byte] } else { Vec::new() }).collect();
        words.push(Vec::new());
        let stop_id = words.len() as TokenId - 1;
        let spelling = Self::with(&words, &[stop_id])?;
        Ok(BYTES.get_or_init(|| spelling))
    }

    fn with(words: &[Vec<u8>], stop_ids: &[TokenId]) -> Result<Spelling> {
        let n_bytes: usize = words.iter().map(Vec::len).sum();
        if n_bytes > MAX_VOCABULARY_BYTES {
            return Err(Error::limit(
                "vocabulary: bytes under a constraint",
                MAX_VOCABULARY_BYTES as u64,
                n_bytes as u64,
            ));
        }
        let stop_id = *stop_ids.first().ok_or_else(|| Error::internal("a model without a stop token"))?;
        let info = TokRxInfo::new(words.len() as u32, stop_id);
        let trie = TokTrie::from(&info, words).with_eos_tokens(stop_ids);
        let mut factory = ParserFactory::new_simple(&(Arc::new(ApproximateTokEnv::new(trie)) as _))
            .map_err(|error| Error::internal(format_args!("constraints: {error}")))?;
        *factory.quiet().limits_mut() = LIMITS;
        Ok(Spelling { factory, with_digits: with_digits(words), tokenizer: None })
    }

    /// A guide to an answer that is what `constraint` says.
    ///
    /// # Errors
    /// `Unsupported` where that cannot be done, or not in this vocabulary.
    pub fn guide(&self, constraint: &Constraint) -> Result<Guide> {
        if let Some(tokenizer) = &self.tokenizer {
            for choice in &constraint.choices {
                if tokenizer.encode(choice)?.iter().any(|&id| tokenizer.is_special(id)) {
                    let problem = format!("{choice:?} has a character that is not in the model's vocabulary");
                    return Err(Error::unsupported(&constraint.place, problem));
                }
            }
        }
        let parser = self.factory.create_parser(constraint.grammar.clone());
        let parser = parser.map_err(|error| failed(&constraint.place, &error))?;
        let numbers = constraint.is_json().then(|| Numbers {
            digits: Digits::new(Arc::clone(&self.with_digits)),
            vocabulary: self.factory.tok_env().clone(),
        });
        Ok(Guide::new(Matcher::new(Ok(parser)), constraint.place.clone(), numbers))
    }
}

/// What each token spells, nothing where it may not be in a text.
fn words(tokenizer: &Tokenizer, stop_ids: &[TokenId]) -> Vec<Vec<u8>> {
    let ids = 0..tokenizer.n_vocab() as TokenId;
    let mut words: Vec<_> = ids.map(|id| tokenizer.bytes(id).unwrap_or_default()).collect();
    let is_piece = |id: usize| !tokenizer.is_byte(id as TokenId);
    let pieces: HashSet<Vec<u8>> =
        words.iter().enumerate().filter(|(id, _)| is_piece(*id)).map(|(_, word)| word.clone()).collect();
    for (id, word) in words.iter_mut().enumerate() {
        let is_usable = if is_piece(id) {
            word.len() <= MAX_TOKEN_BYTES
        } else {
            word.iter().all(|&byte| is_of_utf8(byte)) && !pieces.contains(word)
        };
        if !is_usable || stop_ids.contains(&(id as TokenId)) {
            word.clear();
        }
    }
    words
}

/// Whether any text in UTF-8 has this byte.
fn is_of_utf8(byte: u8) -> bool {
    !matches!(byte, 0xC0 | 0xC1 | 0xF5..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Loaded;

    /// The built-in model's vocabulary, which has all of SentencePiece's traps.
    fn spelled() -> (Loaded, Vec<Vec<u8>>) {
        let model = Loaded::open(None, 1).unwrap();
        let words = words(&model.tokenizer, &model.prompt.stop_ids);
        (model, words)
    }

    #[test]
    fn each_byte_is_spelled_in_one_way_and_no_special_token_is() {
        let (model, words) = spelled();
        let tokenizer = &model.tokenizer;
        let of_text: HashSet<u8> = ('\0'..=char::MAX).flat_map(|c| c.to_string().into_bytes()).collect();
        for byte in 0..=u8::MAX {
            let by = words.iter().filter(|word| word.as_slice() == [byte]).count();
            assert_eq!(by, usize::from(of_text.contains(&byte)), "{byte:#x}");
        }
        let ids = |wanted: &[u8]| -> Vec<&str> {
            let ids = (0..).zip(&words).filter(|(_, word)| word.as_slice() == wanted);
            ids.filter_map(|(id, _)| tokenizer.piece(id)).collect()
        };
        assert_eq!(ids(b" red"), ["▁red"]);
        assert_eq!(ids(b" "), ["▁"]);
        assert_eq!(ids(b"{"), ["{"]);
        assert_eq!(ids(b"\n"), ["<0x0A>"]);
        assert_eq!(ids("红".as_bytes()), ["红"]);
        for id in 0..tokenizer.n_vocab() as TokenId {
            if tokenizer.is_special(id) {
                assert!(words[id as usize].is_empty(), "{:?} spells", tokenizer.piece(id));
            }
        }
    }

    /// All tokens that may come anywhere in JSON of any kind: none of them is special.
    #[test]
    fn special_tokens_never_come() {
        let (model, words) = spelled();
        let spelling = Spelling::new(&model.tokenizer, &model.prompt.stop_ids).unwrap();
        let constraint = Constraint::json_schema(r#"{"type": ["object", "string"]}"#, "s").unwrap();
        for text in ["", "\"", "\"<hu", "{", "{\"<bot>", "{\"</s>\": \"<img>"] {
            let mut guide = spelling.guide(&constraint).unwrap();
            for byte in text.bytes() {
                let id = words.iter().position(|word| word.as_slice() == [byte]).unwrap();
                guide.took(id as TokenId).unwrap();
            }
            let allowed = guide.allowed().unwrap();
            let tokenizer = &model.tokenizer;
            let is_allowed = |&id: &TokenId| tokenizer.is_special(id) && allowed.contains(id);
            let special = (0..tokenizer.n_vocab() as TokenId).find(is_allowed);
            assert_eq!(special, None, "behind {text:?}");
        }
    }
}
