//! A model file, or several, on their way: `OUT.part` takes the tensors at the places that they will have, `OUT.part.journal` beside
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

use owlet_format::{Layout, split_path};
use rayon::prelude::*;
use sha2::{Digest, Sha256 as Sum};

use crate::checkpoint::Sha256;
use crate::error::{Error, Result};
use crate::positioned::Positioned;
use journal::{Found, Journal};
pub use journal::{State, Subject};

/// What is read at once when a part file is compared with its journal.
const CHECK_BYTES: usize = 1 << 20;

/// A model that is being written.
#[derive(Debug)]
pub struct Part {
    /// What the caller asked for.
    target: PathBuf,
    pieces: Vec<Piece>,
    /// For each tensor, which piece has it, and which one of the piece's it is.
    places: Vec<(usize, usize)>,
    journal: Journal,
    /// Indices of tensors, as they are worked on.
    order: Vec<usize>,
    state: State,
    /// Of the rows of the tensor that is being written.
    sum: Sum,
}

/// One file of it: all there is, or one of several.
#[derive(Debug)]
struct Piece {
    /// The name that it gets in the end, and the one it has until then.
    target: PathBuf,
    path: PathBuf,
    file: Positioned,
    layout: Layout,
}

impl Part {
    /// Begins the part files of `target`, or goes on with them where their journal is one of `subject`. `note` hears in a
    /// line what was found. Several `layouts` are several files, named as [`split_path`] does.
    ///
    /// # Errors
    /// Where `target` is a directory or a device, where its place can't be written to, where another run is writing,
    /// and where a file that is none of ours stands in the way.
    pub fn open(
        target: &Path,
        layouts: Vec<Layout>,
        order: Vec<usize>,
        subject: Subject,
        note: &mut dyn FnMut(&str),
    ) -> Result<Part> {
        let target = resolved(target)?;
        let journal_path = beside(&target, ".part.journal");
        let names = names(&target, layouts.len());
        let is_there = |path: &PathBuf| fs::symlink_metadata(path).is_ok();
        let left: Vec<PathBuf> = names.iter().map(|(_, path)| path.clone()).filter(is_there).collect();
        let first = names[0].1.display();
        let has_journal = fs::symlink_metadata(&journal_path).is_ok();
        if let Some(path) = left.first().filter(|_| !has_journal) {
            let what = "stands in the way, and nothing can go on with it without its journal: remove it";
            return Err(Error::Request(format!("{}: {what}", path.display())));
        }
        let (mut journal, found) = Journal::open(&journal_path, subject)?;
        let places = places(&layouts);
        let reason = match found {
            Found::State(state) if left.len() == names.len() => {
                let piece = |((target, path), layout): (&(PathBuf, PathBuf), &Layout)| {
                    let (target, layout) = (target.clone(), layout.clone());
                    Ok(Piece { target, path: path.clone(), file: open_old(path)?, layout })
                };
                let pieces = names.iter().zip(&layouts).map(piece).collect::<Result<Vec<_>>>()?;
                if let Some(sum) = borne_out(&pieces, &places, &order, &state) {
                    return Ok(Part { target, pieces, places, journal, order, state, sum });
                }
                Some("is not what its journal says")
            }
            Found::State(_) if !left.is_empty() => Some("is not what its journal says"),
            Found::Other if !left.is_empty() => Some("is of other input, another recipe or another version"),
            _ => None,
        };
        if let Some(reason) = reason {
            note(&format!("{first}: {reason}: beginning anew"));
        }
        // those of an earlier run that was to write more files, or fewer, or one
        let strays = if has_journal { strays(&target, &names) } else { Vec::new() };
        if let Some(stray) = strays.first() {
            let what = "part of other files than these will be: removed, with all others of its kind";
            note(&format!("{}: {what}", stray.display()));
        }
        for path in left.iter().chain(&strays) {
            fs::remove_file(path).map_err(|error| Error::doing(path, "cannot remove", error))?;
        }
        journal.clear()?;
        let piece = |((target, path), layout): ((PathBuf, PathBuf), Layout)| {
            let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
            let file = file.map_err(|error| Error::doing(&path, "cannot create", error))?;
            Ok(Piece { target, file: Positioned::new(file), path, layout })
        };
        let pieces = names.into_iter().zip(layouts).map(piece).collect::<Result<_>>()?;
        let state = State::new(&subject);
        Ok(Part { target, pieces, places, journal, order, state, sum: Sum::new() })
    }

    /// The first of its files.
    pub fn path(&self) -> &Path {
        &self.pieces[0].path
    }

    /// All of them, in order.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.pieces.iter().map(|piece| piece.path.clone()).collect()
    }

    /// How far the work is; `prefix` and `hashes` are those of the last commit.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Rows of tensor `index`.
    pub fn n_rows(&self, index: usize) -> u64 {
        let (piece, at) = self.places[index];
        self.pieces[piece].layout.tensors[at].shape.n_rows()
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
        let (piece, at) = self.places[index];
        let piece = &self.pieces[piece];
        let tensor = &piece.layout.tensors[at];
        let row_bytes = tensor.n_bytes / tensor.shape.n_rows();
        let start = self.state.row * row_bytes;
        let end = start + bytes.len() as u64;
        assert!(
            (bytes.len() as u64).is_multiple_of(row_bytes) && end <= tensor.n_bytes,
            "rows of {}",
            tensor.name
        );
        piece.file.write_all_at(tensor.offset + start, bytes).map_err(|error| piece.refused(error))?;
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
        for piece in &self.pieces {
            piece.file.with(File::sync_data).map_err(|error| piece.refused(error))?;
        }
        self.state.prefix = self.sum.clone().finalize().into();
        self.state.hashes = hashes;
        self.journal.write(&self.state)
    }

    /// Goes back to where the first `n_done` tensors were whole and none more, for good. `hashes` are those of the files that
    /// are read as they were then.
    ///
    /// # Errors
    /// What the disk says. The commit before stands then.
    pub fn rewind(&mut self, n_done: usize, hashes: Vec<Sha256>) -> Result<()> {
        self.state.n_done = self.state.n_done.min(n_done);
        self.state.row = 0;
        self.sum = Sum::new();
        for &index in &self.order[self.state.n_done..] {
            self.state.sums[index] = [0; 32];
        }
        self.commit(hashes)
    }

    /// Writes the headers and waits until the disk has everything. The files still stand under their part names, to be
    /// read and judged. `layouts` have the headers' last form, which is as long as the first one.
    ///
    /// # Errors
    /// What the disk says.
    ///
    /// # Panics
    /// Where a tensor is missing, or `layouts` are others.
    pub fn complete(&mut self, mut layouts: Vec<Layout>) -> Result<()> {
        assert_eq!(self.state.n_done, self.order.len(), "every tensor is there");
        assert_eq!(layouts.len(), self.pieces.len(), "as many files");
        // the first states all of them
        layouts[0].set_checksums(&self.state.sums);
        for (piece, layout) in self.pieces.iter().zip(layouts) {
            assert_eq!(layout.tensors, piece.layout.tensors, "the header keeps its length");
            let put_down = |file: &File| file.set_len(layout.n_bytes).and_then(|()| file.sync_all());
            let written = piece.file.write_all_at(0, &layout.header).and_then(|()| piece.file.with(put_down));
            written.map_err(|error| piece.refused(error))?;
        }
        Ok(())
    }

    /// Gives the files their names, replacing what stood there; the journal goes. The first of several, through which the
    /// others are opened, comes last.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn publish(self) -> Result<PathBuf> {
        for piece in self.pieces.iter().rev() {
            fs::rename(&piece.path, &piece.target)
                .map_err(|error| Error::doing(&piece.target, "cannot rename to", error))?;
        }
        // The new name is an entry of the directory, which has to reach the disk as well. A system that can't do
        // that for a directory has no other way either, so its answer changes nothing.
        #[cfg(unix)]
        if let Some(directory) = self.path().parent() {
            let _ = File::open(directory).and_then(|directory| directory.sync_all());
        }
        let target = self.pieces[0].target.clone();
        self.journal
            .remove()
            .map_err(|error| Error::doing(&self.target, "cannot remove the journal of", error))?;
        Ok(target)
    }

    /// Removes everything: a later run could not go on with it.
    pub fn discard(self) {
        for piece in &self.pieces {
            // whoever removed it already did what was wanted
            let _ = fs::remove_file(&piece.path);
        }
        let _ = self.journal.remove();
    }
}

impl Piece {
    fn refused(&self, error: io::Error) -> Error {
        Error::doing(&self.target, "cannot write", error)
    }
}

/// The files that `target` becomes: their names in the end, and those until then.
fn names(target: &Path, n_files: usize) -> Vec<(PathBuf, PathBuf)> {
    let count = n_files as u16;
    let name = |no| if count == 1 { target.to_path_buf() } else { split_path(target, no, count) };
    (0..count).map(name).map(|name| (name.clone(), beside(&name, ".part"))).collect()
}

/// Part files of `target` that are none of `names`.
fn strays(target: &Path, names: &[(PathBuf, PathBuf)]) -> Vec<PathBuf> {
    let directory = target.parent().filter(|directory| !directory.as_os_str().is_empty());
    let entries = fs::read_dir(directory.unwrap_or(Path::new(".")));
    let paths = entries.into_iter().flatten().flatten().map(|entry| target.with_file_name(entry.file_name()));
    let is_stray = |path: &PathBuf| {
        let is_file = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file());
        // a journal beside it: it is another target's
        let is_own = *path == beside(target, ".part") || !beside(path, ".journal").exists();
        is_file && is_own && is_part_of(target, path) && names.iter().all(|(_, name)| name != path)
    };
    let mut strays: Vec<PathBuf> = paths.filter(is_stray).collect();
    strays.sort();
    strays
}

/// Whether `path` is named as a part file of `target`, as the only one or as one of any number.
fn is_part_of(target: &Path, path: &Path) -> bool {
    if *path == beside(target, ".part") {
        return true;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // `…-00002-of-00005.gguf.part`
    let numbers = name.strip_suffix(".gguf.part").and_then(|name| {
        let (rest, count) = name.rsplit_once("-of-")?;
        let (_, no) = rest.rsplit_once('-')?;
        Some((no.parse::<u16>().ok()?, count.parse::<u16>().ok()?))
    });
    numbers.is_some_and(|(no, count)| no > 0 && *path == beside(&split_path(target, no - 1, count), ".part"))
}

/// The files that `target` will be, where there are `n_files` of them.
pub fn targets(target: &Path, n_files: usize) -> Vec<PathBuf> {
    names(target, n_files).into_iter().map(|(name, _)| name).collect()
}

/// Which file has each tensor, and where among its own.
fn places(layouts: &[Layout]) -> Vec<(usize, usize)> {
    let of = |(file, layout): (usize, &Layout)| (0..layout.tensors.len()).map(move |at| (file, at));
    layouts.iter().enumerate().flat_map(of).collect()
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

/// Whether the files hold what `state` says; yields the sum of the rows of the tensor that is not whole.
fn borne_out(pieces: &[Piece], places: &[(usize, usize)], order: &[usize], state: &State) -> Option<Sum> {
    let place = |index: usize| {
        let (piece, at) = places[index];
        (&pieces[piece].file, &pieces[piece].layout.tensors[at])
    };
    let done = order.get(..state.n_done)?;
    let whole = done.par_iter().all(|&index| {
        let (file, tensor) = place(index);
        sum_of(file, tensor.offset, tensor.n_bytes)
            .is_ok_and(|sum| <[u8; 32]>::from(sum.finalize()) == state.sums[index])
    });
    let sum = match order.get(state.n_done) {
        Some(&index) => {
            let (file, tensor) = place(index);
            let n_rows = tensor.shape.n_rows();
            (state.row < n_rows).then_some(())?;
            sum_of(file, tensor.offset, tensor.n_bytes / n_rows * state.row).ok()?
        }
        None => (state.row == 0).then(Sum::new)?,
    };
    (whole && <[u8; 32]>::from(sum.clone().finalize()) == state.prefix).then_some(sum)
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
