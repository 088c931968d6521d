//! The kernels as operations of a graph. Comes in: weights in ggml's blocks `[n_in, n_out]`, activations
//! `[n_in, n_columns]`. Goes out: activations, passed over, in f32 or packed for the integer kernels
//! `[column_bytes, n_columns]` i8; products `[n_out, n_columns]` f32. An operation checks what its unsafe
//! parts rely on whenever it runs.

use ggml::{Arg, CustomOp, Tile, TileShape};

use super::passes::{Curve, Row, Statistics, To};
use super::simd::{Matrix, Simd};
use super::weights::{Class, WeightType};

/// Columns of a tile that are packed, or that a pass goes over.
const PASS_COLUMNS: usize = 4;

/// From `[n_in, n_columns]` f32 to packed columns.
pub struct Pack {
    pub simd: Simd,
}

impl CustomOp for Pack {
    fn tile(&self, _: [usize; 2]) -> TileShape {
        TileShape::columns(PASS_COLUMNS)
    }

    fn run(&self, args: &[Arg<'_>], tile: &mut Tile<'_>) {
        let n_in = args[0].ne()[0] as usize;
        let values = args[0].f32s();
        for column in tile.columns() {
            self.simd.pack(&values[column * n_in..][..n_in], tile.column_bytes(column));
        }
    }
}

/// A pass over columns of f32, to f32 `[n, n_columns]` or to packed columns.
pub struct Pass {
    pub simd: Simd,
    pub work: Work,
    pub is_packed: bool,
}

/// What a pass computes, see [`Row`], and what its arguments are. All but the vectors `[n]` of weights are
/// columns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work {
    /// `x`, of which the norm goes over the elements from `first` on; weight; bias if there is one.
    Norm { statistics: Statistics, first: usize },
    /// `x`; bias if there is one.
    Curve(Curve),
    /// Gate; up.
    Gate,
    /// Hidden; branch; bias and scale where they are.
    Join { has_bias: bool, has_scale: bool },
}

impl CustomOp for Pass {
    fn tile(&self, _: [usize; 2]) -> TileShape {
        TileShape::columns(PASS_COLUMNS)
    }

    fn run(&self, args: &[Arg<'_>], tile: &mut Tile<'_>) {
        for column in tile.columns() {
            let row = self.work.row(args, column);
            let to = match self.is_packed {
                true => To::Packed(tile.column_bytes(column)),
                false => To::Floats(tile.column_f32(column)),
            };
            self.simd.pass(&row, to);
        }
    }
}

impl Work {
    fn row<'a>(&self, args: &[Arg<'a>], column: usize) -> Row<'a> {
        let vector = |i: usize| args[i].f32s();
        let values = |i: usize| {
            let n = args[i].ne()[0] as usize;
            &vector(i)[column * n..][..n]
        };
        let last = |is_there: bool, i: usize| is_there.then(|| vector(i));
        match *self {
            Work::Norm { statistics, first } => {
                let weight = vector(1);
                let x = &values(0)[first..][..weight.len()];
                Row::Norm { statistics, x, weight, bias: last(args.len() > 2, 2) }
            }
            Work::Curve(curve) => Row::Curve { curve, x: values(0), bias: last(args.len() > 1, 1) },
            Work::Gate => Row::Gate { gate: values(0), up: values(1) },
            Work::Join { has_bias, has_scale } => Row::Join {
                hidden: values(0),
                branch: values(1),
                bias: last(has_bias, 2),
                scale: last(has_scale, 2 + usize::from(has_bias)),
            },
        }
    }
}

/// Weights times columns.
pub struct Multiply {
    pub simd: Simd,
    pub kind: WeightType,
    pub against: Against,
}

/// What weights are multiplied with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// Integer weights only.
    Packed,
    F32,
}

impl Against {
    /// Every way in which weights are multiplied.
    pub fn of_all_types() -> impl Iterator<Item = (WeightType, Against)> {
        WeightType::ALL.into_iter().flat_map(|kind| {
            let packed = (kind.class() != Class::Float).then_some((kind, Against::Packed));
            packed.into_iter().chain([(kind, Against::F32)])
        })
    }
}

impl CustomOp for Multiply {
    fn tile(&self, ne: [usize; 2]) -> TileShape {
        self.simd.tile(ne)
    }

    fn run(&self, args: &[Arg<'_>], tile: &mut Tile<'_>) {
        let [weights, columns] = args else { panic!("expected weights and columns, found {args:?}") };
        let matrix = Matrix::new(self.kind, weights.ne()[0] as usize, weights.bytes());
        let matrix = matrix.unwrap_or_else(|| panic!("expected rows of {:?}, found {weights:?}", self.kind));
        match self.against {
            Against::F32 => self.simd.multiply_floats(&matrix, columns.f32s(), tile),
            Against::Packed => self.simd.multiply_packed(&matrix, columns.bytes(), tile),
        }
    }
}
