//! Writes checkpoints as Hugging Face's and PyTorch's own tools do: safetensors, or zip files with a pickled dict,
//! whole or in shards with an index. The pickles are put together here, opcode by opcode.

use std::fs;
use std::io::{Cursor, Write as _};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// How the weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    Safetensors { shards: usize },
    Torch { shards: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Float {
    F32,
    F16,
    BF16,
}

/// A tensor to be stored: its shape in PyTorch's order, its values row-major.
#[derive(Clone, Debug)]
pub struct Weight {
    pub name: String,
    pub shape: Vec<u64>,
    pub values: Vec<f32>,
}

impl Weight {
    pub fn new(name: impl Into<String>, shape: &[u64], values: Vec<f32>) -> Weight {
        assert_eq!(shape.iter().product::<u64>(), values.len() as u64);
        Weight { name: name.into(), shape: shape.to_vec(), values }
    }
}

/// Writes the weights into `dir`, in equal shares where there are several shards.
pub fn write_weights(dir: &Path, weights: &[Weight], float: Float, layout: Layout) {
    let (n_shards, stem, extension) = match layout {
        Layout::Safetensors { shards } => (shards, "model", "safetensors"),
        Layout::Torch { shards } => (shards, "pytorch_model", "bin"),
    };
    let write = |path: &Path, weights: &[Weight]| {
        let bytes = match layout {
            Layout::Safetensors { .. } => safetensors(weights, float),
            Layout::Torch { .. } => torch_zip(weights, float),
        };
        fs::write(path, bytes).unwrap();
    };
    if n_shards == 1 {
        return write(&dir.join(format!("{stem}.{extension}")), weights);
    }
    let mut map = serde_json::Map::new();
    for (i, share) in weights.chunks(weights.len().div_ceil(n_shards)).enumerate() {
        let file = format!("{stem}-{:05}-of-{n_shards:05}.{extension}", i + 1);
        write(&dir.join(&file), share);
        map.extend(share.iter().map(|weight| (weight.name.clone(), file.clone().into())));
    }
    let index = serde_json::json!({"metadata": {"total_size": 0}, "weight_map": map});
    fs::write(dir.join(format!("{stem}.{extension}.index.json")), index.to_string()).unwrap();
}

/// Values as stored, little-endian.
pub fn encode(values: &[f32], float: Float) -> Vec<u8> {
    match float {
        Float::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Float::BF16 => values.iter().flat_map(|x| to_bf16(*x).to_le_bytes()).collect(),
        Float::F16 => {
            let mut bytes = vec![0; 2 * values.len()];
            ggml::quantize::quantize_rows(ggml::DType::F16, values, values.len(), None, &mut bytes).unwrap();
            bytes
        }
    }
}

/// Rounded to nearest, ties to even; the values here are finite.
fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// A whole safetensors file.
pub fn safetensors(weights: &[Weight], float: Float) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), serde_json::json!({"format": "pt"}));
    let mut data = Vec::new();
    for weight in weights {
        let start = data.len();
        data.extend(encode(&weight.values, float));
        let dtype = format!("{float:?}");
        let entry =
            serde_json::json!({"dtype": dtype, "shape": weight.shape, "data_offsets": [start, data.len()]});
        header.insert(weight.name.clone(), entry);
    }
    let mut header = serde_json::Value::from(header).to_string();
    // padded with spaces, as the format's own writer does
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

/// A whole file as `torch.save` writes it for a dict of tensors.
pub fn torch_zip(weights: &[Weight], float: Float) -> Vec<u8> {
    let mut entries = vec![("pytorch_model/data.pkl".to_string(), pickle(weights, float))];
    entries.push(("pytorch_model/byteorder".to_string(), b"little".to_vec()));
    for (i, weight) in weights.iter().enumerate() {
        entries.push((format!("pytorch_model/data/{i}"), encode(&weight.values, float)));
    }
    entries.push(("pytorch_model/version".to_string(), b"3\n".to_vec()));
    zip_of(&entries)
}

/// A zip of stored entries.
pub fn zip_of(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in entries {
        zip.start_file(name.as_str(), stored).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// The pickled dict: an OrderedDict of `_rebuild_tensor_v2` calls, one storage each.
fn pickle(weights: &[Weight], float: Float) -> Vec<u8> {
    let mut out = b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec();
    let class = match float {
        Float::F32 => "FloatStorage",
        Float::F16 => "HalfStorage",
        Float::BF16 => "BFloat16Storage",
    };
    for (i, weight) in weights.iter().enumerate() {
        let mut strides = vec![1; weight.shape.len()];
        for d in (1..weight.shape.len()).rev() {
            strides[d - 1] = strides[d] * weight.shape[d];
        }
        text(&mut out, &weight.name);
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend(format!("ctorch\n{class}\n").as_bytes());
        text(&mut out, &i.to_string());
        text(&mut out, "cpu");
        int(&mut out, weight.values.len() as u64);
        out.extend(b"tQK\x00");
        tuple(&mut out, &weight.shape);
        tuple(&mut out, &strides);
        out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    out.extend(b"u.");
    out
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

fn int(out: &mut Vec<u8>, n: u64) {
    out.push(b'J');
    out.extend(i32::try_from(n).unwrap().to_le_bytes());
}

fn tuple(out: &mut Vec<u8>, values: &[u64]) {
    out.push(b'(');
    values.iter().for_each(|n| int(out, *n));
    out.push(b't');
}
