//! How far a part file has come, in a small file beside it.
//!
//! Two slots take turns, so that whenever a run is killed, one of them is whole; each is sealed by a SHA-256. A
//! journal is as hostile as any file: its length is known before it is read, and what is in it is a suggestion that
//! the part file has to bear out.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256 as Seal};

use crate::checkpoint::{SAVED_BYTES, Sha256};
use crate::error::{Error, Result};
use crate::positioned::Positioned;

const MAGIC: [u8; 16] = *b"owlet journal 1\n";
const ID_BYTES: usize = 32;
const HEAD_BYTES: usize = MAGIC.len() + ID_BYTES;
const SUM_BYTES: usize = 32;

/// What a journal is about: which work, and how much of everything it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// Equal for equal inputs and equal plans.
    pub id: [u8; ID_BYTES],
    pub n_tensors: usize,
    /// Files that are hashed while they are read.
    pub n_hashes: usize,
}

/// How far the work has come.
#[derive(Debug, Clone)]
pub struct State {
    /// Tensors that are whole, in the order of the work.
    pub n_done: usize,
    /// Rows of the next tensor that are there.
    pub row: u64,
    /// SHA-256 of those rows.
    pub prefix: [u8; SUM_BYTES],
    /// SHA-256 of each whole tensor, in the order of the file; zeros for the others.
    pub sums: Vec<[u8; SUM_BYTES]>,
    pub hashes: Vec<Sha256>,
}

impl State {
    pub fn new(subject: &Subject) -> State {
        State {
            n_done: 0,
            row: 0,
            prefix: Seal::digest([]).into(),
            sums: vec![[0; SUM_BYTES]; subject.n_tensors],
            hashes: vec![Sha256::default(); subject.n_hashes],
        }
    }
}

impl Subject {
    fn slot_bytes(&self) -> usize {
        3 * 8 + SUM_BYTES + self.n_tensors * SUM_BYTES + self.n_hashes * SAVED_BYTES + SUM_BYTES
    }

    fn file_bytes(&self) -> usize {
        HEAD_BYTES + 2 * self.slot_bytes()
    }

    fn head(&self) -> Vec<u8> {
        [&MAGIC[..], &self.id].concat()
    }

    /// One slot: number of the writing, state, seal.
    fn slot(&self, n_written: u64, state: &State) -> Vec<u8> {
        let mut slot = Vec::with_capacity(self.slot_bytes());
        for number in [n_written, state.n_done as u64, state.row] {
            slot.extend(number.to_le_bytes());
        }
        slot.extend(state.prefix);
        state.sums.iter().for_each(|sum| slot.extend(sum));
        state.hashes.iter().for_each(|hash| slot.extend(hash.save()));
        let seal = self.seal(&slot);
        slot.extend(seal);
        slot
    }

    /// A journal that says `state` in both slots.
    pub fn whole(&self, state: &State) -> Vec<u8> {
        [self.head(), self.slot(1, state), self.slot(1, state)].concat()
    }

    fn seal(&self, slot: &[u8]) -> [u8; SUM_BYTES] {
        Seal::new().chain_update(self.head()).chain_update(slot).finalize().into()
    }

    /// The newest state in the bytes of a journal, and the number of its writing; `None` where they are no journal
    /// of this subject.
    pub fn newest(&self, bytes: &[u8]) -> Option<(u64, State)> {
        if bytes.len() != self.file_bytes() || !bytes.starts_with(&self.head()) {
            return None;
        }
        let slots = bytes[HEAD_BYTES..].chunks_exact(self.slot_bytes());
        slots.filter_map(|slot| self.state(slot)).max_by_key(|(n_written, _)| *n_written)
    }

    fn state(&self, slot: &[u8]) -> Option<(u64, State)> {
        let (content, seal) = slot.split_last_chunk::<SUM_BYTES>()?;
        if self.seal(content) != *seal {
            return None;
        }
        let (numbers, content) = content.split_first_chunk::<24>()?;
        let number = |at: usize| numbers.as_chunks::<8>().0.get(at).map(|bytes| u64::from_le_bytes(*bytes));
        let (prefix, content) = content.split_first_chunk::<SUM_BYTES>()?;
        let (sums, hashes) = content.split_at_checked(self.n_tensors * SUM_BYTES)?;
        let state = State {
            n_done: usize::try_from(number(1)?).ok().filter(|n| *n <= self.n_tensors)?,
            row: number(2)?,
            prefix: *prefix,
            sums: sums.as_chunks().0.to_vec(),
            hashes: hashes.as_chunks().0.iter().map(Sha256::restore).collect(),
        };
        Some((number(0)?, state))
    }
}

/// What stood in the journal's place.
#[derive(Debug)]
pub enum Found {
    Nothing,
    /// A journal of other work, or none at all.
    Other,
    State(State),
}

/// A journal that this run writes, and no other: it is locked.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: Positioned,
    subject: Subject,
    n_written: u64,
}

impl Journal {
    /// Opens or makes the journal at `path`.
    ///
    /// # Errors
    /// Where another run holds it, and where it can't be opened.
    pub fn open(path: &Path, subject: Subject) -> Result<(Journal, Found)> {
        let is_new = match std::fs::symlink_metadata(path) {
            Ok(meta) if meta.is_file() => false,
            Ok(_) => return Err(Error::unsupported(path.display(), "expected a file, found something else")),
            Err(_) => true,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(is_new)
            .open(path)
            .map_err(|error| Error::doing(path, "cannot create", error))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Request(format!(
                    "{}: another run is writing this file: wait for it, or choose another name",
                    path.display()
                )));
            }
            // some file systems have no locks
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        let newest = match is_new {
            true => None,
            false => read(&mut file, &subject).map_err(|error| Error::io(path, error))?,
        };
        let mut journal =
            Journal { path: path.to_path_buf(), file: Positioned::new(file), subject, n_written: 0 };
        let found = match newest {
            Some((n_written, state)) => {
                journal.n_written = n_written;
                Found::State(state)
            }
            None if is_new => Found::Nothing,
            None => Found::Other,
        };
        Ok((journal, found))
    }

    /// Forgets what it says.
    pub fn clear(&mut self) -> Result<()> {
        self.n_written = 0;
        let clear =
            |file: &File| file.set_len(0).and_then(|()| file.set_len(self.subject.file_bytes() as u64));
        let cleared = self.file.with(clear).and_then(|()| self.file.write_all_at(0, &self.subject.head()));
        cleared.map_err(|error| self.refused(error))
    }

    /// Puts `state` down for good; the one before stays until that is done.
    pub fn write(&mut self, state: &State) -> Result<()> {
        let n_written = self.n_written.wrapping_add(1);
        let at = HEAD_BYTES + (n_written % 2) as usize * self.subject.slot_bytes();
        let slot = self.subject.slot(n_written, state);
        let written = self.file.write_all_at(at as u64, &slot).and_then(|()| self.file.with(File::sync_data));
        written.map_err(|error| self.refused(error))?;
        self.n_written = n_written;
        Ok(())
    }

    pub fn remove(self) -> io::Result<()> {
        std::fs::remove_file(&self.path)
    }

    fn refused(&self, error: io::Error) -> Error {
        Error::doing(&self.path, "cannot write", error)
    }
}

/// Reads what a journal of `subject` would be long, and no more.
fn read(file: &mut File, subject: &Subject) -> io::Result<Option<(u64, State)>> {
    if file.metadata()?.len() != subject.file_bytes() as u64 {
        return Ok(None);
    }
    let mut bytes = vec![0; subject.file_bytes()];
    file.read_exact(&mut bytes)?;
    Ok(subject.newest(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: Subject = Subject { id: [7; 32], n_tensors: 3, n_hashes: 2 };

    fn state(n_done: usize) -> State {
        let mut state = State::new(&SUBJECT);
        state.n_done = n_done;
        state.row = 10 + n_done as u64;
        state.sums[..n_done].fill([n_done as u8; 32]);
        state.hashes[1].update(&vec![1; 100 * n_done]);
        state
    }

    fn bytes(path: &Path) -> Vec<u8> {
        std::fs::read(path).unwrap()
    }

    #[test]
    fn the_newest_whole_slot_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let (mut journal, found) = Journal::open(&path, SUBJECT).unwrap();
        assert!(matches!(found, Found::Nothing));
        journal.clear().unwrap();
        assert!(SUBJECT.newest(&bytes(&path)).is_none(), "no state yet");
        for n_done in 1..=3 {
            journal.write(&state(n_done)).unwrap();
            let (_, found) = SUBJECT.newest(&bytes(&path)).unwrap();
            assert_eq!((found.n_done, found.row), (n_done, 10 + n_done as u64));
            assert_eq!(found.sums, state(n_done).sums);
            assert_eq!(found.hashes[1].save(), state(n_done).hashes[1].save());
        }
        // a writing that a kill cut short: the one before counts
        let whole = bytes(&path);
        let newest = HEAD_BYTES + SUBJECT.slot_bytes();
        for cut in [newest, newest + 9, whole.len() - 1] {
            let mut torn = whole.clone();
            torn[cut] ^= 1;
            let (_, found) = SUBJECT.newest(&torn).unwrap();
            assert_eq!(found.n_done, 2, "byte {cut}");
        }
    }

    #[test]
    fn a_journal_of_other_work_or_of_no_work_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let (mut journal, _) = Journal::open(&path, SUBJECT).unwrap();
        journal.clear().unwrap();
        journal.write(&state(2)).unwrap();
        let good = bytes(&path);
        drop(journal);
        for other in [
            Subject { id: [8; 32], ..SUBJECT },
            Subject { n_tensors: 4, ..SUBJECT },
            Subject { n_hashes: 1, ..SUBJECT },
        ] {
            assert!(matches!(Journal::open(&path, other).unwrap().1, Found::Other), "{other:?}");
        }
        for bad in [&b""[..], b"x", &good[..good.len() - 1], &[&good[..], b"x"].concat()] {
            std::fs::write(&path, bad).unwrap();
            assert!(matches!(Journal::open(&path, SUBJECT).unwrap().1, Found::Other));
        }
        assert!(SUBJECT.newest(&SUBJECT.whole(&state(3))).is_some());
        // sealed by somebody who can't count to three
        let lying = SUBJECT.whole(&State { n_done: 4, ..state(0) });
        assert!(SUBJECT.newest(&lying).is_none());
    }

    #[test]
    fn one_run_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let first = Journal::open(&path, SUBJECT).unwrap();
        let text = Journal::open(&path, SUBJECT).unwrap_err().to_string();
        assert!(
            text.ends_with("another run is writing this file: wait for it, or choose another name"),
            "{text}"
        );
        drop(first);
        Journal::open(&path, SUBJECT).unwrap();
    }
}
