//! One file read by position, never mapped: a disk that fails is then an error and not a signal, and what was
//! read counts as a buffer of known size.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// An open file of a known length; reads name their place, so that threads can share it.
#[derive(Debug)]
pub struct SourceFile {
    path: PathBuf,
    len: u64,
    #[cfg(unix)]
    file: File,
    #[cfg(not(unix))]
    file: std::sync::Mutex<File>,
}

impl SourceFile {
    pub fn open(path: &Path) -> Result<SourceFile> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let meta = file.metadata().map_err(|e| Error::io(path, e))?;
        if !meta.is_file() {
            return Err(Error::format(path.display(), "not a regular file"));
        }
        #[cfg(not(unix))]
        let file = std::sync::Mutex::new(file);
        Ok(SourceFile { path: path.to_path_buf(), len: meta.len(), file })
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

    /// Fills `buf` with the bytes from `offset` on.
    ///
    /// # Errors
    /// `Format` where the file ends before that, `Io` where the system can't read it.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.read_exact_at(offset, buf).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => Error::format(
                self.label(),
                format!("truncated: expected {} bytes at byte {offset}, found the end", buf.len()),
            ),
            _ => Error::io(&self.path, e),
        })
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

    #[cfg(unix)]
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buf, offset)
    }

    #[cfg(not(unix))]
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = self.file.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(buf)
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
