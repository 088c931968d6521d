//! A model file to be made of something that is read: what a run needs to know, whatever the source is.

use std::sync::Arc;

use ggml::{DType, quantize};
use owlet_format::{ModelConfig, Strings, TensorPlan};

use crate::checkpoint::dtype::widen;
use crate::checkpoint::file::SourceFile;
use crate::checkpoint::{Sha256, SourceType};
use crate::error::Result;

/// Some rows of one tensor, as they are stored where they come from.
#[derive(Debug)]
pub struct Chunk {
    /// Index of the tensor in the file to be.
    pub tensor: usize,
    /// The first row.
    pub row: u64,
    pub stored: Stored,
    pub bytes: Vec<u8>,
    /// What the numbers of every row are multiplied with before they are stored.
    pub factors: Option<Arc<[f32]>>,
    /// How many bytes of the source it took.
    pub n_source_bytes: u64,
}

impl Chunk {
    /// The numbers that whole rows become: `bytes` are some of the chunk's, `values` one row.
    ///
    /// # Errors
    /// For blocks that have no numbers.
    pub fn values(&self, bytes: &[u8], values: &mut [f32]) -> ggml::Result<()> {
        self.stored.values(bytes, values)?;
        if let Some(factors) = &self.factors {
            values.iter_mut().zip(&**factors).for_each(|(value, factor)| *value *= factor);
        }
        Ok(())
    }
}

/// How rows are stored in a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// Numbers of a checkpoint.
    Numbers(SourceType),
    /// Blocks of a GGUF.
    Blocks(DType),
}

impl Stored {
    /// Bytes of a row of `n_per_row` elements, which are whole blocks.
    pub fn row_bytes(self, n_per_row: u64) -> u64 {
        match self {
            Stored::Numbers(dtype) => n_per_row * dtype.n_bytes(),
            Stored::Blocks(dtype) => dtype.row_bytes(n_per_row).unwrap_or(0),
        }
    }

    /// The numbers of whole rows.
    ///
    /// # Errors
    /// For blocks that have no numbers.
    fn values(self, bytes: &[u8], values: &mut [f32]) -> ggml::Result<()> {
        match self {
            Stored::Numbers(dtype) => {
                widen(dtype, bytes, values);
                Ok(())
            }
            Stored::Blocks(dtype) => quantize::dequantize(dtype, bytes, values),
        }
    }
}

/// What a run carries out.
pub trait Job: Sync {
    /// What the file will say of its model. `shards` is the line of each file of [`Job::hashed`].
    fn config(&self, shards: Strings) -> ModelConfig;

    /// The tensors, in the order of the file.
    fn tensors(&self) -> Vec<TensorPlan>;

    /// How long a file may be at most; one file without it.
    fn split_max_bytes(&self) -> Option<u64>;

    /// Indices of all tensors in the order in which their source lies on the disk.
    fn order(&self) -> Vec<usize>;

    /// What tensor `index` is made of: bytes of the source.
    fn n_source_bytes(&self, index: usize) -> u64;

    /// Reads tensor `index` from row `row` on and hands each chunk to `take`, until that says false.
    ///
    /// # Errors
    /// Where the source can't be read.
    fn read(&self, index: usize, row: u64, take: &mut dyn FnMut(Chunk) -> bool) -> Result<()>;

    /// The source of tensor `index`, as error texts name it.
    fn place(&self, index: usize) -> String;

    /// Where in [`Job::hashed`] the rows of tensor `index` from `row` on begin: which file, which byte.
    fn start(&self, index: usize, row: u64) -> Option<(usize, u64)>;

    /// Whether tensor `index` is made of something in this one of [`Job::hashed`].
    fn reads(&self, index: usize, file: usize) -> bool {
        self.start(index, 0).is_some_and(|(first, _)| first == file)
    }

    /// What went wrong with the source and is tried again, since the last call: a line each.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Files whose sums the file states.
    fn hashed(&self) -> &[SourceFile];

    /// Bytes that were read of the source so far.
    fn n_read(&self) -> u64;

    /// Adds what makes this another job than others, beside config and tensors.
    fn identify(&self, id: &mut Sha256);

    /// How much errors matter, place by place of a row of tensor `index`; alike where nothing is known.
    fn importance(&self, index: usize) -> Option<&[f32]>;

    /// Threads that quantize; every core without it.
    fn n_threads(&self) -> Option<usize>;
}

/// What all tensors are made of: bytes of the source.
pub fn total_source_bytes(job: &dyn Job) -> u64 {
    (0..job.tensors().len()).map(|index| job.n_source_bytes(index)).sum()
}
