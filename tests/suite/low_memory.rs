//! `--low-memory`: the vision half's weights leave memory when a picture is encoded, and the next one comes out the same.

use std::path::Path;

use owlet::engine::{EmbeddingSource, Engine, Outcome};
use owlet::prompt::Message;
use owlet_format::{Gguf, ModelConfig, Part};

use crate::engine::{engine_of, finish, pixels, request};
use crate::models::{Kind, path};
use crate::program::owlet;

/// The engine's answer about a picture, which it has to encode.
fn look(engine: &Engine, seed: u8) -> Outcome {
    let asked = request(vec![Message::user("What?", [0])], vec![pixels(112, seed)]);
    let (outcome, _, sources) = finish(&engine.submit(asked).unwrap());
    assert_eq!(sources, [EmbeddingSource::Computed]);
    outcome
}

/// Bytes of the file at `path` that are in this process's memory.
#[cfg(target_os = "linux")]
fn resident_bytes(path: &Path) -> u64 {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut is_of_file = false;
    let mut n_bytes = 0;
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or("");
        if !first.ends_with(':') {
            is_of_file = line.ends_with(path.to_str().unwrap());
        } else if is_of_file && first == "Rss:" {
            n_bytes += words.next().unwrap().parse::<u64>().unwrap() * 1024;
        }
    }
    n_bytes
}

#[cfg(target_os = "linux")]
#[test]
fn the_tower_leaves_memory_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let of_vision: u64 = {
        let file = Gguf::open(&path(Kind::Random)).unwrap();
        let specs = ModelConfig::read(&file).unwrap().tensors();
        let vision = specs.iter().filter(|spec| spec.part != Part::Text);
        vision.map(|spec| file.tensor(&spec.name).unwrap().n_bytes).sum()
    };
    let [kept, given_back] = [false, true].map(|low_memory| {
        let path = dir.path().join(format!("{low_memory}.gguf"));
        std::fs::copy(self::path(Kind::Random), &path).unwrap();
        let engine = engine_of(&path, |options| options.low_memory = low_memory);
        assert!(engine.loaded().vision_pages.n_bytes() >= of_vision);
        let answers = [3, 5, 7].map(|seed| look(&engine, seed).ids);
        (answers, resident_bytes(&path))
    });
    assert_eq!(given_back.0, kept.0, "pages that come back hold what they held");
    // But for what pages share with the text half, and what the system reads along with it.
    assert!(
        given_back.1 + of_vision / 2 < kept.1,
        "{} of {}, {of_vision} of them vision",
        given_back.1,
        kept.1
    );
}

#[test]
fn the_receipt_says_so() {
    let model = path(Kind::Story);
    let run = |flags: &[&str]| owlet(&[&["run", "-m", model.to_str().unwrap()], flags, &["Q?"]].concat());
    let (with, without) = (run(&["--low-memory"]), run(&[]));
    assert_eq!(with.out, without.out);
    assert!(with.err.trim_end().ends_with(" | low memory"), "{}", with.err);
    assert!(!without.err.contains("low memory"), "{}", without.err);
}
