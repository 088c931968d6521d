//! One file of a pair, read for its facts: numbers in any of GGUF's types, since converters of several years wrote them;
//! and a list of the keys that somebody asked for, so that a trait nobody knows is refused instead of passed over.

use std::cell::RefCell;
use std::collections::BTreeSet;

use owlet_format::{Array, Gguf, Metadata, Value};

use crate::error::{Error, Result};

pub struct Stated<'a> {
    pub file: &'a Gguf,
    asked: RefCell<BTreeSet<String>>,
}

impl<'a> Stated<'a> {
    pub fn of(file: &'a Gguf) -> Stated<'a> {
        Stated { file, asked: RefCell::default() }
    }

    pub fn label(&self) -> &'a str {
        self.file.label()
    }

    fn metadata(&self) -> &'a Metadata {
        self.file.metadata()
    }

    /// What stands under `key`.
    pub fn value(&self, key: &str) -> Option<&'a Value> {
        self.asked.borrow_mut().insert(key.to_string());
        self.metadata().get(key)
    }

    /// A whole number of 32 bits, whatever type holds it.
    ///
    /// # Errors
    /// For anything else.
    pub fn count(&self, key: &str) -> Result<Option<u32>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match whole(value).and_then(|n| u32::try_from(n).ok()) {
            Some(n) => Ok(Some(n)),
            None => Err(self.wrong(key, "a whole number of 32 bits", value)),
        }
    }

    /// # Errors
    /// As [`Stated::count`], and where there is none.
    pub fn need_count(&self, key: &str) -> Result<u32> {
        self.count(key)?.ok_or_else(|| self.missing(key, "a whole number"))
    }

    /// The list of whole numbers under `key`.
    ///
    /// # Errors
    /// For anything else.
    pub fn counts(&self, key: &str) -> Result<Option<Vec<i64>>> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Array(Array::I32(items))) => Ok(Some(items.iter().map(|&n| n.into()).collect())),
            Some(Value::Array(Array::U32(items))) => Ok(Some(items.iter().map(|&n| n.into()).collect())),
            Some(Value::Array(Array::I64(items))) => Ok(Some(items.clone())),
            Some(value) => Err(self.wrong(key, "an array of whole numbers", value)),
        }
    }

    /// # Errors
    /// For anything but a number.
    pub fn number(&self, key: &str) -> Result<Option<f32>> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::F32(x)) => Ok(Some(*x)),
            Some(Value::F64(x)) => Ok(Some(*x as f32)),
            Some(value) => {
                whole(value).map(|n| Some(n as f32)).ok_or_else(|| self.wrong(key, "a number", value))
            }
        }
    }

    /// # Errors
    /// As [`Stated::number`], and where there is none.
    pub fn need_number(&self, key: &str) -> Result<f32> {
        self.number(key)?.ok_or_else(|| self.missing(key, "a number"))
    }

    /// # Errors
    /// For anything but a bool.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(value) => Err(self.wrong(key, "a bool", value)),
        }
    }

    /// # Errors
    /// For anything but text.
    pub fn word(&self, key: &str) -> Result<Option<&'a str>> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Str(text)) => Ok(Some(text)),
            Some(value) => Err(self.wrong(key, "a string", value)),
        }
    }

    /// # Errors
    /// Where `key` is there and says anything but `expected`.
    pub fn expect_word(&self, key: &str, expected: &str) -> Result<()> {
        match self.word(key)? {
            Some(found) if found != expected => Err(Error::unsupported(
                self.place(key),
                format!("expected {expected}, found {}", short(&Value::Str(found.to_string()))),
            )),
            _ => Ok(()),
        }
    }

    /// # Errors
    /// For the first key that begins with `prefix` and that nobody asked for: a trait that no graph here has. Flags that
    /// are false say that a trait is absent.
    pub fn refuse_unknown(&self, prefix: &str) -> Result<()> {
        let asked = self.asked.borrow();
        let is_trait = |(key, value): &(&str, &Value)| {
            key.starts_with(prefix) && !asked.contains(*key) && !matches!(value, Value::Bool(false))
        };
        match self.metadata().iter().find(is_trait) {
            None => Ok(()),
            Some((key, value)) => Err(Error::unsupported(
                self.place(key),
                format!("expected no such key, which may change what is computed, found {}", short(value)),
            )),
        }
    }

    pub fn place(&self, key: &str) -> String {
        format!("{}: key {key}", self.label())
    }

    fn wrong(&self, key: &str, expected: &str, found: &Value) -> Error {
        Error::format(self.place(key), format!("expected {expected}, found {}", short(found)))
    }

    pub fn missing(&self, key: &str, expected: &str) -> Error {
        Error::format(self.place(key), format!("expected {expected}, found no such key"))
    }
}

fn whole(value: &Value) -> Option<i64> {
    match *value {
        Value::U8(n) => Some(n.into()),
        Value::I8(n) => Some(n.into()),
        Value::U16(n) => Some(n.into()),
        Value::I16(n) => Some(n.into()),
        Value::U32(n) => Some(n.into()),
        Value::I32(n) => Some(n.into()),
        Value::U64(n) => i64::try_from(n).ok(),
        Value::I64(n) => Some(n),
        _ => None,
    }
}

/// A value as a line of text may have it.
pub fn short(value: &Value) -> String {
    const LONGEST: usize = 60;
    const N_ITEMS_MAX: usize = 4;
    let list = |n_items: usize, items: String| {
        if n_items <= N_ITEMS_MAX { format!("[{items}]") } else { format!("{n_items} items") }
    };
    fn joined<T: std::fmt::Display>(items: &[T]) -> String {
        items.iter().take(N_ITEMS_MAX).map(T::to_string).collect::<Vec<_>>().join(", ")
    }
    match value {
        Value::F32(x) => x.to_string(),
        Value::F64(x) => x.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Str(text) => {
            let shown: String = text.chars().take(LONGEST).collect();
            let dots = if shown.len() < text.len() { "…" } else { "" };
            if shown.contains(char::is_whitespace) { format!("\"{shown}{dots}\"") } else { shown + dots }
        }
        Value::Array(Array::F32(items)) => list(items.len(), joined(items)),
        Value::Array(Array::U8(items)) => list(items.len(), joined(items)),
        Value::Array(Array::U32(items)) => list(items.len(), joined(items)),
        Value::Array(Array::I32(items)) => list(items.len(), joined(items)),
        Value::Array(items) => format!("{} items", items.len()),
        number => whole(number).map_or_else(|| "a number".to_string(), |n| n.to_string()),
    }
}
