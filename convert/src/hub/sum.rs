//! What the hub announces of a file: its length and a sum of its bytes. Large files have a SHA-256; small ones lie in git
//! itself, whose sum is a SHA-1 behind a head (the object format of git: `blob LENGTH`, a zero, the bytes).

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use owlet_format::hex;
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubFile {
    /// Plain: no part of it leads anywhere.
    pub name: String,
    pub n_bytes: u64,
    pub sum: Sum,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sum {
    Sha256([u8; 32]),
    Git([u8; 20]),
}

impl Sum {
    pub fn sha256(text: &str) -> Option<Sum> {
        digits(text).map(Sum::Sha256)
    }

    pub fn git(text: &str) -> Option<Sum> {
        digits(text).map(Sum::Git)
    }

    /// As the hub's tool names the file in its cache.
    pub fn hex(&self) -> String {
        let bytes: &[u8] = match self {
            Sum::Sha256(sum) => sum,
            Sum::Git(sum) => sum,
        };
        hex(bytes)
    }

    /// As messages call it.
    pub fn kind(&self) -> &'static str {
        match self {
            Sum::Sha256(_) => "SHA-256",
            Sum::Git(_) => "git's SHA-1",
        }
    }
}

fn digits<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut sum = [0; N];
    // only lower case, as it becomes a file's name
    let is_sound = text.len() == 2 * N && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    for (out, pair) in sum.iter_mut().zip(text.as_bytes().chunks(2)) {
        *out = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    is_sound.then_some(sum)
}

/// The sum of a file that is on its way.
pub enum Summing {
    Sha256(Sha256),
    Git(Sha1),
}

impl Summing {
    pub fn of(file: &HubFile) -> Summing {
        match file.sum {
            Sum::Sha256(_) => Summing::Sha256(Sha256::new()),
            Sum::Git(_) => Summing::Git(Sha1::new_with_prefix(format!("blob {}\0", file.n_bytes))),
        }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Summing::Sha256(sum) => sum.update(bytes),
            Summing::Git(sum) => sum.update(bytes),
        }
    }

    pub fn finish(self) -> Sum {
        match self {
            Summing::Sha256(sum) => Sum::Sha256(sum.finalize().into()),
            Summing::Git(sum) => Sum::Git(sum.finalize().into()),
        }
    }
}

impl HubFile {
    /// Whether the file at `path` is this one, byte for byte.
    ///
    /// # Errors
    /// Where it can't be read.
    pub fn is_at(&self, path: &Path) -> io::Result<bool> {
        let mut file = File::open(path)?.take(self.n_bytes.saturating_add(1));
        let mut sum = Summing::of(self);
        let mut buf = vec![0; 1 << 20];
        let mut n_bytes = 0;
        loop {
            let n = file.read(&mut buf)?;
            if n == 0 {
                return Ok(n_bytes == self.n_bytes && sum.finish() == self.sum);
            }
            sum.update(&buf[..n]);
            n_bytes += n as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_sha256sum_and_git() {
        // printf 'hello\n' | sha256sum; printf 'hello\n' | git hash-object --stdin
        let cases = [
            Sum::sha256("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03").unwrap(),
            Sum::git("ce013625030ba8dba906f756967f9e9ca394464a").unwrap(),
        ];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hello");
        std::fs::write(&path, "hello\n").unwrap();
        for sum in cases {
            let file = HubFile { name: "hello".into(), n_bytes: 6, sum };
            assert!(file.is_at(&path).unwrap(), "{sum:?}");
            assert!(!HubFile { n_bytes: 5, ..file.clone() }.is_at(&path).unwrap(), "{sum:?}");
            assert!(!HubFile { n_bytes: 7, ..file }.is_at(&path).unwrap(), "{sum:?}");
        }
    }

    #[test]
    fn only_sums_are_sums() {
        for bad in
            ["", "ab", &"g".repeat(64), &"A".repeat(64), &"a".repeat(63), &"../".repeat(22), &"ä".repeat(32)]
        {
            assert_eq!(Sum::sha256(bad), None, "{bad}");
        }
        assert_eq!(Sum::git(&"a".repeat(40)).map(|sum| sum.hex()), Some("a".repeat(40)));
    }
}
