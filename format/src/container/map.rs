//! The one place where a file becomes memory.

use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::lost_maps::Watched;

/// Mapped files, and their names with whoever explains a SIGBUS.
struct Mapped {
    // dropped first: an address must not be explained any more when it may become another's
    _watched: Vec<Watched>,
    map: memmap2::Mmap,
}

/// A mapped file, or several side by side. Clones are the same one.
#[derive(Clone)]
pub(super) struct Map(Arc<Mapped>);

impl Map {
    /// The bytes of the file, page-aligned, read as they are needed.
    pub(super) fn bytes(&self) -> Bytes {
        Bytes::from_owner(self.clone())
    }

    /// Takes whole pages that lie within `range` out of this process's memory; whoever reads there gets the file's bytes
    /// again. Nothing happens where the range is not in the file, or the system doesn't know how.
    pub(super) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Some(range) = self.0.whole_pages(range) {
            // SAFETY: whole pages of a map that is read-only, private and of a file. Nothing can have written to them, so
            // that dropping them loses nothing: the next read brings the bytes of the file, which it might have done
            // anyway, since the system may drop such pages whenever it likes.
            #[allow(unsafe_code)]
            let advised = unsafe {
                let how = memmap2::UncheckedAdvice::DontNeed;
                self.0.map.unchecked_advise_range(how, range.start, range.len())
            };
            // Advice that is not taken costs memory, and no more.
            drop(advised);
        }
        #[cfg(not(unix))]
        drop(range);
    }
}

impl AsRef<[u8]> for Map {
    fn as_ref(&self) -> &[u8] {
        &self.0.map
    }
}

#[cfg(unix)]
impl Mapped {
    /// The pages that `range` covers from end to end, if there are any.
    fn whole_pages(&self, range: Range<usize>) -> Option<Range<usize>> {
        let page_bytes = page_bytes()?;
        let start = range.start.checked_next_multiple_of(page_bytes)?;
        let end = range.end.checked_div(page_bytes)?.checked_mul(page_bytes)?;
        (start < end && end <= self.map.len()).then_some(start..end)
    }
}

#[cfg(unix)]
fn page_bytes() -> Option<usize> {
    // SAFETY: sysconf reads a number that the system knows, and nothing of ours.
    #[allow(unsafe_code)]
    let n_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(n_bytes).ok().filter(|n_bytes| *n_bytes > 0)
}

/// The file at `path`.
///
/// # Errors
/// Where it is missing, unreadable, empty, or no regular file (a pipe would wait for ever to be opened).
pub(super) fn map(path: &Path) -> Result<Map> {
    let file = open(path)?;
    // SAFETY: the map is private to this value and read-only. Another program may still change the file: then
    // the numbers in tensors change, which no code here relies on (what was parsed, was copied), or pages vanish
    // and reading them raises SIGBUS, which ends the program.
    #[allow(unsafe_code)]
    let map = unsafe { memmap2::Mmap::map(&file) }
        .map_err(|error| Error::io(path.display(), "cannot map", error))?;
    let _watched = vec![Watched::new(&map, path)];
    Ok(Map(Arc::new(Mapped { _watched, map })))
}

/// What every file of [`map_joined`] begins at a multiple of: a page of any system, and any alignment of tensors.
#[cfg(unix)]
const JOINT_BYTES: usize = 1 << 16;

/// The files at `paths` one behind the other, and where each of them lies; between them are zeros.
///
/// # Errors
/// As [`map`], for each of them; and where there is no room for all of them together.
#[cfg(unix)]
pub(super) fn map_joined(paths: &[PathBuf]) -> Result<(Map, Vec<Range<usize>>)> {
    use std::os::fd::AsRawFd;

    let (mut files, mut ranges, mut end) = (Vec::new(), Vec::<Range<usize>>::new(), 0usize);
    for path in paths {
        let file = open(path)?;
        let failed = |error| Error::io(path.display(), "cannot open", error);
        let n_bytes = usize::try_from(file.metadata().map_err(failed)?.len()).ok();
        let range = end
            .checked_next_multiple_of(JOINT_BYTES)
            .and_then(|start| Some(start..start.checked_add(n_bytes?)?))
            .ok_or_else(|| {
                Error::unsupported(&path.display().to_string(), "a file too long for this system")
            })?;
        end = range.end;
        ranges.push(range);
        files.push(file);
    }
    let label = paths.first().map(|path| path.display().to_string()).unwrap_or_default();
    let failed = |error| Error::io(&label, "cannot map", error);
    let room = memmap2::MmapOptions::new().len(end).no_reserve_swap().map_anon().map_err(failed)?;
    let map = room.make_read_only().map_err(failed)?;
    for (file, range) in files.iter().zip(&ranges) {
        let at = map.as_ptr().wrapping_add(range.start).cast_mut().cast();
        // SAFETY: the range lies in `map`, which is ours, which nobody has a reference into yet, and which takes these
        // pages down with its own. Its start is a multiple of the page. What holds of the file's bytes is said in `map`.
        #[allow(unsafe_code)]
        let mapped = unsafe {
            let (read, how) = (libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_FIXED);
            libc::mmap(at, range.len(), read, how, file.as_raw_fd(), 0)
        };
        if mapped != at {
            return Err(failed(std::io::Error::last_os_error()));
        }
    }
    let watched = paths.iter().zip(&ranges);
    let _watched =
        watched.filter_map(|(path, range)| Some(Watched::new(map.get(range.clone())?, path))).collect();
    Ok((Map(Arc::new(Mapped { _watched, map })), ranges))
}

/// # Errors
/// Always: this system has no way to lay files side by side.
#[cfg(not(unix))]
pub(super) fn map_joined(paths: &[PathBuf]) -> Result<(Map, Vec<Range<usize>>)> {
    let label = paths.first().map(|path| path.display().to_string()).unwrap_or_default();
    Err(Error::unsupported(&label, "a model in several files is not read on this system: join them"))
}

/// The file at `path`, which has bytes.
fn open(path: &Path) -> Result<File> {
    let label = path.display();
    let failed = |action| move |error| Error::io(path.display(), action, error);
    let kind = fs::metadata(path).map_err(failed("cannot open"))?.file_type();
    if !kind.is_file() {
        let found = if kind.is_dir() { "a directory" } else { "a pipe, socket or device" };
        return Err(Error::unsupported(&label.to_string(), format!("expected a file, found {found}")));
    }
    let file = File::open(path).map_err(failed("cannot open"))?;
    if file.metadata().map_err(failed("cannot open"))?.len() == 0 {
        return Err(Error::unsupported(&label.to_string(), "expected a GGUF, found an empty file"));
    }
    Ok(file)
}
