//! The house's error: one enum, variants by whose fault it is.
//!
//! Comes in: what went wrong in any room of this crate or in the crates below it. Goes out: one line of text (place, expected,
//! found) that a door prints after `owlet: `, and a variant that a door turns into an exit status or an HTTP status.
//! The text is complete on its own: there is no chain of causes to walk and nothing is said twice.

use std::fmt;
use std::path::{Path, PathBuf};

pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, by whose fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read or write `path`.
    #[error("{}: {cause}", path.display())]
    Io { path: PathBuf, cause: std::io::Error },
    /// The bytes of `place` (a model file, a picture) are not what they claim to be.
    #[error("{place}: {problem}")]
    Format { place: String, problem: String },
    /// Well-formed, but this program cannot do it.
    #[error("{place}: {problem}")]
    Unsupported { place: String, problem: String },
    /// The caller asked for something that makes no sense.
    #[error("{0}")]
    Request(String),
    /// The caller asked for more than there is: `what` says of what, with the figures found and allowed.
    #[error("{what}: at most {max}, found {found}")]
    Limit { what: String, max: u64, found: u64 },
    /// The caller changed its mind.
    #[error("cancelled")]
    Cancelled,
    /// The compute backend failed: no memory, no threads.
    #[error("{0}")]
    Backend(String),
    /// A law of this program was broken: our fault.
    #[error("internal error: {0}; please report it")]
    Internal(String),
}

impl Error {
    pub fn io(path: impl AsRef<Path>, cause: std::io::Error) -> Error {
        Error::Io { path: path.as_ref().to_owned(), cause }
    }

    pub fn format(place: impl fmt::Display, problem: impl fmt::Display) -> Error {
        Error::Format { place: place.to_string(), problem: problem.to_string() }
    }

    pub fn unsupported(place: impl fmt::Display, problem: impl fmt::Display) -> Error {
        Error::Unsupported { place: place.to_string(), problem: problem.to_string() }
    }

    pub fn request(text: impl fmt::Display) -> Error {
        Error::Request(text.to_string())
    }

    pub fn limit(what: impl fmt::Display, max: u64, found: u64) -> Error {
        Error::Limit { what: what.to_string(), max, found }
    }

    pub fn internal(text: impl fmt::Display) -> Error {
        Error::Internal(text.to_string())
    }
}

impl From<ggml::Error> for Error {
    fn from(error: ggml::Error) -> Error {
        match error {
            ggml::Error::Request(text) => Error::Request(text),
            ggml::Error::Limit { what, max, found } => Error::limit(what, max, found),
            ggml::Error::Unsupported(text) => Error::unsupported("this machine", text),
            ggml::Error::Cancelled => Error::Cancelled,
            other => Error::Backend(other.to_string()),
        }
    }
}

impl From<owlet_format::Error> for Error {
    fn from(error: owlet_format::Error) -> Error {
        use owlet_format::Error as File;
        match error {
            File::Io { path, action, error } => {
                Error::io(path, std::io::Error::new(error.kind(), format!("{action}: {error}")))
            }
            File::Format { path, at, problem } => Error::format(format_args!("{path}: {at}"), problem),
            File::Unsupported { path, problem } => Error::unsupported(path, problem),
            File::Limit { path, at, max, found } => Error::limit(format_args!("{path}: {at}"), max, found),
        }
    }
}

impl From<owlet_convert::Error> for Error {
    fn from(error: owlet_convert::Error) -> Error {
        use owlet_convert::Error as Convert;
        match error {
            Convert::Io { path, source } => Error::io(path, source),
            Convert::Format { place, what } => Error::format(place, what),
            Convert::Network { place, what } | Convert::Damaged { place, what, .. } => {
                Error::format(place, what)
            }
            Convert::Unsupported { place, what } => Error::unsupported(place, what),
            Convert::Request(text) => Error::Request(text),
            Convert::File(error) => error.into(),
            Convert::Cancelled => Error::Cancelled,
            other => Error::Request(other.to_string()),
        }
    }
}
