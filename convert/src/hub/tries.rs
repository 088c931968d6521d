//! Trying again: how often, behind what pauses, and what is said in the end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use ggml::Cancel;

use crate::error::{Error, Result};

/// Failures in a row.
const TRIES_MAX: u32 = 6;
/// So much has to arrive for a failure to be the first one again.
const HEADWAY_BYTES: u64 = 64 << 10;
/// The first pause is this share of the patience, and each one twice the pause before.
const PAUSE_SHARE: u32 = 30;
/// A server that wants to be left alone for longer is asked all the same.
pub const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long a cancellation may go unseen.
pub const GLANCE: Duration = Duration::from_millis(50);

/// What went wrong with one request.
#[derive(Debug)]
pub struct Failure {
    pub error: Error,
    /// Another try can succeed.
    pub may_pass: bool,
    /// How long the server wants to be left alone.
    pub wait: Option<Duration>,
}

impl Failure {
    pub fn passing(error: Error) -> Failure {
        Failure { error, may_pass: true, wait: None }
    }

    pub fn lasting(error: Error) -> Failure {
        Failure { error, may_pass: false, wait: None }
    }
}

/// What all requests about one model have in common: whether there is anybody, how long to wait, and what to say.
#[derive(Debug)]
pub struct Contact {
    pub patience: Duration,
    pub cancel: Cancel,
    notes: Mutex<Vec<String>>,
    /// Somebody answered something.
    was_reached: AtomicBool,
}

impl Contact {
    pub fn new(patience: Duration, cancel: Cancel) -> Contact {
        Contact { patience, cancel, notes: Mutex::default(), was_reached: AtomicBool::new(false) }
    }

    /// An answer has come, whatever it says.
    pub fn reached(&self) {
        self.was_reached.store(true, Ordering::Relaxed);
    }

    pub fn was_reached(&self) -> bool {
        self.was_reached.load(Ordering::Relaxed)
    }

    /// What went wrong and is tried again, since the last call.
    pub fn notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, line: String) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

/// How often the same thing may fail in a row.
pub struct Tries<'a> {
    contact: &'a Contact,
    n_failed: u32,
    n_bytes: u64,
}

impl<'a> Tries<'a> {
    pub fn new(contact: &'a Contact) -> Tries<'a> {
        Tries { contact, n_failed: 0, n_bytes: 0 }
    }

    /// `n_bytes` more have arrived.
    pub fn arrived(&mut self, n_bytes: u64) {
        self.n_bytes += n_bytes;
        if self.n_bytes >= HEADWAY_BYTES {
            (self.n_failed, self.n_bytes) = (0, 0);
        }
    }

    /// Waits a while behind `failure`.
    ///
    /// # Errors
    /// The failure itself where it is no use, and [`Error::Cancelled`].
    pub fn again(&mut self, failure: Failure) -> Result<()> {
        let contact = self.contact;
        if contact.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        self.n_failed += 1;
        self.n_bytes = 0;
        if !failure.may_pass {
            return Err(failure.error);
        }
        // a server that never answered is away, or was never there
        if !contact.was_reached() {
            return Err(failure.error.advised("check the network, and HF_ENDPOINT if it is set"));
        }
        if self.n_failed >= TRIES_MAX {
            return Err(failure.error.advised("the same command goes on where it was"));
        }
        let pause = failure.wait.unwrap_or(contact.patience / PAUSE_SHARE * (1 << (self.n_failed - 1)));
        let mut pause = pause.min(PAUSE_MAX);
        contact.note(format!(
            "{}: try {} of {TRIES_MAX} in {:.1} s",
            failure.error,
            self.n_failed + 1,
            pause.as_secs_f64()
        ));
        while !pause.is_zero() {
            thread::sleep(pause.min(GLANCE));
            pause = pause.saturating_sub(GLANCE);
            if contact.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
        }
        Ok(())
    }
}
