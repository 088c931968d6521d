//! The tensors that a config implies, and whether a file has them: each one, in its shape, in a type that the
//! graph computes with, and no other.

use std::fmt;

use ggml::DType;

use super::VisionConfig;
use super::{ModelConfig, NormKind, Part, ProjectorConfig, ProjectorKind, QkNorm, TextConfig};
use crate::error::{Error, Result, Shown};
use crate::{Gguf, Shape};

/// What a tensor is to the model; it decides which types the tensor may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Weights of a matrix product, ne `[n_in, n_out]`.
    Matrix,
    /// A row for every token.
    Embedding,
    /// The head: a row for every token.
    Output,
    /// The convolution that turns patches into columns.
    Patch,
    /// Class token and positions.
    Position,
    /// Weight or bias of a norm.
    Norm,
    Bias,
    /// A layer scale.
    Scale,
}

impl Role {
    /// Whether a tensor of this role may be stored as `dtype`.
    pub fn allows(self, dtype: DType) -> bool {
        match self {
            // Q8_1 and Q8_K are what ggml makes of activations; it has no product with weights of theirs
            Self::Matrix | Self::Embedding | Self::Output => {
                matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
                    || dtype.is_quantized() && !matches!(dtype, DType::Q8_1 | DType::Q8_K)
            }
            Self::Patch => matches!(dtype, DType::F32 | DType::F16),
            Self::Position | Self::Norm | Self::Bias | Self::Scale => dtype == DType::F32,
        }
    }

    /// The types that are allowed, in words.
    fn types(self) -> &'static str {
        match self {
            Self::Matrix | Self::Embedding | Self::Output => "f32, f16, bf16 or a quantized type for weights",
            Self::Patch => "f32 or f16",
            Self::Position | Self::Norm | Self::Bias | Self::Scale => "f32",
        }
    }
}

/// A tensor that a config implies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    pub name: String,
    pub ne: Shape,
    pub part: Part,
    pub role: Role,
}

impl ModelConfig {
    /// Every tensor of a file of this config, in the order in which the converter writes them.
    ///
    /// # Panics
    /// Where the config would not pass [`ModelConfig::validate`].
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let mut list = Vec::new();
        if let Some(vision) = &self.vision {
            add_vision(vision, &mut List { part: Part::Vision, out: &mut list });
        }
        if let (Some(vision), Some(projector)) = (&self.vision, &self.projector) {
            add_projector(vision, projector, &mut List { part: Part::Projector, out: &mut list });
        }
        if let Some(text) = &self.text {
            add_text(text, &mut List { part: Part::Text, out: &mut list });
        }
        list
    }

    /// Compares the tensors of `file` with those that this config implies.
    ///
    /// # Errors
    /// Where one is missing, has another shape or a type that it may not have, where there is one more, not a
    /// checksum for each, or bytes behind the last one. The message names file and tensor.
    pub fn check(&self, file: &Gguf) -> Result<()> {
        let specs = self.tensors();
        for spec in &specs {
            check_tensor(spec, file)?;
        }
        if specs.len() != file.tensors().len() {
            let known: std::collections::HashSet<_> = specs.iter().map(|spec| spec.name.as_str()).collect();
            let surplus = file.tensors().iter().find(|tensor| !known.contains(tensor.name.as_str()));
            let name = surplus.map_or("", |tensor| tensor.name.as_str());
            return Err(wrong(file, name, "expected no tensor of this name"));
        }
        file.checksums()?;
        match file.n_trailing_bytes() {
            0 => Ok(()),
            n => Err(Error::format(
                file.label(),
                "end",
                format!("expected nothing behind the tensors, found {n} bytes"),
            )),
        }
    }
}

fn check_tensor(spec: &TensorSpec, file: &Gguf) -> Result<()> {
    let TensorSpec { name, ne, role, .. } = spec;
    let Some(tensor) = file.tensor(name) else {
        return Err(wrong(file, name, format!("expected ne {ne}, found no such tensor")));
    };
    if tensor.shape != *ne {
        return Err(wrong(file, name, format!("expected ne {ne}, found {}", tensor.shape)));
    }
    if !role.allows(tensor.dtype) {
        return Err(wrong(file, name, format!("expected type {}, found {}", role.types(), tensor.dtype)));
    }
    Ok(())
}

fn wrong(file: &Gguf, name: &str, problem: impl Into<String>) -> Error {
    Error::format(file.label(), format_args!("tensor {}", Shown(name)), problem)
}

/// A list of one part's tensors as it grows.
struct List<'a> {
    part: Part,
    out: &'a mut Vec<TensorSpec>,
}

impl List<'_> {
    fn add(&mut self, role: Role, name: impl fmt::Display, ne: impl Into<Shape>) {
        self.out.push(TensorSpec { name: name.to_string(), ne: ne.into(), part: self.part, role });
    }
}

/// `v.*`
fn add_vision(config: &VisionConfig, list: &mut List) {
    let VisionConfig { n_embd, n_ff, patch_px, .. } = *config;
    let layer_norm = config.norm == NormKind::Layer;
    if config.cls {
        list.add(Role::Position, "v.class_embd", [n_embd]);
    }
    list.add(Role::Patch, "v.patch_embd.weight", [patch_px, patch_px, 3, n_embd]);
    if config.patch_bias {
        list.add(Role::Bias, "v.patch_embd.bias", [n_embd]);
    }
    list.add(Role::Position, "v.position_embd.weight", [n_embd, config.n_positions()]);
    if config.pre_norm {
        list.add(Role::Norm, "v.pre_ln.weight", [n_embd]);
        if layer_norm {
            list.add(Role::Norm, "v.pre_ln.bias", [n_embd]);
        }
    }
    for il in 0..config.n_layer {
        let mut add = |role, name: &str, ne: Shape| list.add(role, format_args!("v.blk.{il}.{name}"), ne);
        for norm in ["ln1", "ln2"] {
            add(Role::Norm, &format!("{norm}.weight"), [n_embd].into());
            if layer_norm {
                add(Role::Norm, &format!("{norm}.bias"), [n_embd].into());
            }
        }
        add(Role::Matrix, "attn_qkv.weight", [n_embd, 3 * n_embd].into());
        if config.qkv_bias {
            add(Role::Bias, "attn_qkv.bias", [3 * n_embd].into());
        }
        if config.qk_norm == QkNorm::Full {
            add(Role::Norm, "attn_q_norm.weight", [n_embd].into());
            add(Role::Norm, "attn_k_norm.weight", [n_embd].into());
        }
        for (name, n_in, n_out) in
            [("attn_out", n_embd, n_embd), ("ffn_up", n_embd, n_ff), ("ffn_down", n_ff, n_embd)]
        {
            add(Role::Matrix, &format!("{name}.weight"), [n_in, n_out].into());
            add(Role::Bias, &format!("{name}.bias"), [n_out].into());
        }
        if config.layer_scale {
            add(Role::Scale, "ls1.weight", [n_embd].into());
            add(Role::Scale, "ls2.weight", [n_embd].into());
        }
    }
}

/// `mm.*`; the numbers are those of the layers in the checkpoint's `nn.Sequential`.
fn add_projector(vision: &VisionConfig, config: &ProjectorConfig, list: &mut List) {
    let (n_in, n_out) = (config.n_embd_in(vision.n_embd), config.n_embd_out);
    let linear = |list: &mut List, n: u32, n_in: u32| {
        list.add(Role::Matrix, format_args!("mm.{n}.weight"), [n_in, n_out]);
        list.add(Role::Bias, format_args!("mm.{n}.bias"), [n_out]);
    };
    match config.kind {
        ProjectorKind::Mlp1 => {
            list.add(Role::Norm, "mm.0.weight", [n_in]);
            list.add(Role::Norm, "mm.0.bias", [n_in]);
            linear(list, 1, n_in);
            linear(list, 3, n_out);
        }
        ProjectorKind::Mlp2xGelu => {
            linear(list, 0, n_in);
            linear(list, 2, n_out);
        }
    }
}

/// `token_embd`, `blk.*`, `output_norm`, `output`
fn add_text(config: &TextConfig, list: &mut List) {
    let TextConfig { n_vocab, n_embd, n_ff, .. } = *config;
    let n_kv = config.n_embd_kv();
    list.add(Role::Embedding, "token_embd.weight", [n_embd, n_vocab]);
    for il in 0..config.n_layer {
        let mut add =
            |role, name: &str, ne: Shape| list.add(role, format_args!("blk.{il}.{name}.weight"), ne);
        add(Role::Norm, "attn_norm", [n_embd].into());
        add(Role::Matrix, "attn_q", [n_embd, n_embd].into());
        add(Role::Matrix, "attn_k", [n_embd, n_kv].into());
        add(Role::Matrix, "attn_v", [n_embd, n_kv].into());
        add(Role::Matrix, "attn_output", [n_embd, n_embd].into());
        add(Role::Norm, "ffn_norm", [n_embd].into());
        add(Role::Matrix, "ffn_gate", [n_embd, n_ff].into());
        add(Role::Matrix, "ffn_up", [n_embd, n_ff].into());
        add(Role::Matrix, "ffn_down", [n_ff, n_embd].into());
    }
    list.add(Role::Norm, "output_norm.weight", [n_embd]);
    list.add(Role::Output, "output.weight", [n_embd, n_vocab]);
}
