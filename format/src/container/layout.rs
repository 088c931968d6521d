//! A file's shape before it has contents, for models that are made in memory and that nobody will verify.

use super::encode::TensorPlan;
use super::header_bytes::HeaderBytes;
use super::size::Size;
use super::{Metadata, TensorInfo};
use crate::error::{Error, Result};

/// Where everything of a file lies. Its checksums are zero: who wants true ones writes with [`Encoder`](super::Encoder).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Everything in front of the tensors.
    pub header: Vec<u8>,
    /// In the order of their data; what lies between them is zero.
    pub tensors: Vec<TensorInfo>,
    /// Of the whole file.
    pub n_bytes: u64,
}

impl Layout {
    /// # Errors
    /// As [`Encoder::new`](super::Encoder::new).
    pub fn new(metadata: &Metadata, plan: &[TensorPlan]) -> Result<Self> {
        let HeaderBytes { bytes: header, alignment, tensors, .. } = HeaderBytes::new(metadata, plan)?;
        let end = match tensors.last() {
            Some(last) => Size(last.offset).plus(Size(last.n_bytes)),
            None => Some(Size::of(&header)),
        };
        let padded = end.and_then(|end| end.padded(Size(alignment.into())));
        let too_long = || Error::format(metadata.label(), "end", "expected a file of fewer bytes");
        Ok(Self { header, tensors, n_bytes: padded.ok_or_else(too_long)?.0 })
    }
}
