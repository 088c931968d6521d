//! A file's shape before it has contents, for models that are made in memory and for files whose tensors are not
//! written in their order.

use std::ops::Range;

use super::header::{ALIGNMENT_KEY, alignment};
use super::header_bytes::{HeaderBytes, TensorPlan, tensor_bytes};
use super::size::Size;
use super::split::{MAX_FILES, mark_split};
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
    n_checksums: usize,
}

impl Layout {
    /// # Errors
    /// As [`Encoder::new`](super::Encoder::new).
    pub fn new(metadata: &Metadata, plan: &[TensorPlan]) -> Result<Self> {
        Self::with_checksums(metadata, plan, Some(plan.len()))
    }

    /// The files of a model none of which is longer than `max_bytes`: the first has all keys and all checksums. One that
    /// needs no second is not marked as one of several.
    ///
    /// # Errors
    /// As [`Layout::new`]; and where the keys or one tensor are longer than that, or the files more than may be.
    pub fn split(metadata: &Metadata, plan: &[TensorPlan], max_bytes: u64) -> Result<Vec<Self>> {
        let whole = Self::new(metadata, plan)?;
        if whole.n_bytes <= max_bytes {
            return Ok(vec![whole]);
        }
        let shares = shares(metadata, plan, max_bytes)?;
        let count =
            u16::try_from(shares.len()).ok().filter(|count| *count <= MAX_FILES).ok_or_else(|| {
                let (path, at) = (metadata.label().to_owned(), "files".to_owned());
                Error::Limit { path, at, max: MAX_FILES.into(), found: shares.len() as u64 }
            })?;
        let layout = |(no, share): (u16, Range<usize>)| {
            let metadata = marked(metadata, no, count, plan.len())?;
            let n_checksums = (no == 0).then_some(plan.len());
            Self::with_checksums(&metadata, plan.get(share).unwrap_or_default(), n_checksums)
        };
        (0..count).zip(shares).map(layout).collect()
    }

    fn with_checksums(metadata: &Metadata, plan: &[TensorPlan], n_checksums: Option<usize>) -> Result<Self> {
        let HeaderBytes { bytes: header, alignment, tensors, checksums_at } =
            HeaderBytes::with_checksums(metadata, plan, n_checksums)?;
        let end = match tensors.last() {
            Some(last) => Size(last.offset).plus(Size(last.n_bytes)),
            None => Some(Size::of(&header)),
        };
        let padded = end.and_then(|end| end.padded(Size(alignment.into())));
        let too_long = || Error::format(metadata.label(), "end", "expected a file of fewer bytes");
        Ok(Self {
            header,
            tensors,
            n_bytes: padded.ok_or_else(too_long)?.0,
            checksums_at,
            n_checksums: n_checksums.unwrap_or(0),
        })
    }

    /// States the SHA-256 of every tensor, in their order; those of all files in the first of several.
    ///
    /// # Panics
    /// Where there is not one for every tensor.
    pub fn set_checksums(&mut self, checksums: &[[u8; CHECKSUM_BYTES]]) {
        assert_eq!(checksums.len(), self.n_checksums, "a checksum for every tensor");
        let room = Size(self.checksums_at).index().and_then(|at| self.header.get_mut(at..));
        let (room, _) = room.unwrap_or_default().as_chunks_mut();
        for (room, checksum) in room.iter_mut().zip(checksums) {
            *room = *checksum;
        }
    }
}

/// The keys of file `no`: all in the first, in the others what reading them takes.
fn marked(metadata: &Metadata, no: u16, count: u16, n_tensors: usize) -> Result<Metadata> {
    let mut marked = metadata.clone();
    if no > 0 {
        marked = Metadata::new(metadata.label());
        marked.put(ALIGNMENT_KEY, alignment(metadata)?);
    }
    mark_split(&mut marked, no, count, n_tensors);
    Ok(marked)
}

/// Neighbouring tensors that go into one file, as many as fit.
fn shares(metadata: &Metadata, plan: &[TensorPlan], max_bytes: u64) -> Result<Vec<Range<usize>>> {
    let (max, unit) = (Size(max_bytes), Size(alignment(metadata)?.into()));
    let header = |no: u16, n_checksums| -> Result<Size> {
        let keys = marked(metadata, no, MAX_FILES, plan.len())?;
        Ok(Size::of(&HeaderBytes::with_checksums(&keys, &[], n_checksums)?.bytes))
    };
    let too_long = |at: String, found: Size| {
        Err(Error::Limit { path: metadata.label().to_owned(), at, max: max.0, found: found.0 })
    };
    let total = |header: Size, data: Size| header.padded(unit).and_then(|header| header.plus(data));
    let (first, other) = (header(0, Some(plan.len()))?, header(1, None)?);
    if first > max {
        return too_long("bytes of the keys in the first of several files".to_owned(), first);
    }
    let mut shares = Vec::from([Range { start: 0, end: 0 }]);
    let (mut head, mut data) = (first, Size::ZERO);
    for (at, tensor) in plan.iter().enumerate() {
        let endless =
            || Error::format(metadata.label(), format_args!("tensor {}", tensor.name), "too many bytes");
        let own =
            tensor.shape.n_bytes(tensor.dtype).and_then(|n| Size(n).padded(unit)).ok_or_else(endless)?;
        let with_own = |head: Size, data: Size| {
            let head = head.plus(tensor_bytes(tensor))?;
            Some((head, data.plus(own)?))
                .filter(|(head, data)| total(*head, *data).is_some_and(|all| all <= max))
        };
        if let Some(more) = with_own(head, data) {
            (head, data) = more;
        } else if let Some(anew) = with_own(other, Size::ZERO) {
            (head, data) = anew;
            shares.push(at..at);
        } else {
            let least = total(other, own).unwrap_or(own);
            return too_long(format!("bytes of a file with tensor {}", tensor.name), least);
        }
        if let Some(share) = shares.last_mut() {
            share.end = at.saturating_add(1);
        }
    }
    Ok(shares)
}
