//! One file read by position, never mapped: a disk that fails is then an error and not a signal, and what was
//! read counts as a buffer of known size. What is read is counted, and hashed on the way where that is wanted.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::file_hash::FileHash;
use super::sha256::Sha256;
use crate::error::{Error, Result};
use crate::positioned::Positioned;

/// What is read at once where only the hash wants it.
const HASH_BYTES: usize = 1 << 20;

/// An open file of a known length; reads name their place, so that threads can share it.
#[derive(Debug)]
pub struct SourceFile {
    path: PathBuf,
    len: u64,
    modified: Option<SystemTime>,
    file: Positioned,
    n_read: AtomicU64,
    hash: Mutex<Option<FileHash>>,
}

impl SourceFile {
    pub fn open(path: &Path) -> Result<SourceFile> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let meta = file.metadata().map_err(|e| Error::io(path, e))?;
        if !meta.is_file() {
            return Err(Error::format(path.display(), "not a regular file"));
        }
        Ok(SourceFile {
            path: path.to_path_buf(),
            len: meta.len(),
            modified: meta.modified().ok(),
            file: Positioned::new(file),
            n_read: AtomicU64::new(0),
            hash: Mutex::new(None),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path as error texts print it.
    pub fn label(&self) -> String {
        self.path.display().to_string()
    }

    /// Length in bytes when the file was opened.
    pub fn n_bytes(&self) -> u64 {
        self.len
    }

    /// When it was last written, where the system says so.
    pub fn modified(&self) -> Option<SystemTime> {
        self.modified
    }

    /// Bytes that were read so far, those that were read twice counted twice.
    pub fn n_read(&self) -> u64 {
        self.n_read.load(Ordering::Relaxed)
    }

    /// From now on what is read is hashed, behind what `sha` has seen.
    pub fn hash_from(&self, sha: Sha256) {
        *self.hash() = Some(FileHash::from_sha(sha));
    }

    /// The hash up to where no byte is missing; `None` where nothing is hashed.
    pub fn hash_so_far(&self) -> Option<Sha256> {
        self.hash().as_ref().map(|hash| hash.sha().clone())
    }

    /// Reads what nobody else reads below `end`, for the hash, until `go_on` says false.
    pub fn hash_up_to(&self, end: u64, mut go_on: impl FnMut() -> bool) -> Result<()> {
        let gap = || self.hash().as_ref().and_then(|hash| hash.gap(end));
        let mut buf = Vec::new();
        while let Some(gap) = gap().filter(|_| go_on()) {
            buf.resize((gap.end - gap.start).min(HASH_BYTES as u64) as usize, 0);
            self.read_at(gap.start, &mut buf)?;
        }
        Ok(())
    }

    fn hash(&self) -> MutexGuard<'_, Option<FileHash>> {
        self.hash.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills `buf` with the bytes from `offset` on.
    ///
    /// # Errors
    /// `Format` where the file ends before that, `Io` where the system can't read it.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(offset, buf).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => Error::format(
                self.label(),
                format!("truncated: expected {} bytes at byte {offset}, found the end", buf.len()),
            ),
            _ => Error::io(&self.path, e),
        })?;
        self.n_read.fetch_add(buf.len() as u64, Ordering::Relaxed);
        if let Some(hash) = self.hash().as_mut() {
            hash.saw(offset, buf);
        }
        Ok(())
    }

    /// The `len` bytes from `offset` on, which must lie inside the file.
    pub fn bytes_at(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let end = offset.checked_add(len as u64);
        if end.is_none_or(|end| end > self.len) {
            let what = format!("truncated: expected {len} bytes at byte {offset}, found {} in all", self.len);
            return Err(Error::format(self.label(), what));
        }
        let mut bytes = vec![0; len];
        self.read_at(offset, &mut bytes)?;
        Ok(bytes)
    }
}

/// A whole small file, refused when longer than `max_bytes`.
pub fn read_small(path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    let file = SourceFile::open(path)?;
    if file.n_bytes() > max_bytes {
        return Err(Error::limit(file.label(), format!("{} bytes", file.n_bytes()), max_bytes));
    }
    file.bytes_at(0, file.n_bytes() as usize)
}
