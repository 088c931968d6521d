//! How much errors of each weight matter: what an importance matrix says of the tensors of one file.

use std::path::Path;
use std::sync::Arc;

use ggml::DType;
use owlet_format::{Gguf, Importance, ModelConfig, Role, TensorSpec, hex};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::fold;
use crate::planned::Fold;

/// An importance matrix from a file.
#[derive(Debug, Clone)]
pub struct Weighting {
    /// The file's name, for messages.
    pub label: String,
    pub importance: Arc<Importance>,
}

/// What it says of each tensor of a plan.
#[derive(Debug, Default)]
pub struct Weighted {
    /// For each tensor, `[n_per_row]`.
    pub rows: Vec<Option<Arc<[f32]>>>,
    /// A line about what it does not know.
    pub note: Option<String>,
    /// As provenance states it.
    pub line: Option<String>,
}

impl Weighting {
    /// # Errors
    /// Where the file at `path` is no importance matrix.
    pub fn read(path: &Path) -> Result<Weighting> {
        let importance = Arc::new(Importance::read(path)?);
        Ok(Weighting { label: path.display().to_string(), importance })
    }

    /// For `tensors`, each with the type that it will have, and what its columns are multiplied with.
    ///
    /// # Errors
    /// Where it knows none of them, or one in rows of another length.
    pub fn of<'a>(
        &self,
        tensors: impl Iterator<Item = (&'a TensorSpec, DType, Option<&'a Fold>)>,
    ) -> Result<Weighted> {
        let mut weighted = Weighted::default();
        let (mut n_known, mut unknown) = (0, Vec::new());
        let mut sum = Sha256::new();
        for (spec, dtype, fold) in tensors {
            let row = self.row(spec, dtype, fold)?;
            match &row {
                Some(row) => {
                    n_known += 1;
                    row.iter().for_each(|weight| sum.update(weight.to_le_bytes()));
                }
                None if dtype.is_quantized() && spec.role != Role::Embedding => {
                    unknown.push(spec.name.as_str())
                }
                None => {}
            }
            weighted.rows.push(row);
        }
        if n_known == 0 {
            let what = "expected sums for a matrix that is quantized, found none";
            return Err(Error::format(&self.label, what));
        }
        if !unknown.is_empty() {
            weighted.note = Some(format!("{} has no sums for {}", self.label, unknown.join(", ")));
        }
        let n_chunks = self.importance.n_chunks;
        let (sum, datasets) = (hex(&sum.finalize()), self.importance.datasets.join(", "));
        weighted.line = Some(format!("importance = {sum}, {n_chunks} inputs of {datasets}"));
        Ok(weighted)
    }

    /// # Errors
    /// Where `file` has norms that were folded, and the sums are of norms that were not: by how much is not known any more.
    pub fn refuse_other_norms(&self, file: &Gguf, config: &ModelConfig) -> Result<()> {
        let folded = config.provenance.recipe.iter().find(|line| line.starts_with(fold::LINE));
        match folded.filter(|_| !self.importance.is_folded) {
            None => Ok(()),
            Some(line) => Err(Error::Request(format!(
                "{}: expected sums of the norms of {} ({line}), found those of another program: `owlet convert --imatrix` \
                 on the checkpoint uses them, or `owlet imatrix` on a file of f16 makes others",
                self.label,
                file.label()
            ))),
        }
    }

    fn row(&self, spec: &TensorSpec, dtype: DType, fold: Option<&Fold>) -> Result<Option<Arc<[f32]>>> {
        if !dtype.is_quantized() {
            return Ok(None);
        }
        let Some(mut row) = self.importance.of(&spec.name) else { return Ok(None) };
        let n_per_row = spec.ne.padded()[0];
        if row.len() as u64 != n_per_row {
            let what = format!("expected {n_per_row} sums, found {}", row.len());
            return Err(Error::format(format!("{}: tensor {}", self.label, spec.name), what));
        }
        // columns grow by the factors, so what they are multiplied with shrinks
        if let Some(fold) = fold.filter(|_| !self.importance.is_folded) {
            row.iter_mut().zip(&*fold.factors).for_each(|(weight, factor)| *weight /= factor * factor);
        }
        // a place that was always zero still has a weight, or a block of such places would have no scale
        let mean = row.iter().sum::<f32>() / row.len() as f32;
        let least = (mean * LEAST).max(f32::MIN_POSITIVE);
        row.iter_mut().filter(|weight| **weight == 0.0).for_each(|weight| *weight = least);
        Ok(Some(row.into()))
    }
}

/// Of the mean: too little to matter beside any other.
const LEAST: f32 = 1e-6;
