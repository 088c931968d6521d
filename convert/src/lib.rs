//! Packs a checkpoint into one GGUF.

pub mod checkpoint;
mod error;
pub mod hf;
pub mod position_grid;

pub use error::{Error, Result};
