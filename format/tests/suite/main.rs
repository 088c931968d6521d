//! The container and the schema against files that are right, wrong and hostile.
#![allow(clippy::unwrap_used)]

mod alone;
mod hostile;
mod importance;
mod memory;
mod model;
#[path = "../../../tests/fuzz/src/mutate.rs"]
mod mutate;
mod mutations;
mod raw;
mod schema;
mod self_test;
mod write;

fn open(bytes: Vec<u8>) -> owlet_format::Result<owlet_format::Gguf> {
    owlet_format::Gguf::from_bytes(bytes.into(), "tiny.gguf")
}
