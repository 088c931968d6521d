//! How kernels of 256 bits go over a tile of a product: a few columns at a time, and over these chunk by chunk and panel by
//! panel. Sums of all chunks are kept in one place until they are done, since the columns of a result lie far
//! apart.

use std::cell::RefCell;

use ggml::{Tile, TileShape};

use super::super::packed::{BLOCK, Layout};
use super::super::plain::CHUNK;
use super::super::weights::WeightType;
use super::Matrix;
use super::activations::Activations;
use super::panel::{GROUP, Group, Panel};
use super::tile::{Chunk, ChunkLoop};
use super::unpack::Rows;

/// Most columns of a tile: with them their activations and sums fit a
/// second-level cache, and taking weights apart once for so many costs little.
const MOST_COLUMNS: usize = 160;
/// Up to so many columns, rows are read to their end, as memory likes it.
const FEW_COLUMNS: usize = 16;
/// Rows of a tile: few enough that a slow core holds nobody up. Twice as many copy the activations of many columns half as
/// often, which is worth it where there are still [`MANY_TILES`].
const TILE_ROWS: usize = 64;
const MANY_TILES: usize = 64;

/// What a thread uses again and again.
struct Scratch {
    panel: Box<Panel>,
    activations: Vec<Activations>,
    /// `[panel_rows, n_columns, n_panels]`
    sums: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        panel: Panel::boxed(),
        activations: Vec::new(),
        sums: Vec::new(),
    });
}

/// How a product of so many rows and columns is cut.
pub(super) fn tile([n_rows, n_columns]: [usize; 2]) -> TileShape {
    if n_columns <= FEW_COLUMNS {
        return TileShape::rows(TILE_ROWS);
    }
    let n_steps = n_columns.div_ceil(MOST_COLUMNS);
    let is_large = n_rows.div_ceil(2 * TILE_ROWS) * n_steps >= MANY_TILES;
    let rows = if is_large { 2 * TILE_ROWS } else { TILE_ROWS };
    // Whole fours, which is what bytes are multiplied by.
    TileShape::new(rows, n_columns.div_ceil(n_steps).next_multiple_of(4))
}

/// How panels of a type are made and multiplied.
pub(super) struct Way {
    pub(super) inner: ChunkLoop,
    pub(super) panel_rows: usize,
    pub(super) unpack: unsafe fn(WeightType, &Rows, usize, &Group, u8),
    /// 128 where activations are wanted without sign.
    pub(super) flip: u8,
}

/// The rows of `sums` of `weights` times its columns of `packed`.
///
/// # Safety
/// The CPU has AVX2, FMA and F16C and what the inner loop takes; `weights` are of an integer type, that of `way`, and have
/// the rows, `packed` has the columns.
pub(super) unsafe fn multiply(way: &Way, weights: &Matrix<'_>, packed: &[u8], sums: &mut Tile<'_>) {
    SCRATCH.with_borrow_mut(|scratch| {
        // SAFETY: the caller's promise.
        unsafe { scratch.multiply(way, weights, packed, sums) }
    });
}

impl Scratch {
    /// # Safety
    /// As [`multiply`].
    unsafe fn multiply(&mut self, way: &Way, weights: &Matrix<'_>, packed: &[u8], to: &mut Tile<'_>) {
        let layout = Layout::new(weights.n_in).expect("a row is whole blocks");
        let (rows, columns, panel_rows) = (to.rows(), to.columns(), way.panel_rows);
        let (n_panels, n_chunks) = (rows.len().div_ceil(panel_rows), layout.n_in().div_ceil(CHUNK));
        self.activations.resize(columns.len(), Activations::NONE);
        self.sums.resize(n_panels * columns.len() * panel_rows, 0.0);
        let mut copied = usize::MAX;
        for step in 0..n_panels * n_chunks {
            let (p, chunk) = match columns.len() {
                0..=FEW_COLUMNS => (step / n_chunks, step % n_chunks),
                _ => (step % n_panels, step / n_panels),
            };
            let first_block = chunk * (CHUNK / BLOCK);
            let n_blocks = (CHUNK / BLOCK).min(layout.n_blocks() - first_block);
            // SAFETY: blocks are those of the layout, rows those of the tile, all of which are there.
            unsafe {
                if copied != chunk {
                    copied = chunk;
                    for (activations, column) in self.activations.iter_mut().zip(columns.clone()) {
                        let column = &packed[column * layout.column_bytes()..][..layout.column_bytes()];
                        activations.copy(column.as_ptr(), layout, (first_block, n_blocks), way.flip);
                    }
                }
                for g in 0..panel_rows / GROUP {
                    let row = |r: usize| (rows.start + p * panel_rows + g * GROUP + r).min(rows.end - 1);
                    let group = std::array::from_fn(|r| weights.at(row(r), chunk * CHUNK));
                    (way.unpack)(weights.kind, &group, n_blocks, &self.panel.group(g, panel_rows), 0);
                }
                (way.inner)(&Chunk {
                    panel: self.panel.parts(),
                    n_blocks,
                    activations: &self.activations,
                    to: self.sums[p * columns.len() * panel_rows..].as_mut_ptr(),
                    is_first: chunk == 0,
                });
            }
        }
        for (c, column) in columns.clone().enumerate() {
            for (p, to) in to.column_f32(column).chunks_mut(panel_rows).enumerate() {
                let at = (p * columns.len() + c) * panel_rows;
                to.copy_from_slice(&self.sums[at..][..to.len()]);
            }
        }
    }
}
