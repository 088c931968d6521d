//! Attention as operations of a graph: a tile is a few queries of one head. An operation checks what its
//! arguments are whenever it runs.

use std::ops::Range;

use ggml::{Arg, CustomOp, Tile, TileShape};

use super::super::simd::Simd;
use super::super::weights::WeightType;
use super::{Cells, Queries, Seen, attend_plain};

/// Queries of a tile where every one sees all keys: whole vectors, of which the 1,025 rows of a tower fill five a
/// tile and waste little in the last one.
const ROWS_OVER_ALL: usize = 80;
/// Queries of a tile over a cache.
const ROWS_OVER_CELLS: usize = 64;

/// Heads of queries, and of the keys and values that neighbouring ones of them share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    pub n_head: u64,
    pub n_head_kv: u64,
    pub head_dim: u64,
}

/// Every row of queries attends to every row of keys. Arguments: matrices of rows that hold queries, keys and values, f32.
pub struct AttendAll {
    /// None for the plain loops.
    pub simd: Option<Simd>,
    pub heads: Heads,
    /// Where queries, keys and values begin in their rows.
    pub first: [usize; 3],
}

/// A row attends to the cells of its sequence up to its own. Arguments: queries `[n_head * head_dim, n_rows]` f32;
/// keys and values of a cache `[n_head_kv * head_dim, n_cells]`; a row's position `[n_rows]` i32; the cell where
/// that lies `[n_rows]` i64. Cells of a sequence follow each other.
pub struct AttendCells {
    /// None for the plain loops.
    pub simd: Option<Simd>,
    pub heads: Heads,
}

impl Heads {
    fn head_dim(&self) -> usize {
        self.head_dim as usize
    }

    fn scale(&self) -> f32 {
        (1.0 / (self.head_dim as f64).sqrt()) as f32
    }

    /// The head whose rows these are, and the one of its keys and values.
    ///
    /// # Panics
    /// When a tile is not a head.
    fn of(&self, rows: Range<usize>) -> [usize; 2] {
        let (n_head, head) = (self.n_head as usize, rows.start / self.head_dim());
        assert!(
            rows == (head * self.head_dim()..(head + 1) * self.head_dim()) && head < n_head,
            "expected rows of a head, found {rows:?}"
        );
        [head, head / (n_head / self.n_head_kv as usize)]
    }
}

impl CustomOp for AttendAll {
    fn tile(&self, _: [usize; 2]) -> TileShape {
        TileShape::new(self.heads.head_dim(), ROWS_OVER_ALL)
    }

    fn run(&self, args: &[Arg<'_>], tile: &mut Tile<'_>) {
        let [q, k, v] = args else { panic!("expected queries, keys and values, found {args:?}") };
        let [head, head_kv] = self.heads.of(tile.rows());
        let head_dim = self.heads.head_dim();
        let n_rows = k.ne()[1] as usize;
        let cells = [(k, self.first[1]), (v, self.first[2])].map(|(arg, first)| {
            let size = size_of::<f32>();
            let (stride, at) = (arg.ne()[0] as usize * size, (first + head_kv * head_dim) * size);
            assert!(
                arg.ne()[1] as usize == n_rows && at + head_dim * size <= stride,
                "expected {n_rows} rows with heads of {head_dim}, found {arg:?}"
            );
            Cells { kind: WeightType::F32, bytes: &bytes_of_f32(arg)[at..], stride, head_dim }
        });
        let queries = Queries {
            values: q.f32s(),
            width: q.ne()[0] as usize,
            first: self.first[0] + head * head_dim,
            head_dim,
            scale: self.heads.scale(),
            seen: Seen::All(n_rows),
        };
        attend(self.simd, &queries, &cells, tile.columns(), tile);
    }
}

impl CustomOp for AttendCells {
    fn tile(&self, _: [usize; 2]) -> TileShape {
        TileShape::new(self.heads.head_dim(), ROWS_OVER_CELLS)
    }

    fn run(&self, args: &[Arg<'_>], tile: &mut Tile<'_>) {
        let [q, k, v, positions, places] = args else {
            panic!("expected queries, keys, values, positions and places, found {args:?}")
        };
        let [head, head_kv] = self.heads.of(tile.rows());
        let (positions, places) = (positions.i32s(), places.i64s());
        let queries = Queries {
            values: q.f32s(),
            width: q.ne()[0] as usize,
            first: head * self.heads.head_dim(),
            head_dim: self.heads.head_dim(),
            scale: self.heads.scale(),
            seen: Seen::UpTo(positions),
        };
        // Where the sequence of a row begins.
        let base = |row: usize| {
            let base = usize::try_from(places[row] - i64::from(positions[row]));
            base.unwrap_or_else(|_| panic!("expected a cell of a sequence, found {}", places[row]))
        };
        let mut left = tile.columns();
        while !left.is_empty() {
            let first_cell = base(left.start);
            let end = left.clone().find(|&row| base(row) != first_cell).unwrap_or(left.end);
            let cells = [k, v].map(|arg| self.cells(arg, first_cell, head_kv));
            attend(self.simd, &queries, &cells, left.start..end, tile);
            left.start = end;
        }
    }
}

impl AttendCells {
    /// The cells of a head from `first` on.
    fn cells<'a>(&self, arg: &Arg<'a>, first: usize, head: usize) -> Cells<'a> {
        let (n_head_kv, head_dim) = (self.heads.n_head_kv as usize, self.heads.head_dim());
        let kind = WeightType::of(arg.dtype());
        let kind = kind.filter(|kind| matches!(kind, WeightType::F32 | WeightType::F16 | WeightType::Q8_0));
        let kind = kind.unwrap_or_else(|| panic!("expected cells of f32, f16 or q8_0, found {arg:?}"));
        let n_bytes =
            |n: usize| kind.row_bytes(n).unwrap_or_else(|| panic!("expected whole blocks: {arg:?}"));
        let [n, n_cells, ..] = arg.ne();
        assert!(
            n as usize == n_head_kv * head_dim && first < n_cells as usize,
            "expected {n_head_kv} heads of {head_dim} and a cell {first}, found {arg:?}"
        );
        let stride = n_bytes(n as usize);
        let at = first * stride + n_bytes(head * head_dim);
        Cells { kind, bytes: &arg.bytes()[at..], stride, head_dim }
    }
}

/// `rows` of `queries`, each to its column.
fn attend(
    simd: Option<Simd>,
    queries: &Queries<'_>,
    cells: &[Cells<'_>; 2],
    rows: Range<usize>,
    to: &mut Tile<'_>,
) {
    match simd {
        Some(simd) => simd.attend(queries, cells, rows, to),
        None => rows.for_each(|row| attend_plain(queries, row, cells, to.column_f32(row))),
    }
}

/// # Panics
/// When these are not f32.
fn bytes_of_f32<'a>(arg: &Arg<'a>) -> &'a [u8] {
    arg.f32s();
    arg.bytes()
}
