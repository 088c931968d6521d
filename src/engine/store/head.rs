//! The words of a saved conversation: what was said, by which model, and what stands at each position of its cache. In
//! and out: JSON, checked against the engine that is to go on with it. Must not know the bytes behind it.

use crate::engine::Engine;
use crate::engine::image_cache::ImageKey;
use crate::engine::session::Cell;
use crate::error::{Error, Result};
use crate::prompt::{self, Message, Role};
use crate::token::TokenId;
use owlet_format::hex;
use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The program that saved it, for people.
    pub written_by: String,
    pub model: ModelId,
    /// f16, f32, q8_0
    pub kv_type: String,
    /// Whether the rows were computed with activations in f32.
    pub exact: bool,
    pub system: Option<String>,
    pub messages: Vec<Said>,
    /// Names; the pixels stand behind the head.
    pub pictures: Vec<String>,
    /// Positions in order.
    pub positions: Vec<Run>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelId {
    /// For people.
    pub name: String,
    /// SHA-256 of the model file's header, in hex.
    pub sha256: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    by: Speaker,
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Speaker {
    User,
    Model,
}

impl fmt::Display for Speaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Speaker::User { "the user" } else { "the model" })
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Part {
    Text(String),
    /// Index of a picture.
    Picture(usize),
}

/// Positions that follow each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Run {
    Tokens(Vec<TokenId>),
    Picture(Rows),
}

/// `n` rows of a picture's embedding, from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rows {
    index: usize,
    first: u32,
    n: u32,
}

impl Head {
    /// Whether `engine` can go on with this.
    ///
    /// # Errors
    /// `Unsupported`: of another model, or another type of cache. `Limit`: longer than the engine's context. `Format`: it
    /// contradicts itself. `place` is what messages call the file.
    pub fn check(&self, engine: &Engine, place: &str) -> Result<()> {
        let (model, digest) = (engine.loaded(), hex(&engine.loaded().digest));
        if self.model.sha256 != digest {
            let (other, own) = (shown(&self.model.name), &model.config.name);
            return Err(Error::unsupported(
                place,
                format!("a conversation with another model, {other}; this one is {own}"),
            ));
        }
        let kv_type = engine.options().kv_type.dtype().name();
        if self.kv_type != kv_type {
            let found = shown(&self.kv_type);
            let problem =
                format!("its keys and values are of type {found}; this program runs with {kv_type}");
            return Err(Error::unsupported(place, problem));
        }
        let is_exact = model.model.is_exact();
        if self.exact != is_exact {
            let problem = match is_exact {
                true => "its keys and values are of activations in 8 bits; this program runs with exact ones",
                false => "its keys and values are of exact activations; this program runs with 8 bits",
            };
            return Err(Error::unsupported(place, problem));
        }
        let format = |problem: String| Err(Error::format(place, problem));
        if !self.pictures.is_empty() && model.config.image.is_none() {
            return format("pictures: expected none for this model".to_string());
        }
        for (n, said) in (1..).zip(&self.messages) {
            let expected = if n % 2 == 1 { Speaker::User } else { Speaker::Model };
            if said.by != expected {
                return format(format!("message {n}: expected one by {expected}, found one by {}", said.by));
            }
            for part in &said.parts {
                match part {
                    Part::Picture(_) if said.by == Speaker::Model => {
                        return format(format!("message {n}: a picture in an answer"));
                    }
                    Part::Picture(index) if *index >= self.pictures.len() => {
                        let n_pictures = self.pictures.len();
                        return format(format!("message {n}: picture {index}: expected one of {n_pictures}"));
                    }
                    Part::Picture(_) | Part::Text(_) => {}
                }
            }
        }
        self.check_positions(engine, place)
    }

    fn check_positions(&self, engine: &Engine, place: &str) -> Result<()> {
        let format = |problem: String| Err(Error::format(format_args!("{place}: positions"), problem));
        let (n_vocab, n_pictures) = (engine.loaded().text.n_vocab, self.pictures.len());
        let n_image_tokens = engine.loaded().n_image_tokens().unwrap_or(0) as u64;
        let mut n_positions = 0u64;
        for run in &self.positions {
            match run {
                Run::Tokens(ids) => {
                    if let Some(id) = ids.iter().find(|id| **id >= n_vocab) {
                        return format(format!("token: expected less than {n_vocab}, found {id}"));
                    }
                    n_positions += ids.len() as u64;
                }
                Run::Picture(Rows { index, first, n }) => {
                    if *index >= n_pictures {
                        return format(format!("picture {index}: expected one of {n_pictures}"));
                    }
                    if u64::from(*first) + u64::from(*n) > n_image_tokens {
                        return format(format!(
                            "rows of a picture: expected some of {n_image_tokens}, found {n} from {first} on"
                        ));
                    }
                    n_positions += u64::from(*n);
                }
            }
            let n_ctx = u64::from(engine.options().n_ctx);
            if n_positions > n_ctx {
                return Err(Error::limit(
                    format_args!("{place}: positions in this context"),
                    n_ctx,
                    n_positions,
                ));
            }
        }
        Ok(())
    }

    pub fn n_positions(&self) -> usize {
        let n = |run: &Run| match run {
            Run::Tokens(ids) => ids.len(),
            Run::Picture(rows) => rows.n as usize,
        };
        self.positions.iter().map(n).sum()
    }

    /// The messages; of a head that was checked.
    pub fn messages(&self) -> Vec<Message> {
        let part = |part: &Part| match part {
            Part::Text(text) => prompt::Part::Text(text.clone()),
            Part::Picture(index) => prompt::Part::Image(*index),
        };
        let message = |said: &Said| Message {
            role: if said.by == Speaker::User { Role::User } else { Role::Bot },
            parts: said.parts.iter().map(part).collect(),
        };
        self.messages.iter().map(message).collect()
    }

    /// What stands at each position; of a head that was checked, whose pictures have the keys `keys`.
    pub fn cells(&self, keys: &[ImageKey]) -> Vec<Cell> {
        let mut cells = Vec::new();
        for run in &self.positions {
            match run {
                Run::Tokens(ids) => cells.extend(ids.iter().map(|&id| Cell::Token(id))),
                Run::Picture(rows) => {
                    let key = keys.get(rows.index);
                    let rows = rows.first..rows.first.saturating_add(rows.n);
                    cells.extend(
                        key.into_iter()
                            .flat_map(|&key| rows.clone().map(move |row| Cell::Image { key, row })),
                    );
                }
            }
        }
        cells
    }
}

/// The messages as they are written.
pub fn said(messages: &[Message]) -> Vec<Said> {
    let part = |part: &prompt::Part| match part {
        prompt::Part::Text(text) => Part::Text(text.clone()),
        prompt::Part::Image(index) => Part::Picture(*index),
    };
    let message = |message: &Message| Said {
        by: if message.role == Role::User { Speaker::User } else { Speaker::Model },
        parts: message.parts.iter().map(part).collect(),
    };
    messages.iter().map(message).collect()
}

/// `cells` as they are written, up to the first picture whose key is none of `keys`: the cache may know a turn that was
/// taken back.
pub fn runs(cells: &[Cell], keys: &[ImageKey]) -> Vec<Run> {
    let mut runs = Vec::new();
    for cell in cells {
        match (cell, runs.last_mut()) {
            (Cell::Token(id), Some(Run::Tokens(ids))) => ids.push(*id),
            (Cell::Token(id), _) => runs.push(Run::Tokens(vec![*id])),
            (Cell::Image { key, row }, last) => {
                let Some(index) = keys.iter().position(|known| known == key) else { break };
                match last {
                    Some(Run::Picture(rows)) if (rows.index, rows.first + rows.n) == (index, *row) => {
                        rows.n += 1
                    }
                    _ => runs.push(Run::Picture(Rows { index, first: *row, n: 1 })),
                }
            }
        }
    }
    runs
}

/// Characters of a file's words that a message shows.
const MAX_SHOWN: usize = 240;

/// A word of the file as it may stand in a message.
pub fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::Pixels;

    #[test]
    fn cells_become_runs_and_cells_again() {
        let key =
            |byte| ImageKey::new(&Pixels { size_px: 1, rgb: vec![byte; 3].into(), planes: vec![] }, &[0; 32]);
        let keys = [key(1), key(2)];
        let picture = |at: usize, row| Cell::Image { key: keys[at], row };
        let rows = |index, first, n| Run::Picture(Rows { index, first, n });
        let tokens = |ids: &[TokenId]| Run::Tokens(ids.to_vec());
        let cases: [(Vec<Cell>, Vec<Run>); 4] = [
            (vec![], vec![]),
            (vec![Cell::Token(5), Cell::Token(6)], vec![tokens(&[5, 6])]),
            (
                vec![Cell::Token(5), picture(1, 0), picture(1, 1), picture(0, 2), Cell::Token(6)],
                vec![tokens(&[5]), rows(1, 0, 2), rows(0, 2, 1), tokens(&[6])],
            ),
            // The same picture twice, and a picture whose end is cut off.
            (vec![picture(0, 0), picture(0, 1), picture(0, 0)], vec![rows(0, 0, 2), rows(0, 0, 1)]),
        ];
        for (cells, expected) in cases {
            let runs = runs(&cells, &keys);
            assert_eq!(runs, expected);
            let json = serde_json::to_string(&runs).unwrap();
            let positions: Vec<Run> = serde_json::from_str(&json).unwrap();
            let model = ModelId { name: String::new(), sha256: String::new() };
            let head = Head {
                written_by: String::new(),
                model,
                kv_type: String::new(),
                exact: false,
                system: None,
                messages: vec![],
                pictures: vec![],
                positions,
            };
            assert_eq!(head.cells(&keys), cells, "{json}");
        }
        let unknown = [picture(0, 0), Cell::Token(5), picture(1, 0), Cell::Token(6)];
        assert_eq!(runs(&unknown, &keys[..1]), [rows(0, 0, 1), tokens(&[5])]);
    }

    #[test]
    fn words_of_a_file_on_one_line() {
        assert_eq!(shown("a\u{1b}[2J\nb圆"), "a\\u{1b}[2J\\nb圆");
        assert_eq!(shown(&"x".repeat(999)).len(), MAX_SHOWN);
    }
}
