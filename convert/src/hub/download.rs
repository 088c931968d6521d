//! One file fetched to the disk: it goes on where an earlier run was cut, is compared with its sum, and gets its name only
//! then.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::ranges::Ranges;
use super::store::Store;
use super::sum::Summing;
use super::tries::Tries;
use crate::error::{Error, Result};
use crate::run::Progress;

const BUFFER_BYTES: usize = 256 << 10;

/// Fetches the file of `ranges` into `store`.
///
/// # Errors
/// Where it does not come or the disk refuses it; what has come stays, and another call goes on there. `Network`, and
/// nothing stays, where its sum is wrong.
pub fn download(mut ranges: Ranges, store: &Store, progress: &mut dyn Progress) -> Result<()> {
    let path = store.part(&ranges.file)?;
    let mut part = Part::open(&path, &ranges, progress)?;
    part.complete(&mut ranges, progress)?;
    let Part { file, summing, .. } = part;
    file.sync_all().map_err(|error| Error::doing(&path, "cannot write", error))?;
    let found = summing.finish();
    if found != ranges.file.sum {
        fs::remove_file(&path).map_err(|error| Error::doing(&path, "cannot remove", error))?;
        let expected = ranges.file.sum;
        let what = format!("expected {} {}, found {}", expected.kind(), expected.hex(), found.hex());
        return Err(Error::network(ranges.place(), what)
            .advised("it was thrown away, and the same command fetches it again"));
    }
    store.keep(&ranges.file, &path)
}

/// A file on its way.
struct Part<'a> {
    path: &'a Path,
    file: File,
    n_bytes: u64,
    summing: Summing,
}

impl<'a> Part<'a> {
    /// Begins the file at `path`, or goes on with it.
    fn open(path: &'a Path, ranges: &Ranges, progress: &mut dyn Progress) -> Result<Part<'a>> {
        let refused = |error| Error::doing(path, "cannot write", error);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(refused)?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            let what = "another run is fetching this file: wait for it";
            return Err(Error::Request(format!("{}: {what}", path.display())));
        }
        let n_there = file.metadata().map_err(refused)?.len();
        let mut part = Part { path, file, n_bytes: 0, summing: Summing::of(&ranges.file) };
        if n_there > ranges.file.n_bytes {
            part.empty(ranges)?;
            return Ok(part);
        }
        let mut buf = vec![0; BUFFER_BYTES];
        while part.n_bytes < n_there {
            let n = part.file.read(&mut buf).map_err(|error| Error::io(path, error))?;
            if n == 0 {
                break;
            }
            part.took(&buf[..n], &ranges.file.name, progress);
            if ranges.client.contact.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
        }
        Ok(part)
    }

    fn took(&mut self, bytes: &[u8], name: &str, progress: &mut dyn Progress) {
        self.summing.update(bytes);
        self.n_bytes += bytes.len() as u64;
        progress.advance(name, bytes.len() as u64);
    }

    fn empty(&mut self, ranges: &Ranges) -> Result<()> {
        (self.n_bytes, self.summing) = (0, Summing::of(&ranges.file));
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map(|_| ()).map_err(|error| Error::doing(self.path, "cannot write", error))
    }

    fn complete(&mut self, ranges: &mut Ranges, progress: &mut dyn Progress) -> Result<()> {
        let client = ranges.client.clone();
        let contact = &client.contact;
        let mut tries = Tries::new(contact);
        let mut buf = vec![0; BUFFER_BYTES];
        while self.n_bytes < ranges.file.n_bytes {
            let mut opened = match ranges.open(self.n_bytes, None) {
                Ok(opened) => opened,
                Err(failure) => {
                    tries.again(failure)?;
                    contact.notes().iter().for_each(|line| progress.note(line));
                    continue;
                }
            };
            if opened.start != self.n_bytes {
                self.empty(ranges)?;
            }
            while self.n_bytes < ranges.file.n_bytes {
                let failure = match opened.body.read(&mut buf) {
                    Ok(0) => ranges.broken(None),
                    Ok(n) => {
                        let written = self.file.write_all(&buf[..n]);
                        written.map_err(|error| Error::doing(self.path, "cannot write", error))?;
                        self.took(&buf[..n], &ranges.file.name, progress);
                        tries.arrived(n as u64);
                        if contact.cancel.is_cancelled() {
                            return Err(Error::Cancelled);
                        }
                        continue;
                    }
                    Err(error) => ranges.broken(Some(&error)),
                };
                tries.again(failure)?;
                contact.notes().iter().for_each(|line| progress.note(line));
                break;
            }
        }
        Ok(())
    }
}
