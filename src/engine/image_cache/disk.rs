//! Embeddings in a directory, one file each: what one process computed, the next one reads.
//!
//! The directory may hold anything. A name of [`ENTRY_SUFFIX`]'s form on a regular file is an entry, which this file
//! may read and delete; everything else is left alone, and links are not followed. Several processes share a
//! directory: an entry appears by a rename and vanishes by a removal, and whoever finds one gone computes. When an
//! entry was used last is its modification time.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::entry::{self, Flaw, Shape};
use super::{ENTRY_SUFFIX, ImageKey};
use crate::engine::part_file::{self, PartFile};

/// More would make looking for the oldest slow; the entries of small models are small.
const MAX_ENTRIES: usize = 4096;

/// Nobody writes an entry for so long: what is left of one that was begun.
const STALE_PART: Duration = Duration::from_secs(3600);

/// A directory of embeddings. It need not exist until something is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskCache {
    dir: PathBuf,
    max_bytes: u64,
}

/// What was there of an embedding.
#[derive(Debug, PartialEq)]
pub enum Lookup {
    /// `[n_embd, n_image_tokens]`
    Found(Vec<f32>),
    Absent,
    /// Something that is no whole entry stood in its place, and was removed where that was possible.
    Damaged(Flaw),
}

/// A file that is an entry by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryFile {
    path: PathBuf,
    pub n_bytes: u64,
    pub last_used: SystemTime,
}

impl EntryFile {
    fn is_older(&self, than: Duration) -> bool {
        SystemTime::now().duration_since(self.last_used).is_ok_and(|age| age >= than)
    }
}

/// What was taken out of a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    pub n_entries: usize,
    pub n_bytes: u64,
}

impl Removed {
    fn add(&mut self, entry: &EntryFile) {
        self.n_entries += 1;
        self.n_bytes = self.n_bytes.saturating_add(entry.n_bytes);
    }
}

impl DiskCache {
    /// The cache in `dir`, which holds at most `max_bytes` after anything was stored.
    pub fn new(dir: impl Into<PathBuf>, max_bytes: u64) -> DiskCache {
        DiskCache { dir: dir.into(), max_bytes }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The embedding of `key`, which must be of `shape`. Never reads more than such an entry has.
    pub fn load(&self, key: &ImageKey, shape: Shape) -> Lookup {
        let path = self.path(key);
        let Some((mut file, n_bytes)) = self.open(&path) else { return Lookup::Absent };
        let flaw = match read(&mut file, n_bytes, key, shape) {
            Ok(Ok(rows)) => {
                // On a disk that cannot be written, nothing is ever removed either.
                let _ = file.set_modified(SystemTime::now());
                return Lookup::Found(rows);
            }
            Ok(Err(flaw)) => flaw,
            Err(_) => return Lookup::Absent,
        };
        let _ = fs::remove_file(&path);
        Lookup::Damaged(flaw)
    }

    /// Keeps `rows [n_embd, n_image_tokens]`; what was not used for longest makes room. An embedding larger than the
    /// whole cache is not kept.
    ///
    /// # Errors
    /// What the system says; the cache is as it was, but for what made room.
    pub fn store(&self, key: &ImageKey, shape: Shape, rows: &[f32]) -> io::Result<()> {
        let bytes = entry::encode(key, shape, rows);
        if bytes.len() as u64 > self.max_bytes {
            return Ok(());
        }
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.dir)?;
        if !self.is_ours()? {
            let why = "others may write to this directory, so nothing in it can be believed";
            return Err(io::Error::new(ErrorKind::PermissionDenied, why));
        }
        let mut part = PartFile::create(&self.path(key))?;
        part.write_all(&bytes)?;
        part.publish()?;
        self.remove_oldest(self.max_bytes, None)?;
        Ok(())
    }

    /// All entries, the one that was used last first.
    ///
    /// # Errors
    /// What the system says; a directory that is not there has none.
    pub fn entries(&self) -> io::Result<Vec<EntryFile>> {
        Ok(self.scan()?.0)
    }

    /// Removes entries that were not used for `unused`, if given, and then the oldest ones until the rest has at most
    /// `max_bytes`.
    ///
    /// # Errors
    /// The first thing that the system refused, after everything else was done.
    pub fn remove_oldest(&self, max_bytes: u64, unused: Option<Duration>) -> io::Result<Removed> {
        let mut kept = Removed::default();
        self.remove_unless(|entry| {
            kept.add(entry);
            let is_old = unused.is_some_and(|than| entry.is_older(than));
            !is_old && kept.n_bytes <= max_bytes && kept.n_entries <= MAX_ENTRIES
        })
    }

    /// Removes all entries, and nothing else.
    ///
    /// # Errors
    /// As [`remove_oldest`](Self::remove_oldest).
    pub fn clear(&self) -> io::Result<Removed> {
        self.remove_unless(|_| false)
    }

    /// Removes entries, the one that was used last first, and what was left of some that were begun.
    fn remove_unless(&self, mut is_kept: impl FnMut(&EntryFile) -> bool) -> io::Result<Removed> {
        let (entries, parts) = self.scan()?;
        for part in parts.iter().filter(|part| part.is_older(STALE_PART)) {
            let _ = fs::remove_file(&part.path);
        }
        let (mut removed, mut refused) = (Removed::default(), None);
        for entry in entries.iter().filter(|entry| !is_kept(entry)) {
            match fs::remove_file(&entry.path) {
                Ok(()) => removed.add(entry),
                // Somebody else was faster.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        refused.map_or(Ok(removed), Err)
    }

    fn path(&self, key: &ImageKey) -> PathBuf {
        self.dir.join(format!("{key}{ENTRY_SUFFIX}"))
    }

    /// Opens an entry without following a link or waiting for a pipe. Yields its length, too.
    fn open(&self, path: &Path) -> Option<(File, u64)> {
        // Asked first, since opening some devices has effects.
        if !fs::symlink_metadata(path).ok()?.is_file() || !self.is_ours().ok()? {
            return None;
        }
        let mut options = OpenOptions::new();
        options.read(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let file = options.open(path).ok()?;
        let metadata = file.metadata().ok().filter(Metadata::is_file)?;
        Some((file, metadata.len()))
    }

    /// Whether only its owner, or a group that he chose, may put something into the directory.
    fn is_ours(&self) -> io::Result<bool> {
        let metadata = fs::metadata(&self.dir)?;
        #[cfg(unix)]
        return Ok(std::os::unix::fs::MetadataExt::mode(&metadata) & 0o002 == 0);
        #[cfg(not(unix))]
        return Ok(metadata.is_dir());
    }

    /// Entries, the one that was used last first, and parts of entries.
    fn scan(&self) -> io::Result<(Vec<EntryFile>, Vec<EntryFile>)> {
        let directory = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Default::default()),
            directory => directory?,
        };
        let (mut entries, mut parts) = (Vec::new(), Vec::new());
        for found in directory {
            let found = found?;
            let name = found.file_name();
            let Some(name) = name.to_str() else { continue };
            let list = match part_file::target_name(name) {
                Some(target) if is_entry_name(target) => &mut parts,
                None if is_entry_name(name) => &mut entries,
                _ => continue,
            };
            // Does not follow links. What has gone meanwhile is not there.
            let Some(metadata) = found.metadata().ok().filter(Metadata::is_file) else { continue };
            let last_used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            list.push(EntryFile { path: found.path(), n_bytes: metadata.len(), last_used });
        }
        entries.sort_unstable_by(|a, b| b.last_used.cmp(&a.last_used).then_with(|| a.path.cmp(&b.path)));
        Ok((entries, parts))
    }
}

/// The rows in `file`, or what is wrong with it. Reads nothing where the length is wrong, and no more than it.
fn read(file: &mut File, n_bytes: u64, key: &ImageKey, shape: Shape) -> io::Result<Result<Vec<f32>, Flaw>> {
    if n_bytes != shape.n_entry_bytes() as u64 {
        return Ok(Err(Flaw::Size));
    }
    let mut bytes = vec![0; shape.n_entry_bytes()];
    match file.read_exact(&mut bytes) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(Err(Flaw::Size)),
        done => done.map(|()| entry::decode(&bytes, key, shape)),
    }
}

/// 64 lower-case hex digits and the suffix.
fn is_entry_name(name: &str) -> bool {
    let is_digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    name.strip_suffix(ENTRY_SUFFIX)
        .is_some_and(|key| key.len() == 2 * ImageKey::N_BYTES && key.chars().all(is_digit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::Pixels;

    const SHAPE: Shape = Shape { n_embd: 3, n_tokens: 2 };
    const N_BYTES: u64 = 8 + 4 + 32 + 8 + 24 + 32;

    fn key(byte: u8) -> ImageKey {
        ImageKey::new(&Pixels { size_px: 1, rgb: vec![byte; 3].into(), planes: vec![] }, &[0; 32])
    }

    fn rows(byte: u8) -> Vec<f32> {
        vec![f32::from(byte) / 7.0; 6]
    }

    fn store(cache: &DiskCache, byte: u8) {
        cache.store(&key(byte), SHAPE, &rows(byte)).unwrap();
    }

    /// As if `key(byte)` had been used last so long ago.
    fn age(cache: &DiskCache, byte: u8, seconds: u64) {
        let file = File::options().write(true).open(cache.path(&key(byte))).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
    }

    fn there(cache: &DiskCache) -> Vec<u8> {
        (0..10).filter(|&byte| cache.path(&key(byte)).exists()).collect()
    }

    #[test]
    fn what_was_stored_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let cache = DiskCache::new(dir.path().join("a/b"), 1 << 20);
        assert_eq!(cache.load(&key(1), SHAPE), Lookup::Absent);
        assert_eq!((cache.entries().unwrap(), cache.clear().unwrap()), (vec![], Removed::default()));
        store(&cache, 1);
        store(&cache, 1);
        assert_eq!(cache.load(&key(1), SHAPE), Lookup::Found(rows(1)));
        assert_eq!(cache.load(&key(2), SHAPE), Lookup::Absent);
        let entries = cache.entries().unwrap();
        assert_eq!((entries.len(), entries[0].n_bytes), (1, N_BYTES));
        assert_eq!(fs::read_dir(cache.dir()).unwrap().count(), 1, "and nothing beside it");
        #[cfg(unix)]
        for (path, mode) in
            [(cache.dir(), 0o700), (&dir.path().join("a"), 0o700), (&cache.path(&key(1)), 0o600)]
        {
            let metadata = fs::metadata(path).unwrap();
            assert_eq!(std::os::unix::fs::MetadataExt::mode(&metadata) & 0o777, mode, "{path:?}");
        }
        assert_eq!(cache.clear().unwrap(), Removed { n_entries: 1, n_bytes: N_BYTES });
        assert_eq!(cache.load(&key(1), SHAPE), Lookup::Absent);
    }

    #[test]
    fn what_was_not_used_for_longest_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let cache = DiskCache::new(dir.path(), 3 * N_BYTES);
        for byte in 1..=3 {
            store(&cache, byte);
            age(&cache, byte, 1000 - u64::from(byte));
        }
        // Reading is a use.
        cache.load(&key(1), SHAPE);
        store(&cache, 4);
        assert_eq!(there(&cache), [1, 3, 4]);
        DiskCache::new(dir.path(), N_BYTES - 1).store(&key(5), SHAPE, &rows(5)).unwrap();
        assert_eq!(there(&cache), [1, 3, 4], "too large to keep");

        age(&cache, 1, 100);
        let minute = Some(Duration::from_secs(60));
        assert_eq!(cache.remove_oldest(u64::MAX, minute).unwrap().n_entries, 2);
        assert_eq!(there(&cache), [4]);
        store(&cache, 5);
        age(&cache, 4, 10);
        assert_eq!(cache.remove_oldest(2 * N_BYTES - 1, minute).unwrap().n_entries, 1);
        assert_eq!(there(&cache), [5]);
    }

    #[test]
    fn damaged_entries_are_removed_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let cache = DiskCache::new(dir.path(), 1 << 20);
        store(&cache, 1);
        let good = fs::read(cache.path(&key(1))).unwrap();
        let mut flipped = good.clone();
        flipped[60] ^= 1;
        let cases: [(&str, Vec<u8>, Flaw); 5] = [
            ("empty", vec![], Flaw::Size),
            ("cut", good[..good.len() - 1].to_vec(), Flaw::Size),
            ("longer", [good.as_slice(), &[0]].concat(), Flaw::Size),
            ("flipped", flipped, Flaw::Checksum),
            ("of another picture", entry::encode(&key(2), SHAPE, &rows(2)), Flaw::Header),
        ];
        for (name, bytes, flaw) in cases {
            fs::write(cache.path(&key(1)), bytes).unwrap();
            assert_eq!(cache.load(&key(1), SHAPE), Lookup::Damaged(flaw), "{name}");
            assert_eq!(cache.load(&key(1), SHAPE), Lookup::Absent, "{name}: it is gone");
            store(&cache, 1);
            assert_eq!(cache.load(&key(1), SHAPE), Lookup::Found(rows(1)), "{name}: it is whole again");
        }
        // As long as a disk, and read not at all.
        File::create(cache.path(&key(1))).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(cache.load(&key(1), SHAPE), Lookup::Damaged(Flaw::Size));
    }

    #[test]
    fn only_entries_are_touched() {
        let dir = tempfile::tempdir().unwrap();
        let cache = DiskCache::new(dir.path().join("images"), 1 << 20);
        store(&cache, 1);
        let entry_name = |byte| format!("{}{ENTRY_SUFFIX}", key(byte));
        let others = [
            "notes.txt".to_string(),
            ENTRY_SUFFIX.to_string(),
            entry_name(2).to_uppercase(),
            entry_name(2).replacen('.', "0.", 1),
            format!("{}.png", key(2)),
            format!(".{}.7.0.part", "notes.txt"),
            // Somebody is at work on it.
            format!(".{}.7.0.part", entry_name(2)),
        ];
        for name in &others {
            fs::write(cache.dir().join(name), "precious").unwrap();
        }
        fs::create_dir(cache.path(&key(3))).unwrap();
        fs::write(cache.path(&key(3)).join("inside"), "precious").unwrap();
        let stale = cache.dir().join(format!(".{}.7.1.part", entry_name(2)));
        fs::write(&stale, "").unwrap();
        File::options().write(true).open(&stale).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(cache.entries().unwrap().len(), 1);

        assert_eq!(cache.clear().unwrap().n_entries, 1);
        assert!(!stale.exists());
        for name in &others {
            assert_eq!(fs::read(cache.dir().join(name)).unwrap(), b"precious", "{name}");
        }
        assert_eq!(cache.load(&key(3), SHAPE), Lookup::Absent);
        assert!(cache.store(&key(3), SHAPE, &rows(3)).is_err(), "a directory stands in its place");
        assert!(cache.path(&key(3)).join("inside").exists());
        assert_eq!(fs::read_dir(cache.dir()).unwrap().count(), others.len() + 1, "no part stays behind");
    }

    #[cfg(unix)]
    #[test]
    fn links_and_pipes_are_neither_followed_nor_waited_for() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        let cache = DiskCache::new(dir.path().join("images"), 1 << 20);
        store(&cache, 1);
        // An entry that would be right if it were one.
        fs::rename(cache.path(&key(1)), &outside).unwrap();
        symlink(&outside, cache.path(&key(1))).unwrap();
        let made = std::process::Command::new("mkfifo").arg(cache.path(&key(2))).status().unwrap();
        assert!(made.success());
        for byte in [1, 2] {
            assert_eq!(cache.load(&key(byte), SHAPE), Lookup::Absent);
        }
        assert_eq!((cache.entries().unwrap().len(), cache.clear().unwrap().n_entries), (0, 0));
        let before = fs::read(&outside).unwrap();
        for byte in [1, 2] {
            cache.store(&key(byte), SHAPE, &rows(9)).unwrap();
            assert_eq!(cache.load(&key(byte), SHAPE), Lookup::Found(rows(9)), "the link itself was replaced");
        }
        assert_eq!(fs::read(&outside).unwrap(), before);

        fs::set_permissions(cache.dir(), PermissionsExt::from_mode(0o777)).unwrap();
        assert_eq!(cache.load(&key(1), SHAPE), Lookup::Absent, "anybody may have put it there");
        let refused = cache.store(&key(1), SHAPE, &rows(1)).unwrap_err().to_string();
        assert_eq!(refused, "others may write to this directory, so nothing in it can be believed");
    }

    #[test]
    fn many_at_once() {
        let dir = tempfile::tempdir().unwrap();
        // Room for 4 of 8, so that they remove each other's entries all the time.
        let cache = DiskCache::new(dir.path(), 4 * N_BYTES);
        std::thread::scope(|scope| {
            for thread in 0..4u8 {
                let cache = &cache;
                scope.spawn(move || {
                    for n in 0..100 {
                        let byte = (n * 3 + thread) % 8;
                        match cache.load(&key(byte), SHAPE) {
                            Lookup::Found(found) => assert_eq!(found, rows(byte)),
                            Lookup::Absent => store(cache, byte),
                            Lookup::Damaged(flaw) => panic!("{flaw:?}"),
                        }
                    }
                });
            }
        });
        assert!(cache.entries().unwrap().len() <= 4);
    }
}
