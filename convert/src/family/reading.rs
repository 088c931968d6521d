//! What a family makes of a checkpoint, and how tensors get their sources or are left out, whatever the family.

use std::ops::Range;

use owlet_format::{ModelConfig, TensorSpec};

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};

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

/// The shape that PyTorch would print for `spec`: ggml's order, turned around.
pub fn torch_shape(spec: &TensorSpec) -> Vec<u64> {
    spec.ne.dims().iter().rev().copied().collect()
}

/// The row of a table of names whose first is `name`.
pub fn find(table: &[(&str, &'static str)], name: &str) -> Option<&'static str> {
    table.iter().find(|row| row.0 == name).map(|row| row.1)
}

/// A tensor that only changes its name.
pub fn renamed(table: &[(&str, &'static str)], spec: &TensorSpec) -> Option<Source> {
    let name = find(table, &spec.name)?.to_string();
    Some(Source { name, shape: torch_shape(spec), transform: Transform::None })
}

/// `source` of every tensor that `config` implies.
pub fn sources(config: &ModelConfig, source: impl Fn(&TensorSpec) -> Option<Source>) -> Result<Vec<Source>> {
    let of = |spec: &TensorSpec| {
        let missing = || Error::unsupported(&config.family, format!("tensor {} has no source", spec.name));
        source(spec).ok_or_else(missing)
    };
    config.tensors().iter().map(of).collect()
}

/// Blocks of the tower behind the layer that is read out, a group each; `blocks` is what their names begin with.
pub fn unused_blocks(checkpoint: &Checkpoint, blocks: &str, unused: Range<u32>) -> Vec<Skipped> {
    let last = unused.start.saturating_sub(1);
    let group = |il| {
        let prefix = format!("{blocks}.{il}.");
        let reason = format!("block {il} never runs: the tower ends behind block {last}");
        skipped(checkpoint, &reason, |name| name.starts_with(&prefix))
    };
    unused.filter_map(group).collect()
}

/// Tables that old versions saved.
pub fn tables(checkpoint: &Checkpoint) -> Vec<Skipped> {
    let known = [(".inv_freq", "rotary table, computed when it runs"), (".position_ids", "counts from 0 on")];
    known.iter().filter_map(|(end, reason)| skipped(checkpoint, reason, |name| name.ends_with(end))).collect()
}

/// The tensors whose names `is_meant` picks, if there are any.
pub fn skipped(checkpoint: &Checkpoint, reason: &str, is_meant: impl Fn(&str) -> bool) -> Option<Skipped> {
    let names: Vec<String> = checkpoint.tensors.keys().filter(|name| is_meant(name)).cloned().collect();
    (!names.is_empty()).then(|| Skipped { names, reason: reason.to_string() })
}
