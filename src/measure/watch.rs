//! For whoever waits for a bench or a self-test: how far it is, and the way to end it.

use ggml::Cancel;

use crate::error::{Error, Result};

/// Who is told how far a bench is, and who may end it.
pub struct Watch<'a> {
    pub cancel: &'a Cancel,
    /// What is going on, and how much of how much is done.
    pub progress: &'a mut dyn FnMut(&str, u64, u64),
}

impl Watch<'_> {
    pub(super) fn tell(&mut self, what: &str, done: u64, of: u64) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        (self.progress)(what, done, of);
        Ok(())
    }
}
