//! Families of checkpoints, one file each: how to know one, what its configuration means, which tensor of it
//! becomes which, and which it does not need.
//!
//! In: the configuration files and the names and shapes of the weights. Out: the model's config and a source for
//! every tensor that it implies. No weight is read here.

mod internvl_chat;
mod internvl_names;

use owlet_format::{ModelConfig, TensorSpec};

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::hf::ConfigFiles;

/// What happens to a tensor's rows on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transform {
    None,
    /// Rows inside each head go from halves to pairs, as llama.cpp's rotary positions want them.
    PairRows {
        n_head: u32,
    },
    /// The grid of positions is interpolated to another side; the class token's row stays.
    ResizeGrid {
        from: u32,
        to: u32,
    },
}

/// Where a tensor comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub name: String,
    /// The shape that the checkpoint must have, in PyTorch order.
    pub shape: Vec<u64>,
    pub transform: Transform,
}

/// What a family makes of a checkpoint.
#[derive(Debug)]
pub struct Reading {
    pub config: ModelConfig,
    /// One for each of `config.tensors()`, in that order.
    pub sources: Vec<Source>,
    /// Tensors that are left out, with the reason, in groups.
    pub skipped: Vec<Skipped>,
    /// Facts that the checkpoint leaves out: `select_layer = -4`.
    pub assumed: Vec<String>,
    /// What else a person should see.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    pub names: Vec<String>,
    pub reason: String,
}

/// Reads the checkpoint as the family that its config.json names.
///
/// # Errors
/// For a family that is not known, and for a checkpoint that contradicts its family.
pub fn read(files: &ConfigFiles, checkpoint: &Checkpoint) -> Result<Reading> {
    let root = files.config.root();
    if internvl_chat::recognises(&root)? {
        return internvl_chat::read(files, checkpoint);
    }
    let found = match root.key("architectures").and_then(|a| a.array().ok()).filter(|a| !a.is_empty()) {
        Some(names) => names[0].str()?.to_string(),
        None => root.key("model_type").map_or(Ok("nothing"), |t| t.str())?.to_string(),
    };
    let what = format!("expected InternVLChatModel, found {}", found.escape_debug());
    Err(Error::unsupported(format!("{}: architectures", root.place()), what))
}

/// The shape that PyTorch would print for `spec`: ggml's order, turned around.
fn torch_shape(spec: &TensorSpec) -> Vec<u64> {
    spec.ne.dims().iter().rev().copied().collect()
}
