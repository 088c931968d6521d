//! Bytes of a file in, a checked header out: keys, values and tensors, each count, length, type and offset
//! compared with what is there before anything is done with it. Peak memory is that of the metadata itself
//! and a small table per key and tensor; tensor data is not touched.

use std::ops::RangeInclusive;

use ggml::DType;

use super::cursor::{Cursor, Place};
use super::limits::Limits;
use super::size::Size;
use super::{Metadata, Shape, TensorInfo, parse_value};
use crate::error::{Error, Result};

pub(super) const MAGIC: [u8; 4] = *b"GGUF";
pub(super) const VERSION: u32 = 3;
pub(super) const ALIGNMENT_KEY: &str = "general.alignment";
const DEFAULT_ALIGNMENT: u32 = 32;
const ALIGNMENTS: RangeInclusive<u32> = 8..=65_536;
/// As the GGUF specification has it.
const MAX_KEY_BYTES: u64 = 65_535;
/// ggml keeps a name in 64 bytes with a zero behind it.
pub(super) const MAX_NAME_BYTES: u64 = 63;

/// Everything in front of the tensor data.
pub(super) struct Header {
    pub version: u32,
    pub alignment: u32,
    pub metadata: Metadata,
    /// Where the value of each key ends, in the order of the keys.
    pub value_ends: Vec<u64>,
    /// In the order of their data.
    pub tensors: Vec<TensorInfo>,
    /// Where the last tensor's data ends.
    pub data_end: u64,
}

pub(super) fn parse(bytes: &[u8], label: &str, limits: Limits) -> Result<Header> {
    let mut cursor = Cursor::new(label, bytes, limits);
    let version = version(&mut cursor, label)?;
    let n_tensors = cursor.u64(Place::Header)?;
    let n_keys = cursor.u64(Place::Header)?;
    for (what, max, found) in
        [("number of tensors", limits.n_tensors, n_tensors), ("number of keys", limits.n_keys, n_keys)]
    {
        if found > max {
            return Err(cursor.limit(Place::Header, what, max, found));
        }
    }
    let (metadata, value_ends) = metadata(&mut cursor, label, n_keys)?;
    let alignment = alignment(&metadata)?;
    let tensors = tensors(&mut cursor, n_tensors)?;
    let (tensors, data_end) = placed(&cursor, tensors, Size::of(bytes), Size(alignment.into()))?;
    Ok(Header { version, alignment, metadata, value_ends, tensors, data_end: data_end.0 })
}

/// Magic and version. Version 2 differs from 3 only in what it says about byte order.
fn version(cursor: &mut Cursor, label: &str) -> Result<u32> {
    let magic: [u8; 4] = cursor.array(Place::Header)?;
    if magic != MAGIC {
        let found = magic.escape_ascii();
        return Err(cursor.wrong(Place::Header, format!("expected the letters GGUF, found {found}")));
    }
    let version = cursor.u32(Place::Header)?;
    let problem = match version {
        2 | VERSION => return Ok(version),
        0 => "GGUF version 0 does not exist".into(),
        1 => "GGUF version 1 is not read: convert the model anew".into(),
        n if n.trailing_zeros() >= 16 => "a big-endian GGUF is not read: convert the model anew".into(),
        n => format!("GGUF version {n} is newer than this program, which reads 2 and 3"),
    };
    Err(Error::unsupported(label, problem))
}

/// The keys, and where the value of each ends.
fn metadata(cursor: &mut Cursor, label: &str, n_keys: u64) -> Result<(Metadata, Vec<u64>)> {
    // a key takes 13 bytes at least: its length, its value's type, and a value of one byte
    cursor.at_least(n_keys, Size(13), Place::Header)?;
    let (mut entries, mut ends) = (Vec::new(), Vec::new());
    for n in 0..n_keys {
        let key = cursor.str(Place::NthKey(n), MAX_KEY_BYTES)?;
        if key.is_empty() {
            return Err(cursor.wrong(Place::NthKey(n), "expected a name, found an empty one"));
        }
        entries.push((key.to_owned(), parse_value::value(cursor, Place::Key(key))?));
        ends.push(cursor.position().0);
    }
    Ok((Metadata::from_entries(label, entries)?, ends))
}

/// What every tensor's offset is a multiple of.
pub(super) fn alignment(metadata: &Metadata) -> Result<u32> {
    if metadata.get(ALIGNMENT_KEY).is_none() {
        return Ok(DEFAULT_ALIGNMENT);
    }
    let found = metadata.u32(ALIGNMENT_KEY)?;
    match found.is_power_of_two() && ALIGNMENTS.contains(&found) {
        true => Ok(found),
        false => {
            Err(metadata
                .wrong(ALIGNMENT_KEY, format!("expected a power of two of 8 to 65536, found {found}")))
        }
    }
}

/// The tensors as stated, their offsets still counted from the first one's start.
fn tensors(cursor: &mut Cursor, n_tensors: u64) -> Result<Vec<TensorInfo>> {
    // a tensor takes 33 bytes at least: length and letter of a name, one dimension, type, offset
    cursor.at_least(n_tensors, Size(33), Place::Header)?;
    let mut tensors = Vec::new();
    for n in 0..n_tensors {
        tensors.push(tensor(cursor, n)?);
    }
    Ok(tensors)
}

fn tensor(cursor: &mut Cursor, n: u64) -> Result<TensorInfo> {
    let name = cursor.str(Place::NthTensor(n), MAX_NAME_BYTES)?;
    if name.is_empty() {
        return Err(cursor.wrong(Place::NthTensor(n), "expected a name, found an empty one"));
    }
    let place = Place::Tensor(name);
    let shape = shape(cursor, place)?;
    let id = cursor.u32(place)?;
    let dtype = DType::from_id(id)
        .ok_or_else(|| cursor.wrong(place, format!("expected a tensor type that ggml knows, found {id}")))?;
    if !shape.dims()[0].is_multiple_of(dtype.block_len()) {
        let (name, block) = (dtype, dtype.block_len());
        let problem = format!("expected ne[0] to be a multiple of {name}'s {block}, found ne {shape}");
        return Err(cursor.wrong(place, problem));
    }
    let n_bytes = shape.n_bytes(dtype).ok_or_else(|| {
        cursor.wrong(place, format!("expected fewer than 2^64 bytes, found ne {shape} of {dtype}"))
    })?;
    let offset = cursor.u64(place)?;
    Ok(TensorInfo { name: name.to_owned(), dtype, shape, offset, n_bytes })
}

fn shape(cursor: &mut Cursor, place: Place) -> Result<Shape> {
    let n_dims = cursor.u32(place)?;
    let mut ne = [0; Shape::MAX_DIMS];
    let dims = usize::try_from(n_dims).ok().filter(|&n| n > 0).and_then(|n| ne.get_mut(..n));
    let Some(dims) = dims else {
        return Err(cursor.wrong(place, format!("expected 1 to 4 dimensions, found {n_dims}")));
    };
    for n in dims.iter_mut() {
        *n = cursor.u64(place)?;
    }
    Shape::new(dims).ok_or_else(|| {
        cursor.wrong(
            place,
            format!("expected sides of at least 1 and at most 2^62 elements, found ne {dims:?}"),
        )
    })
}

/// Tensors lie one behind the other, each padded to the alignment: checks that and counts their offsets
/// from the start of the file on. Also yields where the last one ends.
fn placed(
    cursor: &Cursor,
    mut tensors: Vec<TensorInfo>,
    file: Size,
    alignment: Size,
) -> Result<(Vec<TensorInfo>, Size)> {
    let too_long = |place| cursor.wrong(place, "expected an end inside of the file, found one past 2^64");
    let base = cursor.position().padded(alignment).ok_or_else(|| too_long(Place::Header))?;
    let (mut next, mut end) = (Size::ZERO, cursor.position());
    for tensor in &mut tensors {
        let place = Place::Tensor(&tensor.name);
        let found = Size(tensor.offset);
        if !found.is_multiple_of(alignment) {
            let problem = format!("expected an offset aligned to {}, found {}", alignment.0, found.0);
            return Err(cursor.wrong(place, problem));
        }
        if found != next {
            let how = if found < next { "overlaps the tensor before" } else { "leaves a gap" };
            return Err(
                cursor.wrong(place, format!("expected offset {}, found {}, which {how}", next.0, found.0))
            );
        }
        let start = base.plus(found).ok_or_else(|| too_long(place))?;
        end = start.plus(Size(tensor.n_bytes)).ok_or_else(|| too_long(place))?;
        if end > file {
            let problem = format!("expected to end inside of the file's {} bytes, found {}", file.0, end.0);
            return Err(cursor.wrong(place, problem));
        }
        next = end.minus(base).and_then(|size| size.padded(alignment)).ok_or_else(|| too_long(place))?;
        tensor.offset = start.0;
    }
    Ok((tensors, end))
}
