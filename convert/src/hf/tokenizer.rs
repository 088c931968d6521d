//! A slow LLaMA tokenizer of transformers: the SentencePiece model with the tokens added behind it, and the
//! flags of tokenizer_config.json.

use std::collections::{BTreeMap, HashMap, HashSet};

use owlet_format::{Strings, TokenKind, TokenizerConfig};

use super::ConfigFiles;
use super::json::Json;
use super::sentencepiece::SentencePiece;
use crate::error::{Error, Result};

/// More than any vocabulary has; keeps a lying config from asking for padding without end.
const N_VOCAB_MAX: u32 = 1 << 21;
const TOKEN_BYTES_MAX: usize = 1024;

/// The vocabulary and the way from a token's text to its id.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    pub config: TokenizerConfig,
    ids: HashMap<String, u32>,
    label: String,
    /// What the files left out: `tokenizer_config.legacy = true`.
    pub assumed: Vec<String>,
}

struct Added<'a> {
    text: &'a str,
    special: bool,
    place: String,
}

impl Tokenizer {
    /// Reads the tokenizer of a model with `n_vocab` embedding rows; rows behind the last token get unused
    /// tokens.
    ///
    /// # Errors
    /// For a tokenizer of another kind, for files that contradict each other, and for more tokens than rows.
    pub fn read(files: &ConfigFiles, n_vocab: u32) -> Result<Tokenizer> {
        let root = files.tokenizer_config.root();
        refuse_other_kinds(&root)?;
        let model = files.dir.join("tokenizer.model");
        let label = model.display().to_string();
        let model = SentencePiece::read(&model)?;
        if n_vocab > N_VOCAB_MAX {
            return Err(Error::limit(&label, format!("{n_vocab} tokens"), N_VOCAB_MAX.into()));
        }
        let n_pieces = model.pieces.len();
        let added = added_tokens(files)?;
        let n_tokens = added.last_key_value().map_or(n_pieces, |(id, _)| n_pieces.max(*id as usize + 1));
        if n_tokens > n_vocab as usize {
            let what = format!(
                "expected at most the {n_vocab} tokens of llm_config.vocab_size, found {n_tokens} with the added ones"
            );
            return Err(Error::format(&label, what));
        }

        let mut tokens: Vec<String> = Vec::with_capacity(n_vocab as usize);
        let (mut scores, mut kinds) = (Vec::new(), Vec::new());
        for piece in model.pieces {
            tokens.push(piece.text);
            scores.push(piece.score);
            kinds.push(piece.kind);
        }
        for id in n_pieces..n_vocab as usize {
            tokens.push(format!("[PAD{id}]"));
            scores.push(ADDED_SCORE);
            kinds.push(TokenKind::Unused);
        }
        for (id, token) in &added {
            let at = *id as usize;
            if at < n_pieces && tokens[at] != token.text {
                let what = format!("expected {:?} as in {label}, found {:?}", tokens[at], token.text);
                return Err(Error::format(&token.place, what));
            }
            tokens[at] = token.text.to_string();
            kinds[at] = match kinds[at] {
                TokenKind::Normal | TokenKind::Unused if !token.special => TokenKind::UserDefined,
                TokenKind::Normal | TokenKind::Unused | TokenKind::UserDefined if token.special => {
                    TokenKind::Control
                }
                kind => kind,
            };
        }
        let mut ids = HashMap::with_capacity(tokens.len());
        for (id, text) in tokens.iter().enumerate() {
            if let Some(first) = ids.insert(text.clone(), id as u32) {
                return Err(Error::format(
                    &label,
                    format!("token {text:?}: expected one id, found {first} and {id}"),
                ));
            }
        }

        let named = |key: &str, default: Option<&str>| -> Result<Option<u32>> {
            let Some(text) = named_token(files, key)?.or(default) else { return Ok(None) };
            let id = ids.get(text).copied();
            id.map(Some)
                .ok_or_else(|| Error::format(&label, format!("{key} {text:?}: expected among the tokens")))
        };
        // transformers' defaults for a LLaMA tokenizer
        let missing = |key: &str| Error::format(&label, format!("{key}: expected a token"));
        let bos_id = named("bos_token", Some("<s>"))?.ok_or_else(|| missing("bos_token"))?;
        let eos_id = named("eos_token", Some("</s>"))?.ok_or_else(|| missing("eos_token"))?;
        let unk_id = named("unk_token", Some("<unk>"))?.ok_or_else(|| missing("unk_token"))?;
        let pad_id = named("pad_token", None)?;
        if kinds[unk_id as usize] != TokenKind::Unknown {
            let what = format!("unk_token {:?}: expected the unknown piece", tokens[unk_id as usize]);
            return Err(Error::format(&label, what));
        }

        // a piece that the files name is special whether or not they list it among the added tokens
        for text in special_names(files)? {
            if let Some(kind) = ids.get(text).and_then(|id| kinds.get_mut(*id as usize))
                && matches!(kind, TokenKind::Normal | TokenKind::UserDefined)
            {
                *kind = TokenKind::Control;
            }
        }

        let mut assumed = Vec::new();
        let mut flag = |key: &str, default: bool| match root.key(key) {
            Some(value) => value.bool(),
            None => {
                assumed.push(format!("tokenizer_config.{key} = {default}"));
                Ok(default)
            }
        };
        let config = TokenizerConfig {
            bos_id,
            eos_id,
            unk_id,
            pad_id,
            add_bos: flag("add_bos_token", true)?,
            add_eos: flag("add_eos_token", false)?,
            add_space_prefix: model.add_dummy_prefix,
            remove_extra_whitespaces: false,
            legacy: flag("legacy", true)?,
            tokens: Strings::from_iter(&tokens),
            scores,
            kinds,
        };
        Ok(Tokenizer { config, ids, label, assumed })
    }

    pub fn has(&self, text: &str) -> bool {
        self.ids.contains_key(text)
    }

    /// The id of a special token, which no text of a user may turn into.
    ///
    /// # Errors
    /// Where there is no such token, or it is an ordinary one.
    pub fn special(&self, text: &str) -> Result<u32> {
        let id = self.ids.get(text).copied();
        let id =
            id.ok_or_else(|| Error::format(&self.label, format!("expected a token {text}, found none")))?;
        match self.config.kinds[id as usize] {
            TokenKind::Control => Ok(id),
            kind => Err(Error::format(
                &self.label,
                format!("token {text}: expected a special one, found {kind:?}"),
            )),
        }
    }
}

impl Tokenizer {
    /// The id of a token that a template places itself: a special one, or a piece of SentencePiece's own that always
    /// stands for itself, which becomes a special one, so that no text of a user turns into it. The latter only where
    /// the text on either side is tokenized in the same way as beside a special token.
    ///
    /// # Errors
    /// Where there is no such token, or no such way.
    pub fn of_template(&mut self, text: &str) -> Result<u32> {
        let is_alike = self.config.legacy && !self.config.add_space_prefix;
        if let Some(id) = self.ids.get(text).map(|id| *id as usize).filter(|_| is_alike)
            && self.config.kinds[id] == TokenKind::UserDefined
        {
            self.config.kinds[id] = TokenKind::Control;
        }
        self.special(text)
    }
}

/// What llama.cpp gives tokens that no merge may yield.
const ADDED_SCORE: f32 = -1000.0;

fn refuse_other_kinds(root: &Json) -> Result<()> {
    if let Some(class) = root.key("tokenizer_class")
        && !matches!(class.str()?, "LlamaTokenizer" | "LlamaTokenizerFast")
    {
        return Err(class.unsupported("LlamaTokenizer (a tokenizer of another kind)"));
    }
    if let Some(flag) = root.key("add_prefix_space")
        && !flag.bool()?
    {
        return Err(flag.unsupported("true"));
    }
    Ok(())
}

/// Added tokens by id, out of both files that list them.
fn added_tokens(files: &ConfigFiles) -> Result<BTreeMap<u32, Added<'_>>> {
    let special_names = special_names(files)?;
    let mut added = BTreeMap::new();
    for (text, id) in files.added_tokens.root().entries()? {
        let token =
            Added { text: check_text(text, &id)?, special: special_names.contains(text), place: id.place() };
        if let Some(first) = added.insert(id.u32()?, token) {
            return Err(Error::format(
                id.place(),
                format!("expected an id of its own, found that of {}", first.text),
            ));
        }
    }
    let Some(decoder) = files.tokenizer_config.root().key("added_tokens_decoder") else { return Ok(added) };
    for (id, entry) in decoder.entries()? {
        let place = entry.place();
        let id: u32 = id.parse().map_err(|_| Error::format(&place, "expected an id as the key"))?;
        let text = check_text(entry.need("content")?.str()?, &entry)?;
        for flag in ["lstrip", "rstrip", "single_word"] {
            if let Some(value) = entry.key(flag)
                && value.bool()?
            {
                return Err(value.unsupported("false"));
            }
        }
        let special = entry.key("special").map_or(Ok(false), |value| value.bool())?;
        if let Some(first) = added.get(&id)
            && first.text != text
        {
            return Err(Error::format(
                place,
                format!("expected {:?} as in {}, found {text:?}", first.text, first.place),
            ));
        }
        added.insert(id, Added { text, special, place });
    }
    Ok(added)
}

fn check_text<'a>(text: &'a str, at: &Json) -> Result<&'a str> {
    if text.is_empty() || text.len() > TOKEN_BYTES_MAX {
        let what = format!("expected a token of 1 to {TOKEN_BYTES_MAX} bytes, found {}", text.len());
        return Err(Error::format(at.place(), what));
    }
    Ok(text)
}

const NAMED: [&str; 4] = ["bos_token", "eos_token", "unk_token", "pad_token"];

/// The texts that the two files call special.
fn special_names(files: &ConfigFiles) -> Result<HashSet<&str>> {
    let mut names = HashSet::new();
    for file in [&files.special_tokens_map, &files.tokenizer_config] {
        if let Some(list) = file.root().key("additional_special_tokens") {
            for item in list.array()? {
                names.insert(token_text(&item)?);
            }
        }
    }
    for key in NAMED {
        names.extend(named_token(files, key)?);
    }
    Ok(names)
}

fn named_token<'a>(files: &'a ConfigFiles, key: &str) -> Result<Option<&'a str>> {
    let found = files.tokenizer_config.root().key(key).or_else(|| files.special_tokens_map.root().key(key));
    found.map(|value| token_text(&value)).transpose()
}

/// A token as a string, or as an object with its `content`.
fn token_text<'a>(value: &Json<'a>) -> Result<&'a str> {
    match value.key("content") {
        Some(content) => content.str(),
        None => value.str(),
    }
}

#[cfg(test)]
#[path = "tokenizer_tests.rs"]
mod tests;
