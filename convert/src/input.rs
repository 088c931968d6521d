//! What a conversion reads, below the families and plans that read it.

use std::path::PathBuf;

use crate::checkpoint::file::Known;
use crate::origin::Origin;

/// A checkpoint, or a vision tower: a directory, with what is known of its files from somewhere else.
#[derive(Debug, Clone)]
pub struct Input {
    pub(crate) dir: PathBuf,
    pub(crate) origin: Origin,
    pub(crate) known: Known,
}

impl Input {
    /// What lies in `dir` and nowhere else.
    pub fn of_dir(dir: impl Into<PathBuf>) -> Input {
        let dir = dir.into();
        Input { origin: Origin::of(&dir), dir, known: Known::new() }
    }
}
