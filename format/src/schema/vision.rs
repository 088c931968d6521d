//! The vision tower: a ViT of InternViT's or CLIP's build, as the graph has to run it.
//! Nothing here is inferred from sizes: norm, activation and the rest are stated by the file.

use super::words::words;

words! {
    /// How a block normalises its input.
    pub enum NormKind {
        /// `x / rms(x) * weight`
        Rms = "rms",
        /// `(x - mean) / std * weight + bias`
        Layer = "layer",
    }
}

words! {
    /// What happens to queries and keys before they are split into heads.
    pub enum QkNorm {
        None = "none",
        /// An RMS norm over all heads at once, with a weight of `n_embd`.
        Full = "full",
    }
}

words! {
    /// The activation between the two matrices of a block's feed-forward part.
    pub enum Activation {
        /// The exact GELU, by the error function.
        GeluErf = "gelu_erf",
        /// `x * sigmoid(1.702 * x)`
        QuickGelu = "quick_gelu",
    }
}

/// The vision tower. Tensors: `v.*`.
#[derive(Clone, Debug, PartialEq)]
pub struct VisionConfig {
    pub n_embd: u32,
    pub n_head: u32,
    /// Blocks stored, which is blocks run: the output is what the last one yields, without a final norm.
    pub n_layer: u32,
    pub n_ff: u32,
    /// Side of a square patch.
    pub patch_px: u32,
    /// Side of the square picture; a multiple of `patch_px`.
    pub image_px: u32,
    pub norm: NormKind,
    /// Epsilon of every norm in the tower, q/k norms included.
    pub norm_eps: f32,
    pub qk_norm: QkNorm,
    pub qkv_bias: bool,
    pub act: Activation,
    /// A class token stands before the patches (and is dropped behind the tower).
    pub cls: bool,
    /// Each branch is scaled by a vector before it is added.
    pub layer_scale: bool,
    /// Blocks that the source checkpoint had; the difference to `n_layer` never ran.
    pub source_n_layer: u32,
}

impl VisionConfig {
    /// Patches along one side.
    pub fn grid(&self) -> u32 {
        self.image_px / self.patch_px
    }

    /// Patches of a picture, without the class token.
    pub fn n_patches(&self) -> u32 {
        self.grid() * self.grid()
    }

    /// Columns that run through the tower: the patches and the class token.
    pub fn n_positions(&self) -> u32 {
        self.n_patches() + u32::from(self.cls)
    }

    pub fn head_dim(&self) -> u32 {
        self.n_embd / self.n_head
    }
}
