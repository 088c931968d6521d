//! The text model: a LLaMA decoder, its facts under llama.cpp's key names.

use super::EPS;
use crate::{Metadata, Result};

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

pub(super) const N_VOCAB: &str = "llama.vocab_size";
const N_EMBD: &str = "llama.embedding_length";
const N_HEAD: &str = "llama.attention.head_count";
const N_HEAD_KV: &str = "llama.attention.head_count_kv";
const ROPE_DIM: &str = "llama.rope.dimension_count";

impl TextConfig {
    /// # Errors
    /// Where a key is missing, of another type or out of its range, or where widths and heads don't divide.
    pub(super) fn read(metadata: &Metadata) -> Result<Self> {
        let config = Self {
            n_vocab: metadata.u32_in(N_VOCAB, 1..=1 << 20)?,
            n_ctx_train: metadata.u32_in("llama.context_length", 1..=1 << 20)?,
            n_embd: metadata.u32_in(N_EMBD, 1..=65_536)?,
            n_layer: metadata.u32_in("llama.block_count", 1..=1024)?,
            n_ff: metadata.u32_in("llama.feed_forward_length", 1..=262_144)?,
            n_head: metadata.u32_in(N_HEAD, 1..=1024)?,
            n_head_kv: metadata.u32_in(N_HEAD_KV, 1..=1024)?,
            norm_eps: metadata.f32_in("llama.attention.layer_norm_rms_epsilon", EPS)?,
            rope_dim: metadata.u32_in(ROPE_DIM, 2..=65_536)?,
            rope_base: metadata.f32_in("llama.rope.freq_base", 1.0..=1e12)?,
        };
        let Self { n_embd, n_head, n_head_kv, rope_dim, .. } = config;
        let divides = |key, n: u32, of: &str, total: u32| match total.is_multiple_of(n) {
            true => Ok(()),
            false => Err(metadata.wrong(key, format!("expected a divisor of {of} {total}, found {n}"))),
        };
        divides(N_HEAD, n_head, "n_embd", n_embd)?;
        divides(N_HEAD_KV, n_head_kv, "n_head", n_head)?;
        if !rope_dim.is_multiple_of(2) || rope_dim > config.head_dim() {
            let problem =
                format!("expected an even number up to head_dim {}, found {rope_dim}", config.head_dim());
            return Err(metadata.wrong(ROPE_DIM, problem));
        }
        Ok(config)
    }

    pub(super) fn write(&self, metadata: &mut Metadata) {
        metadata.put(N_VOCAB, self.n_vocab);
        metadata.put("llama.context_length", self.n_ctx_train);
        metadata.put(N_EMBD, self.n_embd);
        metadata.put("llama.block_count", self.n_layer);
        metadata.put("llama.feed_forward_length", self.n_ff);
        metadata.put(N_HEAD, self.n_head);
        metadata.put(N_HEAD_KV, self.n_head_kv);
        metadata.put("llama.attention.layer_norm_rms_epsilon", self.norm_eps);
        metadata.put(ROPE_DIM, self.rope_dim);
        metadata.put("llama.rope.freq_base", self.rope_base);
    }

    pub fn head_dim(&self) -> u32 {
        self.n_embd / self.n_head
    }

    /// Width of a key or value row over all its heads.
    pub fn n_embd_kv(&self) -> u32 {
        self.head_dim() * self.n_head_kv
    }
}
