//! The one place where a file becomes memory.

use std::fs::{self, File};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::lost_maps::Watched;

/// A mapped file, and its name with whoever explains a SIGBUS.
struct Mapped {
    // dropped first: an address must not be explained any more when it may become another's
    _watched: Watched,
    map: memmap2::Mmap,
}

/// A mapped file. Clones are the same one.
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
    // SAFETY: the map is private to this value and read-only. Another program may still change the file: then
    // the numbers in tensors change, which no code here relies on (what was parsed, was copied), or pages vanish
    // and reading them raises SIGBUS, which ends the program.
    #[allow(unsafe_code)]
    let map = unsafe { memmap2::Mmap::map(&file) }.map_err(failed("cannot map"))?;
    let _watched = Watched::new(&map, path);
    Ok(Map(Arc::new(Mapped { _watched, map })))
}
