//! What the tower made of pictures, kept by what they are: in memory for this process, on disk for the next ones.
//!
//! In: keys and embeddings. Out: the same embeddings bit for bit, or nothing: an entry that is damaged is removed and
//! computed again, and a disk that refuses costs time, never an answer. Must not know how embeddings are made.

mod disk;
mod entry;
mod key;
mod memory;
mod place;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use disk::{DiskCache, EntryFile, Lookup, Removed};
pub use entry::{Flaw, Shape};
pub use key::ImageKey;
pub use place::{CACHE_VARIABLE, default_dir};

pub(super) use memory::MemoryCache;

/// Behind the key in the name of an entry's file.
const ENTRY_SUFFIX: &str = ".owlet-image";

/// `[n_embd, n_image_tokens]`
pub type Embedding = Arc<Vec<f32>>;

/// What may be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheOptions {
    /// Bytes of memory; an embedding of the 19B model takes 5 MiB.
    pub max_memory_bytes: u64,
    /// Where the disk's entries are, and how many bytes of them; `None` keeps nothing on disk.
    pub disk: Option<(PathBuf, u64)>,
}

impl Default for CacheOptions {
    /// Memory only.
    fn default() -> CacheOptions {
        CacheOptions { max_memory_bytes: 256 << 20, disk: None }
    }
}

/// Where an embedding was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    Memory,
    Disk,
}

/// Memory over disk.
pub struct ImageCache {
    memory: MemoryCache,
    disk: Option<DiskCache>,
    shape: Shape,
    counts: Arc<Counts>,
    has_warned: bool,
}

/// What became of pictures since an engine started.
#[derive(Debug, Default)]
pub struct Counts {
    from_memory: AtomicU64,
    from_disk: AtomicU64,
    computed: AtomicU64,
    damaged: AtomicU64,
}

/// [`Counts`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    pub from_memory: u64,
    pub from_disk: u64,
    pub computed: u64,
    /// Entries on disk that were none, and were computed again.
    pub damaged: u64,
}

impl std::ops::Add for CacheCounts {
    type Output = CacheCounts;

    fn add(self, other: CacheCounts) -> CacheCounts {
        CacheCounts {
            from_memory: self.from_memory + other.from_memory,
            from_disk: self.from_disk + other.from_disk,
            computed: self.computed + other.computed,
            damaged: self.damaged + other.damaged,
        }
    }
}

impl ImageCache {
    /// A cache for embeddings of `shape`.
    pub fn new(options: CacheOptions, shape: Shape, counts: Arc<Counts>) -> ImageCache {
        ImageCache {
            memory: MemoryCache::new(options.max_memory_bytes),
            disk: options.disk.map(|(dir, max_bytes)| DiskCache::new(dir, max_bytes)),
            shape,
            counts,
            has_warned: false,
        }
    }

    /// The embedding of `key`, and where it was.
    pub fn find(&mut self, key: &ImageKey) -> Option<(Embedding, Layer)> {
        if let Some(embedding) = self.memory.find(key) {
            add(&self.counts.from_memory);
            return Some((embedding, Layer::Memory));
        }
        match self.disk.as_ref()?.load(key, self.shape) {
            Lookup::Found(rows) => {
                add(&self.counts.from_disk);
                let embedding = Arc::new(rows);
                self.memory.keep(*key, Arc::clone(&embedding));
                Some((embedding, Layer::Disk))
            }
            Lookup::Damaged(_) => {
                add(&self.counts.damaged);
                None
            }
            Lookup::Absent => None,
        }
    }

    /// Keeps what was computed for `key`, if it is numbers. Yields a warning where the disk refuses it, the first time
    /// only.
    pub fn keep(&mut self, key: ImageKey, embedding: Embedding) -> Option<String> {
        add(&self.counts.computed);
        if !embedding.iter().all(|value| value.is_finite()) {
            return None;
        }
        let stored = match &self.disk {
            Some(disk) if embedding.len() == self.shape.n_values() => {
                disk.store(&key, self.shape, &embedding)
            }
            _ => Ok(()),
        };
        self.memory.keep(key, embedding);
        let (error, disk) = (stored.err()?, self.disk.as_ref()?);
        if std::mem::replace(&mut self.has_warned, true) {
            return None;
        }
        Some(format!("image cache {}: {error}; pictures are not kept there", disk.dir().display()))
    }
}

impl Counts {
    pub fn now(&self) -> CacheCounts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheCounts {
            from_memory: count(&self.from_memory),
            from_disk: count(&self.from_disk),
            computed: count(&self.computed),
            damaged: count(&self.damaged),
        }
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::Pixels;

    fn key(byte: u8) -> ImageKey {
        ImageKey::new(&Pixels { size_px: 1, rgb: vec![byte; 3].into(), planes: vec![] }, &[0; 32])
    }

    const SHAPE: Shape = Shape { n_embd: 3, n_tokens: 2 };

    fn cache(disk: Option<PathBuf>) -> ImageCache {
        let options = CacheOptions { max_memory_bytes: 24, disk: disk.map(|dir| (dir, 1 << 20)) };
        ImageCache::new(options, SHAPE, Arc::default())
    }

    #[test]
    fn memory_over_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_path_buf();
        let embedding = |byte: u8| Arc::new(vec![f32::from(byte); 6]);
        let mut first = cache(Some(path.clone()));
        assert_eq!(first.find(&key(1)), None);
        for byte in [1, 2] {
            assert_eq!(first.keep(key(byte), embedding(byte)), None);
        }
        // Memory has room for one.
        assert_eq!(first.find(&key(2)), Some((embedding(2), Layer::Memory)));
        assert_eq!(first.find(&key(1)), Some((embedding(1), Layer::Disk)));
        assert_eq!(first.find(&key(1)), Some((embedding(1), Layer::Memory)));
        let counts = CacheCounts { from_memory: 2, from_disk: 1, computed: 2, damaged: 0 };
        assert_eq!(first.counts.now(), counts);

        let mut second = cache(Some(path.clone()));
        std::fs::write(path.join(format!("{}{ENTRY_SUFFIX}", key(1))), "rubbish").unwrap();
        assert_eq!(
            (second.find(&key(1)), second.find(&key(2)).map(|found| found.1)),
            (None, Some(Layer::Disk))
        );
        assert_eq!(second.counts.now(), CacheCounts { from_disk: 1, damaged: 1, ..CacheCounts::default() });
    }

    #[test]
    fn a_disk_that_refuses_is_said_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let mut cache = cache(Some(file.join("images")));
        let warning = cache.keep(key(1), Arc::new(vec![1.0; 6])).unwrap();
        let start = format!("image cache {}: ", file.join("images").display());
        assert!(
            warning.starts_with(&start) && warning.ends_with("; pictures are not kept there"),
            "{warning}"
        );
        assert_eq!(cache.keep(key(2), Arc::new(vec![2.0; 6])), None);
        assert_eq!(cache.find(&key(2)), Some((Arc::new(vec![2.0; 6]), Layer::Memory)));
    }

    #[test]
    fn what_is_no_number_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut cache = cache(Some(dir.path().to_path_buf()));
        assert_eq!(cache.keep(key(1), Arc::new(vec![f32::NAN; 6])), None);
        assert_eq!((cache.find(&key(1)), std::fs::read_dir(dir.path()).unwrap().count()), (None, 0));
    }
}
