//! From a picture to what the vision tower takes.
//!
//! Comes in: a decoded picture and the file's image settings. Goes out: [`Pixels`]: the square as bytes, for people to
//! look at, and as normalised floats, one plane a colour, for the network. Must not know file formats.

use std::sync::Arc;

use owlet_format::{Fit, ImageConfig};

use super::Picture;
use super::resize::{Axis, resize_placed};
use crate::{Error, Result};

/// A picture as the model sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Pixels {
    pub size_px: usize,
    /// `[3, size_px, size_px]`: red, green, blue side by side. Shared with whoever keeps the picture and needs no floats.
    pub rgb: Arc<Vec<u8>>,
    /// `[size_px, size_px, 3]`: one plane a colour, `(byte / 255 - mean) / std`.
    pub planes: Vec<f32>,
}

/// Brings `picture` to the side and the value range that the tower was trained with.
///
/// # Errors
/// `Request` where the settings contradict themselves, which those of a checked file do not.
pub fn preprocess(picture: &Picture, config: &ImageConfig) -> Result<Pixels> {
    let size_px = config.size_px as usize;
    let sides = [picture.width, picture.height];
    let axes = sides.map(|n_in| match config.fit {
        Fit::Squash => Axis::whole(n_in, size_px),
        Fit::Pad => padded(n_in, sides, size_px),
        Fit::Crop => cropped(n_in, sides, size_px),
    });
    Pixels::new(resize_placed(&picture.rgb, axes, config.pad_rgb), config)
}

/// A side of a picture in the middle of a square as wide as its longer side (`expand2square` of LLaVA's mm_utils.py).
fn padded(n_in: usize, [width, height]: [usize; 2], size_px: usize) -> Axis {
    let side = width.max(height);
    Axis { before: (side - n_in) / 2, n_canvas: side, ..Axis::whole(n_in, size_px) }
}

/// A side of a picture whose shorter side becomes `size_px`, and the middle of what it becomes (resize and center_crop of
/// transformers' CLIPImageProcessor).
fn cropped(n_in: usize, [width, height]: [usize; 2], size_px: usize) -> Axis {
    let short = width.min(height);
    let n_out = (size_px as f64 * n_in as f64 / short as f64) as usize;
    Axis { first: (n_out - size_px) / 2, n_kept: size_px, ..Axis::whole(n_in, n_out) }
}

impl Pixels {
    /// The picture that was brought to the model's side before: `rgb` is `[3, size_px, size_px]`.
    ///
    /// # Errors
    /// `Request` when it has another size.
    pub fn new(rgb: Vec<u8>, config: &ImageConfig) -> Result<Pixels> {
        let size_px = config.size_px as usize;
        if rgb.len() != size_px * size_px * 3 {
            let found = rgb.len();
            return Err(Error::request(format!(
                "picture: expected [3, {size_px}, {size_px}] bytes, found {found}"
            )));
        }
        let planes = normalise(&rgb, config.mean, config.std);
        Ok(Pixels { size_px, rgb: Arc::new(rgb), planes })
    }
}

/// Two f32 steps, each rounded, as torchvision's ToTensor and Normalize do.
fn normalise(rgb: &[u8], mean: [f32; 3], std: [f32; 3]) -> Vec<f32> {
    let n_pixels = rgb.len() / 3;
    let mut planes = Vec::with_capacity(rgb.len());
    for channel in 0..3 {
        let levels: Vec<f32> =
            (0..=255u8).map(|v| (f32::from(v) / 255.0 - mean[channel]) / std[channel]).collect();
        planes.extend(rgb.iter().skip(channel).step_by(3).take(n_pixels).map(|&v| levels[usize::from(v)]));
    }
    planes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_lie_one_behind_the_other() {
        let rgb = [0, 51, 255, 255, 102, 0];
        let planes = normalise(&rgb, [0.5, 0.25, 0.0], [0.5, 0.5, 2.0]);
        assert_eq!(planes, [-1.0, 1.0, (0.2 - 0.25) / 0.5, (0.4 - 0.25) / 0.5, 0.5, 0.0]);
    }
}
