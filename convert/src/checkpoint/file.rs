//! One file read by position, never mapped: a disk that fails is then an error and not a signal, and what was
//! read counts as a buffer of known size. What is read is counted, and hashed on the way where that is wanted.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::file_hash::FileHash;
use super::sha256::Sha256;
use crate::error::{Error, Result};
use crate::positioned::Positioned;
use owlet_format::hex;

/// What is read at once where only the hash wants it.
const HASH_BYTES: usize = 1 << 20;

/// An open file of a known length; reads name their place, so that threads can share it.
#[derive(Debug)]
pub struct SourceFile {
    path: PathBuf,
    len: u64,
    modified: Option<SystemTime>,
    content: Content,
    n_read: AtomicU64,
    hash: Mutex<Option<FileHash>>,
    /// What its SHA-256 has to be, where somebody said so.
    expected: Option<[u8; 32]>,
}

#[derive(Debug)]
enum Content {
    Here(Positioned),
    Away(Arc<dyn Far>),
}

/// A file that is on no disk of this machine.
pub trait Far: fmt::Debug + Send + Sync {
    fn n_bytes(&self) -> u64;

    /// As error texts name it.
    fn place(&self) -> &str;

    /// Fills `buf` with the bytes from `offset` on, which lie inside the file.
    ///
    /// # Errors
    /// Where they don't come.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()>;

    /// From now on it is read from somewhere to its end, and in order but for a few megabytes.
    fn begin_stream(&self);

    /// It was read to its end.
    fn end_stream(&self);

    /// What went wrong and is tried again, since the last call: a line each.
    fn notes(&self) -> Vec<String>;
}

/// What is known of a directory's files by name, beside what the directory holds.
pub type Known = BTreeMap<String, KnownFile>;

#[derive(Debug, Clone)]
pub struct KnownFile {
    pub sha256: [u8; 32],
    /// Where it is read, if not in the directory.
    pub far: Option<Arc<dyn Far>>,
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
            content: Content::Here(Positioned::new(file)),
            n_read: AtomicU64::new(0),
            hash: Mutex::new(None),
            expected: None,
        })
    }

    /// The file `name` of `dir`, with what is known of it.
    pub fn open_known(dir: &Path, name: &str, known: &Known) -> Result<SourceFile> {
        let path = dir.join(name);
        let Some(KnownFile { sha256, far }) = known.get(name) else { return SourceFile::open(&path) };
        let expected = Some(*sha256);
        let Some(far) = far else { return Ok(SourceFile { expected, ..SourceFile::open(&path)? }) };
        Ok(SourceFile {
            path,
            len: far.n_bytes(),
            modified: None,
            content: Content::Away(far.clone()),
            n_read: AtomicU64::new(0),
            hash: Mutex::new(None),
            expected,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path as error texts print it.
    pub fn label(&self) -> String {
        match &self.content {
            Content::Here(_) => self.path.display().to_string(),
            Content::Away(far) => far.place().to_string(),
        }
    }

    /// Length in bytes when the file was opened.
    pub fn n_bytes(&self) -> u64 {
        self.len
    }

    /// What tells its content from others: its SHA-256 where somebody said it, else when it was last written.
    pub fn state(&self) -> String {
        self.expected.map_or_else(|| format!("{:?}", self.modified), |sum| hex(&sum))
    }

    /// What went wrong with a file that is away, and is tried again.
    pub fn notes(&self) -> Vec<String> {
        match &self.content {
            Content::Here(_) => Vec::new(),
            Content::Away(far) => far.notes(),
        }
    }

    /// Bytes that were read so far, those that were read twice counted twice.
    pub fn n_read(&self) -> u64 {
        self.n_read.load(Ordering::Relaxed)
    }

    /// From now on what is read is hashed, behind what `sha` has seen.
    pub fn hash_from(&self, sha: Sha256) {
        *self.hash() = Some(FileHash::from_sha(sha));
        if let Content::Away(far) = &self.content {
            far.begin_stream();
        }
    }

    /// The hash has seen all of the file, which is number `file` of its checkpoint: it has to be what somebody said.
    ///
    /// # Errors
    /// `Damaged` where it is not.
    pub fn finish(&self, file: usize) -> Result<()> {
        let mut advice = "remove it, and the same command fetches it again";
        if let Content::Away(far) = &self.content {
            far.end_stream();
            advice = "the same command reads it again";
        }
        let found = self.hash_so_far().filter(|sha| sha.n_bytes() == self.len).map(Sha256::finish);
        let (Some(found), Some(expected)) = (found, self.expected) else { return Ok(()) };
        if found == expected {
            return Ok(());
        }
        let what = format!("expected SHA-256 {}, found {}: {advice}", hex(&expected), hex(&found));
        Err(Error::damaged(self.label(), what, file))
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
        let n = buf.len();
        let truncated = || {
            Error::format(
                self.label(),
                format!("truncated: expected {n} bytes at byte {offset}, found the end"),
            )
        };
        match &self.content {
            Content::Here(file) => file.read_exact_at(offset, buf).map_err(|e| match e.kind() {
                io::ErrorKind::UnexpectedEof => truncated(),
                _ => Error::io(&self.path, e),
            })?,
            Content::Away(_) if offset.checked_add(n as u64).is_none_or(|end| end > self.len) => {
                return Err(truncated());
            }
            Content::Away(far) => far.read_at(offset, buf)?,
        }
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

    /// A repository cloned without git-lfs has small text files in place of its weights.
    pub(super) fn refuse_pointer(&self, start: &[u8]) -> Result<()> {
        if start.starts_with(b"version ") && self.n_bytes() < 1024 {
            return Err(Error::format(
                self.label(),
                "a git-lfs pointer and not the weights: fetch them with git lfs pull",
            ));
        }
        Ok(())
    }
}

impl SourceFile {
    /// For readers that want to seek.
    pub fn cursor(&self) -> SourceCursor<'_> {
        SourceCursor { file: self, at: 0 }
    }
}

/// A position in a file. Its errors are those of the file, inside the system's.
pub struct SourceCursor<'a> {
    file: &'a SourceFile,
    at: u64,
}

impl Read for SourceCursor<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = (buf.len() as u64).min(self.file.len.saturating_sub(self.at)) as usize;
        self.file.read_at(self.at, &mut buf[..n]).map_err(io::Error::other)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for SourceCursor<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.file.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
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
