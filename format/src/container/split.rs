//! A model in several files, as llama.cpp's gguf-split names and marks them: `NAME-00001-of-00003.gguf` and so on, the
//! first with all of the metadata, each with `split.no`, `split.count` and `split.tensors.count`.
//!
//! In: the first one's path and keys. Out: the paths of all, and one header for all of their tensors.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::Metadata;
use super::header::Header;
use super::limits::Limits;
use super::size::Size;
use crate::error::{Error, Result};

/// Which file it is, from 0 on.
const NO: &str = "split.no";
const COUNT: &str = "split.count";
/// Tensors of all files together.
const N_TENSORS: &str = "split.tensors.count";
/// Files of one model.
pub const MAX_FILES: u16 = 256;

/// File `no`, from 0 on, of `count` that stand for `target`: `model.gguf` becomes `model-00001-of-00003.gguf`.
pub fn split_path(target: &Path, no: u16, count: u16) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(".gguf").unwrap_or(&name);
    target.with_file_name(format!("{stem}{}", ending(no, count)))
}

fn ending(no: u16, count: u16) -> String {
    format!("-{:05}-of-{count:05}.gguf", u32::from(no).saturating_add(1))
}

/// Marks the metadata of file `no` of `count`, whose tensors are `n_tensors` together.
pub fn mark_split(metadata: &mut Metadata, no: u16, count: u16, n_tensors: usize) {
    metadata.put(NO, no);
    metadata.put(COUNT, count);
    metadata.put(N_TENSORS, i32::try_from(n_tensors).unwrap_or(i32::MAX));
}

/// All files of the model whose first one is at `path` and says `metadata`; none where it is the only one.
///
/// # Errors
/// Where it is another one than the first, or has a name that does not tell the others'.
pub(super) fn siblings(path: &Path, metadata: &Metadata) -> Result<Option<Vec<PathBuf>>> {
    if metadata.get(COUNT).is_none() {
        return Ok(None);
    }
    let (no, count) = (metadata.u16(NO)?, metadata.u16(COUNT)?);
    if count <= 1 {
        return Ok(None);
    }
    if count > MAX_FILES {
        let (path, at) = (metadata.label().to_owned(), format!("key {COUNT}"));
        return Err(Error::Limit { path, at, max: MAX_FILES.into(), found: count.into() });
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Some(stem) = name.strip_suffix(&ending(no, count)) else {
        let problem = format!("expected a name that ends with {} as its keys say", ending(no, count));
        return Err(Error::unsupported(metadata.label(), problem));
    };
    let path_of = |no| path.with_file_name(format!("{stem}{}", ending(no, count)));
    if no != 0 {
        let problem = format!("one of {count} files of a model: open the first, {}", path_of(0).display());
        return Err(Error::unsupported(metadata.label(), problem));
    }
    Ok(Some((0..count).map(path_of).collect()))
}

/// One header of `files`, each the header of its own bytes, which lie at a range of all bytes.
///
/// # Errors
/// Where they are no files of one model, in order and whole.
pub(super) fn join(files: Vec<(Header, Range<usize>)>, limits: Limits) -> Result<Header> {
    let count = files.len();
    let mut joined: Option<Header> = None;
    for (no, (header, range)) in files.into_iter().enumerate() {
        let metadata = &header.metadata;
        for (key, expected) in [(NO, no), (COUNT, count)] {
            let found = metadata.u16(key)?;
            if usize::from(found) != expected {
                return Err(metadata.wrong(key, format!("expected {expected}, found {found}")));
            }
        }
        let end = Size(header.data_end).padded(Size(header.alignment.into()));
        if no.saturating_add(1) < count && end.and_then(|end| end.index()).is_none_or(|end| end < range.len())
        {
            let problem = "expected the file to end behind its last tensor, found more bytes";
            return Err(Error::format(metadata.label(), "end", problem));
        }
        let start = range.start as u64;
        let place = |mut tensor: super::TensorInfo| {
            tensor.offset = tensor.offset.saturating_add(start);
            tensor
        };
        let tensors = header.tensors.into_iter().map(place);
        let data_end = header.data_end.saturating_add(start);
        match &mut joined {
            None => joined = Some(Header { tensors: tensors.collect(), data_end, ..header }),
            Some(joined) => {
                joined.tensors.extend(tensors);
                joined.data_end = data_end;
            }
        }
        let n_tensors = joined.as_ref().map_or(0, |joined| joined.tensors.len() as u64);
        if n_tensors > limits.n_tensors {
            let (path, at) = (
                joined.map_or_else(String::new, |j| j.metadata.label().to_owned()),
                "number of tensors".into(),
            );
            return Err(Error::Limit { path, at, max: limits.n_tensors, found: n_tensors });
        }
    }
    let Some(joined) = joined else {
        return Err(Error::unsupported("no files", "expected a GGUF, found none"));
    };
    let stated = joined.metadata.i32(N_TENSORS)?;
    if usize::try_from(stated).ok() != Some(joined.tensors.len()) {
        let problem = format!("expected {}, found {stated}", joined.tensors.len());
        return Err(joined.metadata.wrong(N_TENSORS, problem));
    }
    Ok(joined)
}
