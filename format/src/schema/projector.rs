//! The projector: patches of the tower in, rows of the text model's embedding width out.

use super::words::words;

words! {
    /// How `ratio` x `ratio` patches become one column.
    pub enum Shuffle {
        /// Each patch is a column of its own.
        None = "none",
        /// Columns of the picture first: token `side * j + i` for the block in row `i`, column `j`.
        V1 = "v1",
        /// Rows of the picture first: token `side * i + j`.
        V2 = "v2",
    }
}

words! {
    /// The layers of the projector.
    pub enum ProjectorKind {
        /// Layer norm, matrix, exact GELU, matrix.
        Mlp1 = "mlp1",
        /// Matrix, exact GELU, matrix.
        Mlp2xGelu = "mlp2x_gelu",
    }
}

/// The projector. Tensors: `mm.*`.
#[derive(Clone, Debug, PartialEq)]
pub struct ProjectorConfig {
    pub kind: ProjectorKind,
    /// Epsilon of the layer norm of [`ProjectorKind::Mlp1`]; other kinds have no norm and ignore it.
    pub norm_eps: f32,
    pub shuffle: Shuffle,
    /// Patches along a side that become one column; 1 where `shuffle` is none.
    pub ratio: u32,
    /// Width of an output row: the text model's `n_embd`.
    pub n_embd_out: u32,
}

impl ProjectorConfig {
    /// Width of a column behind the shuffle, for a tower of `n_embd_vision`.
    pub fn n_embd_in(&self, n_embd_vision: u32) -> u32 {
        n_embd_vision * self.ratio * self.ratio
    }
}
