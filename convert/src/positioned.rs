//! A file that is read and written by position, so that threads can share it.

use std::fs::File;
use std::io;

#[derive(Debug)]
pub struct Positioned {
    #[cfg(unix)]
    file: File,
    #[cfg(not(unix))]
    file: std::sync::Mutex<File>,
}

#[cfg(unix)]
impl Positioned {
    pub fn new(file: File) -> Positioned {
        Positioned { file }
    }

    pub fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buf, offset)
    }

    pub fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.file, bytes, offset)
    }

    /// What else is to be done with the file.
    pub fn with<T>(&self, act: impl FnOnce(&File) -> T) -> T {
        act(&self.file)
    }
}

#[cfg(not(unix))]
impl Positioned {
    pub fn new(file: File) -> Positioned {
        Positioned { file: std::sync::Mutex::new(file) }
    }

    pub fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        use std::io::{Read, Seek, SeekFrom};
        self.with(|mut file| {
            file.seek(SeekFrom::Start(offset))?;
            file.read_exact(buf)
        })
    }

    pub fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        use std::io::{Seek, SeekFrom, Write};
        self.with(|mut file| {
            file.seek(SeekFrom::Start(offset))?;
            file.write_all(bytes)
        })
    }

    /// What else is to be done with the file.
    pub fn with<T>(&self, act: impl FnOnce(&File) -> T) -> T {
        act(&self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
