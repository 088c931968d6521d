//! Whether a model file is what it should be: its structure, the SHA-256 of every tensor, numbers that are finite, and,
//! against the checkpoint that it was made of, how far every tensor is from it.
//!
//! Everything is read through the readers that a conversion and a run use. What is found comes back as a value; nothing
//! is printed here.

mod against;
mod bounds;
mod contents;

use std::path::Path;

use ggml::Cancel;
use owlet_format::{Gguf, ModelConfig};
use serde::Serialize;

use crate::error::Result;
use crate::job::total_source_bytes;
use crate::run::Progress;

/// What was found in a file.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    pub file: String,
    pub n_bytes: u64,
    pub n_tensors: usize,
    pub n_values: u64,
    /// Tensors whose bytes are not those that were written.
    pub damaged: Vec<String>,
    /// Tensors with numbers that are none; the scales of their blocks count.
    pub not_finite: Vec<NotFinite>,
    pub against: Option<Comparison>,
}

#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct NotFinite {
    pub tensor: String,
    /// NaN and infinities.
    pub n: u64,
    /// The first row that has one.
    pub row: u64,
}

/// A file beside the checkpoint that it was made of.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    pub dir: String,
    /// Whether the checkpoint's files are those that the model file names; `None` where it names none.
    pub same_files: Option<bool>,
    /// In the order of the file.
    pub tensors: Vec<Deviation>,
}

/// How far one tensor is from its source.
#[derive(Debug, Clone, Serialize)]
pub struct Deviation {
    pub tensor: String,
    #[serde(rename = "type")]
    pub dtype: &'static str,
    /// Root mean square of the difference over that of the source.
    pub relative_rms: f64,
    /// The largest difference of two numbers.
    pub max_abs: f64,
    /// What `relative_rms` may be; `None` for a type that no conversion writes.
    pub bound: Option<f64>,
}

impl Deviation {
    pub fn is_right(&self) -> bool {
        self.share() <= 1.0
    }

    /// Of the bound; what has none is never too far.
    pub fn share(&self) -> f64 {
        let share = self.bound.map_or(0.0, |bound| self.relative_rms / bound);
        if share.is_nan() { f64::INFINITY } else { share }
    }
}

impl Verdict {
    pub fn is_right(&self) -> bool {
        let close = |against: &Comparison| against.tensors.iter().all(Deviation::is_right);
        self.damaged.is_empty() && self.not_finite.is_empty() && self.against.as_ref().is_none_or(close)
    }
}

/// The checkpoint that a file was made of.
#[derive(Debug, Clone, Copy)]
pub struct SourceDirs<'a> {
    pub dir: &'a Path,
    /// Where its tower lies, for families whose checkpoints lack it.
    pub vision_tower: Option<&'a Path>,
}

/// Reads all of the model file at `path`, and the checkpoint `source` where there is one to compare with.
///
/// # Errors
/// Where the structure is wrong, so that nothing else can be said: no sound GGUF, no model that owlet runs, or one
/// that `source` is none of. Where something can't be read, and [`Cancelled`](crate::Error::Cancelled).
pub fn verify(
    path: &Path,
    source: Option<SourceDirs>,
    n_threads: Option<usize>,
    progress: &mut dyn Progress,
    cancel: &Cancel,
) -> Result<Verdict> {
    let file = Gguf::open(path)?;
    let config = ModelConfig::read(&file)?;
    config.check(&file)?;
    let pool = crate::run::pool(n_threads)?;
    let plan = source.map(|source| against::plan(&source, &config, &file, n_threads)).transpose()?;
    let n_source_bytes = plan.as_ref().map_or(0, |plan| total_source_bytes(plan));
    progress.start(file.tensors().iter().map(|tensor| tensor.n_bytes).sum::<u64>() + n_source_bytes);
    let (damaged, not_finite) = contents::check(&file, &pool, progress, cancel)?;
    let against = plan.map(|plan| against::compare(&plan, &config, &file, progress, cancel)).transpose()?;
    Ok(Verdict {
        file: file.label().to_string(),
        n_bytes: file.bytes().len() as u64,
        n_tensors: file.tensors().len(),
        n_values: file.tensors().iter().map(|tensor| tensor.shape.n_elements()).sum(),
        damaged,
        not_finite,
        against,
    })
}
