//! Bounds on what the header of a file of strangers may ask for.

/// What a header may ask for. The defaults fit every model that is known; lower them for files of strangers.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub n_tensors: u64,
    pub n_keys: u64,
    /// A string of the metadata.
    pub string_bytes: u64,
    /// Everything in front of the tensor data.
    pub metadata_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { n_tensors: 65_536, n_keys: 16_384, string_bytes: 16 << 20, metadata_bytes: 256 << 20 }
    }
}
