//! The kernels as operations of a graph. Comes in: weights in ggml's blocks `[n_in, n_out]`, activations
//! `[n_in, n_columns]`. Goes out: activations packed for the integer kernels `[column_bytes, n_columns]` i8,
//! products `[n_out, n_columns]` f32. An operation checks what its unsafe parts rely on whenever it runs.

use ggml::{Arg, CustomOp, Tile, TileShape};

use super::simd::{Matrix, Simd};
use super::weights::{Class, WeightType};

/// Rows of a tile: whole panels, few enough that a slow core holds nobody up, enough that tiles cost nothing.
const TILE_ROWS: usize = 64;
/// Columns that are packed at once.
const PACK_COLUMNS: usize = 4;

/// From `[n_in, n_columns]` f32 to packed columns.
pub struct Pack {
    pub simd: Simd,
}

impl CustomOp for Pack {
    fn tile(&self) -> TileShape {
        TileShape::columns(PACK_COLUMNS)
    }

    fn run(&self, args: &[Arg<'_>], tile: &mut Tile<'_>) {
        let n_in = args[0].ne()[0] as usize;
        let values = args[0].f32s();
        for column in tile.columns() {
            self.simd.pack(&values[column * n_in..][..n_in], tile.column_bytes(column));
        }
    }
}

/// Weights times packed columns, or times f32 columns for float weights.
pub struct Multiply {
    pub simd: Simd,
    pub kind: WeightType,
}

impl CustomOp for Multiply {
    fn tile(&self) -> TileShape {
        TileShape::rows(TILE_ROWS)
    }

    fn run(&self, args: &[Arg<'_>], tile: &mut Tile<'_>) {
        let [weights, columns] = args else { panic!("expected weights and columns, found {args:?}") };
        let matrix = Matrix::new(self.kind, weights.ne()[0] as usize, weights.bytes());
        let matrix = matrix.unwrap_or_else(|| panic!("expected rows of {:?}, found {weights:?}", self.kind));
        match self.kind.class() {
            Class::Float => self.simd.multiply_floats(&matrix, columns.f32s(), tile),
            _ => self.simd.multiply_packed(&matrix, columns.bytes(), tile),
        }
    }
}
