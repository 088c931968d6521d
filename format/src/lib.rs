//! What is in an owlet model file, and in an importance matrix beside it.
//!
//! `container` reads and writes GGUF and knows no model; `schema` says which keys and tensors a model has, and is
//! the one place that reads or writes a hyper-parameter. Both take a file for hostile: what comes out of
//! [`Gguf::open`], [`ModelConfig::read`] and [`ModelConfig::check`] can be computed with, without further
//! checks of counts, shapes, types or ids.

mod container;
mod error;
mod importance;
mod lost_maps;
mod schema;

pub use container::{
    Array, CHECKSUM_BYTES, CHECKSUMS_KEY, Encoder, Gguf, Layout, Limits, MAX_FILES, Metadata, Pages, Shape,
    Strings, TensorInfo, TensorPlan, Value, ValueType, Writer, Written, hex, mark_split, split_path,
};
pub use error::{Error, Result};
pub use importance::Importance;
pub use lost_maps::report_lost_maps;
pub use schema::{
    Activation, Fit, GenerationConfig, ImageConfig, ModelConfig, NormKind, Part, ProjectorConfig,
    ProjectorKind, PromptConfig, Provenance, QkNorm, Role, SELF_TEST_KEY, SelfTest, SelfTestRoom, Shuffle,
    Template, TensorSpec, TextConfig, TokenKind, TokenizerConfig, VisionConfig,
};
