//! Who may ask: keys from a file, a line each. What is compared is digests, all of them and all of their bytes, so that time tells
//! nothing about a key.

use crate::error::{Error, Result};
use crate::prompt::{Limits, read_limited};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::path::Path;

/// Shorter ones can be guessed.
const MIN_KEY_BYTES: usize = 16;

/// The keys of a file, as digests.
#[derive(Clone, Debug, Default)]
pub struct Keys(Vec<[u8; 32]>);

impl Keys {
    /// Reads a key from each line of the file at `path`, but for blank ones and those that begin with `#`.
    ///
    /// # Errors
    /// `Io`; `Format` where a key is short or has white space in it, or where there is none.
    pub fn read(path: &Path) -> Result<Keys> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|cause| Error::io(path, cause))?;
        let limits = Limits { max_bytes: 1 << 20, ..Limits::default() };
        let bytes = read_limited(file, &name, &limits)?;
        let text = String::from_utf8(bytes).map_err(|_| Error::format(&name, "expected UTF-8"))?;
        Keys::parse(&text).map_err(|problem| Error::format(&name, problem))
    }

    fn parse(text: &str) -> std::result::Result<Keys, String> {
        let mut keys = Vec::new();
        for (n, line) in (1..).zip(text.lines()).map(|(n, line)| (n, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line.len() < MIN_KEY_BYTES || line.contains(char::is_whitespace) {
                return Err(format!(
                    "line {n}: expected a key of at least {MIN_KEY_BYTES} characters without spaces"
                ));
            }
            keys.push(Sha256::digest(line).into());
        }
        if keys.is_empty() { Err("expected a key, found none".into()) } else { Ok(Keys(keys)) }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What tells the key `n` from others, and not what it is.
    pub fn digest(&self, n: usize) -> Option<&[u8; 32]> {
        self.0.get(n)
    }

    /// Which key `given` is.
    pub fn find(&self, given: &[u8]) -> Option<usize> {
        let given: [u8; 32] = Sha256::digest(given).into();
        let mut found = None;
        for (n, key) in self.0.iter().enumerate() {
            let difference = key.iter().zip(&given).fold(0, |sum, (a, b)| sum | (a ^ b));
            if std::hint::black_box(difference) == 0 {
                found = Some(n);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_lines() {
        let keys = Keys::parse("# phone\nsixteen-letters!\n\n  another-key-of-mine \r\n").unwrap();
        assert_eq!(keys.len(), 2);
        for (given, expected) in [
            ("sixteen-letters!", Some(0)),
            ("another-key-of-mine", Some(1)),
            ("sixteen-letters", None),
            ("sixteen-letters!!", None),
            ("# phone", None),
            ("", None),
        ] {
            assert_eq!(keys.find(given.as_bytes()), expected, "{given}");
        }
        assert_eq!(Keys::default().find(b""), None);
        for (text, problem) in [
            ("", "expected a key, found none"),
            ("# only\n", "expected a key, found none"),
            ("long-enough-for-it\nshort", "line 2: expected a key of at least 16 characters without spaces"),
            ("long enough but in words", "line 1: expected a key of at least 16 characters without spaces"),
        ] {
            assert_eq!(Keys::parse(text).err().as_deref(), Some(problem));
        }
    }
}
