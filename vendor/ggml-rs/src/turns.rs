//! Weights that take turns in the memory of a device: which of them are there, and how those come that a graph needs.
//!
//! A tensor of one turn lies over tensors of others, and is there until one of those is brought. So going back brings what was
//! overwritten and nothing else, and a graph whose weights are there costs nothing. All of them are copies of bytes that
//! stay where they are: nothing is ever written back. Must not know what the turns are for.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::buffer::Turn;
use crate::{Result, sys};

/// Tensors with turns, by their numbers here.
pub(crate) struct Turns {
    tensors: Vec<Guest>,
    numbers: HashMap<*mut sys::ggml_tensor, usize>,
    is_there: Mutex<Vec<bool>>,
}

/// A tensor that is not always there, and where its bytes are in the file.
pub(crate) struct Guest {
    pub turn: Turn,
    pub bytes: Range<usize>,
}

// SAFETY: the pointers belong to the arena of the weights whose part this is, which vouch for both.
unsafe impl Send for Turns {}
// SAFETY: as above.
unsafe impl Sync for Turns {}

impl Turns {
    /// None of them is there yet.
    pub(crate) fn new(tensors: Vec<Guest>) -> Turns {
        let numbers = tensors.iter().enumerate().map(|(number, guest)| (guest.turn.tensor, number)).collect();
        let is_there = Mutex::new(vec![false; tensors.len()]);
        Turns { tensors, numbers, is_there }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// The number of a tensor, if it has a turn.
    pub(crate) fn number(&self, tensor: *mut sys::ggml_tensor) -> Option<usize> {
        self.numbers.get(&tensor).copied()
    }

    /// Whether some of these cannot be there at once.
    pub(crate) fn have_rivals(&self, numbers: &[usize]) -> bool {
        let mut turns = HashMap::new();
        numbers.iter().any(|&number| {
            let Turn { device, turn, .. } = self.tensors[number].turn;
            *turns.entry(device).or_insert(turn) != turn
        })
    }

    /// Has `copy` fill those of `numbers` that are away. After an error those that came before are there.
    ///
    /// # Errors
    /// What `copy` says.
    pub(crate) fn bring(&self, numbers: &[usize], mut copy: impl FnMut(&Guest) -> Result<()>) -> Result<()> {
        // Each is marked behind its copy, and what it overwrites before.
        let mut is_there = self.is_there.lock().unwrap_or_else(PoisonError::into_inner);
        for &number in numbers {
            if is_there[number] {
                continue;
            }
            let coming = &self.tensors[number];
            for (other, is_there) in self.tensors.iter().zip(is_there.iter_mut()) {
                *is_there &= !coming.turn.overlaps(&other.turn);
            }
            copy(coming)?;
            is_there[number] = true;
        }
        Ok(())
    }
}

impl Turn {
    fn overlaps(&self, other: &Turn) -> bool {
        let (a, b) = (&self.range, &other.range);
        self.device == other.device && a.start < b.end && b.start < a.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    /// Tensors of turn 0 at 0 to 10, 10 to 20, 20 to 30, and of turn 1 at 5 to 15, all on a device; one elsewhere.
    fn turns() -> Turns {
        let tensors = [(0, 0, 0..10), (0, 0, 10..20), (0, 0, 20..30), (0, 1, 5..15), (1, 1, 0..30)];
        let guest = |(i, (device, turn, range)): (usize, (usize, u8, Range<usize>))| Guest {
            turn: Turn { tensor: std::ptr::without_provenance_mut(i + 1), device, turn, range },
            bytes: i..i + 1,
        };
        Turns::new(tensors.into_iter().enumerate().map(guest).collect())
    }

    #[test]
    fn what_was_brought_stays_until_it_is_overwritten() {
        let turns = turns();
        let brought = |numbers: &[usize], max: usize| {
            let mut brought = Vec::new();
            let result = turns.bring(numbers, |guest| {
                if brought.len() == max {
                    return Err(Error::Cancelled);
                }
                brought.push(guest.bytes.start);
                Ok(())
            });
            (brought, result.is_ok())
        };
        assert_eq!(brought(&[4], 9), (vec![4], true));
        // Broken off, and taken up where it was.
        assert_eq!(brought(&[0, 1, 2], 2), (vec![0, 1], false));
        assert_eq!(brought(&[0, 1, 2], 9), (vec![2], true));
        // What does not come has overwritten all the same: half of it may have.
        assert_eq!(brought(&[3], 0), (vec![], false));
        assert_eq!(brought(&[2, 1, 0], 9), (vec![1, 0], true));
        assert_eq!(brought(&[3, 4], 9), (vec![3], true));
        assert_eq!(brought(&[3, 4], 9), (vec![], true));
    }

    #[test]
    fn two_turns_of_a_device_are_never_there_at_once() {
        let turns = turns();
        let have_rivals = [&[0, 1, 2][..], &[3, 4], &[0, 4], &[2, 3], &[]].map(|n| turns.have_rivals(n));
        assert_eq!(have_rivals, [false, false, false, true, false]);
        assert_eq!(turns.number(std::ptr::without_provenance_mut(4)), Some(3));
        assert_eq!(turns.number(std::ptr::without_provenance_mut(9)), None);
    }
}
