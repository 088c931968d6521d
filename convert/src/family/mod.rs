//! Families of checkpoints, one file each: how to know one, what its configuration means, which tensor of it
//! becomes which, and which it does not need.
//!
//! In: the configuration files and the names and shapes of the weights. Out: the model's config and a source for
//! every tensor that it implies. No weight is read here.

mod clip_vit;
mod intern_vit;
mod intern_vit_alone;
mod internvl_chat;
mod llama;
mod llava;
mod vision_tower;

use std::ops::Range;
use std::path::Path;

use owlet_format::{ModelConfig, TensorSpec};

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::hf::ConfigFiles;
use crate::hf::json::Json;
use vision_tower::VisionTower;

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

/// What `architectures` may say.
const KNOWN: [&str; 4] =
    ["InternVLChatModel", "InternVisionModel", "LlavaLlamaForCausalLM", "LlavaForConditionalGeneration"];

/// Reads the checkpoint as the family that its config.json names.
///
/// # Errors
/// For a family that is not known, and for a checkpoint that contradicts its family.
pub fn read(
    files: &ConfigFiles,
    vision_tower: Option<&Path>,
    checkpoint: &mut Checkpoint,
) -> Result<Reading> {
    let root = files.config.root();
    if llava::recognises(&root)? {
        let tower = vision_tower.map(VisionTower::open).transpose()?;
        return llava::read(files, tower, checkpoint);
    }
    let has_its_own_tower = || match vision_tower {
        None => Ok(()),
        Some(dir) => {
            let what = format!("{} has its own tower", architecture(&root)?.escape_debug());
            Err(Error::Request(format!("--vision-tower {}: {what}", dir.display())))
        }
    };
    if internvl_chat::recognises(&root)? {
        has_its_own_tower()?;
        return internvl_chat::read(files, checkpoint);
    }
    if intern_vit_alone::recognises(&root)? {
        has_its_own_tower()?;
        return intern_vit_alone::read(files, checkpoint);
    }
    let found = match architecture(&root)? {
        "" => root.key("model_type").map_or(Ok("nothing"), |t| t.str())?,
        name => name,
    };
    let what = format!("expected {}, found {}", KNOWN.join(" or "), found.escape_debug());
    Err(Error::unsupported(format!("{}: architectures", root.place()), what))
}

/// The first of `architectures` in config.json, empty where there is none.
fn architecture<'a>(root: &Json<'a>) -> Result<&'a str> {
    let names = root.key("architectures").map_or(Ok(Vec::new()), |list| list.array())?;
    names.first().map_or(Ok(""), |name| name.str())
}

/// The shape that PyTorch would print for `spec`: ggml's order, turned around.
fn torch_shape(spec: &TensorSpec) -> Vec<u64> {
    spec.ne.dims().iter().rev().copied().collect()
}

/// The row of a table of names whose first is `name`.
fn find(table: &[(&str, &'static str)], name: &str) -> Option<&'static str> {
    table.iter().find(|row| row.0 == name).map(|row| row.1)
}

/// A tensor that only changes its name.
fn renamed(table: &[(&str, &'static str)], spec: &TensorSpec) -> Option<Source> {
    let name = find(table, &spec.name)?.to_string();
    Some(Source { name, shape: torch_shape(spec), transform: Transform::None })
}

/// `source` of every tensor that `config` implies.
fn sources(config: &ModelConfig, source: impl Fn(&TensorSpec) -> Option<Source>) -> Result<Vec<Source>> {
    let of = |spec: &TensorSpec| {
        let missing = || Error::unsupported(&config.family, format!("tensor {} has no source", spec.name));
        source(spec).ok_or_else(missing)
    };
    config.tensors().iter().map(of).collect()
}

/// Blocks of the tower behind the layer that is read out, a group each; `blocks` is what their names begin with.
fn unused_blocks(checkpoint: &Checkpoint, blocks: &str, unused: Range<u32>) -> Vec<Skipped> {
    let last = unused.start.saturating_sub(1);
    let group = |il| {
        let prefix = format!("{blocks}.{il}.");
        let reason = format!("block {il} never runs: the tower ends behind block {last}");
        skipped(checkpoint, &reason, |name| name.starts_with(&prefix))
    };
    unused.filter_map(group).collect()
}

/// Tables that old versions saved.
fn tables(checkpoint: &Checkpoint) -> Vec<Skipped> {
    let known = [(".inv_freq", "rotary table, computed when it runs"), (".position_ids", "counts from 0 on")];
    known.iter().filter_map(|(end, reason)| skipped(checkpoint, reason, |name| name.ends_with(end))).collect()
}

/// The tensors whose names `is_meant` picks, if there are any.
fn skipped(checkpoint: &Checkpoint, reason: &str, is_meant: impl Fn(&str) -> bool) -> Option<Skipped> {
    let names: Vec<String> = checkpoint.tensors.keys().filter(|name| is_meant(name)).cloned().collect();
    (!names.is_empty()).then(|| Skipped { names, reason: reason.to_string() })
}
