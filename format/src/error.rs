//! What can be wrong with a file, by whose fault. Every text is one line: place, expected, found.

use std::{fmt, io};

/// An error of this crate. `Display` is complete: it names the file and carries the cause.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system said no.
    #[error("{path}: {action}: {error}")]
    Io { path: String, action: &'static str, error: io::Error },
    /// The file contradicts itself or the schema.
    #[error("{path}: {at}: {problem}")]
    Format { path: String, at: String, problem: String },
    /// The file may be sound, but is of a kind that is not read here.
    #[error("{path}: {problem}")]
    Unsupported { path: String, problem: String },
    /// The file asks for more than is ever given.
    #[error("{path}: {at}: expected at most {max}, found {found}")]
    Limit { path: String, at: String, max: u64, found: u64 },
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn io(path: impl fmt::Display, action: &'static str, error: io::Error) -> Self {
        Self::Io { path: path.to_string(), action, error }
    }

    pub(crate) fn format(path: &str, at: impl fmt::Display, problem: impl Into<String>) -> Self {
        Self::Format { path: path.into(), at: at.to_string(), problem: problem.into() }
    }

    pub(crate) fn unsupported(path: &str, problem: impl Into<String>) -> Self {
        Self::Unsupported { path: path.into(), problem: problem.into() }
    }
}

/// Text that came out of a file, as it may stand in a message: control characters escaped (a terminal would
/// obey them), the end cut off where it is long.
pub(crate) struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 80;
        for (n, c) in self.0.chars().enumerate() {
            if n == LONGEST {
                return f.write_str("…");
            }
            match c.is_control() {
                true => write!(f, "{}", c.escape_default())?,
                false => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}
