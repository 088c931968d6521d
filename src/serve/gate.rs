//! Whose turn it is: as many requests as the engine has slots are answered, some wait, the rest are sent away at once.

use super::fault::{Fault, Kind, Result};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub struct Gate {
    slots: Arc<Semaphore>,
    n_slots: usize,
    /// Requests that wait or are answered.
    n_inside: AtomicUsize,
    max_inside: usize,
    /// The same by key.
    of_keys: Mutex<Vec<u32>>,
    max_of_key: u32,
}

/// A place among those that wait or are answered; free again when this is dropped.
pub struct Place {
    gate: Arc<Gate>,
    key: Option<usize>,
}

/// A request's turn; over when this is dropped.
pub type Turn = OwnedSemaphorePermit;

impl Gate {
    /// `n_slots` requests at a time, `n_queued` waiting, `max_of_key` of each of `n_keys`.
    pub fn new(n_slots: u32, n_queued: u32, n_keys: usize, max_of_key: u32) -> Gate {
        Gate {
            slots: Arc::new(Semaphore::new(n_slots as usize)),
            n_slots: n_slots as usize,
            n_inside: AtomicUsize::new(0),
            max_inside: n_slots as usize + n_queued as usize,
            of_keys: Mutex::new(vec![0; n_keys]),
            max_of_key,
        }
    }

    /// A place for a request of the key `key`.
    ///
    /// # Errors
    /// `Busy` where there is none.
    pub fn enter(self: &Arc<Gate>, key: Option<usize>) -> Result<Place> {
        let is_full = |n: usize| (n < self.max_inside).then_some(n + 1);
        if self.n_inside.fetch_update(Ordering::AcqRel, Ordering::Acquire, is_full).is_err() {
            return Err(Fault::busy("all places of the queue are taken; try again later"));
        }
        // From here on it is given back whatever happens.
        let mut place = Place { gate: Arc::clone(self), key: None };
        if let Some(key) = key {
            let mut of_keys = self.of_keys.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(n) = of_keys.get_mut(key).filter(|n| **n < self.max_of_key) else {
                return Err(Fault::busy(
                    "this key has as many requests under way as it may; try again later",
                ));
            };
            *n += 1;
            place.key = Some(key);
        }
        Ok(place)
    }

    /// No turn will come any more.
    pub fn close(&self) {
        self.slots.close();
    }

    /// Requests that are answered, and those that wait for that.
    pub fn lengths(&self) -> [usize; 2] {
        let n_answered = self.n_slots - self.slots.available_permits().min(self.n_slots);
        [n_answered, self.n_inside.load(Ordering::Acquire).saturating_sub(n_answered)]
    }
}

impl Place {
    /// Waits until it is this request's turn, first come, first served.
    ///
    /// # Errors
    /// `Leaving` where no turn will come.
    pub async fn turn(&self) -> Result<Turn> {
        let turn = Arc::clone(&self.gate.slots).acquire_owned().await;
        turn.map_err(|_| Fault::new(Kind::Leaving, "this server is about to end"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let mut of_keys = self.gate.of_keys.lock().unwrap_or_else(PoisonError::into_inner);
            of_keys[key] -= 1;
        }
        self.gate.n_inside.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_come_first_served_and_the_rest_sent_away() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let gate = Arc::new(Gate::new(1, 2, 2, 2));
            let kind = |entered: Result<Place>| entered.err().map(|fault| fault.kind);
            let first = gate.enter(Some(0)).unwrap();
            let turn = first.turn().await.unwrap();
            let second = gate.enter(Some(0)).unwrap();
            assert_eq!(kind(gate.enter(Some(0))), Some(Kind::Busy), "a third of one key");
            assert_eq!(gate.lengths(), [1, 1], "who was sent away left nothing behind");
            let third = gate.enter(Some(1)).unwrap();
            assert_eq!(kind(gate.enter(None)), Some(Kind::Busy), "all places are taken");

            let waiting = tokio::spawn(async move { (second.turn().await.is_ok(), second) });
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished());
            drop((turn, first));
            assert!(waiting.await.unwrap().0);
            assert_eq!(gate.lengths(), [0, 1]);
            drop(third);
            assert!(gate.enter(Some(0)).is_ok());
        });
    }
}
