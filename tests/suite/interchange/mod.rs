//! llama.cpp's pairs, in and out: files of other programs as they have been written since 2023, ours on the way there and
//! back, and all that can be wrong with one.

mod gguf;
mod inward;
mod outward;
mod pairs;
mod refusals;

use owlet_format::{Gguf, ModelConfig};

/// Without what says where a file is from.
fn facts(file: &Gguf) -> ModelConfig {
    ModelConfig { provenance: Default::default(), ..ModelConfig::read(file).unwrap() }
}

fn assert_same_tensors(found: &Gguf, expected: &Gguf, what: &str) {
    assert_eq!(found.tensors().len(), expected.tensors().len(), "{what}");
    for (a, b) in found.tensors().iter().zip(expected.tensors()) {
        assert_eq!((&a.name, a.dtype, &a.shape), (&b.name, b.dtype, &b.shape), "{what}");
        assert!(found.data(a) == expected.data(b), "{what}: {}", a.name);
    }
}
