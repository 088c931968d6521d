//! Cached keys and values as plain rows, for files: what a sequence remembers goes out and comes in as
//! `[n_embd_kv, n]` in the cache's type, whatever the order in which cells lie in memory. Knows no files.

use std::ops::Range;

use ggml::Tensor;
use owlet_format::TextConfig;

use super::{CELL_STEP, KvCache, KvType, Reader};
use crate::{Error, Result};

/// Which of the two things that are remembered of a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvHalf {
    Keys,
    Values,
}

/// Rows of one layer: of `n` positions from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvRows {
    pub layer: u32,
    pub half: KvHalf,
    pub first: u32,
    pub n: u32,
}

/// Bytes of a row: the keys, or the values, of one position in one layer.
pub fn kv_row_bytes(config: &TextConfig, kv_type: KvType) -> u64 {
    kv_type.dtype().row_bytes(u64::from(config.n_embd_kv())).unwrap_or(0)
}

impl KvCache {
    /// The bytes of `rows` of `seq`.
    ///
    /// # Errors
    /// `Request`: rows that are not filled, or a layer that there is not.
    pub(in crate::model) fn read_rows(&self, seq: u32, rows: KvRows) -> Result<Vec<u8>> {
        self.check_rows(seq, rows)?;
        let mut bytes = vec![0; rows.n as usize * self.row_bytes()];
        if !self.lies_in_columns(rows) {
            self.memory.read(self.tensor(rows), self.row_offset(seq, rows.first), &mut bytes)?;
            return Ok(bytes);
        }
        let mut columns = vec![0; self.step_bytes()];
        for part in self.step_parts(seq, rows) {
            self.memory.read(self.tensor(rows), part.step_offset, &mut columns)?;
            let rows = &mut bytes[part.rows];
            match self.element_bytes() {
                2 => self.to_rows::<2>(&columns, part.cells, rows),
                _ => self.to_rows::<4>(&columns, part.cells, rows),
            }
        }
        Ok(bytes)
    }

    /// Puts `bytes` in the place of `rows` of `seq`.
    ///
    /// # Errors
    /// As [`read_rows`](Self::read_rows); `Format`: `bytes` holds infinities or NaN, which masked cells must
    /// never have. Nothing changed then.
    pub(in crate::model) fn write_rows(&self, seq: u32, rows: KvRows, bytes: &[u8]) -> Result<()> {
        self.check_rows(seq, rows)?;
        let expected = rows.n as usize * self.row_bytes();
        if bytes.len() != expected {
            let found = bytes.len();
            return Err(Error::request(format_args!(
                "cached rows: expected {expected} bytes, found {found}"
            )));
        }
        if !self.kv_type.is_finite(bytes) {
            return Err(Error::format("cached rows", "expected numbers, found infinities or NaN"));
        }
        if !self.lies_in_columns(rows) {
            self.memory.write(self.tensor(rows), self.row_offset(seq, rows.first), bytes)?;
            return Ok(());
        }
        let mut columns = vec![0; self.step_bytes()];
        for part in self.step_parts(seq, rows) {
            self.memory.read(self.tensor(rows), part.step_offset, &mut columns)?;
            let bytes = &bytes[part.rows];
            match self.element_bytes() {
                2 => self.to_columns::<2>(bytes, part.cells, &mut columns),
                _ => self.to_columns::<4>(bytes, part.cells, &mut columns),
            }
            self.memory.write(self.tensor(rows), part.step_offset, &columns)?;
        }
        Ok(())
    }

    /// Declares the first `n_past` positions of `seq` filled, with what is in their cells: numbers from before.
    ///
    /// # Errors
    /// `Request`: there is no such sequence. `Limit`: the cache is shorter.
    pub(in crate::model) fn assume(&mut self, seq: u32, n_past: u32) -> Result<()> {
        if n_past > self.n_ctx {
            return Err(Error::limit("positions of a cache", self.n_ctx.into(), n_past.into()));
        }
        let n_seq = self.n_past.len();
        let Some(filled) = self.n_past.get_mut(seq as usize) else {
            return Err(Error::request(format_args!("sequence: expected less than {n_seq}, found {seq}")));
        };
        *filled = n_past;
        Ok(())
    }

    fn check_rows(&self, seq: u32, KvRows { layer, first, n, .. }: KvRows) -> Result<()> {
        let n_past = self.n_past(seq).unwrap_or(0);
        if first.checked_add(n).is_none_or(|end| end > n_past) {
            return Err(Error::request(format_args!(
                "cached rows: expected some of {n_past} positions, found {n} from {first} on"
            )));
        }
        let n_layer = self.layers.len();
        if layer as usize >= n_layer {
            return Err(Error::request(format_args!("layer: expected less than {n_layer}, found {layer}")));
        }
        Ok(())
    }

    fn lies_in_columns(&self, rows: KvRows) -> bool {
        rows.half == KvHalf::Values && self.layers[rows.layer as usize].reader == Reader::Products
    }

    fn tensor(&self, rows: KvRows) -> Tensor {
        let layer = self.layers[rows.layer as usize];
        if rows.half == KvHalf::Keys { layer.k } else { layer.v }
    }

    fn row_bytes(&self) -> usize {
        self.bytes(self.n_embd_kv) as usize
    }

    fn step_bytes(&self) -> usize {
        CELL_STEP as usize * self.row_bytes()
    }

    /// Of a type whose blocks are single elements.
    fn element_bytes(&self) -> usize {
        self.bytes(1) as usize
    }

    /// Where the row of `pos` begins in a tensor of rows.
    fn row_offset(&self, seq: u32, pos: u32) -> usize {
        self.slot(seq.into()) + pos as usize * self.row_bytes()
    }

    /// `rows`, cut where steps of cells begin.
    fn step_parts(&self, seq: u32, rows: KvRows) -> impl Iterator<Item = StepPart> {
        let cell_step = CELL_STEP as usize;
        let (first, end) = (rows.first as usize, (rows.first + rows.n) as usize);
        let (slot, step_bytes, row_bytes) = (self.slot(seq.into()), self.step_bytes(), self.row_bytes());
        (first / cell_step..end.div_ceil(cell_step)).map(move |step| {
            let start = step * cell_step;
            let (from, to) = (first.max(start), end.min(start + cell_step));
            StepPart {
                step_offset: slot + step * step_bytes,
                cells: from - start..to - start,
                rows: (from - first) * row_bytes..(to - first) * row_bytes,
            }
        })
    }

    /// From a step of cells by columns to rows of `cells`; elements have `N` bytes.
    fn to_rows<const N: usize>(&self, columns: &[u8], cells: Range<usize>, rows: &mut [u8]) {
        let (columns, rows) = (columns.as_chunks::<N>().0, rows.as_chunks_mut::<N>().0);
        // The columns are read in order; the rows written meanwhile stay in the nearest cache.
        for (element, column) in columns.chunks_exact(CELL_STEP as usize).enumerate() {
            for (row, value) in column[cells.clone()].iter().enumerate() {
                rows[row * self.n_embd_kv as usize + element] = *value;
            }
        }
    }

    fn to_columns<const N: usize>(&self, rows: &[u8], cells: Range<usize>, columns: &mut [u8]) {
        let (rows, columns) = (rows.as_chunks::<N>().0, columns.as_chunks_mut::<N>().0);
        for (element, column) in columns.chunks_exact_mut(CELL_STEP as usize).enumerate() {
            for (row, value) in column[cells.clone()].iter_mut().enumerate() {
                *value = rows[row * self.n_embd_kv as usize + element];
            }
        }
    }
}

/// What of some rows lies in one step of cells.
struct StepPart {
    /// Byte of the tensor where the step begins.
    step_offset: usize,
    /// Cells of the step.
    cells: Range<usize>,
    /// Bytes of the rows.
    rows: Range<usize>,
}

impl KvType {
    /// Whether `bytes`, whole rows of this type, hold numbers only.
    fn is_finite(self, bytes: &[u8]) -> bool {
        let is_f16 = |bits: [u8; 2]| u16::from_ne_bytes(bits) & 0x7c00 != 0x7c00;
        match self {
            KvType::F32 => bytes.as_chunks().0.iter().all(|&bits| f32::from_ne_bytes(bits).is_finite()),
            KvType::F16 => bytes.as_chunks().0.iter().all(|&bits| is_f16(bits)),
            // A scale in f16, then 32 whole numbers.
            KvType::Q8_0 => bytes.as_chunks::<34>().0.iter().all(|block| is_f16([block[0], block[1]])),
        }
    }
}
