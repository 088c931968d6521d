//! How a result is cut into tiles, who gets which, and what a thread may do with the one it has.
//!
//! The one place that holds that tiles are disjoint; all safety of writing to a result rests on it.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Arg, CustomOp};
use crate::DType;

/// Rows along `ne[0]` and columns along `ne[1]` of a tile; the last ones may be smaller. Tiles are numbered
/// along `ne[0]` first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileShape {
    rows: usize,
    columns: usize,
}

impl TileShape {
    /// The whole result at once.
    pub const WHOLE: TileShape = TileShape { rows: usize::MAX, columns: usize::MAX };

    /// # Panics
    /// When either is zero.
    pub const fn new(rows: usize, columns: usize) -> TileShape {
        assert!(rows > 0 && columns > 0, "tile: expected at least one row and one column");
        TileShape { rows, columns }
    }

    /// `n` rows of all columns.
    pub const fn rows(n: usize) -> TileShape {
        TileShape::new(n, usize::MAX)
    }

    /// `n` whole columns.
    pub const fn columns(n: usize) -> TileShape {
        TileShape::new(usize::MAX, n)
    }
}

/// The part of the result that one call of [`CustomOp::run`] computes; no one else reads or writes it
/// meanwhile.
pub struct Tile<'a> {
    /// The first row of the first column.
    start: *mut u8,
    column_stride: usize,
    dtype: DType,
    rows: Range<usize>,
    columns: Range<usize>,
    window: PhantomData<&'a mut [u8]>,
}

impl Tile<'_> {
    /// Along `ne[0]`.
    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// Along `ne[1]`.
    pub fn columns(&self) -> Range<usize> {
        self.columns.clone()
    }

    /// This tile's rows of `column`, one of [`Tile::columns`].
    ///
    /// # Panics
    /// When the result is not f32 or the column lies outside.
    pub fn column_f32(&mut self, column: usize) -> &mut [f32] {
        assert!(self.dtype == DType::F32, "expected a result of f32, found {}", self.dtype);
        let start = self.column(column);
        // SAFETY: f32 results are aligned, and so are their columns.
        unsafe { std::slice::from_raw_parts_mut(start.cast(), self.rows.len()) }
    }

    /// As [`Tile::column_f32`], the bytes of either type.
    pub fn column_bytes(&mut self, column: usize) -> &mut [u8] {
        let start = self.column(column);
        // SAFETY: the rows of this column, which only this tile has.
        unsafe { std::slice::from_raw_parts_mut(start, self.rows.len() * element_bytes(self.dtype)) }
    }

    /// For SIMD: the first row of the first column; in a graph the whole result begins at a multiple of 32. Column `i` of the tile begins `i * column_stride()` bytes
    /// later, and this tile's rows of it may be written.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.start
    }

    /// Bytes from a column to the next one.
    pub fn column_stride(&self) -> usize {
        self.column_stride
    }

    fn column(&self, column: usize) -> *mut u8 {
        let columns = &self.columns;
        assert!(columns.contains(&column), "expected a column of {columns:?}, found {column}");
        // SAFETY: a column of the tile, so it begins within the result.
        unsafe { self.start.add((column - columns.start) * self.column_stride) }
    }
}

/// How a result of `ne` rows and columns is cut into tiles.
#[derive(Clone, Copy)]
pub(crate) struct Grid {
    dtype: DType,
    ne: [usize; 2],
    tile: TileShape,
}

impl Grid {
    /// For a result of f32 or i8.
    pub(crate) fn new(dtype: DType, ne: [usize; 2], tile: TileShape) -> Grid {
        let tile = TileShape { rows: tile.rows.min(ne[0]).max(1), columns: tile.columns.min(ne[1]).max(1) };
        Grid { dtype, ne, tile }
    }

    pub(crate) fn n_tiles(&self) -> usize {
        self.n_row_tiles() * self.ne[1].div_ceil(self.tile.columns)
    }

    fn n_row_tiles(&self) -> usize {
        self.ne[0].div_ceil(self.tile.rows)
    }

    /// # Safety
    /// `result` is aligned and of this grid's size, `index` is below `n_tiles`, and no one uses that tile
    /// as long as the new one lives.
    unsafe fn tile<'a>(&self, result: *mut u8, index: usize) -> Tile<'a> {
        let range = |index: usize, n: usize, end: usize| index * n..end.min((index + 1) * n);
        let n_row_tiles = self.n_row_tiles();
        let rows = range(index % n_row_tiles, self.tile.rows, self.ne[0]);
        let columns = range(index / n_row_tiles, self.tile.columns, self.ne[1]);
        let element = element_bytes(self.dtype);
        let column_stride = self.ne[0] * element;
        // SAFETY: row and column lie within the result.
        let start = unsafe { result.add(columns.start * column_stride + rows.start * element) };
        Tile { start, column_stride, dtype: self.dtype, rows, columns, window: PhantomData }
    }

    /// Computes the tiles that no other thread takes, until `stop` says so.
    ///
    /// # Safety
    /// `result` is aligned and of this grid's size. Since `next` was zero, only calls of this function with
    /// one `result` have touched it, and until all of them return no one else touches `result`.
    pub(crate) unsafe fn share(
        &self,
        next: &NextTile,
        op: &dyn CustomOp,
        args: &[Arg<'_>],
        result: *mut u8,
        stop: impl Fn() -> bool,
    ) {
        let n_tiles = self.n_tiles();
        loop {
            let index = next.0.fetch_add(1, Ordering::Relaxed);
            if index >= n_tiles || stop() {
                return;
            }
            // SAFETY: the counter gives each index once, so the tiles that exist at one time are disjoint.
            op.run(args, &mut unsafe { self.tile(result, index) });
        }
    }
}

/// Bytes of an element of a result.
fn element_bytes(dtype: DType) -> usize {
    dtype.block_bytes() as usize
}

/// The tile that is taken next, on a cache line of its own: all threads write it.
#[derive(Default)]
#[repr(align(64))]
pub(crate) struct NextTile(AtomicUsize);

impl NextTile {
    pub(crate) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}
