//! Packs a checkpoint into one GGUF.

pub mod checkpoint;
mod error;

pub use error::{Error, Result};
