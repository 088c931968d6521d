//! A list of strings in one piece of memory: never more bytes than the file spent on them.

use std::sync::Arc;

use super::size::Size;

/// An immutable list of strings; cloning shares it.
///
/// A `Vec<String>` takes 24 bytes and an allocation for what is 8 bytes in a file, so a hostile file could
/// triple itself; this takes 4 bytes and the text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Strings(Arc<Inner>);

#[derive(Default, PartialEq, Eq)]
struct Inner {
    text: String,
    /// Where each string ends in `text`; it begins where the one before ends.
    ends: Vec<u32>,
}

impl Strings {
    pub fn len(&self) -> usize {
        self.0.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.ends.is_empty()
    }

    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.0.ends.get(index)? as usize;
        let start = match index.checked_sub(1) {
            Some(before) => *self.0.ends.get(before)? as usize,
            None => 0,
        };
        self.0.text.get(start..end)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        let mut start = 0;
        self.0.ends.iter().map(move |&end| {
            let string = &self.0.text[start..end as usize];
            start = end as usize;
            string
        })
    }
}

/// # Panics
/// Where the strings together are longer than 4 GiB.
impl<S: AsRef<str>> FromIterator<S> for Strings {
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> Self {
        let mut builder = StringsBuilder::default();
        for string in strings {
            assert!(builder.push(string.as_ref()).is_some(), "strings of more than 4 GiB");
        }
        builder.finish()
    }
}

#[derive(Default)]
pub(super) struct StringsBuilder(Inner);

impl StringsBuilder {
    pub fn with_capacity(n_strings: Size, n_text: Size) -> Self {
        let ends = Vec::with_capacity(n_strings.index().unwrap_or(0));
        Self(Inner { text: String::with_capacity(n_text.index().unwrap_or(0)), ends })
    }

    /// `None` where the text becomes longer than `u32` counts.
    pub fn push(&mut self, string: &str) -> Option<()> {
        let end = Size::of(self.0.text.as_bytes()).plus(Size::of(string.as_bytes()))?;
        self.0.ends.push(u32::try_from(end.0).ok()?);
        self.0.text.push_str(string);
        Some(())
    }

    pub fn finish(self) -> Strings {
        Strings(Arc::new(self.0))
    }
}

impl std::fmt::Debug for Strings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
