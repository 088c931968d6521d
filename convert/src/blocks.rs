//! Tensors of GGUF files on their way into a model file: blocks whose type stays are copied, others are unpacked and
//! quantized.
//!
//! In: where the rows of each tensor lie, and what they are to become. Not known here: who decided that.

use std::path::{Path, PathBuf};

use ggml::{Cancel, DType};
use owlet_format::{ModelConfig, Strings, TensorPlan, TensorSpec};
use sha2::{Digest, Sha256 as Sum};

use crate::checkpoint::Sha256;
use crate::checkpoint::file::SourceFile;
use crate::error::{Error, Result};
use crate::job::{Chunk, Job, Stored};
use crate::outline::{Line, Outline};
use crate::recipe::Chosen;
use crate::report::Report;
use crate::rows::CHUNK_BYTES;
use crate::run::{Progress, files_of, report};
use crate::weighting::Weighted;

/// A model file that can be made of others.
#[derive(Debug)]
pub struct Blocks {
    pub config: ModelConfig,
    /// The files that are read.
    pub sources: Vec<SourceFile>,
    /// Whether the file is to state the sums of the sources.
    pub states_sums: bool,
    /// In the order of the file.
    pub tensors: Vec<Moved>,
    pub importance: Weighted,
    pub split_max_bytes: Option<u64>,
    pub n_threads: Option<usize>,
}

/// A tensor of the file to be.
#[derive(Debug)]
pub struct Moved {
    pub spec: TensorSpec,
    pub chosen: Chosen,
    /// Where its rows lie, in their order.
    pub pieces: Vec<Piece>,
}

/// Rows of a tensor of a source, one behind the other: all of them, or some.
#[derive(Debug, Clone)]
pub struct Piece {
    /// The tensor's name there.
    pub name: String,
    pub dtype: DType,
    pub n_rows: u64,
    pub n_bytes: u64,
    /// Which of the sources.
    pub file: usize,
    /// Where in it the first row begins.
    pub start: u64,
    /// The SHA-256 of the bytes, where the source states it.
    pub sum: Option<[u8; 32]>,
}

impl Moved {
    pub fn plan(&self) -> TensorPlan {
        TensorPlan { name: self.spec.name.clone(), dtype: self.chosen.dtype, shape: self.spec.ne }
    }

    /// Where it is from, unless it is the tensor of its own name as it lies there.
    fn origin(&self) -> Option<String> {
        let names: Vec<&str> = self.pieces.iter().map(|piece| piece.name.as_str()).collect();
        match names[..] {
            [name] if name == self.spec.name => None,
            [name, other] if name == other => Some("the last row first".into()),
            _ => Some(format!("from {}", names.join(", "))),
        }
    }

    fn line(&self) -> Line {
        let Moved { spec, chosen, pieces } = self;
        let mut types: Vec<DType> = pieces.iter().map(|piece| piece.dtype).collect();
        types.dedup();
        let is_copied = types == [chosen.dtype];
        let row_bytes = pieces.iter().map(|piece| piece.n_bytes / piece.n_rows).max().unwrap_or(0);
        Line {
            spec: spec.clone(),
            from: types.iter().map(DType::to_string).collect::<Vec<_>>().join(", "),
            to: *chosen,
            // the plan was made of types that hold its rows
            n_bytes: spec.ne.n_bytes(chosen.dtype).unwrap_or(0),
            remarks: self.origin().into_iter().chain(is_copied.then(|| "copied".to_string())).collect(),
            is_copied,
            chunk_bytes: CHUNK_BYTES.max(row_bytes),
        }
    }
}

impl Outline for Blocks {
    fn lines(&self) -> Vec<Line> {
        self.tensors.iter().map(Moved::line).collect()
    }
}

impl Blocks {
    /// Writes the file, as [`Plan::run`](crate::Plan::run) does.
    ///
    /// # Errors
    /// As there; and where a tensor's bytes are not those that its source states the sum of.
    pub fn run(&self, out: &Path, progress: &mut dyn Progress, cancel: &Cancel) -> Result<Report> {
        report(self, out, progress, cancel)
    }

    /// As [`Plan::files`](crate::Plan::files).
    ///
    /// # Errors
    /// As there.
    pub fn files(&self, out: &Path) -> Result<Vec<PathBuf>> {
        files_of(self, out)
    }

    fn place_of(&self, piece: &Piece) -> String {
        format!("{}: tensor {}", self.sources[piece.file].label(), piece.name)
    }

    /// A vector is one row, whose pieces are parts of it and of one type.
    fn read_vector(&self, index: usize, pieces: &[Piece], take: &mut dyn FnMut(Chunk) -> bool) -> Result<()> {
        let mut bytes = Vec::new();
        for piece in pieces {
            self.read_piece((index, 0), piece, 0, &mut |chunk| {
                bytes.extend(chunk.bytes);
                true
            })?;
        }
        let Some(first) = pieces.first() else { return Ok(()) };
        let (stored, n_source_bytes) = (Stored::Blocks(first.dtype), bytes.len() as u64);
        take(Chunk { tensor: index, row: 0, stored, bytes, factors: None, n_source_bytes });
        Ok(())
    }

    /// Hands the rows of `piece` from `first` on to `take`; the first of all rows of the tensor `index` is `base`. Whether
    /// more are wanted. What is read from the first row on is compared with its sum.
    pub fn read_piece(
        &self,
        (index, base): (usize, u64),
        piece: &Piece,
        first: u64,
        take: &mut dyn FnMut(Chunk) -> bool,
    ) -> Result<bool> {
        let row_bytes = piece.n_bytes / piece.n_rows;
        let rows_per_chunk = (CHUNK_BYTES / row_bytes).clamp(1, piece.n_rows);
        let mut sum = piece.sum.filter(|_| first == 0).map(|expected| (Sum::new(), expected));
        let mut row = first;
        while row < piece.n_rows {
            let n = rows_per_chunk.min(piece.n_rows - row);
            let mut bytes = vec![0; (n * row_bytes) as usize];
            self.sources[piece.file].read_at(piece.start + row * row_bytes, &mut bytes)?;
            if let Some((sum, expected)) = &mut sum {
                sum.update(&bytes);
                let is_last = row + n == piece.n_rows;
                if is_last && <[u8; 32]>::from(sum.clone().finalize()) != *expected {
                    return Err(Error::format(
                        self.place_of(piece),
                        "expected the bytes that were written, found others",
                    ));
                }
            }
            let (stored, n_source_bytes) = (Stored::Blocks(piece.dtype), n * row_bytes);
            if !take(Chunk { tensor: index, row: base + row, stored, bytes, factors: None, n_source_bytes }) {
                return Ok(false);
            }
            row += n;
        }
        Ok(true)
    }
}

impl Job for Blocks {
    fn config(&self, shards: Strings) -> ModelConfig {
        let mut config = self.config.clone();
        if self.states_sums {
            config.provenance.shards = shards;
        }
        config
    }

    fn tensors(&self) -> Vec<TensorPlan> {
        self.tensors.iter().map(Moved::plan).collect()
    }

    fn split_max_bytes(&self) -> Option<u64> {
        self.split_max_bytes
    }

    fn order(&self) -> Vec<usize> {
        let first =
            |index: &usize| self.tensors[*index].pieces.iter().map(|piece| (piece.file, piece.start)).min();
        let mut order: Vec<usize> = (0..self.tensors.len()).collect();
        order.sort_by_key(first);
        order
    }

    fn n_source_bytes(&self, index: usize) -> u64 {
        self.tensors[index].pieces.iter().map(|piece| piece.n_bytes).sum()
    }

    fn read(&self, index: usize, first: u64, take: &mut dyn FnMut(Chunk) -> bool) -> Result<()> {
        let Moved { spec, pieces, .. } = &self.tensors[index];
        if spec.ne.n_rows() == 1 {
            return self.read_vector(index, pieces, take);
        }
        let mut base = 0;
        for piece in pieces {
            let end = base + piece.n_rows;
            if first < end
                && !self.read_piece((index, base), piece, first.saturating_sub(base), &mut *take)?
            {
                return Ok(());
            }
            base = end;
        }
        Ok(())
    }

    fn place(&self, index: usize) -> String {
        self.tensors[index].pieces.first().map_or_else(String::new, |piece| self.place_of(piece))
    }

    fn start(&self, index: usize, row: u64) -> Option<(usize, u64)> {
        match &self.tensors[index].pieces[..] {
            _ if !self.states_sums => None,
            [piece] => Some((piece.file, piece.start + piece.n_bytes / piece.n_rows * row)),
            pieces => pieces.iter().map(|piece| (piece.file, piece.start)).min(),
        }
    }

    fn hashed(&self) -> &[SourceFile] {
        if self.states_sums { &self.sources } else { &[] }
    }

    fn n_read(&self) -> u64 {
        self.sources.iter().map(SourceFile::n_read).sum()
    }

    fn identify(&self, id: &mut Sha256) {
        for source in &self.sources {
            id.update(format!("{} {}\n", source.n_bytes(), source.state()).as_bytes());
        }
        for moved in &self.tensors {
            id.update(format!("{:?}\n", moved.pieces).as_bytes());
        }
    }

    fn importance(&self, index: usize) -> Option<&[f32]> {
        self.importance.rows.get(index)?.as_deref()
    }

    fn n_threads(&self) -> Option<usize> {
        self.n_threads
    }
}
