//! The SHA-256 of a file that is read for other reasons: whoever reads a piece shows it, and what comes too early waits
//! until the pieces before it were seen. So a file is hashed without being read a second time.

use std::collections::BTreeMap;
use std::ops::Range;

use super::sha256::Sha256;

/// Bytes that may wait; pieces beyond that are read once more when it is their turn.
const WAITING_BYTES_MAX: usize = 64 << 20;

#[derive(Debug, Default, Clone)]
pub struct FileHash {
    sha: Sha256,
    /// Pieces behind the hashed ones, by their place in the file.
    waiting: BTreeMap<u64, Vec<u8>>,
    n_waiting: usize,
}

impl FileHash {
    /// Goes on with a hash that was put down; pieces that waited then are forgotten.
    pub fn from_sha(sha: Sha256) -> FileHash {
        FileHash { sha, ..FileHash::default() }
    }

    /// The hash of the file up to where no piece is missing.
    pub fn sha(&self) -> &Sha256 {
        &self.sha
    }

    /// `bytes` lie in the file from `offset` on.
    pub fn saw(&mut self, offset: u64, bytes: &[u8]) {
        if offset > self.sha.n_bytes() {
            let is_longer = self.waiting.get(&offset).is_none_or(|known| known.len() < bytes.len());
            if is_longer && self.n_waiting + bytes.len() <= WAITING_BYTES_MAX {
                self.n_waiting += bytes.len();
                let shorter = self.waiting.insert(offset, bytes.to_vec());
                self.n_waiting -= shorter.map_or(0, |bytes| bytes.len());
            }
            return;
        }
        self.hash(offset, bytes);
        while let Some(first) = self.waiting.first_entry() {
            if *first.key() > self.sha.n_bytes() {
                break;
            }
            let (offset, bytes) = first.remove_entry();
            self.n_waiting -= bytes.len();
            self.hash(offset, &bytes);
        }
    }

    /// The part of `bytes` that was not hashed yet; they begin at or before where the hash ends.
    fn hash(&mut self, offset: u64, bytes: &[u8]) {
        let n_known = self.sha.n_bytes() - offset;
        if let Some(new) = usize::try_from(n_known).ok().and_then(|n| bytes.get(n..)) {
            self.sha.update(new);
        }
    }

    /// The first piece below `end` that nobody has shown.
    pub fn gap(&self, end: u64) -> Option<Range<u64>> {
        let start = self.sha.n_bytes();
        let end = self.waiting.first_key_value().map_or(end, |(offset, _)| end.min(*offset));
        (start < end).then_some(start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_may_come_in_any_order_and_overlap() {
        use sha2::Digest;
        let bytes: Vec<u8> = (0..200u8).collect();
        let expected: [u8; 32] = sha2::Sha256::digest(&bytes).into();
        let orders: [&[Range<usize>]; 4] = [
            &[0..50, 50..200],
            &[150..200, 50..150, 0..50],
            &[100..120, 90..200, 0..30, 10..95],
            &[60..80, 60..200, 0..0, 0..60, 5..10],
        ];
        for order in orders {
            let mut hash = FileHash::default();
            for piece in order {
                hash.saw(piece.start as u64, &bytes[piece.clone()]);
            }
            assert_eq!((hash.gap(200), hash.n_waiting), (None, 0), "{order:?}");
            assert_eq!(hash.sha().clone().finish(), expected, "{order:?}");
        }
    }

    #[test]
    fn gaps_are_what_nobody_showed() {
        let mut hash = FileHash::default();
        assert_eq!(hash.gap(10), Some(0..10));
        hash.saw(4, &[0; 4]);
        assert_eq!((hash.gap(10), hash.gap(2)), (Some(0..4), Some(0..2)));
        hash.saw(0, &[0; 4]);
        assert_eq!((hash.gap(10), hash.gap(8)), (Some(8..10), None));
    }

    #[test]
    fn only_so_many_bytes_wait() {
        let mut hash = FileHash::default();
        let piece = vec![0; WAITING_BYTES_MAX / 2 + 1];
        hash.saw(1, &piece);
        hash.saw(1 + piece.len() as u64, &piece);
        assert_eq!(hash.n_waiting, piece.len());
        hash.saw(0, &[0]);
        assert_eq!(hash.sha().n_bytes(), 1 + piece.len() as u64, "the second piece has to come again");
    }
}
