//! What a run does where its caller does not say.

use crate::{Metadata, Result};

/// Defaults of a generation, as the model's authors use it.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationConfig {
    /// 0 is greedy.
    pub temperature: f32,
    pub max_tokens: u32,
}

impl GenerationConfig {
    /// # Errors
    /// Where a key is missing, of another type or out of its range.
    pub(super) fn read(metadata: &Metadata) -> Result<Self> {
        Ok(Self {
            temperature: metadata.f32_in("owlet.generation.temperature", 0.0..=100.0)?,
            max_tokens: metadata.u32_in("owlet.generation.max_tokens", 1..=1 << 20)?,
        })
    }

    pub(super) fn write(&self, metadata: &mut Metadata) {
        metadata.put("owlet.generation.temperature", self.temperature);
        metadata.put("owlet.generation.max_tokens", self.max_tokens);
    }
}
