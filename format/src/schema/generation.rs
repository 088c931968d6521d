//! What a run does where its caller does not say.

/// Defaults of a generation, as the model's authors use it.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationConfig {
    /// 0 is greedy.
    pub temperature: f32,
    pub max_tokens: u32,
}
