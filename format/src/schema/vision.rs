//! The vision tower: a ViT of InternViT's or CLIP's build, as the graph has to run it.
//! Nothing here is inferred from sizes: norm, activation and the rest are stated by the file.

use super::EPS;
use super::words::{self, words};
use crate::{Metadata, Result};

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
    /// The matrix that turns patches into columns has a bias.
    pub patch_bias: bool,
    /// A norm of the blocks' kind stands between the positions and the first block.
    pub pre_norm: bool,
    /// Each branch is scaled by a vector before it is added.
    pub layer_scale: bool,
    /// Blocks that the source checkpoint had; the difference to `n_layer` never ran.
    pub source_n_layer: u32,
}

/// Attention scores of one block, n_head * n_positions^2: a gigabyte of f32, ten times what InternViT-6B takes.
const MAX_SCORES: u64 = 1 << 28;
const IMAGE_PX: &str = "clip.vision.image_size";
const N_HEAD: &str = "clip.vision.attention.head_count";

impl VisionConfig {
    /// # Errors
    /// Where a key is missing, of another type or out of its range, or where sides and heads don't divide.
    pub(super) fn read(metadata: &Metadata) -> Result<Self> {
        let config = Self {
            n_embd: metadata.u32_in("clip.vision.embedding_length", 1..=16_384)?,
            n_head: metadata.u32_in(N_HEAD, 1..=256)?,
            n_layer: metadata.u32_in("clip.vision.block_count", 1..=256)?,
            n_ff: metadata.u32_in("clip.vision.feed_forward_length", 1..=65_536)?,
            patch_px: metadata.u32_in("clip.vision.patch_size", 1..=256)?,
            image_px: metadata.u32_in(IMAGE_PX, 1..=4096)?,
            norm: words::read(metadata, "owlet.vision.norm")?,
            norm_eps: metadata.f32_in("clip.vision.attention.layer_norm_epsilon", EPS)?,
            qk_norm: words::read(metadata, "owlet.vision.qk_norm")?,
            qkv_bias: metadata.bool("owlet.vision.qkv_bias")?,
            act: words::read(metadata, "owlet.vision.act")?,
            cls: metadata.bool("owlet.vision.cls")?,
            patch_bias: metadata.bool("owlet.vision.patch_bias")?,
            pre_norm: metadata.bool("owlet.vision.pre_norm")?,
            layer_scale: metadata.bool("owlet.vision.layer_scale")?,
            source_n_layer: metadata.u32_in("owlet.vision.source_block_count", 1..=256)?,
        };
        if !config.n_embd.is_multiple_of(config.n_head) {
            let problem = format!("expected a divisor of n_embd {}, found {}", config.n_embd, config.n_head);
            return Err(metadata.wrong(N_HEAD, problem));
        }
        if !config.image_px.is_multiple_of(config.patch_px) {
            let problem =
                format!("expected a multiple of patch_px {}, found {}", config.patch_px, config.image_px);
            return Err(metadata.wrong(IMAGE_PX, problem));
        }
        let n_scores = u64::from(config.n_positions()).pow(2) * u64::from(config.n_head);
        if n_scores > MAX_SCORES {
            let problem = format!("expected at most {MAX_SCORES} attention scores a block, found {n_scores}");
            return Err(metadata.wrong(IMAGE_PX, problem));
        }
        Ok(config)
    }

    pub(super) fn write(&self, metadata: &mut Metadata) {
        metadata.put("clip.vision.embedding_length", self.n_embd);
        metadata.put(N_HEAD, self.n_head);
        metadata.put("clip.vision.block_count", self.n_layer);
        metadata.put("clip.vision.feed_forward_length", self.n_ff);
        metadata.put("clip.vision.patch_size", self.patch_px);
        metadata.put(IMAGE_PX, self.image_px);
        metadata.put("owlet.vision.norm", self.norm.word());
        metadata.put("clip.vision.attention.layer_norm_epsilon", self.norm_eps);
        metadata.put("owlet.vision.qk_norm", self.qk_norm.word());
        metadata.put("owlet.vision.qkv_bias", self.qkv_bias);
        metadata.put("owlet.vision.act", self.act.word());
        metadata.put("owlet.vision.cls", self.cls);
        metadata.put("owlet.vision.patch_bias", self.patch_bias);
        metadata.put("owlet.vision.pre_norm", self.pre_norm);
        metadata.put("owlet.vision.layer_scale", self.layer_scale);
        metadata.put("owlet.vision.source_block_count", self.source_n_layer);
    }

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
