//! The keys of a file and their values: an ordered list with typed, ranged readers. It comes from a header
//! that was read, or is filled by the schema to be written. Every reader's error names file, key, what was
//! expected and what was found.

use std::fmt;
use std::ops::RangeInclusive;

use super::cursor::Place;
use super::value::type_name;
use super::{Array, Strings, Value};
use crate::error::{Error, Result};

/// Keys and values, in the order in which they stand in the file.
#[derive(Clone, Debug)]
pub struct Metadata {
    label: String,
    entries: Vec<(String, Value)>,
    /// Indices of `entries`, sorted by key.
    sorted: Vec<u32>,
}

impl Metadata {
    /// No keys yet; `label` stands for the file's name in messages.
    pub fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), entries: Vec::new(), sorted: Vec::new() }
    }

    /// # Errors
    /// Where a key stands twice.
    pub(crate) fn from_entries(label: &str, entries: Vec<(String, Value)>) -> Result<Self> {
        let mut sorted: Vec<u32> = (0u32..).take(entries.len()).collect();
        let key_of = |index: &u32| entries[*index as usize].0.as_str();
        sorted.sort_by(|a, b| key_of(a).cmp(key_of(b)));
        if let Some(twins) = sorted.windows(2).find(|pair| key_of(&pair[0]) == key_of(&pair[1])) {
            let at = Place::Key(key_of(&twins[0]));
            return Err(Error::format(label, at, "expected once, found twice"));
        }
        Ok(Self { label: label.into(), entries, sorted })
    }

    /// The same keys, under another file's name.
    pub fn with_label(self, label: impl Into<String>) -> Self {
        Self { label: label.into(), ..self }
    }

    /// Sets `key`; a key that is there keeps its place.
    pub fn put(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let (key, value) = (key.into(), value.into());
        match self.find(&key) {
            Ok(at) => self.entries[self.sorted[at] as usize].1 = value,
            Err(at) => {
                self.sorted.insert(at, self.entries.len() as u32);
                self.entries.push((key, value));
            }
        }
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        let at = self.find(key).ok()?;
        Some(&self.entries[self.sorted[at] as usize].1)
    }

    /// Which one of [`Metadata::iter`] has `key`.
    pub(super) fn index(&self, key: &str) -> Option<usize> {
        self.find(key).ok().map(|at| self.sorted[at] as usize)
    }

    /// Keys and values, in file order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The name that messages give the file.
    pub fn label(&self) -> &str {
        &self.label
    }

    fn find(&self, key: &str) -> std::result::Result<usize, usize> {
        self.sorted.binary_search_by(|&index| self.entries[index as usize].0.as_str().cmp(key))
    }

    /// An error about `key`.
    pub(crate) fn wrong(&self, key: &str, problem: impl Into<String>) -> Error {
        Error::format(&self.label, Place::Key(key), problem)
    }

    fn typed<'a, T>(&'a self, key: &str, expected: &str, pick: fn(&'a Value) -> Option<T>) -> Result<T> {
        let Some(value) = self.get(key) else {
            return Err(self.wrong(key, format!("expected {expected}, found no such key")));
        };
        pick(value).ok_or_else(|| self.wrong(key, format!("expected {expected}, found {}", type_name(value))))
    }
}

/// Typed readers. All of them are errors for a key that is missing or holds another type.
impl Metadata {
    pub fn u16(&self, key: &str) -> Result<u16> {
        self.typed(key, "u16", |value| match value {
            Value::U16(n) => Some(*n),
            _ => None,
        })
    }

    pub fn i32(&self, key: &str) -> Result<i32> {
        self.typed(key, "i32", |value| match value {
            Value::I32(n) => Some(*n),
            _ => None,
        })
    }

    pub fn u32(&self, key: &str) -> Result<u32> {
        self.typed(key, "u32", |value| match value {
            Value::U32(n) => Some(*n),
            _ => None,
        })
    }

    pub fn u32_in(&self, key: &str, range: RangeInclusive<u32>) -> Result<u32> {
        let n = self.u32(key)?;
        self.within(key, n, range)
    }

    pub fn f32(&self, key: &str) -> Result<f32> {
        self.typed(key, "f32", |value| match value {
            Value::F32(x) => Some(*x),
            _ => None,
        })
    }

    /// NaN is in no range.
    pub fn f32_in(&self, key: &str, range: RangeInclusive<f32>) -> Result<f32> {
        let x = self.f32(key)?;
        self.within(key, x, range)
    }

    pub fn bool(&self, key: &str) -> Result<bool> {
        self.typed(key, "bool", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })
    }

    pub fn str(&self, key: &str) -> Result<&str> {
        self.typed(key, "string", |value| match value {
            Value::Str(text) => Some(text.as_str()),
            _ => None,
        })
    }

    pub fn strings(&self, key: &str) -> Result<&Strings> {
        self.typed(key, "array of string", |value| match value {
            Value::Array(Array::Str(items)) => Some(items),
            _ => None,
        })
    }

    pub fn u8s(&self, key: &str) -> Result<&[u8]> {
        self.typed(key, "array of u8", |value| match value {
            Value::Array(Array::U8(items)) => Some(items.as_slice()),
            _ => None,
        })
    }

    pub fn u32s(&self, key: &str) -> Result<&[u32]> {
        self.typed(key, "array of u32", |value| match value {
            Value::Array(Array::U32(items)) => Some(items.as_slice()),
            _ => None,
        })
    }

    pub fn i32s(&self, key: &str) -> Result<&[i32]> {
        self.typed(key, "array of i32", |value| match value {
            Value::Array(Array::I32(items)) => Some(items.as_slice()),
            _ => None,
        })
    }

    pub fn f32s(&self, key: &str) -> Result<&[f32]> {
        self.typed(key, "array of f32", |value| match value {
            Value::Array(Array::F32(items)) => Some(items.as_slice()),
            _ => None,
        })
    }

    fn within<T: PartialOrd + fmt::Display>(&self, key: &str, n: T, range: RangeInclusive<T>) -> Result<T> {
        if range.contains(&n) {
            return Ok(n);
        }
        let expected = match range.start() == range.end() {
            true => range.start().to_string(),
            false => format!("{} to {}", range.start(), range.end()),
        };
        Err(self.wrong(key, format!("expected {expected}, found {n}")))
    }
}
