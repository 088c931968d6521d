//! A model file in memory: its checked header, and its bytes, shared and never copied.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::cursor::Place;
use super::header::{self, Header};
use super::limits::Limits;
use super::pages::Pages;
use super::size::Size;
use super::{Metadata, TensorInfo, map, split};
use crate::error::{Error, Result};

/// A GGUF, in one file or several, whose header was checked against its bytes.
pub struct Gguf {
    bytes: Bytes,
    /// The files that the bytes are of, one behind the other; none where they were in memory from the beginning.
    files: Vec<(PathBuf, Range<usize>)>,
    /// Absent where the bytes were in memory from the beginning.
    map: Option<map::Map>,
    header: Header,
    /// Indices of the tensors, sorted by name.
    by_name: Vec<u32>,
}

impl Gguf {
    /// Maps the file at `path`, and the others of its model where it is the first of several. It must not be changed in place as long as the result or a share of its
    /// bytes lives: where it is cut short, the next read of what is gone ends the program (by
    /// [`crate::report_lost_maps`] in one line).
    ///
    /// # Errors
    /// Where there is no regular file to be read at `path`, or it is no sound GGUF.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_within(path, Limits::default())
    }

    /// As [`Gguf::open`], with limits of the caller's.
    pub fn open_within(path: &Path, limits: Limits) -> Result<Self> {
        let map = map::map(path)?;
        let file = Self::from_bytes_within(map.bytes(), &path.display().to_string(), limits)?;
        if let Some(paths) = split::siblings(path, file.metadata())? {
            return Self::open_files(&paths, limits);
        }
        let files = vec![(path.to_path_buf(), 0..file.bytes.len())];
        Ok(Self { map: Some(map), files, ..file })
    }

    /// Maps the files of one model, whatever their names are.
    ///
    /// # Errors
    /// As [`Gguf::open`]; and where they are no files of one model, in order and whole.
    pub fn open_files(paths: &[PathBuf], limits: Limits) -> Result<Self> {
        let (map, ranges) = map::map_joined(paths)?;
        let bytes = map.bytes();
        let mut headers = Vec::new();
        for (path, range) in paths.iter().zip(&ranges) {
            let own = bytes.get(range.clone()).unwrap_or_default();
            headers.push((header::parse(own, &path.display().to_string(), limits)?, range.clone()));
        }
        let header = split::join(headers, limits)?;
        let by_name = sorted_by_name(&header.tensors, header.metadata.label())?;
        let files = paths.iter().cloned().zip(ranges).collect();
        Ok(Self { bytes, files, map: Some(map), header, by_name })
    }

    /// Reads a GGUF that is in memory; messages call it `label`.
    ///
    /// # Errors
    /// Where it is no sound GGUF.
    pub fn from_bytes(bytes: Bytes, label: &str) -> Result<Self> {
        Self::from_bytes_within(bytes, label, Limits::default())
    }

    /// As [`Gguf::from_bytes`], for bytes in the program itself.
    pub fn from_static(bytes: &'static [u8], label: &str) -> Result<Self> {
        Self::from_bytes(Bytes::from_static(bytes), label)
    }

    /// As [`Gguf::from_bytes`], with limits of the caller's.
    pub fn from_bytes_within(bytes: Bytes, label: &str, limits: Limits) -> Result<Self> {
        let header = header::parse(&bytes, label, limits)?;
        let by_name = sorted_by_name(&header.tensors, label)?;
        Ok(Self { bytes, files: Vec::new(), map: None, header, by_name })
    }

    /// What messages call this file: its path.
    pub fn label(&self) -> &str {
        self.header.metadata.label()
    }

    /// Version of the container, 2 or 3.
    pub fn version(&self) -> u32 {
        self.header.version
    }

    /// What every tensor's offset is a multiple of.
    pub fn alignment(&self) -> u32 {
        self.header.alignment
    }

    pub fn metadata(&self) -> &Metadata {
        &self.header.metadata
    }

    /// The tensors, in the order of their data.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.header.tensors
    }

    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let info = |index: u32| &self.header.tensors[index as usize];
        let at = self.by_name.binary_search_by(|&index| info(index).name.as_str().cmp(name)).ok()?;
        Some(info(self.by_name[at]))
    }

    /// The bytes of a tensor of this file, in ggml's block layout.
    ///
    /// # Panics
    /// Where `tensor` is of another file, a longer one.
    pub fn data(&self, tensor: &TensorInfo) -> &[u8] {
        let range = Size(tensor.offset).index().zip(Size(tensor.n_bytes).index());
        let bytes = range.and_then(|(start, n_bytes)| self.bytes.get(start..)?.get(..n_bytes));
        match bytes {
            Some(bytes) => bytes,
            None => panic!("tensor {} lies outside of {}", tensor.name, self.label()),
        }
    }

    /// The whole file, shared; [`TensorInfo::offset`] counts from its start.
    pub fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }

    /// The files that this was opened from.
    pub fn files(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// Which of [`Gguf::files`] has a tensor, and at which byte.
    pub fn place(&self, tensor: &TensorInfo) -> Option<(usize, u64)> {
        let offset = Size(tensor.offset);
        let holds =
            |(_, range): &(PathBuf, Range<usize>)| offset.index().is_some_and(|at| range.contains(&at));
        let file = self.files.iter().position(holds)?;
        Some((file, offset.minus(Size(self.files[file].1.start as u64))?.0))
    }

    /// Where in [`Gguf::bytes`], and in the first of [`Gguf::files`], the array of u8 under `key` stands.
    pub fn array_place(&self, key: &str) -> Option<Range<usize>> {
        let n_bytes = self.metadata().u8s(key).ok()?.len();
        let end = Size(*self.header.value_ends.get(self.metadata().index(key)?)?).index()?;
        Some(end.checked_sub(n_bytes)?..end)
    }

    /// Everything in front of the tensors; of the first file, where there are several.
    pub fn header_bytes(&self) -> &[u8] {
        let first = self.tensors().iter().map(|tensor| tensor.offset).min();
        let end = first.and_then(|offset| Size(offset).index()).unwrap_or(self.bytes.len());
        self.bytes.get(..end).unwrap_or(&self.bytes)
    }

    /// SHA-256 of [`Gguf::header_bytes`], as they are while the array of u8 under `key` is zero, if there is one.
    pub fn header_digest_without(&self, key: &str) -> [u8; 32] {
        let header = self.header_bytes();
        let end = Size::of(header).index().unwrap_or(0);
        let room = self.array_place(key).unwrap_or(end..end);
        let mut sum = Sha256::new();
        sum.update(header.get(..room.start).unwrap_or_default());
        sum.update(vec![0; room.len()]);
        sum.update(header.get(room.end..).unwrap_or_default());
        sum.finalize().into()
    }

    /// The pages of those tensors that `wanted` names; none where this file is not mapped.
    pub fn pages(&self, wanted: impl Fn(&str) -> bool) -> Pages {
        let tensors = self.tensors().iter().filter(|tensor| wanted(&tensor.name));
        Pages::new(self.map.clone(), tensors)
    }

    /// Bytes behind the last tensor and its padding, which nothing accounts for.
    pub fn n_trailing_bytes(&self) -> u64 {
        let end = Size(self.header.data_end);
        let padded = end.padded(Size(self.header.alignment.into())).unwrap_or(end);
        Size::of(&self.bytes).minus(padded).map_or(0, |size| size.0)
    }
}

/// Without what it holds, which may be gigabytes.
impl fmt::Debug for Gguf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n_keys, n_tensors) = (self.metadata().iter().len(), self.tensors().len());
        write!(f, "Gguf({}: {n_keys} keys, {n_tensors} tensors)", self.label())
    }
}

/// # Errors
/// Where two tensors have one name.
fn sorted_by_name(tensors: &[TensorInfo], label: &str) -> Result<Vec<u32>> {
    let name_of = |index: u32| tensors[index as usize].name.as_str();
    let mut sorted: Vec<u32> = (0u32..).take(tensors.len()).collect();
    sorted.sort_by(|&a, &b| name_of(a).cmp(name_of(b)));
    match sorted.windows(2).find(|pair| name_of(pair[0]) == name_of(pair[1])) {
        Some(twins) => {
            Err(Error::format(label, Place::Tensor(name_of(twins[0])), "expected once, found twice"))
        }
        None => Ok(sorted),
    }
}
