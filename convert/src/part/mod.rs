//! A model file on its way: `OUT.part` takes the tensors at the places that they will have, `OUT.part.journal` beside
//! it says how far that is, and a later run of the same work goes on there. The header comes last, so that a part file
//! is no model to anybody, and then the whole is put down and renamed.
//!
//! Whatever is done is on the disk before the journal says so. What the journal says is compared with the part file,
//! byte for byte by SHA-256, before a run builds on it.

mod journal;

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use owlet_format::Layout;
use rayon::prelude::*;
use sha2::{Digest, Sha256 as Sum};

use crate::checkpoint::Sha256;
use crate::error::{Error, Result};
use crate::positioned::Positioned;
use journal::{Found, Journal};
pub use journal::{State, Subject};

/// What is read at once when a part file is compared with its journal.
const CHECK_BYTES: usize = 1 << 20;

/// A file that is being written.
#[derive(Debug)]
pub struct Part {
    target: PathBuf,
    path: PathBuf,
    file: Positioned,
    journal: Journal,
    layout: Layout,
    /// Indices of tensors, as they are worked on.
    order: Vec<usize>,
    state: State,
    /// Of the rows of the tensor that is being written.
    sum: Sum,
}

impl Part {
    /// Begins the part file of `target`, or goes on with it where its journal is one of `subject`. `note` hears in a
    /// line what was found.
    ///
    /// # Errors
    /// Where `target` is a directory or a device, where its place can't be written to, where another run is writing,
    /// and where a file that is none of ours stands in the way.
    pub fn open(
        target: &Path,
        layout: Layout,
        order: Vec<usize>,
        subject: Subject,
        note: &mut dyn FnMut(&str),
    ) -> Result<Part> {
        let target = resolved(target)?;
        let path = beside(&target, ".part");
        let journal_path = beside(&target, ".part.journal");
        let is_there = fs::symlink_metadata(&path).is_ok();
        if is_there && fs::symlink_metadata(&journal_path).is_err() {
            let what = "stands in the way, and nothing can go on with it without its journal: remove it";
            return Err(Error::Request(format!("{}: {what}", path.display())));
        }
        let (mut journal, found) = Journal::open(&journal_path, subject)?;
        let reason = match found {
            Found::State(state) if is_there => {
                let file = open_old(&path)?;
                if let Some(sum) = borne_out(&file, &layout, &order, &state) {
                    return Ok(Part { target, path, file, journal, layout, order, state, sum });
                }
                Some("is not what its journal says")
            }
            Found::Other if is_there => Some("is of other input, another recipe or another version"),
            _ => None,
        };
        if let Some(reason) = reason {
            note(&format!("{}: {reason}: beginning anew", path.display()));
        }
        if is_there {
            fs::remove_file(&path).map_err(|error| Error::doing(&path, "cannot remove", error))?;
        }
        journal.clear()?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        let file = Positioned::new(file.map_err(|error| Error::doing(&path, "cannot create", error))?);
        let state = State::new(&subject);
        Ok(Part { target, path, file, journal, layout, order, state, sum: Sum::new() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How far the work is; `prefix` and `hashes` are those of the last commit.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Rows of tensor `index` of the file.
    pub fn n_rows(&self, index: usize) -> u64 {
        self.layout.tensors[index].shape.n_rows()
    }

    /// Writes the next rows of the current tensor.
    ///
    /// # Errors
    /// What the disk says. Nothing counts as written then.
    ///
    /// # Panics
    /// Where no tensor is left, or `bytes` are no whole rows or more than it lacks.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let index = self.order[self.state.n_done];
        let tensor = &self.layout.tensors[index];
        let row_bytes = tensor.n_bytes / tensor.shape.n_rows();
        let start = self.state.row * row_bytes;
        let end = start + bytes.len() as u64;
        assert!(
            (bytes.len() as u64).is_multiple_of(row_bytes) && end <= tensor.n_bytes,
            "rows of {}",
            tensor.name
        );
        self.file.write_all_at(tensor.offset + start, bytes).map_err(|error| self.refused(error))?;
        self.sum.update(bytes);
        self.state.row = end / row_bytes;
        if end == tensor.n_bytes {
            self.state.sums[index] = self.sum.finalize_reset().into();
            self.state.n_done += 1;
            self.state.row = 0;
        }
        Ok(())
    }

    /// Puts down for good what was written, and that the files which are read are hashed as far as `hashes`.
    ///
    /// # Errors
    /// What the disk says. The commit before stands then.
    pub fn commit(&mut self, hashes: Vec<Sha256>) -> Result<()> {
        self.file.with(File::sync_data).map_err(|error| self.refused(error))?;
        self.state.prefix = self.sum.clone().finalize().into();
        self.state.hashes = hashes;
        self.journal.write(&self.state)
    }

    /// Writes the header and waits until the disk has everything. The file still stands under its part name, to be
    /// read and judged. `layout` has the header's last form, which is as long as the first one.
    ///
    /// # Errors
    /// What the disk says.
    ///
    /// # Panics
    /// Where a tensor is missing, or `layout` is another one.
    pub fn complete(&mut self, mut layout: Layout) -> Result<()> {
        assert_eq!(self.state.n_done, self.order.len(), "every tensor is there");
        assert_eq!(layout.tensors, self.layout.tensors, "the header keeps its length");
        layout.set_checksums(&self.state.sums);
        let n_bytes = layout.n_bytes;
        let written = self
            .file
            .write_all_at(0, &layout.header)
            .and_then(|()| self.file.with(|file| file.set_len(n_bytes).and_then(|()| file.sync_all())));
        written.map_err(|error| self.refused(error))
    }

    /// Gives the file its name, replacing what stood there; the journal goes.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn publish(self) -> Result<()> {
        fs::rename(&self.path, &self.target)
            .map_err(|error| Error::doing(&self.target, "cannot rename to", error))?;
        // The new name is an entry of the directory, which has to reach the disk as well. A system that can't do
        // that for a directory has no other way either, so its answer changes nothing.
        #[cfg(unix)]
        if let Some(directory) = self.path.parent() {
            let _ = File::open(directory).and_then(|directory| directory.sync_all());
        }
        self.journal
            .remove()
            .map_err(|error| Error::doing(&self.target, "cannot remove the journal of", error))
    }

    /// Removes everything: a later run could not go on with it.
    pub fn discard(self) {
        // whoever removed it already did what was wanted
        let _ = fs::remove_file(&self.path);
        let _ = self.journal.remove();
    }

    fn refused(&self, error: io::Error) -> Error {
        Error::doing(&self.target, "cannot write", error)
    }
}

/// Removes a journal that outlived its run: its file has got its name already.
pub fn tidy(target: &Path) {
    let is_there = |suffix| fs::symlink_metadata(beside(target, suffix)).is_ok();
    if target.is_file() && is_there(".part.journal") && !is_there(".part") {
        let _ = fs::remove_file(beside(target, ".part.journal"));
    }
}

fn beside(target: &Path, suffix: &str) -> PathBuf {
    let mut name = target.file_name().map_or_else(OsString::new, OsString::from);
    name.push(suffix);
    target.with_file_name(name)
}

/// Through links, so that the file itself is replaced and not a link to it.
fn resolved(target: &Path) -> Result<PathBuf> {
    let unusable = |found: &str| {
        Error::unsupported(target.display(), format!("expected a file to write, found {found}"))
    };
    match fs::metadata(target) {
        Ok(old) if old.is_file() => {
            fs::canonicalize(target).map_err(|error| Error::doing(target, "cannot open", error))
        }
        Ok(old) if old.is_dir() => Err(unusable("a directory")),
        Ok(_) => Err(unusable("a pipe, socket or device")),
        Err(_) if target.file_name().is_none() => Err(unusable("no file name")),
        Err(_) => Ok(target.to_path_buf()),
    }
}

fn open_old(path: &Path) -> Result<Positioned> {
    if !fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file()) {
        return Err(Error::unsupported(path.display(), "expected a file, found something else"));
    }
    let file = OpenOptions::new().read(true).write(true).open(path);
    Ok(Positioned::new(file.map_err(|error| Error::doing(path, "cannot open", error))?))
}

/// Whether `file` holds what `state` says; yields the sum of the rows of the tensor that is not whole.
fn borne_out(file: &Positioned, layout: &Layout, order: &[usize], state: &State) -> Option<Sum> {
    let done = order.get(..state.n_done)?;
    let whole = done.par_iter().all(|&index| {
        let tensor = &layout.tensors[index];
        sum_of(file, tensor.offset, tensor.n_bytes)
            .is_ok_and(|sum| <[u8; 32]>::from(sum.finalize()) == state.sums[index])
    });
    let n_prefix = match order.get(state.n_done) {
        Some(&index) => {
            let tensor = &layout.tensors[index];
            let n_rows = tensor.shape.n_rows();
            (state.row < n_rows).then(|| (tensor.offset, tensor.n_bytes / n_rows * state.row))?
        }
        None => (state.row == 0).then_some((0, 0))?,
    };
    let sum = sum_of(file, n_prefix.0, n_prefix.1).ok().filter(|_| whole)?;
    (<[u8; 32]>::from(sum.clone().finalize()) == state.prefix).then_some(sum)
}

fn sum_of(file: &Positioned, offset: u64, n_bytes: u64) -> io::Result<Sum> {
    let mut sum = Sum::new();
    let mut buf = vec![0; n_bytes.min(CHECK_BYTES as u64) as usize];
    let mut at = 0;
    while at < n_bytes {
        let n = (n_bytes - at).min(CHECK_BYTES as u64) as usize;
        file.read_exact_at(offset + at, &mut buf[..n])?;
        sum.update(&buf[..n]);
        at += n as u64;
    }
    Ok(sum)
}
