//! Reads what `torch.save` writes: a zip of stored entries, `<top>/data.pkl` with the pickled dict and
//! `<top>/data/<key>` with the bytes of each storage. Only the directory and the pickle are read here; tensors
//! become places in the file.

use std::collections::HashMap;
use std::io::BufReader;

use zip::{CompressionMethod, ZipArchive};

use super::file::SourceFile;
use super::pickle::{self, PickledTensor};
use super::tensor::{N_TENSORS_MAX, SourceTensor, n_elements, shape_text};
use crate::error::{Error, Result};

/// Far above what names and shapes of a model take.
const PICKLE_BYTES_MAX: u64 = 64 << 20;

/// The file's tensors in the order of its dict.
pub fn read(file: &SourceFile, file_index: usize) -> Result<Vec<(String, SourceTensor)>> {
    let label = file.label();
    refuse_other_formats(file)?;
    let entries = entries(file)?;
    let mut tops =
        entries.keys().filter_map(|name| name.strip_suffix("/data.pkl")).filter(|top| !top.contains('/'));
    let (Some(top), None) = (tops.next(), tops.next()) else {
        return Err(Error::format(
            &label,
            "expected one entry data.pkl in the archive, found none or several",
        ));
    };
    if let Some(order) = entries.get(&format!("{top}/byteorder")) {
        let order = file.bytes_at(order.offset, order.len.min(16) as usize)?;
        if order != b"little" {
            return Err(Error::unsupported(&label, "expected byte order little, found another"));
        }
    }
    let place = format!("{label}: {top}/data.pkl");
    let pickled = &entries[&format!("{top}/data.pkl")];
    if pickled.len > PICKLE_BYTES_MAX {
        return Err(Error::limit(place, format!("{} bytes", pickled.len), PICKLE_BYTES_MAX));
    }
    let pickled = file.bytes_at(pickled.offset, pickled.len as usize)?;
    let tensors = pickle::read(&pickled).map_err(|e| Error::format(&place, e.to_string()))?;
    if tensors.len() > N_TENSORS_MAX {
        return Err(Error::limit(place, format!("{} tensors", tensors.len()), N_TENSORS_MAX as u64));
    }
    let mut found = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let place = format!("{label}: tensor {name}");
        let key = format!("{top}/data/{}", tensor.key);
        let Some(entry) = entries.get(&key) else {
            return Err(Error::format(
                place,
                format!("expected its storage in entry {key}, found no such entry"),
            ));
        };
        found.push((name, in_file(place, tensor, entry, file_index)?));
    }
    Ok(found)
}

/// Turns a view into a storage into a place in the file, with everything inside everything.
fn in_file(place: String, tensor: PickledTensor, entry: &Entry, file: usize) -> Result<SourceTensor> {
    let PickledTensor { dtype, n_storage, offset, shape, strides, .. } = tensor;
    if n_storage.checked_mul(dtype.n_bytes()) != Some(entry.len) {
        let what =
            format!("expected a storage of {n_storage} elements of {dtype}, found {} bytes", entry.len);
        return Err(Error::format(place, what));
    }
    let n = n_elements(&shape)
        .ok_or_else(|| Error::format(&place, format!("shape {} is more than 2^64", shape_text(&shape))))?;
    // the last element a view reaches is sum((size - 1) * stride) beyond its first
    let last = shape.iter().zip(&strides).try_fold(offset, |sum, (size, stride)| {
        size.saturating_sub(1).checked_mul(*stride).and_then(|reach| sum.checked_add(reach))
    });
    if n > 0 && last.is_none_or(|last| last >= n_storage) {
        return Err(Error::format(
            place,
            format!(
                "expected shape {} with strides {} from element {offset} inside its storage of {n_storage}, \
                 found it reaching beyond",
                shape_text(&shape),
                shape_text(&strides)
            ),
        ));
    }
    let offset = entry.offset + offset.min(n_storage) * dtype.n_bytes();
    let strides = if is_contiguous(&shape, &strides) { None } else { Some(strides) };
    Ok(SourceTensor { file, dtype, shape, offset, strides, below: Vec::new() })
}

/// Whether the elements lie in row-major order without gaps; strides of dimensions of size 1 say nothing.
fn is_contiguous(shape: &[u64], strides: &[u64]) -> bool {
    let mut expected = 1u64;
    for (size, stride) in shape.iter().zip(strides).rev() {
        if *size != 1 && *stride != expected {
            return false;
        }
        expected = expected.saturating_mul(*size);
    }
    true
}

struct Entry {
    offset: u64,
    len: u64,
}

/// Every stored entry by name, with its place in the file.
fn entries(file: &SourceFile) -> Result<HashMap<String, Entry>> {
    let label = file.label();
    let bad = |e: zip::result::ZipError| match e {
        zip::result::ZipError::Io(e) if e.kind() != std::io::ErrorKind::UnexpectedEof => {
            e.downcast::<Error>().unwrap_or_else(|e| Error::io(file.path(), e))
        }
        e => Error::format(&label, format!("truncated, or no sound zip archive: {e}")),
    };
    let mut archive = ZipArchive::new(BufReader::new(file.cursor())).map_err(bad)?;
    let mut entries = HashMap::with_capacity(archive.len());
    for i in 0..archive.len() {
        let entry = archive.by_index_raw(i).map_err(bad)?;
        let place = || format!("{label}: entry {}", entry.name().escape_debug());
        if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
            return Err(Error::unsupported(
                place(),
                "expected stored bytes, found them compressed or encrypted",
            ));
        }
        let len = entry.size();
        let offset = entry.data_start().ok_or_else(|| Error::format(place(), "has no place in the file"))?;
        if entry.compressed_size() != len || offset.checked_add(len).is_none_or(|end| end > file.n_bytes()) {
            let what = format!("expected {len} bytes at byte {offset}, found a file of {}", file.n_bytes());
            return Err(Error::format(place(), what));
        }
        let name = entry.name().to_string();
        drop(entry);
        entries.insert(name, Entry { offset, len });
    }
    Ok(entries)
}

fn refuse_other_formats(file: &SourceFile) -> Result<()> {
    let start = file.bytes_at(0, file.n_bytes().min(16) as usize)?;
    file.refuse_pointer(&start)?;
    if start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06") {
        return Ok(());
    }
    let what = if start.starts_with(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19") {
        "expected a zip archive, found the format of torch before 1.6: load and save it once with a newer torch"
    } else {
        "expected a zip archive as torch.save writes it, found something else"
    };
    Err(Error::unsupported(file.label(), what))
}

#[cfg(test)]
#[path = "torch_tests.rs"]
mod tests;
