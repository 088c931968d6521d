//! The memory that some tensors of a mapped file take, and how to give it back. Comes in: tensors. Goes out: runs of
//! bytes, as long as their order in the file allows, since only whole pages can be given back.

use std::ops::Range;

use super::TensorInfo;
use super::map::Map;
use super::size::Size;

/// Bytes between two tensors that are alignment, not a third one.
const MAX_GAP: usize = 4096;

/// Where some tensors lie in a file. Keeps the file mapped.
#[derive(Clone)]
pub struct Pages {
    map: Option<Map>,
    runs: Vec<Range<usize>>,
}

impl Pages {
    /// Of tensors in the order of their data.
    pub(super) fn new<'a>(map: Option<Map>, tensors: impl Iterator<Item = &'a TensorInfo>) -> Self {
        let mut runs = Vec::<Range<usize>>::new();
        for tensor in tensors.filter(|_| map.is_some()) {
            let end = Size(tensor.offset).plus(Size(tensor.n_bytes)).and_then(|end| end.index());
            let Some((start, end)) = Size(tensor.offset).index().zip(end) else { continue };
            match runs.last_mut() {
                Some(run) if start.saturating_sub(run.end) < MAX_GAP => run.end = end,
                _ => runs.push(start..end),
            }
        }
        Self { map, runs }
    }

    /// Bytes of the file; 0 where it is not mapped.
    pub fn n_bytes(&self) -> u64 {
        self.runs.iter().fold(0, |sum, run| sum.saturating_add(run.len() as u64))
    }

    /// Takes these pages out of this process's memory. Whoever reads there gets the same bytes again, from what the system
    /// still has of the file or from its disk. Does nothing where the file is not mapped, or on systems that cannot.
    pub fn release(&self) {
        if let Some(map) = &self.map {
            self.runs.iter().for_each(|run| map.release(run.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use ggml::DType;

    use super::super::{Encoder, Gguf, Metadata, TensorPlan};

    /// Three tensors of a quarter of a mebibyte, whose bytes are their number.
    fn file() -> Vec<u8> {
        let plan = ["a", "b", "c"].map(|name| TensorPlan {
            name: name.into(),
            shape: [1u32 << 16].into(),
            dtype: DType::F32,
        });
        let mut encoder = Encoder::new(Cursor::new(Vec::new()), &Metadata::new("test"), &plan).unwrap();
        for (byte, tensor) in (1..).zip(&plan) {
            encoder.begin(&tensor.name).unwrap();
            encoder.write(&vec![byte; 1 << 18]).unwrap();
        }
        encoder.finish().unwrap().into_inner()
    }

    #[test]
    fn what_was_given_back_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("test.gguf");
        std::fs::write(&path, file()).unwrap();
        let file = Gguf::open(&path).unwrap();
        for (wanted, n_bytes) in [("", 0), ("b", 1 << 18), ("ab", 2 << 18), ("ac", 2 << 18), ("abc", 3 << 18)]
        {
            let pages = file.pages(|name| wanted.contains(name));
            assert_eq!(pages.n_bytes(), n_bytes, "{wanted}");
            pages.release();
            for (byte, tensor) in (1..).zip(file.tensors()) {
                assert!(file.data(tensor).iter().all(|&b| b == byte), "{wanted}: tensor {}", tensor.name);
            }
        }
        // Pages keep the map that they are of.
        let pages = file.pages(|_| true);
        drop(file);
        pages.release();
    }

    #[test]
    fn bytes_of_the_program_stay() {
        let file = Gguf::from_bytes(file().into(), "test").unwrap();
        let pages = file.pages(|_| true);
        assert_eq!(pages.n_bytes(), 0);
        pages.release();
        assert_eq!(file.data(&file.tensors()[1])[0], 2);
    }
}
