//! A GGUF byte by byte, so that tests can state anything, true or not.

/// GGUF's ids of value types.
pub const U8: u32 = 0;
pub const U32: u32 = 4;
pub const BOOL: u32 = 7;
pub const STRING: u32 = 8;
pub const ARRAY: u32 = 9;
pub const U64: u32 = 10;

#[derive(Clone)]
pub struct Raw {
    pub magic: [u8; 4],
    pub version: u32,
    /// What the header says, where that is not the truth.
    pub n_keys: Option<u64>,
    pub n_tensors: Option<u64>,
    pub alignment: usize,
    keys: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    data: Vec<u8>,
}

impl Raw {
    pub fn new() -> Self {
        Self {
            magic: *b"GGUF",
            version: 3,
            n_keys: None,
            n_tensors: None,
            alignment: 32,
            keys: Vec::new(),
            tensors: Vec::new(),
            data: Vec::new(),
        }
    }

    pub fn key(mut self, name: impl AsRef<[u8]>, value_type: u32, payload: impl AsRef<[u8]>) -> Self {
        let mut key = string(name);
        key.extend(value_type.to_le_bytes());
        key.extend(payload.as_ref());
        self.keys.push(key);
        self
    }

    /// A tensor; ggml's ids: 0 is f32, 2 is q4_0.
    pub fn tensor(mut self, name: impl AsRef<[u8]>, ne: &[u64], dtype: u32, offset: u64) -> Self {
        self.tensors.push(tensor(name, ne.len() as u32, ne, dtype, offset));
        self
    }

    pub fn raw_tensor(mut self, bytes: Vec<u8>) -> Self {
        self.tensors.push(bytes);
        self
    }

    /// Bytes that are counted up.
    pub fn data(self, n_bytes: usize) -> Self {
        self.bytes((0..n_bytes).map(|n| n as u8).collect())
    }

    /// The bytes of all tensors.
    pub fn bytes(mut self, data: Vec<u8>) -> Self {
        self.data = data;
        self
    }

    pub fn build(self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.n_tensors.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend(self.n_keys.unwrap_or(self.keys.len() as u64).to_le_bytes());
        out.extend(self.keys.concat());
        out.extend(self.tensors.concat());
        if !self.data.is_empty() {
            out.resize(out.len().next_multiple_of(self.alignment), 0);
            out.extend(self.data);
        }
        out
    }
}

pub fn tensor(name: impl AsRef<[u8]>, n_dims: u32, ne: &[u64], dtype: u32, offset: u64) -> Vec<u8> {
    let mut bytes = string(name);
    bytes.extend(n_dims.to_le_bytes());
    ne.iter().for_each(|n| bytes.extend(n.to_le_bytes()));
    bytes.extend(dtype.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes
}

/// A length and what it promises.
pub fn string(text: impl AsRef<[u8]>) -> Vec<u8> {
    [&(text.as_ref().len() as u64).to_le_bytes(), text.as_ref()].concat()
}

/// The payload of an array: the type and number of its items, and their bytes.
pub fn array(item_type: u32, n_items: u64, items: impl AsRef<[u8]>) -> Vec<u8> {
    [&item_type.to_le_bytes()[..], &n_items.to_le_bytes(), items.as_ref()].concat()
}
