//! A fetch that goes on while its caller does something else, and that can be left at any moment.

use super::{Policy, fetch_watched};
use crate::error::{Error, Result};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// A fetch under way. Whoever drops it has left: what was read is forgotten, and the thread behind it ends with the next bytes
/// that arrive, at the latest when the policy's patience does.
pub struct Fetching {
    url: String,
    steps: Receiver<Step>,
}

/// What happened to a fetch.
#[derive(Debug)]
pub enum Step {
    /// So many bytes are there, of so many where the server said so.
    Bytes(u64, Option<u64>),
    /// The end: all bytes, or why not. Nothing comes behind it.
    Done(Result<Vec<u8>>),
}

impl Fetching {
    /// Begins to fetch `url`.
    ///
    /// # Errors
    /// `Backend` where the system gives no thread.
    pub fn begin(url: &str, policy: &Policy) -> Result<Fetching> {
        let (to, steps) = channel();
        let (name, policy) = (url.to_string(), policy.clone());
        let thread = thread::Builder::new().name("fetch".to_string());
        thread
            .spawn(move || run(&name, &policy, &to))
            .map_err(|cause| Error::Backend(format!("a thread to fetch with: {cause}")))?;
        Ok(Fetching { url: url.to_string(), steps })
    }

    /// What happens next, if that is within `patience`.
    pub fn next_within(&self, patience: Duration) -> Option<Step> {
        match self.steps.recv_timeout(patience) {
            Ok(step) => Some(step),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                let problem = format!("{}: the thread that fetched it has ended", self.url);
                Some(Step::Done(Err(Error::internal(problem))))
            }
        }
    }
}

fn run(url: &str, policy: &Policy, to: &Sender<Step>) {
    let goes_on = |n_bytes, n_all| to.send(Step::Bytes(n_bytes, n_all)).is_ok();
    let fetched = fetch_watched(url, policy, goes_on);
    // Nobody is left to hear it.
    let _ = to.send(Step::Done(fetched));
}
