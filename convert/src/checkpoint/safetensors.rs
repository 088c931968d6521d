//! Reads the header of a safetensors file: 8 bytes of length, then a JSON object of
//! `name: {dtype, shape, data_offsets}`, then the data.
//!
//! Every number is checked against the bytes that are there. Data bytes are never touched here.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::dtype::SourceType;
use super::file::SourceFile;
use super::tensor::{N_TENSORS_MAX, SourceTensor, n_elements, shape_text};
use crate::error::{Error, Result};

/// What the format's own reader allows for the header.
const HEADER_BYTES_MAX: u64 = 100_000_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// The header's tensors in the order of their names in the file.
pub fn read(file: &SourceFile, file_index: usize) -> Result<Vec<(String, SourceTensor)>> {
    let label = file.label();
    let bad = |what: String| Error::format(&label, what);
    if file.n_bytes() < 8 {
        return Err(bad(format!("truncated: expected 8 bytes of header length, found {}", file.n_bytes())));
    }
    let mut len = [0; 8];
    file.read_at(0, &mut len)?;
    file.refuse_pointer(&len)?;
    let header_len = u64::from_le_bytes(len);
    if header_len > HEADER_BYTES_MAX {
        return Err(Error::limit(&label, format!("header of {header_len} bytes"), HEADER_BYTES_MAX));
    }
    if header_len > file.n_bytes() - 8 {
        return Err(bad(format!(
            "truncated: expected a header of {header_len} bytes, found {}",
            file.n_bytes() - 8
        )));
    }
    let header = file.bytes_at(8, header_len as usize)?;
    let header: Header = serde_json::from_slice(&header).map_err(|e| bad(format!("header: {e}")))?;

    let data_start = 8 + header_len;
    let data_len = file.n_bytes() - data_start;
    let mut tensors = Vec::with_capacity(header.0.len());
    for (name, entry) in header.0 {
        let [begin, end] = entry.data_offsets;
        let Some(dtype) = SourceType::from_safetensors(&entry.dtype) else {
            let what = format!("tensor {name}: dtype {} is not known", entry.dtype);
            return Err(Error::unsupported(&label, what));
        };
        if begin > end || end > data_len {
            return Err(bad(format!(
                "tensor {name}: expected its data inside the file's {data_len} bytes of data, found {begin}..{end}"
            )));
        }
        let expected = n_elements(&entry.shape).and_then(|n| n.checked_mul(dtype.n_bytes()));
        if expected != Some(end - begin) {
            return Err(bad(format!(
                "tensor {name}: expected {} bytes for {} of shape {}, found {}",
                expected.map_or_else(|| "more than 2^64".to_string(), |n| n.to_string()),
                entry.dtype,
                shape_text(&entry.shape),
                end - begin
            )));
        }
        let tensor = SourceTensor {
            file: file_index,
            dtype,
            shape: entry.shape,
            offset: data_start + begin,
            strides: None,
            below: Vec::new(),
        };
        tensors.push((name, tensor));
    }
    refuse_overlaps(&label, &tensors)?;
    Ok(tensors)
}

/// No byte belongs to two tensors.
fn refuse_overlaps(label: &str, tensors: &[(String, SourceTensor)]) -> Result<()> {
    let mut by_offset: Vec<_> = tensors.iter().filter(|(_, t)| t.n_bytes() > 0).collect();
    by_offset.sort_by_key(|(_, t)| t.offset);
    for pair in by_offset.windows(2) {
        let [(name_a, a), (name_b, b)] = pair else { continue };
        if a.offset + a.n_bytes() > b.offset {
            return Err(Error::format(label, format!("tensor {name_b}: its data overlaps that of {name_a}")));
        }
    }
    Ok(())
}

/// The JSON object with its entries in order; a name that stands twice is refused, which a map would hide.
struct Header(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Header, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Header, M::Error> {
                let mut seen = std::collections::HashSet::new();
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !seen.insert(name.clone()) {
                        return Err(serde::de::Error::custom(format!("tensor {name} stands twice")));
                    }
                    if seen.len() > N_TENSORS_MAX {
                        return Err(serde::de::Error::custom(format!("more than {N_TENSORS_MAX} tensors")));
                    }
                    if name == "__metadata__" {
                        map.next_value::<serde::de::IgnoredAny>()?;
                    } else {
                        entries.push((name, map.next_value()?));
                    }
                }
                Ok(Header(entries))
            }
        }

        from.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<Vec<(String, SourceTensor)>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.safetensors");
        std::fs::write(&path, bytes).unwrap();
        read(&SourceFile::open(&path).unwrap(), 0)
    }

    fn with_header(json: &str, n_data: usize) -> Vec<u8> {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(json.as_bytes());
        bytes.resize(bytes.len() + n_data, 0);
        bytes
    }

    #[test]
    fn reads_names_types_shapes_and_places() {
        let json = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},
            "a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}"#;
        let tensors = parse(&with_header(json, 16)).unwrap();
        let base = 8 + json.len() as u64;
        assert_eq!(tensors[0].0, "b");
        assert_eq!(tensors[0].1.shape, [2, 3]);
        assert_eq!((tensors[0].1.dtype, tensors[0].1.offset), (SourceType::BF16, base + 4));
        assert_eq!((tensors[1].1.dtype, tensors[1].1.offset), (SourceType::F32, base));
    }

    #[test]
    fn refuses_every_lie_of_a_header() {
        let one = |dtype: &str, shape: &str, offsets: &str| {
            format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
        };
        let cases: Vec<(Vec<u8>, &str)> = vec![
            (vec![1, 2, 3], "truncated: expected 8 bytes of header length, found 3"),
            (
                u64::MAX.to_le_bytes().to_vec(),
                "header of 18446744073709551615 bytes beyond the limit of 100000000",
            ),
            (9u64.to_le_bytes().to_vec(), "truncated: expected a header of 9 bytes, found 0"),
            (with_header("{]", 0), "header: "),
            (with_header("[1]", 0), "header: invalid type: sequence, expected an object of tensors"),
            (with_header(r#"{"a":{"dtype":"F32"}}"#, 0), "header: missing field `shape`"),
            (with_header(&one("F32", "[-1]", "[0,4]"), 4), "header: invalid value: integer `-1`"),
            (with_header(&one("F4", "[1]", "[0,4]"), 4), "tensor a: dtype F4 is not known"),
            (
                with_header(&one("F32", "[2]", "[0,8]"), 4),
                "tensor a: expected its data inside the file's 4 bytes of data, found 0..8",
            ),
            (with_header(&one("F32", "[1]", "[4,0]"), 4), "found 4..0"),
            (
                with_header(&one("F32", "[1,2]", "[0,4]"), 4),
                "tensor a: expected 8 bytes for F32 of shape (1, 2), found 4",
            ),
            (
                with_header(&one("F32", "[4294967296,4294967296,4]", "[0,4]"), 4),
                "tensor a: expected more than 2^64 bytes for F32",
            ),
            (
                with_header(
                    r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
                    8,
                ),
                "tensor b: its data overlaps that of a",
            ),
            (
                with_header(
                    r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
                    8,
                ),
                "header: tensor a stands twice",
            ),
            (
                b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n".to_vec(),
                "a git-lfs pointer and not the weights",
            ),
        ];
        for (bytes, expected) in cases {
            let text = parse(&bytes).unwrap_err().to_string();
            assert!(text.contains(expected), "expected {expected}\n   found {text}");
        }
    }

    #[test]
    fn nested_json_does_not_overflow_the_stack() {
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(parse(&with_header(&format!(r#"{{"__metadata__":{deep}}}"#), 0)).unwrap().len(), 0);
        let text = parse(&with_header(&format!(r#"{{"a":{{"shape":{deep}}}}}"#), 0)).unwrap_err().to_string();
        assert!(text.contains("header: invalid type: sequence, expected u64"), "{text}");
    }
}
