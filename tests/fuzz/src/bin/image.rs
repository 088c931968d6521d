//! Pictures, from bytes to pixels.

use std::path::PathBuf;
use std::process::ExitCode;

use owlet::prompt::{Limits, decode};
use owlet_fuzz::Target;

fn main() -> ExitCode {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../golden/pictures/files");
    let mut corpus = Vec::new();
    let files = std::fs::read_dir(&dir).into_iter().flatten().flatten();
    let mut paths: Vec<_> = files.map(|entry| entry.path()).collect();
    paths.sort();
    // The flat ones are large pictures in few bytes: slow, and nothing new.
    for path in paths
        .iter()
        .filter(|path| !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"flat")))
    {
        if let Ok(good) = std::fs::read(path) {
            let n_bytes = good.len();
            corpus.push((good, n_bytes));
        }
    }
    if corpus.is_empty() {
        eprintln!("{}: no pictures", dir.display());
        return ExitCode::FAILURE;
    }
    Target { name: "image", corpus, run }.main()
}

fn run(bytes: &[u8]) {
    // A million pixels are decoded well within a second, so that only a hang takes longer.
    let limits = Limits { max_pixels: 1 << 20, ..Limits::default() };
    if let Ok(picture) = decode(bytes, "fuzz", &limits) {
        assert_eq!(picture.rgb.len(), picture.width * picture.height * 3);
        assert!((1..=8).contains(&picture.orientation));
    }
}
