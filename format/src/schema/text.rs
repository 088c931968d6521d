//! The text model: a LLaMA decoder, its facts under llama.cpp's key names.

/// A LLaMA decoder: RMS norms, rotary positions, grouped heads, SwiGLU, no biases, an output head of its
/// own. Tensors: `token_embd`, `blk.*`, `output_norm`, `output`.
#[derive(Clone, Debug, PartialEq)]
pub struct TextConfig {
    pub n_vocab: u32,
    /// Positions that the model was trained for.
    pub n_ctx_train: u32,
    pub n_embd: u32,
    pub n_layer: u32,
    pub n_ff: u32,
    pub n_head: u32,
    /// Key and value heads; divides `n_head`.
    pub n_head_kv: u32,
    pub norm_eps: f32,
    /// Leading elements of a head that are rotated, pair by pair; even.
    pub rope_dim: u32,
    pub rope_base: f32,
}

impl TextConfig {
    pub fn head_dim(&self) -> u32 {
        self.n_embd / self.n_head
    }

    /// Width of a key or value row over all its heads.
    pub fn n_embd_kv(&self) -> u32 {
        self.head_dim() * self.n_head_kv
    }
}
