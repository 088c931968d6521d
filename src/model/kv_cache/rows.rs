//! Cached keys and values as plain rows, for files: what a sequence remembers goes out and comes in as
//! `[n_embd_kv, n]` in the cache's type, whatever the order in which cells lie in memory. Knows no files.

use std::ops::Range;

use ggml::{Runs, Tensor};

use super::KvCache;
use super::reader::Order;
use super::units::{CELL_STEP, KvHalf, KvRows, KvType};
use crate::{Error, Result};

impl KvCache {
    /// The bytes of `rows` of `seq`.
    ///
    /// # Errors
    /// `Request`: rows that are not filled, or a layer that there is not.
    pub(in crate::model) fn read_rows(&self, seq: u32, rows: KvRows) -> Result<Vec<u8>> {
        self.check_rows(seq, rows)?;
        let mut bytes = vec![0; rows.n as usize * self.row_bytes()];
        let tensor = self.tensor(rows);
        match self.order(rows) {
            Order::Rows => self.memory.read_runs(tensor, self.runs_of(seq, rows), &mut bytes)?,
            Order::Steps => {
                let mut columns = vec![0; self.step_bytes()];
                for part in self.step_parts(seq, rows) {
                    self.memory.read(tensor, part.step_offset, &mut columns)?;
                    self.to_rows(&columns, CELL_STEP as usize, part.cells, &mut bytes[part.rows]);
                }
            }
            Order::Columns => {
                let mut columns = vec![0; bytes.len()];
                self.memory.read_runs(tensor, self.runs_of(seq, rows), &mut columns)?;
                self.to_rows(&columns, rows.n as usize, 0..rows.n as usize, &mut bytes);
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
        let tensor = self.tensor(rows);
        match self.order(rows) {
            Order::Rows => self.memory.write_runs(tensor, self.runs_of(seq, rows), bytes)?,
            Order::Steps => {
                let mut columns = vec![0; self.step_bytes()];
                for part in self.step_parts(seq, rows) {
                    self.memory.read(tensor, part.step_offset, &mut columns)?;
                    self.to_columns(&bytes[part.rows], CELL_STEP as usize, part.cells, &mut columns);
                    self.memory.write(tensor, part.step_offset, &columns)?;
                }
            }
            Order::Columns => {
                let mut columns = vec![0; bytes.len()];
                self.to_columns(bytes, rows.n as usize, 0..rows.n as usize, &mut columns);
                self.memory.write_runs(tensor, self.runs_of(seq, rows), &columns)?;
            }
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

    fn order(&self, rows: KvRows) -> Order {
        match rows.half {
            KvHalf::Keys => Order::Rows,
            KvHalf::Values => self.layers[rows.layer as usize].reader.order(),
        }
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

    fn runs_of(&self, seq: u32, rows: KvRows) -> Runs {
        let first = u64::from(rows.first);
        self.runs(self.order(rows), seq.into(), first..first + u64::from(rows.n))
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

    /// From columns of `n_cells` each to rows of `cells` of them.
    fn to_rows(&self, columns: &[u8], n_cells: usize, cells: Range<usize>, rows: &mut [u8]) {
        match self.element_bytes() {
            2 => transpose_to_rows::<2>(columns, n_cells, cells, rows, self.n_embd_kv as usize),
            _ => transpose_to_rows::<4>(columns, n_cells, cells, rows, self.n_embd_kv as usize),
        }
    }

    fn to_columns(&self, rows: &[u8], n_cells: usize, cells: Range<usize>, columns: &mut [u8]) {
        match self.element_bytes() {
            2 => transpose_to_columns::<2>(rows, self.n_embd_kv as usize, columns, n_cells, cells),
            _ => transpose_to_columns::<4>(rows, self.n_embd_kv as usize, columns, n_cells, cells),
        }
    }
}

/// Rows of `n_embd` elements of `cells`, from columns of `n_cells`; elements have `N` bytes.
fn transpose_to_rows<const N: usize>(
    columns: &[u8],
    n_cells: usize,
    cells: Range<usize>,
    rows: &mut [u8],
    n_embd: usize,
) {
    let (columns, rows) = (columns.as_chunks::<N>().0, rows.as_chunks_mut::<N>().0);
    // The columns are read in order; the rows written meanwhile stay in the nearest cache.
    for (element, column) in columns.chunks_exact(n_cells.max(1)).enumerate() {
        for (row, value) in column[cells.clone()].iter().enumerate() {
            rows[row * n_embd + element] = *value;
        }
    }
}

fn transpose_to_columns<const N: usize>(
    rows: &[u8],
    n_embd: usize,
    columns: &mut [u8],
    n_cells: usize,
    cells: Range<usize>,
) {
    let (rows, columns) = (rows.as_chunks::<N>().0, columns.as_chunks_mut::<N>().0);
    for (element, column) in columns.chunks_exact_mut(n_cells.max(1)).enumerate() {
        for (row, value) in column[cells.clone()].iter_mut().enumerate() {
            *value = rows[row * n_embd + element];
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
