//! A model file, as far as a program goes with it before it computes.

use std::process::ExitCode;

use owlet_format::{Gguf, ModelConfig};
use owlet_fuzz::Target;

#[allow(clippy::unwrap_used)]
#[path = "../../../../format/tests/suite/model.rs"]
mod model;

fn main() -> ExitCode {
    let good = model::tiny();
    let n_header = match Gguf::from_bytes(good.clone().into(), "good") {
        Ok(file) => file.tensors().first().map_or(good.len(), |first| first.offset as usize),
        Err(_) => good.len(),
    };
    Target { name: "gguf", corpus: vec![(good, n_header)], run }.main()
}

fn run(bytes: &[u8]) {
    let Ok(file) = Gguf::from_bytes(bytes.to_vec().into(), "fuzz") else {
        return;
    };
    let checksums = file.checksums().unwrap_or_default();
    for (tensor, checksum) in file.tensors().iter().zip(&checksums) {
        let _ = file.verify(tensor, checksum);
    }
    let _ = ModelConfig::read(&file).and_then(|config| config.check(&file));
}
