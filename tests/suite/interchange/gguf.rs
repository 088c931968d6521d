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

    pub fn write(&self, path: &Path) {
        fs::write(path, self.bytes()).unwrap();
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            text(key, &mut out);
            put(value, &mut out);
        }
        let mut data = Vec::new();
        for tensor in &self.tensors {
            text(&tensor.name, &mut out);
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

fn text(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// GGUF's number of a type, and the value.
fn put(value: &Value, out: &mut Vec<u8>) {
    let id = |id: u32, out: &mut Vec<u8>| out.extend(id.to_le_bytes());
    match value {
        Value::U32(n) => (id(4, out), out.extend(n.to_le_bytes())).1,
        Value::I32(n) => (id(5, out), out.extend(n.to_le_bytes())).1,
        Value::F32(x) => (id(6, out), out.extend(x.to_le_bytes())).1,
        Value::Bool(flag) => (id(7, out), out.push((*flag).into())).1,
        Value::Str(content) => (id(8, out), text(content, out)).1,
        Value::U64(n) => (id(10, out), out.extend(n.to_le_bytes())).1,
        Value::Array(items) => {
            id(9, out);
            match items {
                Array::I32(items) => list(5, items.iter().map(|n| n.to_le_bytes().to_vec()), out),
                Array::F32(items) => list(6, items.iter().map(|x| x.to_le_bytes().to_vec()), out),
                Array::Str(items) => {
                    let item = |item: &str| [&(item.len() as u64).to_le_bytes(), item.as_bytes()].concat();
                    list(8, items.iter().map(item), out);
                }
                other => panic!("no test needs {other:?}"),
            }
        }
        other => panic!("no test needs {other:?}"),
    }
}

fn list(id: u32, items: impl ExactSizeIterator<Item = Vec<u8>>, out: &mut Vec<u8>) {
    out.extend(id.to_le_bytes());
    out.extend((items.len() as u64).to_le_bytes());
    items.for_each(|item| out.extend(item));
}
