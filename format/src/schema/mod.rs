//! What an owlet file says about its model: one struct a part.

mod generation;
mod image;
mod projector;
mod prompt;
mod provenance;
mod text;
mod tokenizer;
mod vision;
mod words;

pub use generation::GenerationConfig;
pub use image::{Fit, ImageConfig};
pub use projector::{ProjectorConfig, ProjectorKind, Shuffle};
pub use prompt::{PromptConfig, Template};
pub use provenance::Provenance;
pub use text::TextConfig;
pub use tokenizer::{TokenKind, TokenizerConfig};
pub use vision::{Activation, NormKind, QkNorm, VisionConfig};

/// A whole model, or the half of one.
///
/// `vision` and `image` come together, and so do `text`, `tokenizer`, `prompt` and `generation`;
/// a projector needs the tower, and a model with both halves needs the projector.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    pub name: String,
    /// Which family of checkpoints this one belongs to: `internvl-chat-v1-1`.
    pub family: String,
    pub vision: Option<VisionConfig>,
    pub projector: Option<ProjectorConfig>,
    pub image: Option<ImageConfig>,
    pub text: Option<TextConfig>,
    pub tokenizer: Option<TokenizerConfig>,
    pub prompt: Option<PromptConfig>,
    pub generation: Option<GenerationConfig>,
    pub provenance: Provenance,
}
