//! One tensor of the file to be, as a plan has it: where it comes from, and what becomes of it on the way.

use std::sync::Arc;

use owlet_format::TensorSpec;

use crate::checkpoint::SourceType;
use crate::family::Source;
use crate::recipe::Chosen;

/// One tensor of the file to be.
#[derive(Debug, Clone)]
pub struct PlannedTensor {
    pub spec: TensorSpec,
    pub source: Source,
    pub source_type: SourceType,
    pub chosen: Chosen,
    /// What rows are multiplied with before they are stored.
    pub fold: Option<Fold>,
    /// Bytes in the file.
    pub n_bytes: u64,
}

/// What the rows of a tensor are multiplied with, channel by channel: powers of two.
#[derive(Debug, Clone)]
pub struct Fold {
    pub factors: Arc<[f32]>,
    /// Factors that are not 1.
    pub n_channels: usize,
}
