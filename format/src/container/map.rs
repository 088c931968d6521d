//! The one place where a file becomes memory.

use std::fs::{self, File};
use std::path::Path;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::lost_maps::Watched;

/// A mapped file, and its name with whoever explains a SIGBUS.
struct Mapped {
    // dropped first: an address must not be explained any more when it may become another's
    _watched: Watched,
    map: memmap2::Mmap,
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

/// The bytes of the file at `path`, page-aligned, read as they are needed.
///
/// # Errors
/// Where it is missing, unreadable, empty, or no regular file (a pipe would wait for ever to be opened).
pub(super) fn map(path: &Path) -> Result<Bytes> {
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
    Ok(Bytes::from_owner(Mapped { _watched, map }))
}
