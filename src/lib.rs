//! owlet: answers questions about pictures on the computer you already have.
//!
//! THE MAP. A question: `cli` -> `engine` (-> `prompt`: picture and text become chunks; -> `model`: chunks become
//! logits) -> text. Over the network: `cli` -> `serve` -> `engine`. A conversion: `cli` -> the package owlet-convert. A bench: `cli` -> `measure`. Arrows only go down this list; `model` and
//! `prompt` don't know each other, a door holds no loop over tokens, and nothing below the doors prints. The law is
//! kept by tests/suite/arrows.rs and told in ARCHITECTURE.md.

pub mod error;
pub mod token;

pub mod fetch;
pub mod kernels;

pub mod model;
pub mod prompt;

pub mod engine;

pub mod measure;

pub mod serve;

pub mod cli;

pub use error::{Error, Result};
