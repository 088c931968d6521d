//! The projector: patches of the tower in, rows of the text model's embedding width out.

use super::words::{self, words};
use super::{EPS, TextConfig, VisionConfig};
use crate::{Metadata, Result};

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

const N_EMBD_OUT: &str = "clip.vision.projection_dim";
const RATIO: &str = "owlet.projector.ratio";

impl ProjectorConfig {
    /// # Errors
    /// Where a key is missing, of another type or out of its range, or the tower's grid can't be shuffled so.
    pub(super) fn read(metadata: &Metadata, vision: &VisionConfig) -> Result<Self> {
        let config = Self {
            kind: words::read(metadata, "owlet.projector.kind")?,
            norm_eps: metadata.f32_in("owlet.projector.norm_eps", EPS)?,
            shuffle: words::read(metadata, "owlet.projector.shuffle")?,
            ratio: metadata.u32_in(RATIO, 1..=8)?,
            n_embd_out: metadata.u32_in(N_EMBD_OUT, 1..=65_536)?,
        };
        let ratio = config.ratio;
        if (config.shuffle == Shuffle::None) != (ratio == 1) {
            let expected = if ratio == 1 { "2 to 8" } else { "1" };
            let problem = format!("expected {expected} for shuffle {}, found {ratio}", config.shuffle);
            return Err(metadata.wrong(RATIO, problem));
        }
        if !vision.grid().is_multiple_of(ratio) {
            let problem =
                format!("expected a divisor of the grid of {} patches, found {ratio}", vision.grid());
            return Err(metadata.wrong(RATIO, problem));
        }
        Ok(config)
    }

    /// # Errors
    /// Where the output is not as wide as the text model's rows.
    pub(super) fn check_text(&self, metadata: &Metadata, text: &TextConfig) -> Result<()> {
        match self.n_embd_out == text.n_embd {
            true => Ok(()),
            false => {
                let problem =
                    format!("expected the text model's n_embd {}, found {}", text.n_embd, self.n_embd_out);
                Err(metadata.wrong(N_EMBD_OUT, problem))
            }
        }
    }

    pub(super) fn write(&self, metadata: &mut Metadata) {
        metadata.put("owlet.projector.kind", self.kind.word());
        metadata.put("owlet.projector.norm_eps", self.norm_eps);
        metadata.put("owlet.projector.shuffle", self.shuffle.word());
        metadata.put(RATIO, self.ratio);
        metadata.put(N_EMBD_OUT, self.n_embd_out);
    }

    /// Width of a column behind the shuffle, for a tower of `n_embd_vision`.
    pub fn n_embd_in(&self, n_embd_vision: u32) -> u32 {
        n_embd_vision * self.ratio * self.ratio
    }
}
