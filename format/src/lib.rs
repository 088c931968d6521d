//! What is in an owlet model file.

mod container;
mod schema;

pub use container::Strings;
pub use schema::{
    Activation, Fit, GenerationConfig, ImageConfig, ModelConfig, NormKind, ProjectorConfig, ProjectorKind,
    PromptConfig, Provenance, QkNorm, Shuffle, Template, TextConfig, TokenKind, TokenizerConfig,
    VisionConfig,
};
