//! What is known of the model that a pair becomes: the keys of the model file, and where each is from.

use std::fmt;

use owlet_format::{Metadata, ModelConfig, Part, Strings, Value};

use super::stated::{Stated, short};
use crate::error::Result;

/// Where a fact is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file of the pair: its path, and the key or the tensor there.
    File { label: String, by: String },
    /// The pair does not say it, and in this family it is always so.
    Family(&'static str),
    /// The pair does not say it, and llama.cpp takes it so.
    LlamaCpp,
    /// The caller said so.
    Set,
}

#[derive(Debug)]
struct Fact {
    key: String,
    shown: String,
    origin: Origin,
}

/// Keys of the model file to be.
#[derive(Debug)]
pub struct Facts {
    family: &'static str,
    keys: Metadata,
    facts: Vec<Fact>,
    /// What else a person should see.
    pub notes: Vec<String>,
}

impl Facts {
    pub fn new(family: &'static str) -> Facts {
        Facts { family, keys: Metadata::new(""), facts: Vec::new(), notes: Vec::new() }
    }

    pub fn put(&mut self, key: &str, value: impl Into<Value>, origin: Origin) {
        let value = value.into();
        self.facts.retain(|fact| fact.key != key);
        self.facts.push(Fact { key: key.to_string(), shown: short(&value), origin });
        self.keys.put(key, value);
    }

    /// A fact that stands in `file` under `by`, a key or a tensor.
    pub fn stated(&mut self, key: &str, value: impl Into<Value>, file: &Stated, by: &str) {
        let origin = Origin::File { label: file.label().to_string(), by: by.to_string() };
        self.put(key, value, origin);
    }

    /// What `file` says under the very `key`, as files written here do, else `value`, which the family has.
    pub fn own_or(&mut self, key: &str, file: &Stated, value: impl Into<Value>) {
        match file.value(key) {
            Some(own) => self.stated(key, own.clone(), file, key),
            None => self.put(key, value, Origin::Family(self.family)),
        }
    }

    /// What `file` says under the very `key`, where it says it, else what llama.cpp takes.
    pub fn stated_or(
        &mut self,
        key: &str,
        file: &Stated,
        said: Option<impl Into<Value>>,
        value: impl Into<Value>,
    ) {
        match said {
            Some(said) => self.stated(key, said, file, key),
            None => self.put(key, value, Origin::LlamaCpp),
        }
    }

    /// What `file` has under `key`, as it stands there; nothing where it has nothing.
    pub fn copy(&mut self, key: &str, file: &Stated) {
        if let Some(value) = file.value(key) {
            self.stated(key, value.clone(), file, key);
        }
    }

    /// The config that the facts so far make with these `parts`; messages call it `label`.
    ///
    /// # Errors
    /// For a fact that is missing, of another type or out of its range.
    pub fn config(&self, label: &str, parts: &[Part]) -> Result<ModelConfig> {
        let mut keys = Metadata::new(label);
        ModelConfig::of_family(self.family).write(&mut keys);
        keys.put("owlet.parts", parts.iter().map(|part| part.word()).collect::<Strings>());
        for (key, value) in self.keys.iter() {
            keys.put(key, value.clone());
        }
        Ok(ModelConfig::from_metadata(&keys)?)
    }

    /// What no file of the pair says, a line each.
    pub fn assumed(&self) -> impl Iterator<Item = String> {
        self.facts.iter().filter(|fact| !matches!(fact.origin, Origin::File { .. })).map(Fact::to_string)
    }

    /// All of them, a line each.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.facts.iter().map(Fact::to_string)
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}, ", self.key, self.shown)?;
        match &self.origin {
            Origin::File { label, by } if *by == self.key => write!(f, "from {label}"),
            Origin::File { label, by } => write!(f, "from {label}: {by}"),
            Origin::Family(family) => write!(f, "as {family} has it"),
            Origin::LlamaCpp => f.write_str("as llama.cpp takes it"),
            Origin::Set => f.write_str("from --set"),
        }
    }
}
