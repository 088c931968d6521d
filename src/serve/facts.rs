//! What a server says about its model, and still knows when the model itself was given back.

use crate::engine::Engine;
use owlet_format::{GenerationConfig, ModelConfig, TextConfig};

pub struct Facts {
    /// Without the vocabulary.
    pub config: ModelConfig,
    pub text: TextConfig,
    pub generation: GenerationConfig,
    /// Of the file, or of all of several.
    pub n_file_bytes: u64,
    pub digest: [u8; 32],
    pub n_ctx: u32,
    pub n_slots: u32,
}

impl Facts {
    pub fn of(engine: &Engine) -> Facts {
        let (loaded, options) = (engine.loaded(), engine.options());
        Facts {
            config: ModelConfig { tokenizer: None, ..loaded.config.clone() },
            text: loaded.text.clone(),
            generation: loaded.generation.clone(),
            n_file_bytes: loaded.n_file_bytes,
            digest: loaded.digest,
            n_ctx: options.n_ctx,
            n_slots: options.n_slots,
        }
    }

    /// Positions that a picture takes, where the model takes pictures.
    pub fn n_image_tokens(&self) -> Option<usize> {
        self.config.image.as_ref().map(|image| image.n_tokens as usize)
    }
}
