//! The header of a file that is to be written: keys, tensors and where their data will lie.

use std::collections::HashSet;

use ggml::DType;

use super::header::{MAGIC, MAX_NAME_BYTES, VERSION, alignment};
use super::number::Number;
use super::size::Size;
use super::{Array, CHECKSUM_BYTES, CHECKSUMS_KEY, Metadata, Shape, TensorInfo, Value};
use crate::error::{Error, Result};

/// A tensor that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorPlan {
    pub name: String,
    pub dtype: DType,
    pub shape: Shape,
}

/// A header in memory, the checksums still zero.
pub(super) struct HeaderBytes {
    pub bytes: Vec<u8>,
    pub alignment: u32,
    /// As planned, with the places that they will have.
    pub tensors: Vec<TensorInfo>,
    /// Where the checksums belong.
    pub checksums_at: u64,
}

impl HeaderBytes {
    pub fn new(metadata: &Metadata, plan: &[TensorPlan]) -> Result<Self> {
        Self::with_checksums(metadata, plan, Some(plan.len()))
    }

    /// With room for `n_checksums` of them, those of other files' tensors as well; without the key where there is no number.
    pub fn with_checksums(
        metadata: &Metadata,
        plan: &[TensorPlan],
        n_checksums: Option<usize>,
    ) -> Result<Self> {
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC);
        VERSION.put_le(&mut out);
        Size::of(plan).0.put_le(&mut out);
        let others = || metadata.iter().filter(|(key, _)| *key != CHECKSUMS_KEY);
        let n_others = others().count() as u64;
        n_others.saturating_add(u64::from(n_checksums.is_some())).put_le(&mut out);
        for (key, value) in others() {
            put_str(key, &mut out);
            put_value(value, &mut out);
        }
        let zeros = vec![0u8; n_checksums.unwrap_or(0).saturating_mul(CHECKSUM_BYTES)];
        let n_zeros = Size::of(&zeros);
        if n_checksums.is_some() {
            put_str(CHECKSUMS_KEY, &mut out);
            put_value(&zeros.into(), &mut out);
        }
        let checksums_at = Size::of(&out).minus(n_zeros).unwrap_or(Size::ZERO);

        let alignment = alignment(metadata)?;
        let mut tensors = laid_out(plan, Size(alignment.into()), metadata.label())?;
        for tensor in &tensors {
            put_tensor(tensor, &mut out);
        }
        let base = Size::of(&out).padded(Size(alignment.into())).unwrap_or(Size::ZERO);
        for tensor in &mut tensors {
            tensor.offset = tensor.offset.saturating_add(base.0);
        }
        Ok(Self { bytes: out, alignment, tensors, checksums_at: checksums_at.0 })
    }
}

/// One tensor behind the other, offsets counted from the first one's start.
fn laid_out(plan: &[TensorPlan], alignment: Size, label: &str) -> Result<Vec<TensorInfo>> {
    let mut names = HashSet::new();
    let mut next = Size::ZERO;
    let mut tensors = Vec::new();
    for TensorPlan { name, dtype, shape } in plan {
        let wrong = |problem: String| Error::format(label, format_args!("tensor {name}"), problem);
        if !(1..=MAX_NAME_BYTES).contains(&(name.len() as u64)) {
            return Err(wrong(format!(
                "expected a name of 1 to {MAX_NAME_BYTES} bytes, found {}",
                name.len()
            )));
        }
        if !names.insert(name) {
            return Err(wrong("expected once, found twice".into()));
        }
        let n_bytes = shape.n_bytes(*dtype).ok_or_else(|| {
            wrong(format!(
                "expected ne[0] to be a multiple of {dtype}'s {}, found ne {shape}",
                dtype.block_len()
            ))
        })?;
        tensors.push(TensorInfo {
            name: name.clone(),
            dtype: *dtype,
            shape: *shape,
            offset: next.0,
            n_bytes,
        });
        next = next
            .plus(Size(n_bytes))
            .and_then(|end| end.padded(alignment))
            .filter(|&end| end <= Size(MAX_DATA_BYTES))
            .ok_or_else(|| wrong(format!("expected a file of at most {MAX_DATA_BYTES} bytes, found more")))?;
    }
    Ok(tensors)
}

/// More than any file system holds, and far from where offsets wrap.
const MAX_DATA_BYTES: u64 = 1 << 60;

/// Bytes that a header spends on a tensor.
pub(super) fn tensor_bytes(plan: &TensorPlan) -> Size {
    let mut out = Vec::new();
    let (name, dtype, shape) = (plan.name.clone(), plan.dtype, plan.shape);
    put_tensor(&TensorInfo { name, dtype, shape, offset: 0, n_bytes: 0 }, &mut out);
    Size::of(&out)
}

fn put_tensor(tensor: &TensorInfo, out: &mut Vec<u8>) {
    put_str(&tensor.name, out);
    let dims = tensor.shape.dims();
    (dims.len() as u32).put_le(out);
    for &n in dims {
        n.put_le(out);
    }
    tensor.dtype.id().put_le(out);
    tensor.offset.put_le(out);
}

fn put_str(text: &str, out: &mut Vec<u8>) {
    Size::of(text.as_bytes()).0.put_le(out);
    out.extend_from_slice(text.as_bytes());
}

fn put_value(value: &Value, out: &mut Vec<u8>) {
    value.value_type().id().put_le(out);
    match value {
        Value::U8(n) => n.put_le(out),
        Value::I8(n) => n.put_le(out),
        Value::U16(n) => n.put_le(out),
        Value::I16(n) => n.put_le(out),
        Value::U32(n) => n.put_le(out),
        Value::I32(n) => n.put_le(out),
        Value::F32(x) => x.put_le(out),
        Value::U64(n) => n.put_le(out),
        Value::I64(n) => n.put_le(out),
        Value::F64(x) => x.put_le(out),
        Value::Bool(flag) => u8::from(*flag).put_le(out),
        Value::Str(text) => put_str(text, out),
        Value::Array(array) => put_array(array, out),
    }
}

fn put_array(array: &Array, out: &mut Vec<u8>) {
    fn all<T: Number>(items: &[T], out: &mut Vec<u8>) {
        items.iter().for_each(|item| item.put_le(out));
    }
    array.item_type().id().put_le(out);
    (array.len() as u64).put_le(out);
    match array {
        Array::U8(items) => all(items, out),
        Array::I8(items) => all(items, out),
        Array::U16(items) => all(items, out),
        Array::I16(items) => all(items, out),
        Array::U32(items) => all(items, out),
        Array::I32(items) => all(items, out),
        Array::F32(items) => all(items, out),
        Array::U64(items) => all(items, out),
        Array::I64(items) => all(items, out),
        Array::F64(items) => all(items, out),
        Array::Bool(items) => items.iter().for_each(|&flag| u8::from(flag).put_le(out)),
        Array::Str(items) => items.iter().for_each(|item| put_str(item, out)),
    }
}
