//! The one way to stop a running computation from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that any thread may raise. ggml looks at it after every node, so a graph stops within the time of
/// one node. Clones share the flag.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<Flag>);

#[derive(Debug, Default)]
struct Flag {
    is_raised: AtomicBool,
    /// What this is a part of.
    whole: Option<Cancel>,
}

impl Cancel {
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// A flag for a part of what this one stops: raised alone, or with the whole.
    pub fn part(&self) -> Cancel {
        Cancel(Arc::new(Flag { is_raised: AtomicBool::new(false), whole: Some(self.clone()) }))
    }

    /// Stops what runs now and whatever starts before [`Cancel::reset`].
    pub fn cancel(&self) {
        self.0.is_raised.store(true, Ordering::Relaxed);
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.is_raised.load(Ordering::Relaxed) || self.0.whole.as_ref().is_some_and(Cancel::is_cancelled)
    }

    /// Takes this flag back, and no other.
    pub fn reset(&self) {
        self.0.is_raised.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_stops_alone_or_with_the_whole() {
        let whole = Cancel::new();
        let parts = [whole.part(), whole.part()];
        parts[0].clone().cancel();
        assert_eq!([&whole, &parts[0], &parts[1]].map(Cancel::is_cancelled), [false, true, false]);
        parts[0].reset();
        whole.cancel();
        parts[1].reset();
        assert_eq!([&whole, &parts[0], &parts[1]].map(Cancel::is_cancelled), [true; 3]);
        whole.reset();
        assert_eq!([&whole, &parts[0], &parts[1]].map(Cancel::is_cancelled), [false; 3]);
    }
}
