//! The progress of the converter's work: bytes of a source, and lines in between.

use super::progress::{Progress, Unit};
use super::screen::note;

/// Counts bytes.
pub struct Bar {
    progress: Progress,
    is_quiet: bool,
    done: u64,
    total: u64,
}

impl Bar {
    /// `is_quiet` shows nothing.
    pub fn new(is_quiet: bool) -> Bar {
        Bar { progress: Progress::new(Unit::Bytes, is_quiet), is_quiet, done: 0, total: 0 }
    }

    /// The work is over.
    pub fn clear(&mut self) {
        self.progress.clear();
    }
}

impl owlet_convert::Progress for Bar {
    fn start(&mut self, n_source_bytes: u64) {
        self.progress.clear();
        (self.done, self.total) = (0, n_source_bytes);
    }

    fn advance(&mut self, tensor: &str, n_source_bytes: u64) {
        self.done += n_source_bytes;
        self.progress.show(tensor, self.done, self.total);
    }

    fn note(&mut self, line: &str) {
        self.progress.clear();
        if !self.is_quiet {
            note(line);
        }
    }
}
