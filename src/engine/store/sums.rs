//! Bytes on their way to or from a file, and the SHA-256 of all that passed.

use sha2::{Digest, Sha256};
use std::io::{self, Read, Write};

pub const N_SUM_BYTES: usize = 32;

pub struct Summed<T> {
    inner: T,
    hash: Sha256,
}

impl<T> Summed<T> {
    pub fn new(inner: T) -> Summed<T> {
        Summed { inner, hash: Sha256::new() }
    }

    pub fn into_inner(self) -> T {
        self.inner
    }
}

impl<W: Write> Summed<W> {
    /// # Errors
    /// What the writer says.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_all(bytes)?;
        self.hash.update(bytes);
        Ok(())
    }

    /// Writes the sum of all bytes so far.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write_sum(&mut self) -> io::Result<()> {
        let sum = self.hash.clone().finalize();
        self.write(&sum)
    }
}

impl<R: Read> Summed<R> {
    /// The next `n` bytes.
    ///
    /// # Errors
    /// What the reader says; `UnexpectedEof` where there are less.
    pub fn read(&mut self, n: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; n];
        self.inner.read_exact(&mut bytes)?;
        self.hash.update(&bytes);
        Ok(bytes)
    }

    /// Whether the next bytes are the sum of all bytes before.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_sum(&mut self) -> io::Result<bool> {
        let sum = self.hash.clone().finalize();
        Ok(self.read(N_SUM_BYTES)?[..] == sum[..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_covers_everything_before_it() {
        let mut writer = Summed::new(Vec::new());
        writer.write(b"head").unwrap();
        writer.write_sum().unwrap();
        writer.write(b"tail").unwrap();
        writer.write_sum().unwrap();
        let good = writer.into_inner();
        let is_good = |bytes: &[u8]| {
            let mut reader = Summed::new(bytes);
            let head = reader.read(4).and_then(|_| reader.read_sum());
            head.and_then(|head| Ok(head && reader.read(4).and_then(|_| reader.read_sum())?))
        };
        assert!(is_good(&good).unwrap());
        for n_bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[n_bit / 8] ^= 1 << (n_bit % 8);
            assert!(!is_good(&bytes).unwrap(), "bit {n_bit}");
        }
        assert_eq!(is_good(&good[..good.len() - 1]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
