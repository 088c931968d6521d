//! The tensors of a model, by the names the network knows. Comes in: ggml's handles over the mapped file, and
//! the configs. Goes out: one typed struct a part, a handle a field; nothing is copied. Knows no shapes:
//! `ModelConfig::check` has proven them before.

use std::fmt::Display;

use ggml::{Tensor, Weights};
use owlet_format::{NormKind, ProjectorConfig, ProjectorKind, QkNorm, TextConfig, VisionConfig};

use super::layers::Linear;
use super::operand::Norm;
use crate::{Error, Result};

/// The tower.
pub(super) struct VisionWeights {
    /// `[patch_px, patch_px, 3, n_embd]`
    pub(super) patch: Linear,
    /// `[n_embd]`
    pub(super) class: Option<Tensor>,
    /// `[n_embd, n_positions]`
    pub(super) positions: Tensor,
    pub(super) pre_norm: Option<Norm>,
    pub(super) blocks: Vec<VisionBlock>,
}

pub(super) struct VisionBlock {
    pub(super) norm1: Norm,
    /// `[n_embd, 3 * n_embd]`, rows q, k, v
    pub(super) qkv: Linear,
    /// Over all heads at once.
    pub(super) q_norm: Option<Norm>,
    pub(super) k_norm: Option<Norm>,
    /// `[n_embd, n_embd]`
    pub(super) out: Linear,
    /// `[n_embd]`
    pub(super) scale1: Option<Tensor>,
    pub(super) norm2: Norm,
    /// `[n_embd, n_ff]`
    pub(super) up: Linear,
    /// `[n_ff, n_embd]`
    pub(super) down: Linear,
    /// `[n_embd]`
    pub(super) scale2: Option<Tensor>,
}

pub(super) struct ProjectorWeights {
    pub(super) norm: Option<Norm>,
    /// `[n_embd_vision * ratio * ratio, n_embd]`
    pub(super) first: Linear,
    /// `[n_embd, n_embd]`
    pub(super) second: Linear,
}

/// The decoder.
pub(super) struct TextWeights {
    /// `[n_embd, n_vocab]`
    pub(super) token_embd: Tensor,
    pub(super) blocks: Vec<TextBlock>,
    pub(super) output_norm: Norm,
    /// `[n_embd, n_vocab]`
    pub(super) output: Linear,
}

pub(super) struct TextBlock {
    pub(super) attn_norm: Norm,
    /// `[n_embd, n_embd]`
    pub(super) q: Linear,
    /// `[n_embd, n_embd_kv]`
    pub(super) k: Linear,
    pub(super) v: Linear,
    /// `[n_embd, n_embd]`
    pub(super) out: Linear,
    pub(super) ffn_norm: Norm,
    /// `[n_embd, n_ff]`
    pub(super) gate: Linear,
    pub(super) up: Linear,
    /// `[n_ff, n_embd]`
    pub(super) down: Linear,
}

/// Looks handles up; a tensor that is not there is an error that names it.
pub(super) struct Lookup<'a> {
    pub(super) weights: &'a Weights,
    /// The file's name, for messages.
    pub(super) label: &'a str,
}

impl Lookup<'_> {
    pub(super) fn vision(&self, config: &VisionConfig) -> Result<VisionWeights> {
        let blocks = (0..config.n_layer).map(|il| self.vision_block(config, il)).collect::<Result<_>>()?;
        let pre_norm = config.pre_norm.then(|| self.norm("v.pre_ln", config.norm, config.norm_eps));
        Ok(VisionWeights {
            patch: self.linear("v.patch_embd", config.patch_bias)?,
            class: self.optional("v.class_embd", config.cls)?,
            positions: self.tensor("v.position_embd.weight")?,
            pre_norm: pre_norm.transpose()?,
            blocks,
        })
    }

    fn vision_block(&self, config: &VisionConfig, il: u32) -> Result<VisionBlock> {
        let name = |tensor: &str| format!("v.blk.{il}.{tensor}");
        let qk_norm = |tensor: &str| match config.qk_norm {
            QkNorm::None => Ok(None),
            QkNorm::Full => self.norm(name(tensor), NormKind::Rms, config.norm_eps).map(Some),
        };
        Ok(VisionBlock {
            norm1: self.norm(name("ln1"), config.norm, config.norm_eps)?,
            qkv: self.linear(name("attn_qkv"), config.qkv_bias)?,
            q_norm: qk_norm("attn_q_norm")?,
            k_norm: qk_norm("attn_k_norm")?,
            out: self.linear(name("attn_out"), true)?,
            scale1: self.optional(name("ls1.weight"), config.layer_scale)?,
            norm2: self.norm(name("ln2"), config.norm, config.norm_eps)?,
            up: self.linear(name("ffn_up"), true)?,
            down: self.linear(name("ffn_down"), true)?,
            scale2: self.optional(name("ls2.weight"), config.layer_scale)?,
        })
    }

    pub(super) fn projector(&self, config: &ProjectorConfig) -> Result<ProjectorWeights> {
        let (norm, first, second) = match config.kind {
            ProjectorKind::Mlp1 => (Some("mm.0"), "mm.1", "mm.3"),
            ProjectorKind::Mlp2xGelu => (None, "mm.0", "mm.2"),
        };
        Ok(ProjectorWeights {
            norm: norm.map(|name| self.norm(name, NormKind::Layer, config.norm_eps)).transpose()?,
            first: self.linear(first, true)?,
            second: self.linear(second, true)?,
        })
    }

    pub(super) fn text(&self, config: &TextConfig) -> Result<TextWeights> {
        let blocks = (0..config.n_layer).map(|il| self.text_block(config, il)).collect::<Result<_>>()?;
        Ok(TextWeights {
            token_embd: self.tensor("token_embd.weight")?,
            blocks,
            output_norm: self.norm("output_norm", NormKind::Rms, config.norm_eps)?,
            output: self.linear("output", false)?,
        })
    }

    fn text_block(&self, config: &TextConfig, il: u32) -> Result<TextBlock> {
        let linear = |tensor: &str| self.linear(format_args!("blk.{il}.{tensor}"), false);
        let norm =
            |tensor: &str| self.norm(format_args!("blk.{il}.{tensor}"), NormKind::Rms, config.norm_eps);
        Ok(TextBlock {
            attn_norm: norm("attn_norm")?,
            q: linear("attn_q")?,
            k: linear("attn_k")?,
            v: linear("attn_v")?,
            out: linear("attn_output")?,
            ffn_norm: norm("ffn_norm")?,
            gate: linear("ffn_gate")?,
            up: linear("ffn_up")?,
            down: linear("ffn_down")?,
        })
    }

    fn linear(&self, name: impl Display, has_bias: bool) -> Result<Linear> {
        Ok(Linear {
            weight: self.tensor(format!("{name}.weight"))?,
            bias: self.optional(format!("{name}.bias"), has_bias)?,
        })
    }

    fn norm(&self, name: impl Display, kind: NormKind, eps: f32) -> Result<Norm> {
        Ok(Norm {
            kind,
            eps,
            weight: self.tensor(format!("{name}.weight"))?,
            bias: self.optional(format!("{name}.bias"), kind == NormKind::Layer)?,
        })
    }

    fn optional(&self, name: impl AsRef<str>, stored: bool) -> Result<Option<Tensor>> {
        if stored { self.tensor(name).map(Some) } else { Ok(None) }
    }

    fn tensor(&self, name: impl AsRef<str>) -> Result<Tensor> {
        let name = name.as_ref();
        self.weights
            .tensor(name)
            .ok_or_else(|| Error::format(self.label, format_args!("tensor {name}: expected, not found")))
    }
}
