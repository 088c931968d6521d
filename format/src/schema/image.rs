//! What happens to a picture before the tower sees it.

use super::words::words;

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
