//! A file's shape before it has contents, for models that are made in memory and for files whose tensors are not
//! written in their order.

use super::encode::TensorPlan;
use super::header_bytes::HeaderBytes;
use super::size::Size;
use super::{CHECKSUM_BYTES, Metadata, TensorInfo};
use crate::error::{Error, Result};

/// Where everything of a file lies. Its checksums are zero until [`Layout::set_checksums`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Everything in front of the tensors.
    pub header: Vec<u8>,
    /// In the order of their data; what lies between them is zero.
    pub tensors: Vec<TensorInfo>,
    /// Of the whole file.
    pub n_bytes: u64,
    checksums_at: u64,
}

impl Layout {
    /// # Errors
    /// As [`Encoder::new`](super::Encoder::new).
    pub fn new(metadata: &Metadata, plan: &[TensorPlan]) -> Result<Self> {
        let HeaderBytes { bytes: header, alignment, tensors, checksums_at } =
            HeaderBytes::new(metadata, plan)?;
        let end = match tensors.last() {
            Some(last) => Size(last.offset).plus(Size(last.n_bytes)),
            None => Some(Size::of(&header)),
        };
        let padded = end.and_then(|end| end.padded(Size(alignment.into())));
        let too_long = || Error::format(metadata.label(), "end", "expected a file of fewer bytes");
        Ok(Self { header, tensors, n_bytes: padded.ok_or_else(too_long)?.0, checksums_at })
    }

    /// States the SHA-256 of every tensor, in their order.
    ///
    /// # Panics
    /// Where there is not one for every tensor.
    pub fn set_checksums(&mut self, checksums: &[[u8; CHECKSUM_BYTES]]) {
        assert_eq!(checksums.len(), self.tensors.len(), "a checksum for every tensor");
        let room = Size(self.checksums_at).index().and_then(|at| self.header.get_mut(at..));
        let (room, _) = room.unwrap_or_default().as_chunks_mut();
        for (room, checksum) in room.iter_mut().zip(checksums) {
            *room = *checksum;
        }
    }
}
