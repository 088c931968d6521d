//! One of two files of a model, the other being as it should.

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::ExitCode;

use owlet_format::{Gguf, Layout, Limits, ModelConfig};
use owlet_fuzz::Target;
use tempfile::TempDir;

#[allow(clippy::unwrap_used, dead_code)]
#[path = "../../../../format/tests/suite/model.rs"]
mod model;

/// The directory, and both files as they should be.
struct Place {
    dir: TempDir,
    files: [Vec<u8>; 2],
}

thread_local! {
    static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) };
}

fn main() -> ExitCode {
    match good() {
        Ok(corpus) => Target { name: "split", corpus, run }.main(),
        Err(problem) => {
            eprintln!("two files to begin with: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Bytes of each, and how many of them are its header.
type Files = Vec<(Vec<u8>, usize)>;

/// The tiny model in two files, each with the length of its header.
fn good() -> Result<Files, Box<dyn std::error::Error>> {
    let config = model::config();
    let (metadata, plan) = (model::metadata(&config), model::plan(&config));
    let n_bytes = Layout::new(&metadata, &plan)?.n_bytes;
    // the least that is two files
    let max_bytes = (1..64)
        .map(|n| n_bytes / 64 * n)
        .find(|max| Layout::split(&metadata, &plan, *max).is_ok_and(|layouts| layouts.len() == 2));
    let layouts = Layout::split(&metadata, &plan, max_bytes.ok_or("the model can't be halved")?)?;
    let mut corpus = Vec::new();
    for layout in layouts {
        let reach = layout.header.len();
        let mut bytes = layout.header;
        bytes.resize(layout.n_bytes as usize, 0);
        corpus.push((bytes, reach));
    }
    let files = [corpus[0].0.clone(), corpus[1].0.clone()];
    let place = Place { dir: tempfile::tempdir()?, files };
    let [first, second] = &place.files;
    if !opens(&place, first, second) {
        return Err("the model in two files is refused".into());
    }
    PLACE.set(Some(place));
    Ok(corpus)
}

fn run(bytes: &[u8]) {
    PLACE.with_borrow(|place| {
        if let Some(place) = place {
            opens(place, bytes, &place.files[1]);
            opens(place, &place.files[0], bytes);
        }
    });
}

/// Whether the two are a model, as far as a program goes with them before it computes.
fn opens(place: &Place, first: &[u8], second: &[u8]) -> bool {
    let name = |no| place.dir.path().join(format!("model-0000{no}-of-00002.gguf"));
    let paths: [PathBuf; 2] = [name(1), name(2)];
    if paths.iter().zip([first, second]).any(|(path, bytes)| std::fs::write(path, bytes).is_err()) {
        return false;
    }
    let by_name = Gguf::open(&paths[0]);
    let Ok(file) = by_name.or_else(|_| Gguf::open_files(&paths, Limits::default())) else { return false };
    for tensor in file.tensors() {
        assert_eq!(file.data(tensor).len() as u64, tensor.n_bytes);
        let placed = file.place(tensor);
        let is_in_file = placed.is_some_and(|(at, offset)| {
            let n_bytes = [first, second].get(at).map_or(0, |bytes| bytes.len() as u64);
            offset.saturating_add(tensor.n_bytes) <= n_bytes
        });
        assert!(is_in_file, "{}: {placed:?}", tensor.name);
    }
    let _ = file.checksums();
    ModelConfig::read(&file).and_then(|config| config.check(&file)).is_ok()
}
