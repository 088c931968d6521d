//! The bytes of a GGUF, written front to back: the header is known before the first tensor, tensors come in
//! its order and in pieces of any length, each is hashed as it passes, and the hashes are set into the room
//! that the header kept for them. Equal input gives equal bytes.

use std::io::{self, Read, Seek, SeekFrom, Write};

use sha2::{Digest, Sha256};

use super::header_bytes::{HeaderBytes, TensorPlan};
use super::{Metadata, TensorInfo};
use crate::error::{Error, Result};

/// Writes one GGUF to `W`. Any order but that of the plan, and any length but a tensor's own, is an error.
pub struct Encoder<W> {
    out: W,
    label: String,
    tensors: Vec<TensorInfo>,
    alignment: u64,
    /// Where the checksums belong.
    checksums_at: u64,
    checksums: Vec<u8>,
    /// Bytes written.
    position: u64,
    current: Option<Current>,
}

/// The tensor that is being written.
struct Current {
    index: usize,
    sha256: Sha256,
}

impl<W: Write + Seek> Encoder<W> {
    /// Writes the header. Tensors are aligned as `general.alignment` says, to 32 without it; one key more than
    /// `metadata` has is written, [`CHECKSUMS_KEY`](super::CHECKSUMS_KEY).
    ///
    /// # Errors
    /// Where two tensors have one name, a name is empty or longer than ggml keeps, a row is no whole number of
    /// blocks, or `out` refuses.
    pub fn new(out: W, metadata: &Metadata, plan: &[TensorPlan]) -> Result<Self> {
        let header = HeaderBytes::new(metadata, plan)?;
        let mut encoder = Self {
            out,
            label: metadata.label().to_owned(),
            tensors: header.tensors,
            alignment: header.alignment.into(),
            checksums_at: header.checksums_at,
            checksums: Vec::new(),
            position: 0,
            current: None,
        };
        encoder.put(&header.bytes)?;
        Ok(encoder)
    }

    /// The tensors, with the places that they will have.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Begins the next tensor.
    ///
    /// # Errors
    /// Where `name` is not the next one of the plan, or the one before lacks bytes.
    pub fn begin(&mut self, name: &str) -> Result<()> {
        let index = self.close()?;
        let planned = self.tensors.get(index).map(|tensor| tensor.name.as_str());
        if planned != Some(name) {
            let planned = planned.unwrap_or("none");
            return Err(self.wrong(name, format!("expected tensor {planned} to be the next to be written")));
        }
        let start = self.tensors[index].offset;
        self.pad_to(start)?;
        self.current = Some(Current { index, sha256: Sha256::new() });
        Ok(())
    }

    /// The next bytes of the tensor that was begun, in ggml's block layout.
    ///
    /// # Errors
    /// Where they are more than the tensor has, none was begun, or `W` refuses.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(current) = &mut self.current else {
            return Err(self.wrong("none", "expected a tensor to be begun before its bytes"));
        };
        let tensor = &self.tensors[current.index];
        let end = tensor.offset.saturating_add(tensor.n_bytes);
        if self.position.saturating_add(bytes.len() as u64) > end {
            let name = tensor.name.clone();
            return Err(self.wrong(&name, "expected no more bytes than its type and shape take, found more"));
        }
        current.sha256.update(bytes);
        self.put(bytes)
    }

    /// Sets the checksums in and yields the output, complete.
    ///
    /// # Errors
    /// Where a tensor lacks bytes, or `W` refuses.
    pub fn finish(mut self) -> Result<W> {
        let n_done = self.close()?;
        if let Some(missing) = self.tensors.get(n_done) {
            let name = missing.name.clone();
            return Err(self.wrong(&name, "expected to be written, found the end"));
        }
        self.pad_to(self.position.next_multiple_of(self.alignment))?;
        let write = |out: &mut W, at: u64, bytes: &[u8]| {
            out.seek(SeekFrom::Start(at))?;
            out.write_all(bytes)?;
            out.flush()
        };
        write(&mut self.out, self.checksums_at, &self.checksums).map_err(|error| self.refused(error))?;
        Ok(self.out)
    }

    /// Ends the tensor that was begun; yields the index of the next one.
    fn close(&mut self) -> Result<usize> {
        let Some(current) = self.current.take() else {
            return Ok(0);
        };
        let tensor = &self.tensors[current.index];
        let n_written = self.position.saturating_sub(tensor.offset);
        if n_written != tensor.n_bytes {
            let problem = format!("expected {} bytes to be written, found {n_written}", tensor.n_bytes);
            let name = tensor.name.clone();
            return Err(self.wrong(&name, problem));
        }
        self.checksums.extend_from_slice(&current.sha256.finalize());
        Ok(current.index.saturating_add(1))
    }

    fn pad_to(&mut self, position: u64) -> Result<()> {
        let mut zeros = io::repeat(0).take(position.saturating_sub(self.position));
        io::copy(&mut zeros, &mut self.out).map_err(|error| self.refused(error))?;
        self.position = position;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|error| self.refused(error))?;
        self.position = self.position.saturating_add(bytes.len() as u64);
        Ok(())
    }

    fn refused(&self, error: io::Error) -> Error {
        Error::io(&self.label, "cannot write", error)
    }

    fn wrong(&self, tensor: &str, problem: impl Into<String>) -> Error {
        Error::format(&self.label, format_args!("tensor {tensor}"), problem)
    }
}
