//! How much room there is where something is to be written.

use std::path::Path;

/// A file system as far as writers care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    pub n_free_bytes: u64,
    /// Equal numbers are one file system.
    pub device: u64,
}

/// The room at `path`, which need not be there yet; `None` where the system does not tell.
#[cfg(unix)]
pub fn room(path: &Path) -> Option<Room> {
    use std::os::unix::fs::MetadataExt;
    let path = if path.is_absolute() { path.to_path_buf() } else { std::env::current_dir().ok()?.join(path) };
    let (there, meta) = path.ancestors().find_map(|path| Some((path, path.metadata().ok()?)))?;
    let told = rustix::fs::statvfs(there).ok()?;
    let n_free_bytes = told.f_bavail.saturating_mul(told.f_frsize);
    Some(Room { n_free_bytes, device: meta.dev() })
}

#[cfg(not(unix))]
pub fn room(_path: &Path) -> Option<Room> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_not_there_yet_is_on_its_directorys_disk() {
        let dir = std::env::temp_dir();
        let (there, new) = (room(&dir).unwrap(), room(&dir.join("not/there/yet")).unwrap());
        assert_eq!(there.device, new.device);
        assert!(there.n_free_bytes > 0);
    }
}
