//! Reads numbers and strings off the front of a file. Nothing is allocated for a length that the file states
//! before that length was compared with the bytes that are there.

use std::fmt;

use super::limits::Limits;
use super::size::Size;
use crate::error::{Error, Result, Shown};

/// What is being read, for messages.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    Header,
    NthKey(u64),
    Key(&'a str),
    NthTensor(u64),
    Tensor(&'a str),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("header"),
            Self::NthKey(n) => write!(f, "key number {n}"),
            Self::Key(key) => write!(f, "key {}", Shown(key)),
            Self::NthTensor(n) => write!(f, "tensor number {n}"),
            Self::Tensor(name) => write!(f, "tensor {}", Shown(name)),
        }
    }
}

#[derive(Clone)]
pub(super) struct Cursor<'a> {
    label: &'a str,
    bytes: &'a [u8],
    at: Size,
    pub limits: Limits,
}

impl<'a> Cursor<'a> {
    pub fn new(label: &'a str, bytes: &'a [u8], limits: Limits) -> Self {
        Self { label, bytes, at: Size::ZERO, limits }
    }

    /// Bytes read so far.
    pub fn position(&self) -> Size {
        self.at
    }

    pub fn wrong(&self, place: Place, problem: impl Into<String>) -> Error {
        Error::format(self.label, place, problem)
    }

    pub fn limit(&self, place: Place, what: &str, max: u64, found: u64) -> Error {
        Error::Limit { path: self.label.into(), at: format!("{place}: {what}"), max, found }
    }

    pub fn u32(&mut self, place: Place) -> Result<u32> {
        self.array(place).map(u32::from_le_bytes)
    }

    pub fn u64(&mut self, place: Place) -> Result<u64> {
        self.array(place).map(u64::from_le_bytes)
    }

    pub fn array<const N: usize>(&mut self, place: Place) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(Size(N as u64), place)?);
        Ok(array)
    }

    /// A string of at most `max` bytes, behind its length.
    pub fn str(&mut self, place: Place, max: u64) -> Result<&'a str> {
        let n_bytes = self.u64(place)?;
        if n_bytes > max {
            return Err(self.limit(place, "length of a string", max, n_bytes));
        }
        let bytes = self.take(Size(n_bytes), place)?;
        std::str::from_utf8(bytes).map_err(|error| {
            self.wrong(place, format!("expected UTF-8, found another byte at {}", error.valid_up_to()))
        })
    }

    /// The next `n_items` times `item` bytes.
    pub fn items(&mut self, n_items: u64, item: Size, place: Place) -> Result<&'a [u8]> {
        let n_bytes = self.at_least(n_items, item, place)?;
        self.take(n_bytes, place)
    }

    /// Refuses `n_items` of `item` bytes or more where so many can't follow; yields their bytes.
    pub fn at_least(&self, n_items: u64, item: Size, place: Place) -> Result<Size> {
        let left = self.left();
        match Size(n_items).times(item) {
            Some(n_bytes) if n_bytes <= left => Ok(n_bytes),
            _ => Err(self.wrong(
                place,
                format!("expected room for {n_items} items, found {} bytes to the end of the file", left.0),
            )),
        }
    }

    fn left(&self) -> Size {
        Size::of(self.bytes).minus(self.at).unwrap_or(Size::ZERO)
    }

    pub fn take(&mut self, n_bytes: Size, place: Place) -> Result<&'a [u8]> {
        let end = self.at.plus(n_bytes);
        let taken = match (self.at.index(), end.and_then(Size::index)) {
            (Some(start), Some(end)) => self.bytes.get(start..end),
            _ => None,
        };
        let (Some(taken), Some(end)) = (taken, end) else {
            let (at, length) = (self.at.0, self.bytes.len());
            let problem =
                format!("expected {} bytes at {at}, found the end of the file at {length}", n_bytes.0);
            return Err(self.wrong(place, problem));
        };
        if end.0 > self.limits.metadata_bytes {
            return Err(self.limit(place, "bytes of metadata", self.limits.metadata_bytes, end.0));
        }
        self.at = end;
        Ok(taken)
    }
}
