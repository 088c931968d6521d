//! No kernels: what stands in for an architecture on which none of ours has been tested. ggml multiplies.

use std::ops::Range;

use ggml::{Tile, TileShape};

use super::attention::{Cells, Queries};
use super::passes::{Row, To};
use super::weights::WeightType;

/// There is none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Simd {}

/// Rows of weights.
pub enum Matrix {}

impl Matrix {
    pub fn new(_: WeightType, _: usize, _: &[u8]) -> Option<Matrix> {
        None
    }
}

impl Simd {
    pub fn available() -> Vec<Simd> {
        Vec::new()
    }

    pub fn name(self) -> &'static str {
        match self {}
    }

    pub fn tile(self, _: [usize; 2]) -> TileShape {
        match self {}
    }

    pub fn pack(self, _: &[f32], _: &mut [u8]) {
        match self {}
    }

    pub fn pass(self, _: &Row<'_>, _: To<'_>) {
        match self {}
    }

    pub fn attend(self, _: &Queries<'_>, _: &[Cells<'_>; 2], _: Range<usize>, _: &mut Tile<'_>) {
        match self {}
    }

    pub fn multiply_packed(self, weights: &Matrix, _: &[u8], _: &mut Tile<'_>) {
        match *weights {}
    }

    pub fn multiply_floats(self, weights: &Matrix, _: &[f32], _: &mut Tile<'_>) {
        match *weights {}
    }
}
