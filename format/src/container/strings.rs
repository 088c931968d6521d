//! A list of strings in one piece of memory: never more bytes than the file spent on them.

use std::sync::Arc;

/// An immutable list of strings; cloning shares it.
///
/// A `Vec<String>` takes 24 bytes and an allocation for what is 8 bytes in a file, so a hostile file could
/// triple itself; this takes 4 bytes and the text.
#[derive(Clone, PartialEq, Eq)]
pub struct Strings(Arc<Inner>);

#[derive(PartialEq, Eq)]
struct Inner {
    text: String,
    /// Where each string ends in `text`; it begins where the one before ends.
    ends: Vec<u32>,
}

impl Strings {
    /// `None` where the text is longer than `u32` counts or an end is no character boundary.
    pub(crate) fn from_parts(text: String, ends: Vec<u32>) -> Option<Self> {
        let mut start = 0;
        for &end in &ends {
            text.get(start..end as usize)?;
            start = end as usize;
        }
        (start == text.len()).then(|| Self(Arc::new(Inner { text, ends })))
    }

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
        let (mut text, mut ends) = (String::new(), Vec::new());
        for string in strings {
            text.push_str(string.as_ref());
            assert!(u32::try_from(text.len()).is_ok(), "strings of more than 4 GiB");
            ends.push(text.len() as u32);
        }
        Self(Arc::new(Inner { text, ends }))
    }
}

impl std::fmt::Debug for Strings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
