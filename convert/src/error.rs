//! What can go wrong, by whose fault. Each error is one line: place, expected, found.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system would not read or write.
    #[error("{}: {source}", shown(path.display()))]
    Io { path: PathBuf, source: io::Error },
    /// A file of the checkpoint is not what it says it is. `place` is the path and, where known, the spot inside.
    #[error("{place}: {what}")]
    Format { place: String, what: String },
    /// The checkpoint is sound, and of a kind that is not known here.
    #[error("{place}: {what}")]
    Unsupported { place: String, what: String },
    /// The caller asked for something that can't be.
    #[error("{0}")]
    Request(String),
    /// A size beyond what a sound checkpoint has.
    #[error("{place}: {what} beyond the limit of {max}")]
    Limit { place: String, what: String, max: u64 },
    /// The file to be written: it can't be, or the plan contradicts its schema.
    #[error(transparent)]
    File(#[from] owlet_format::Error),
    /// A server, or the way to it: what was asked for did not come, or is not what was announced.
    #[error("{place}: {what}")]
    Network { place: String, what: String },
    /// What was read of a file is not what its SHA-256 says; `file` counts those of the checkpoint.
    #[error("{place}: {what}")]
    Damaged { place: String, what: String, file: usize },
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    pub(crate) fn io(path: &Path, source: io::Error) -> Error {
        Error::Io { path: path.to_path_buf(), source }
    }

    /// `action` is what could not be done: `cannot write`.
    pub(crate) fn doing(path: &Path, action: &str, source: io::Error) -> Error {
        Error::io(path, io::Error::new(source.kind(), format!("{action}: {source}")))
    }

    /// Whether the same work can succeed another time: the disk is full or fails, or somebody interrupted it.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(
            self,
            Error::Io { .. }
                | Error::Cancelled
                | Error::Network { .. }
                | Error::Damaged { .. }
                | Error::File(owlet_format::Error::Io { .. })
        )
    }

    pub(crate) fn format(place: impl Display, what: impl Display) -> Error {
        Error::Format { place: shown(place), what: shown(what) }
    }

    pub(crate) fn unsupported(place: impl Display, what: impl Display) -> Error {
        Error::Unsupported { place: shown(place), what: shown(what) }
    }

    pub(crate) fn network(place: impl Display, what: impl Display) -> Error {
        Error::Network { place: shown(place), what: shown(what) }
    }

    pub(crate) fn damaged(place: impl Display, what: impl Display, file: usize) -> Error {
        Error::Damaged { place: shown(place), what: shown(what), file }
    }

    /// The same with what to do about it, where it is the network's.
    pub(crate) fn advised(self, advice: &str) -> Error {
        match self {
            Error::Network { place, what } => Error::Network { place, what: format!("{what}; {advice}") },
            other => other,
        }
    }

    pub(crate) fn limit(place: impl Display, what: impl Display, max: u64) -> Error {
        Error::Limit { place: shown(place), what: shown(what), max }
    }
}

/// Names out of files may hold what a terminal obeys, or a line break.
fn shown(text: impl Display) -> String {
    let text = text.to_string();
    if !text.contains(char::is_control) {
        return text;
    }
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}
