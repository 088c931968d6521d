//! A conversion as the job of a run.

use std::path::{Path, PathBuf};

use ggml::Cancel;
use owlet_format::{ModelConfig, Strings, TensorPlan};

use crate::checkpoint::file::SourceFile;
use crate::checkpoint::{Sha256, SourceType};
use crate::error::Result;
use crate::family::Transform;
use crate::job::{Chunk, Job};
use crate::outline::{Line, Outline};
use crate::plan::Plan;
use crate::planned::PlannedTensor;
use crate::report::Report;
use crate::rows::{CHUNK_BYTES, read_chunks};
use crate::run::{Progress, files_of, report};

impl Plan {
    /// Writes the file. Nothing but a whole file ever stands under `out`, and what stood there before stays until
    /// then.
    ///
    /// # Errors
    /// Where the checkpoint can't be read or holds a number that is not finite, where `out` can't be written, and
    /// [`Error::Cancelled`](crate::Error::Cancelled). What was done stays beside `out` as `OUT.part` where another run
    /// of the same plan could succeed, and goes otherwise.
    pub fn run(&self, out: &Path, progress: &mut dyn Progress, cancel: &Cancel) -> Result<Report> {
        report(self, out, progress, cancel)
    }

    /// The files that [`run`](Plan::run) would write for `out`: itself, or several beside it.
    ///
    /// # Errors
    /// Where they can't be as short as the options ask.
    pub fn files(&self, out: &Path) -> Result<Vec<PathBuf>> {
        files_of(self, out)
    }
}

impl Job for Plan {
    fn config(&self, shards: Strings) -> ModelConfig {
        let mut config = self.config.clone();
        config.provenance.shards = shards;
        config
    }

    fn tensors(&self) -> Vec<TensorPlan> {
        let plan = |tensor: &crate::PlannedTensor| TensorPlan {
            name: tensor.spec.name.clone(),
            dtype: tensor.chosen.dtype,
            shape: tensor.spec.ne,
        };
        self.tensors.iter().map(plan).collect()
    }

    fn split_max_bytes(&self) -> Option<u64> {
        self.split_max_bytes
    }

    fn order(&self) -> Vec<usize> {
        let place = |index: &usize| self.checkpoint.tensors[&self.tensors[*index].source.name].first_place();
        let mut order: Vec<usize> = (0..self.tensors.len()).collect();
        order.sort_by_key(place);
        order
    }

    fn n_source_bytes(&self, index: usize) -> u64 {
        self.checkpoint.tensors[&self.tensors[index].source.name].n_bytes()
    }

    fn read(&self, index: usize, row: u64, take: &mut dyn FnMut(Chunk) -> bool) -> Result<()> {
        read_chunks(&self.checkpoint, index, &self.tensors[index], row, take)
    }

    fn place(&self, index: usize) -> String {
        self.checkpoint.place(&self.tensors[index].source.name)
    }

    fn start(&self, index: usize, row: u64) -> Option<(usize, u64)> {
        let tensor = &self.checkpoint.tensors[&self.tensors[index].source.name];
        let lies_in_order = tensor.strides.is_none() && tensor.below.is_empty();
        let n_rows = self.tensors[index].spec.ne.n_rows();
        let n_before = if lies_in_order { tensor.n_bytes() / n_rows * row } else { 0 };
        let (file, first) = tensor.first_place();
        Some((file, first + n_before))
    }

    fn reads(&self, index: usize, file: usize) -> bool {
        let tensor = &self.checkpoint.tensors[&self.tensors[index].source.name];
        tensor.file == file || tensor.below.iter().any(|tensor| tensor.file == file)
    }

    fn notes(&self) -> Vec<String> {
        self.checkpoint.files.iter().flat_map(SourceFile::notes).collect()
    }

    fn hashed(&self) -> &[SourceFile] {
        &self.checkpoint.files
    }

    fn n_read(&self) -> u64 {
        self.checkpoint.files.iter().map(SourceFile::n_read).sum()
    }

    /// Where every tensor comes from, and the state of the files.
    fn identify(&self, id: &mut Sha256) {
        for file in &self.checkpoint.files {
            id.update(
                format!("{:?} {} {}\n", file.path().file_name(), file.n_bytes(), file.state()).as_bytes(),
            );
        }
        for tensor in &self.tensors {
            let found = self.checkpoint.tensors.get(&tensor.source.name);
            id.update(format!("{:?} {found:?}\n", tensor.source).as_bytes());
        }
    }

    fn importance(&self, index: usize) -> Option<&[f32]> {
        self.importance.rows.get(index)?.as_deref()
    }

    fn n_threads(&self) -> Option<usize> {
        self.n_threads
    }
}

impl Outline for Plan {
    fn lines(&self) -> Vec<Line> {
        let line = |tensor: &PlannedTensor| Line {
            spec: tensor.spec.clone(),
            from: tensor.source_type.to_string(),
            to: tensor.chosen,
            n_bytes: tensor.n_bytes,
            remarks: remarks(tensor),
            is_copied: false,
            chunk_bytes: chunk_bytes(tensor),
        };
        self.tensors.iter().map(line).collect()
    }
}

/// What is done to it besides.
fn remarks(tensor: &PlannedTensor) -> Vec<String> {
    let transform = match tensor.source.transform {
        Transform::None => None,
        Transform::PairRows { .. } => Some("rows paired".to_string()),
        Transform::ResizeGrid { from, to } => Some(format!("grid {from} to {to}")),
    };
    let fold = tensor.fold.as_ref().map(|fold| {
        let n = fold.n_channels;
        format!("{n} {} folded", if n == 1 { "channel" } else { "channels" })
    });
    transform.into_iter().chain(fold).collect()
}

fn chunk_bytes(tensor: &PlannedTensor) -> u64 {
    match tensor.source.transform {
        // raw, as f32, resized, and as bytes of that
        Transform::ResizeGrid { .. } => tensor.spec.ne.n_elements() * SourceType::F32.n_bytes() * 4,
        _ => CHUNK_BYTES.max(tensor.spec.ne.padded()[0] * tensor.source_type.n_bytes()),
    }
}
