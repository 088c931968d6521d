//! What happens to a picture before the tower sees it.

use std::ops::RangeInclusive;

use super::words::{self, words};
use super::{ProjectorConfig, VisionConfig};
use crate::{Metadata, Result};

words! {
    /// How a picture of any shape becomes a square.
    pub enum Fit {
        /// Both sides are resized to the target, whatever the aspect ratio.
        Squash = "squash",
        /// The shorter side is padded with `pad_rgb`, then the square is resized.
        Pad = "pad",
        /// The shorter side is resized to the target, then the middle is cut out.
        Crop = "crop",
    }
}

/// Preprocessing: `(byte / 255 - mean) / std` on a square of `size_px`.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageConfig {
    /// Side of the square; the tower's `image_px`.
    pub size_px: u32,
    pub fit: Fit,
    /// What [`Fit::Pad`] fills up with.
    pub pad_rgb: [u8; 3],
    /// Per channel, red green blue, on the scale of 0 to 1.
    pub mean: [f32; 3],
    pub std: [f32; 3],
    /// Embedding rows that one picture takes in the text model's sequence.
    pub n_tokens: u32,
}

const SIZE_PX: &str = "owlet.image.size_px";
const STD: &str = "owlet.image.std";
const MEAN: &str = "owlet.image.mean";
const PAD_RGB: &str = "owlet.image.pad_rgb";
const N_TOKENS: &str = "owlet.image.n_tokens";

impl ImageConfig {
    /// # Errors
    /// Where a key is missing, of another type or out of its range, or contradicts the tower or the projector.
    pub(super) fn read(
        metadata: &Metadata,
        vision: &VisionConfig,
        projector: Option<&ProjectorConfig>,
    ) -> Result<Self> {
        let ratio = projector.map_or(1, |projector| projector.ratio);
        let n_tokens = vision.n_patches() / (ratio * ratio);
        Ok(Self {
            size_px: metadata.u32_in(SIZE_PX, vision.image_px..=vision.image_px)?,
            fit: words::read(metadata, "owlet.image.fit")?,
            pad_rgb: three(metadata, PAD_RGB, metadata.u8s(PAD_RGB)?)?,
            mean: within(metadata, MEAN, -1e3..=1e3)?,
            std: within(metadata, STD, 1e-4..=1e4)?,
            n_tokens: metadata.u32_in(N_TOKENS, n_tokens..=n_tokens)?,
        })
    }

    pub(super) fn write(&self, metadata: &mut Metadata) {
        metadata.put(SIZE_PX, self.size_px);
        metadata.put("owlet.image.fit", self.fit.word());
        metadata.put(PAD_RGB, self.pad_rgb.to_vec());
        metadata.put(MEAN, self.mean.to_vec());
        metadata.put(STD, self.std.to_vec());
        metadata.put(N_TOKENS, self.n_tokens);
    }
}

fn three<T: Copy>(metadata: &Metadata, key: &str, items: &[T]) -> Result<[T; 3]> {
    let wrong = |_| metadata.wrong(key, format!("expected 3 items, red green blue, found {}", items.len()));
    items.try_into().map_err(wrong)
}

/// Three numbers in `range`; NaN is in none.
fn within(metadata: &Metadata, key: &str, range: RangeInclusive<f32>) -> Result<[f32; 3]> {
    let items = three(metadata, key, metadata.f32s(key)?)?;
    match items.iter().find(|x| !range.contains(x)) {
        None => Ok(items),
        Some(x) => {
            let problem = format!("expected {} to {}, found {x}", range.start(), range.end());
            Err(metadata.wrong(key, problem))
        }
    }
}
