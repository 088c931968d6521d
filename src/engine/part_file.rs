//! A file that is there whole or not at all: written beside its place under a name of its own, then renamed. Whatever
//! goes wrong before that removes it, and what stood in the place stays. Only its owner may read it. A process that is killed
//! leaves its part; it is locked as long as somebody writes it, so that [`sweep`] knows what nobody does.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// A file under its first name. Dropping it removes it.
pub struct PartFile {
    /// Until it is published.
    file: Option<File>,
    path: PathBuf,
    target: PathBuf,
}

impl PartFile {
    /// # Errors
    /// What the system says, and `InvalidInput` where `target` has no file name.
    pub fn create(target: &Path) -> io::Result<PartFile> {
        let name = target.file_name().ok_or(ErrorKind::InvalidInput)?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut tries = 0..1000u32;
        loop {
            let path = target.with_file_name(part_name(name, tries.next().unwrap_or_default()));
            match options.open(&path) {
                // Somebody sweeps, and took it for a part that was left.
                Ok(file) if !is_held(&file, &path) && !tries.is_empty() => {}
                Ok(file) => return Ok(PartFile { file: Some(file), path, target: target.to_path_buf() }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists && !tries.is_empty() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// How long the file is.
    ///
    /// # Errors
    /// What the system says.
    pub fn n_bytes(&self) -> io::Result<u64> {
        Ok(self.file.as_ref().ok_or(ErrorKind::NotFound)?.metadata()?.len())
    }

    /// Gives the file its name, in the place of what had it. After a power cut it may be damaged.
    ///
    /// # Errors
    /// What the system says.
    pub fn publish(mut self) -> io::Result<()> {
        // Locked until it has its name.
        let file = self.file.take();
        let done = fs::rename(&self.path, &self.target);
        drop(file);
        if done.is_err() {
            let _ = fs::remove_file(&self.path);
        }
        done
    }

    /// As [`publish`](Self::publish), once the disk has all of it.
    ///
    /// # Errors
    /// What the system says.
    pub fn publish_durably(self) -> io::Result<()> {
        if let Some(file) = &self.file {
            file.sync_all()?;
        }
        // The new name is an entry of the directory. A system that cannot put one down has no other way either.
        let directory =
            self.target.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let directory = if cfg!(unix) { File::open(directory).ok() } else { None };
        self.publish()?;
        let _ = directory.map(|directory| directory.sync_all());
        Ok(())
    }
}

impl Write for PartFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.as_mut().ok_or(ErrorKind::NotFound)?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Locks the new `file`. Says whether it is still at `path`. Where nothing can be locked, nothing is swept either.
fn is_held(file: &File, path: &Path) -> bool {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(_)) => true,
        Ok(()) => is_at(file, path),
    }
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    fs::symlink_metadata(path).is_ok_and(|there| file.metadata().is_ok_and(|own| id(own) == id(there)))
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

/// Removes the parts in `dir` that nobody writes any more, of files whose names `is_ours` knows; yields their own names. Links
/// are not followed, and nothing else is touched.
///
/// # Errors
/// What the system says of `dir`. A part that cannot be removed stays.
pub fn sweep(dir: &Path, is_ours: impl Fn(&str) -> bool) -> io::Result<Vec<String>> {
    let mut swept = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_part = target_name(&name).is_some_and(&is_ours);
        if is_part && entry.file_type()?.is_file() && is_left(&entry.path()) {
            swept.push(name);
        }
    }
    swept.sort();
    Ok(swept)
}

/// Removes the part at `path` if nobody has it locked.
fn is_left(path: &Path) -> bool {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = options.open(path);
    file.is_ok_and(|file| file.try_lock().is_ok() && fs::remove_file(path).is_ok())
}

/// `.name.process.try.part`
fn part_name(name: &OsStr, n: u32) -> OsString {
    let mut part = OsString::from(".");
    part.push(name);
    part.push(format!(".{}.{n}.part", std::process::id()));
    part
}

/// The name that the file `part` was to get, if that is the name of a part.
pub fn target_name(part: &str) -> Option<&str> {
    let (rest, n) = part.strip_prefix('.')?.strip_suffix(".part")?.rsplit_once('.')?;
    let (name, process) = rest.rsplit_once('.')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(n) && is_number(process)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_appears_whole() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a.b");
        fs::write(&target, "old").unwrap();
        let mut first = PartFile::create(&target).unwrap();
        let mut second = PartFile::create(&target).unwrap();
        first.write_all(b"first").unwrap();
        second.write_all(b"second").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"old");
        drop(first);
        assert_eq!(names(dir.path()).len(), 2);
        second.publish_durably().unwrap();
        assert_eq!(
            (fs::read(&target).unwrap(), names(dir.path())),
            (b"second".to_vec(), vec!["a.b".to_string()])
        );
        #[cfg(unix)]
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&target).unwrap().permissions()) & 0o777,
            0o600
        );

        fs::create_dir(dir.path().join("c")).unwrap();
        let refused = PartFile::create(&dir.path().join("c")).unwrap().publish();
        assert!(refused.is_err() && names(dir.path()).len() == 2, "{refused:?}");
    }

    #[test]
    fn only_what_nobody_writes_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let part = PartFile::create(&dir.path().join("talk")).unwrap();
        let left = [".talk.1.0.part", ".other.4000000000.7.part"];
        let others = ["talk", "talk.part", ".talk.1.part", ".strange name.1.0.part"];
        for name in left.iter().chain(&others) {
            fs::write(dir.path().join(name), "").unwrap();
        }
        fs::create_dir(dir.path().join(".talk.2.0.part")).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(dir.path().join("talk"), dir.path().join(".talk.3.0.part")).unwrap();
        let n_before = names(dir.path()).len();
        let is_ours = |name: &str| !name.contains(' ');
        assert_eq!(sweep(dir.path(), is_ours).unwrap(), [left[1], left[0]]);
        assert_eq!(names(dir.path()).len(), n_before - left.len());
        assert_eq!(sweep(dir.path(), is_ours).unwrap(), [""; 0]);
        part.publish().unwrap();
        assert!(sweep(&dir.path().join("none"), is_ours).is_err());
    }

    #[test]
    fn names_of_parts() {
        let own = part_name(OsStr::new("x.y"), 7).into_string().unwrap();
        for (name, expected) in [
            (own.as_str(), Some("x.y")),
            (".x.y.1.2.part", Some("x.y")),
            ("x.y.1.2.part", None),
            (".x.y.1.2", None),
            (".x.y..2.part", None),
            (".x.y.a.2.part", None),
            (".2.part", None),
            (".part", None),
        ] {
            assert_eq!(target_name(name), expected, "{name}");
        }
    }
}
