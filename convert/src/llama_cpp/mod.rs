//! llama.cpp's form of these models: the text half as a GGUF of the architecture `llama`, and beside it the vision half
//! with the projector as one of `clip`, the mmproj. In comes such a pair and one model file goes out, or the other way.
//!
//! What a pair says is taken from it, what it leaves out from the family, and each fact carries where it is from. Blocks
//! are copied. docs/interchange.md says what is read and what llama.cpp computes differently.

mod chat_template;
mod export;
mod export_keys;
mod facts;
mod graph;
mod located;
mod mmproj;
mod names;
mod pair;
mod pair_text;
mod stated;
mod text;

pub use export::{Export, Exported};
pub use pair::{Pair, PairOptions};
