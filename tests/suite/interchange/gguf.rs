//! A GGUF put together by hand, as other programs write it: keys and tensors in any order, no key of owlet's, and whatever
//! a test wants to be wrong.

use std::fs;
use std::path::Path;

use ggml::DType;
use owlet_format::{Array, Gguf, TensorInfo, Value};

/// What tensors of files that state no alignment begin at multiples of.
const ALIGNMENT: usize = 32;

#[derive(Clone)]
pub struct Tensor {
    pub name: String,
    pub ne: Vec<u64>,
    pub dtype: DType,
    pub bytes: Vec<u8>,
}

#[derive(Clone, Default)]
pub struct Raw {
    pub keys: Vec<(String, Value)>,
    pub tensors: Vec<Tensor>,
}

impl Raw {
    pub fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.drop(key);
        self.keys.push((key.to_string(), value.into()));
    }

    pub fn drop(&mut self, key: &str) {
        self.keys.retain(|(known, _)| known != key);
    }

    pub fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
    }

    /// A tensor of `file` under another name.
    pub fn take(&mut self, file: &Gguf, info: &TensorInfo, name: &str) {
        let (ne, bytes) = (info.shape.dims().to_vec(), file.data(info).to_vec());
        self.tensors.push(Tensor { name: name.to_string(), ne, dtype: info.dtype, bytes });
    }

    /// A copy of `tensor`, of this file or another, under the name `name`.
    pub fn add(&mut self, tensor: &Tensor, name: &str) {
        self.tensors.push(Tensor { name: name.to_string(), ..tensor.clone() });
    }

    pub fn write(&self, path: &Path) {
        fs::write(path, self.bytes()).unwrap();
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            out.extend(string(key));
            put(value, &mut out);
        }
        let mut data = Vec::new();
        for tensor in &self.tensors {
            out.extend(string(&tensor.name));
            out.extend((tensor.ne.len() as u32).to_le_bytes());
            tensor.ne.iter().for_each(|n| out.extend(n.to_le_bytes()));
            out.extend(tensor.dtype.id().to_le_bytes());
            out.extend((data.len() as u64).to_le_bytes());
            data.extend(&tensor.bytes);
            data.resize(data.len().next_multiple_of(ALIGNMENT), 0);
        }
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        [out, data].concat()
    }
}

/// GGUF's number of a type, and the value.
fn put(value: &Value, out: &mut Vec<u8>) {
    let (id, bytes): (u32, Vec<u8>) = match value {
        Value::U32(n) => (4, n.to_le_bytes().into()),
        Value::I32(n) => (5, n.to_le_bytes().into()),
        Value::F32(x) => (6, x.to_le_bytes().into()),
        Value::Bool(flag) => (7, vec![(*flag).into()]),
        Value::Str(text) => (8, string(text)),
        Value::U64(n) => (10, n.to_le_bytes().into()),
        Value::Array(Array::I32(items)) => (9, list(5, items.iter().map(|n| n.to_le_bytes().into()))),
        Value::Array(Array::F32(items)) => (9, list(6, items.iter().map(|x| x.to_le_bytes().into()))),
        Value::Array(Array::Str(items)) => (9, list(8, items.iter().map(string))),
        other => panic!("no test needs {other:?}"),
    };
    out.extend(id.to_le_bytes());
    out.extend(bytes);
}

fn list(id: u32, items: impl ExactSizeIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut out = id.to_le_bytes().to_vec();
    out.extend((items.len() as u64).to_le_bytes());
    items.for_each(|item| out.extend(item));
    out
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}
