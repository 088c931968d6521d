//! Entries of the image cache, as they lie in a directory: found whole, or removed.

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::ExitCode;

use owlet::engine::image_cache::{DiskCache, ImageKey, Lookup, Shape};
use owlet::prompt::Pixels;
use owlet_fuzz::Target;
use sha2::{Digest, Sha256};

const SHAPE: Shape = Shape { n_embd: 5, n_tokens: 3 };
const N_SUM_BYTES: usize = 32;

thread_local! {
    /// The directory, and the one entry in it.
    static PLACE: RefCell<Option<(tempfile::TempDir, PathBuf)>> = const { RefCell::new(None) };
}

fn key() -> ImageKey {
    ImageKey::new(&Pixels { size_px: 1, rgb: vec![1, 2, 3].into(), planes: vec![] }, &[7; 32])
}

fn main() -> ExitCode {
    let good = match good() {
        Ok(good) => good,
        Err(error) => {
            eprintln!("an entry to begin with: {error}");
            return ExitCode::FAILURE;
        }
    };
    let reach = good.len();
    Target { name: "image_cache", corpus: vec![(good, reach)], run }.main()
}

fn good() -> std::io::Result<Vec<u8>> {
    let dir = tempfile::tempdir()?;
    let rows: Vec<f32> = (0..SHAPE.n_values()).map(|n| n as f32).collect();
    DiskCache::new(dir.path(), u64::MAX).store(&key(), SHAPE, &rows)?;
    let entry = std::fs::read_dir(dir.path())?.next().ok_or(std::io::ErrorKind::NotFound)??.path();
    let bytes = std::fs::read(&entry)?;
    PLACE.set(Some((dir, entry)));
    Ok(bytes)
}

fn run(bytes: &[u8]) {
    load(bytes);
    // As if whoever damaged it had sealed it again.
    if let Some(n_content) = bytes.len().checked_sub(N_SUM_BYTES) {
        let content = &bytes[..n_content];
        load(&[content, &Sha256::digest(content)].concat());
    }
}

fn load(bytes: &[u8]) {
    PLACE.with_borrow(|place| {
        let Some((dir, entry)) = place else { return };
        if std::fs::write(entry, bytes).is_err() {
            return;
        }
        match DiskCache::new(dir.path(), u64::MAX).load(&key(), SHAPE) {
            Lookup::Found(rows) => {
                assert!(rows.len() == SHAPE.n_values() && rows.iter().all(|value| value.is_finite()));
                assert!(entry.exists());
            }
            Lookup::Damaged(_) => assert!(!entry.exists()),
            Lookup::Absent => panic!("an entry that nobody saw"),
        }
    });
}
