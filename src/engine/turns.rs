//! Whose turn it is where tower and text layers share the memory of a device. Each change copies gigabytes, so nobody's work is cut
//! into pieces: the tower looks at all pictures that wait, then text goes on, at least as long as that took. Must not know
//! what is copied.

#[cfg(test)]
pub mod at_work;

use std::time::{Duration, Instant};

/// Text's turn, unless it is the tower's.
#[derive(Default)]
pub struct Turns {
    tower: Option<TowersTurn>,
    /// When the tower's last turn began, until text is back.
    left: Option<Instant>,
    /// Pictures wait until then, if there is text to compute.
    text_until: Option<Instant>,
}

struct TowersTurn {
    since: Instant,
    /// Whoever came up to then has its pictures looked at, by the scheduler's count.
    up_to: u64,
}

/// The picture that is next.
#[derive(Clone, Copy)]
pub struct NextPicture {
    /// When somebody began to wait for it, by the scheduler's count.
    pub since: u64,
    pub is_begun: bool,
}

impl Turns {
    /// Whether the tower computes now, where `next` waits for it, and text computes otherwise, if it `has_text` to compute.
    /// `count` is the scheduler's.
    pub fn is_towers(&mut self, next: Option<NextPicture>, has_text: bool, count: u64, now: Instant) -> bool {
        if let Some(turn) = &self.tower {
            if next.is_some_and(|next| next.is_begun || next.since <= turn.up_to || !has_text) {
                return true;
            }
            self.left = Some(turn.since);
            self.tower = None;
            return false;
        }
        let must_wait = has_text && (self.left.is_some() || self.text_until.is_some_and(|until| now < until));
        if next.is_none() || must_wait {
            return false;
        }
        self.tower = Some(TowersTurn { since: self.left.take().unwrap_or(now), up_to: count });
        true
    }

    /// A pass of the decoder is over; says whether it was the first one behind pictures, which had to bring text's weights back.
    pub fn saw_pass(&mut self, now: Instant) -> bool {
        let Some(left) = self.left.take() else { return false };
        self.text_until = Some(now + now.saturating_duration_since(left).min(LONGEST));
        true
    }
}

/// No picture waits longer for text.
const LONGEST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_that_wait_are_looked_at_together_and_text_is_owed_as_long() {
        let (mut turns, start) = (Turns::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let new = |since| Some(NextPicture { since, is_begun: false });
        let begun = |since| Some(NextPicture { since, is_begun: true });
        assert!(!turns.is_towers(None, true, 1, at(0)));
        assert!(!turns.saw_pass(at(0)), "nobody was before it");
        assert!(turns.is_towers(new(3), true, 5, at(1)), "text is owed nothing");
        assert!(turns.is_towers(new(5), true, 9, at(2)), "it waited when the turn began");
        assert!(turns.is_towers(begun(9), true, 9, at(3)), "nothing is left half done");
        assert!(!turns.is_towers(new(6), true, 9, at(4)), "it came later");
        assert!(!turns.is_towers(new(6), true, 9, at(5)), "no pass was since");
        assert!(turns.saw_pass(at(6)) && !turns.saw_pass(at(7)));
        // That took from 1 to 6.
        assert!(!turns.is_towers(new(6), true, 9, at(10)));
        assert!(turns.is_towers(new(6), false, 9, at(10)), "nobody else has work");
        assert!(!turns.is_towers(None, true, 9, at(10)));
        assert!(turns.saw_pass(at(40)));
        assert!(!turns.is_towers(new(9), true, 9, at(49)));
        assert!(turns.is_towers(new(9), true, 9, at(50)));
        // Without text, what comes later belongs to the same turn.
        assert!(turns.is_towers(new(12), false, 12, at(51)));
        assert!(!turns.is_towers(new(12), true, 12, at(52)));
        assert!(turns.is_towers(new(12), false, 12, at(53)), "text gave up");
    }
}
