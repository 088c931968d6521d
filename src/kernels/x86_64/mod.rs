//! The kernels of x86-64. A [`Simd`] can only be made on a CPU that has its instructions, so every method is
//! safe to call. Nothing else in owlet touches vector instructions.

mod activations;
mod attention;
mod attention_one;
mod avx2;
mod chunks;
mod dots;
mod functions;
mod pack;
mod panel;
mod passes;
mod rows;
mod sixteen;
mod stage;
mod tile;
mod unpack;
mod vector;
mod vnni;
mod vnni_rows;
mod widen;

use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
use std::cell::RefCell;
use std::ops::Range;

use ggml::{Tile, TileShape};

use self::chunks::Way;
use self::panel::{GROUP, Panel};
use self::tile::{Column, Floats, Out, Packed, Rows, RowsLoop};
use super::packed::{BLOCK, Layout};
use super::plain::{CHUNK, FLOAT_CHUNK};
use super::weights::{Class, WeightType};

/// Instructions that this CPU has, and the kernels written for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Simd(Level);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Avx2,
    /// And the VNNI of 256 bits that CPUs without AVX-512 have.
    AvxVnni,
    /// AVX2 alone, by the loops of `AvxVnni`.
    #[cfg(test)]
    StandIn,
    Avx512Vnni,
}

/// Rows of weights where they are mapped: `[n_in, n_out]`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    kind: WeightType,
    n_in: usize,
    row_bytes: usize,
    bytes: &'a [u8],
}

impl<'a> Matrix<'a> {
    /// None when `bytes` are no whole rows.
    pub fn new(kind: WeightType, n_in: usize, bytes: &'a [u8]) -> Option<Matrix<'a>> {
        let row_bytes = kind.row_bytes(n_in).filter(|&n| n > 0)?;
        bytes.len().is_multiple_of(row_bytes).then_some(Matrix { kind, n_in, row_bytes, bytes })
    }

    pub fn n_out(&self) -> usize {
        self.bytes.len() / self.row_bytes
    }

    /// The block that holds `element` of `row`.
    fn at(&self, row: usize, element: usize) -> *const u8 {
        let (elements, bytes) = self.kind.block();
        self.bytes[row * self.row_bytes + element / elements * bytes..].as_ptr()
    }
}

/// What a sweep asks for.
enum Step<'a> {
    /// Fill a group of the panel from the rows that begin here.
    Unpack(usize, &'a unpack::Rows),
    /// Multiply it by these columns.
    Multiply(Range<usize>, Out),
}

/// Rows of a tile: whole panels, few enough that a slow core holds nobody up, enough that tiles cost nothing.
const TILE_ROWS: usize = 64;
/// Columns from which on their activations are worth keeping in a cache.
const MANY_COLUMNS: usize = 16;

thread_local! {
    static PANEL: RefCell<Box<Panel>> = RefCell::new(Panel::boxed());
}

/// The rows of `sums` times its `C` columns.
///
/// # Safety
/// The CPU has what `product` takes; `weights` are of an integer type and have the rows, `packed` has the columns.
unsafe fn multiply_columns<const N: usize, const C: usize>(
    weights: &Matrix<'_>,
    layout: Layout,
    packed: &[u8],
    sums: &mut Tile<'_>,
    product: RowsLoop<N, C>,
) {
    let (rows, columns) = (sums.rows(), sums.columns());
    let x: [Column; C] = std::array::from_fn(|c| {
        let packed = &packed[(columns.start + c) * layout.column_bytes()..][..layout.column_bytes()];
        let part = |at: usize| packed[at..].as_ptr();
        Column {
            codes: packed.as_ptr().cast(),
            scales: part(layout.scales()).cast(),
            sums: part(layout.sums()).cast(),
            pairs: part(layout.pairs()).cast(),
            half_pairs: part(layout.half_pairs()).cast(),
        }
    });
    for first in rows.clone().step_by(N) {
        let at = std::array::from_fn(|r| weights.at((first + r).min(rows.end - 1), 0));
        let some = Rows { at, row_bytes: weights.row_bytes, n_blocks: layout.n_blocks() };
        // SAFETY: the caller's promise; `at` yields whole rows, and the columns are whole.
        let found = unsafe { product(weights.kind, &some, &x) };
        for (column, found) in columns.clone().zip(found) {
            let to = &mut sums.column_f32(column)[first - rows.start..];
            let n = to.len().min(N);
            to[..n].copy_from_slice(&found[..n]);
        }
    }
}

/// Asks for `length` bytes of each of the next columns.
fn prefetch(column: *const u8, length: usize, column_bytes: usize, n_columns: usize) {
    for c in 0..n_columns {
        for at in (0..length).step_by(64) {
            // SAFETY: a hint; any address may be named.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(column.wrapping_add(c * column_bytes + at).cast()) }
        }
    }
}

impl Simd {
    /// What this CPU can do, fastest last.
    pub fn available() -> Vec<Simd> {
        let mut all = Vec::new();
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
        {
            all.push(Simd(Level::Avx2));
            #[cfg(test)]
            all.push(Simd(Level::StandIn));
            if is_x86_feature_detected!("avxvnni") {
                all.push(Simd(Level::AvxVnni));
            }
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
            {
                all.push(Simd(Level::Avx512Vnni));
            }
        }
        all
    }

    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Avx2 => "avx2",
            Level::AvxVnni => "avx-vnni",
            #[cfg(test)]
            Level::StandIn => "avx-vnni's loops with avx2",
            Level::Avx512Vnni => "avx512-vnni",
        }
    }

    /// Whether registers have 512 bits.
    fn has_512(self) -> bool {
        self.0 == Level::Avx512Vnni
    }

    /// How a product of `ne` rows and columns is cut into tiles.
    pub fn tile(self, ne: [usize; 2]) -> TileShape {
        if self.has_512() { TileShape::rows(TILE_ROWS) } else { chunks::tile(ne) }
    }

    /// Packs one column, see [`super::packed`].
    ///
    /// # Panics
    /// When `column` is not whole blocks or `packed` not a column.
    pub fn pack(self, column: &[f32], packed: &mut [u8]) {
        let layout = Layout::new(column.len()).expect("a column is whole blocks");
        assert_eq!(packed.len(), layout.column_bytes(), "bytes of a packed column");
        // SAFETY: all levels have AVX2; the lengths were checked.
        unsafe { pack::pack(layout, column.as_ptr(), packed.as_mut_ptr()) }
    }

    /// What multiplies rows where they lie, in registers of 256 bits.
    fn rows<const C: usize>(self) -> RowsLoop<{ rows::N_ROWS }, C> {
        match self.0 {
            Level::AvxVnni => rows::avx_vnni::<C>,
            #[cfg(test)]
            Level::StandIn => rows::stand_in::<C>,
            Level::Avx512Vnni => rows::avx512_vnni::<C>,
            Level::Avx2 => rows::avx2::<C>,
        }
    }

    /// How panels of `kind` are multiplied, without AVX-512.
    fn way(self, kind: WeightType) -> Way {
        match self.0 {
            Level::AvxVnni => sixteen::avx_vnni(kind),
            #[cfg(test)]
            Level::StandIn => sixteen::stand_in(kind),
            _ => avx2::way(kind),
        }
    }

    /// The rows of `sums` of `weights` times its columns of `packed`, all of which is `[n_in, n_columns]`.
    ///
    /// # Panics
    /// For floats, or when shapes don't belong together.
    pub fn multiply_packed(self, weights: &Matrix<'_>, packed: &[u8], sums: &mut Tile<'_>) {
        let layout = Layout::new(weights.n_in).expect("a row is whole blocks");
        let column_bytes = layout.column_bytes();
        assert!(weights.kind.class() != Class::Float, "expected an integer type");
        assert!(packed.len() / column_bytes >= sums.columns().end, "expected as many packed columns as sums");
        assert!(sums.rows().end <= weights.n_out(), "expected as many rows of weights as of sums");
        // SAFETY: the level says what the CPU has; rows and columns are there.
        unsafe {
            // Six bits are taken apart into so many sums that three columns of them fit no registers.
            let is_six = weights.kind.class() == Class::Six;
            match sums.columns().len() {
                1 if self.has_512() => {
                    return multiply_columns(weights, layout, packed, sums, vnni_rows::product);
                }
                // A panel for two columns costs more than it brings.
                2 if self.has_512() && !is_six => {
                    return multiply_columns(weights, layout, packed, sums, self.rows::<2>());
                }
                _ if self.has_512() => {}
                1 => return multiply_columns(weights, layout, packed, sums, self.rows::<1>()),
                2 => return multiply_columns(weights, layout, packed, sums, self.rows::<2>()),
                3 if !is_six => return multiply_columns(weights, layout, packed, sums, self.rows::<3>()),
                4 if !is_six => return multiply_columns(weights, layout, packed, sums, self.rows::<4>()),
                _ => return chunks::multiply(&self.way(weights.kind), weights, packed, sums),
            }
        }
        let tiles = vnni::packed_tiles(weights.kind);
        let (offset, flip) = match weights.kind.class() {
            Class::Eight => (128, 128),
            _ => (weights.kind.offset(), 0),
        };
        let (panel_rows, tile_columns) = (vnni::N_ROWS, tiles.len());
        sweep(weights, sums, [panel_rows, tile_columns, CHUNK], |panel, chunk, step| match step {
            // SAFETY: AVX2 is there; the rows were cut by `sweep`, and a chunk fits a panel.
            Step::Unpack(g, rows) => unsafe {
                let group = panel.group(g, panel_rows);
                unpack::unpack::<{ unpack::UNSIGNED }>(weights.kind, rows, chunk.len() / BLOCK, &group, flip);
            },
            // SAFETY: columns and chunk lie within `packed`, whose length was checked.
            Step::Multiply(columns, out) => unsafe {
                let column = packed.as_ptr().add(columns.start * column_bytes);
                prefetch(
                    column.wrapping_add(columns.len() * column_bytes + chunk.start),
                    chunk.len(),
                    column_bytes,
                    columns.len(),
                );
                let part = |at: usize| column.add(at + 4 * (chunk.start / BLOCK));
                tiles[columns.len() - 1](&Packed {
                    panel: panel.parts(),
                    n_blocks: chunk.len() / BLOCK,
                    codes: column.add(chunk.start).cast(),
                    scales: part(layout.scales()).cast(),
                    sums: part(layout.sums()).cast(),
                    pairs: part(layout.pairs()).cast(),
                    half_pairs: part(layout.half_pairs()).cast(),
                    column_bytes,
                    offset,
                    out,
                });
            },
        });
    }

    /// The rows of `sums` of `weights`, of any type, times its columns of `values`, which are `[n_in,
    /// n_columns]`.
    ///
    /// # Panics
    /// When shapes don't belong together.
    pub fn multiply_floats(self, weights: &Matrix<'_>, values: &[f32], sums: &mut Tile<'_>) {
        assert!(values.len() / weights.n_in >= sums.columns().end, "expected as many columns as sums");
        let (panel_rows, tiles) = match self.has_512() {
            true => (vnni::N_ROWS, vnni::FLOAT),
            false => (avx2::N_FLOAT_ROWS, avx2::FLOAT),
        };
        sweep(weights, sums, [panel_rows, tiles.len(), FLOAT_CHUNK], |panel, chunk, step| match step {
            // SAFETY: AVX2 is there; the rows were cut by `sweep`, and a chunk fits a panel.
            Step::Unpack(g, rows) => unsafe {
                let group = panel.group(g, panel_rows);
                match weights.kind.class() {
                    Class::Float => unpack::unpack_floats(weights.kind, rows, chunk.len(), &group),
                    _ => widen::unpack_as_floats(weights.kind, rows, chunk.len() / BLOCK, &group),
                }
            },
            // SAFETY: columns and chunk lie within `values`, whose length was checked.
            Step::Multiply(columns, out) => unsafe {
                tiles[columns.len() - 1](&Floats {
                    panel: panel.parts(),
                    n_in: chunk.len(),
                    columns: values.as_ptr().add(columns.start * weights.n_in + chunk.start),
                    stride: weights.n_in,
                    out,
                });
            },
        });
    }
}

/// Goes over panels of rows and chunks of each, and with each over the columns a few at a time. With many
/// columns chunks come first, so that their activations stay in the second-level cache for all panels;
/// with few, rows are read to their end, as memory likes it.
fn sweep(
    weights: &Matrix<'_>,
    sums: &mut Tile<'_>,
    [panel_rows, tile_columns, chunk_length]: [usize; 3],
    mut work: impl FnMut(&mut Panel, &Range<usize>, Step<'_>),
) {
    let (rows, columns) = (sums.rows(), sums.columns());
    assert!(rows.end <= weights.n_out(), "expected as many rows of weights as of sums");
    let (n_panels, n_chunks) = (rows.len().div_ceil(panel_rows), weights.n_in.div_ceil(chunk_length));
    PANEL.with_borrow_mut(|panel| {
        for step in 0..n_panels * n_chunks {
            let (p, c) = match columns.len() {
                0..MANY_COLUMNS => (step / n_chunks, step % n_chunks),
                _ => (step % n_panels, step / n_panels),
            };
            let (first_row, start) = (rows.start + p * panel_rows, c * chunk_length);
            let n_rows = panel_rows.min(rows.end - first_row);
            let chunk = start..weights.n_in.min(start + chunk_length);
            for g in 0..panel_rows / GROUP {
                let row = |r: usize| first_row + (g * GROUP + r).min(n_rows - 1);
                let group = std::array::from_fn(|r| weights.at(row(r), start));
                work(panel, &chunk, Step::Unpack(g, &group));
            }
            for column in columns.clone().step_by(tile_columns) {
                let few = column..columns.end.min(column + tile_columns);
                let is_first = start == 0;
                if n_rows == panel_rows {
                    let out = Out::of(sums, first_row, column, is_first);
                    work(panel, &chunk, Step::Multiply(few, out));
                    continue;
                }
                let out = Out { to: panel.edge.as_mut_ptr(), stride: panel_rows, is_first: true };
                work(panel, &chunk, Step::Multiply(few.clone(), out));
                for (column, from) in few.zip(panel.edge.chunks_exact(panel_rows)) {
                    let to = &mut sums.column_f32(column)[first_row - rows.start..];
                    for (to, &from) in to.iter_mut().zip(from) {
                        *to = if is_first { from } else { *to + from };
                    }
                }
            }
        }
    });
}
