//! Ctrl-C: the first one stops what is being computed, a second one ends the program, as does one while nothing runs;
//! but in a chat on a terminal that one is late by a moment and must not cost the conversation.

use super::{INTERRUPTED, terminal};
use crate::error::{Error, Result};
use ggml::Cancel;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

static RUNNING: Mutex<Option<Cancel>> = Mutex::new(None);

/// Nothing runs, and that is no reason to leave.
static STAYS: AtomicBool = AtomicBool::new(false);

/// Takes Ctrl-C over from the system, for the whole life of the program.
///
/// # Errors
/// `Backend` where the system gives no thread or no handler.
pub fn install() -> Result<()> {
    ctrlc::set_handler(|| match &*running() {
        Some(cancel) if !cancel.is_cancelled() => cancel.cancel(),
        None if STAYS.load(Ordering::Relaxed) => {}
        _ => {
            terminal::restore();
            ggml::exit_at_once(INTERRUPTED)
        }
    })
    .map_err(|error| Error::Backend(format!("ctrl-c: {error}")))
}

/// From now on, Ctrl-C while nothing runs does nothing.
pub fn stay() {
    STAYS.store(true, Ordering::Relaxed);
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
