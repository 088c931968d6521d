//! Packs a checkpoint into one GGUF.

pub mod checkpoint;
mod error;
pub mod hf;

pub use error::{Error, Result};
