//! The value of a key, written anew where it stands in a file: no other byte changes, so whoever has the file mapped
//! notices nothing, and a file of many gigabytes needs no copy beside it. A write is not done at once or not at all, so
//! the value has to say by itself whether it is whole.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};

use super::Gguf;
use super::size::Size;
use crate::error::{Error, Result};

/// An array of u8 in a file on the disk.
pub(crate) struct InPlace {
    file: File,
    label: String,
    /// Where the array starts.
    at: Size,
}

impl InPlace {
    /// The array of u8 under `key` in the file that `read` was opened from: the first, where there are several.
    ///
    /// # Errors
    /// Where there is no such array, where the system does not let it be written, and where another file stands there by now.
    pub(crate) fn open(read: Gguf, key: &str) -> Result<Self> {
        let (Some(path), Some(place)) = (read.files().next(), read.array_place(key)) else {
            return Err(read.metadata().wrong(key, "expected an array of u8 in a file, found none"));
        };
        let failed = |action| move |error| Error::io(path.display(), action, error);
        let mut file =
            OpenOptions::new().read(true).write(true).open(path).map_err(failed("cannot open to write"))?;
        let mut header = vec![0; read.header_bytes().len()];
        file.read_exact(&mut header).map_err(failed("cannot read"))?;
        if header != read.header_bytes() {
            let problem = "expected the file that was read, found another one in its place";
            return Err(Error::unsupported(read.label(), problem));
        }
        Ok(Self { label: path.display().to_string(), file, at: Size(place.start as u64) })
    }

    /// Writes `bytes` to the array from its element `start` on, and waits until the disk has them.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn write(&mut self, start: u64, bytes: &[u8]) -> Result<()> {
        let at = self.at.plus(Size(start)).map_or(u64::MAX, |at| at.0);
        let written = self.file.seek(SeekFrom::Start(at)).and_then(|_| self.file.write_all(bytes));
        let written = written.and_then(|()| self.file.sync_data());
        written.map_err(|error| Error::io(&self.label, "cannot write", error))
    }
}
