//! Ctrl-C: the first one stops what is being computed, a second one, or one while nothing is, ends the program.

use super::INTERRUPTED;
use crate::error::{Error, Result};
use ggml::Cancel;
use std::sync::{Mutex, MutexGuard, PoisonError};

static RUNNING: Mutex<Option<Cancel>> = Mutex::new(None);

/// Takes Ctrl-C over from the system, for the whole life of the program.
///
/// # Errors
/// `Backend` where the system gives no thread or no handler.
pub fn install() -> Result<()> {
    ctrlc::set_handler(|| match &*running() {
        Some(cancel) if !cancel.is_cancelled() => cancel.cancel(),
        _ => std::process::exit(INTERRUPTED.into()),
    })
    .map_err(|error| Error::Backend(format!("ctrl-c: {error}")))
}

/// As long as this lives, Ctrl-C raises its flag.
pub struct Interruptible(());

impl Interruptible {
    pub fn by(cancel: &Cancel) -> Interruptible {
        *running() = Some(cancel.clone());
        Interruptible(())
    }
}

impl Drop for Interruptible {
    fn drop(&mut self) {
        *running() = None;
    }
}

fn running() -> MutexGuard<'static, Option<Cancel>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}
