//! Pictures: from the bytes of a file to upright 8-bit RGB.
//!
//! Comes in: bytes of any kind, by content and never by name. Goes out: a [`Picture`], whole or not at all. Limits are
//! checked against the header before pixels are decoded; while decoding, memory stays within 8 bytes a pixel and 64 MiB.
//! Orientation is applied, transparency is laid over white, 16-bit samples keep their high byte. Must not know models.

mod decoders;
mod flatten;
mod jpeg;
mod orient;
mod preprocess;
mod resize;
mod sniff;
mod webp;

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use preprocess::{Pixels, preprocess};
pub use resize::resize;
pub use sniff::PictureFormat;

use crate::{Error, Result};

/// Longest side of a picture: what a JPEG can hold. It also bounds the tables of the resize.
pub const MAX_SIDE_PX: usize = 65_535;

/// What a picture may cost, checked before it is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Size of the file.
    pub max_bytes: u64,
    /// Width times height.
    pub max_pixels: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { max_bytes: 64 << 20, max_pixels: 64 << 20 }
    }
}

/// A decoded picture, the right way up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    pub width: usize,
    pub height: usize,
    /// `[3, width, height]`: red, green, blue side by side, rows from the top.
    pub rgb: Vec<u8>,
    pub format: PictureFormat,
    /// The EXIF orientation that was applied: 1 (none) to 8. From 5 on, width and height have changed places.
    pub orientation: u8,
    /// Some pixel was not fully opaque and has been laid over white.
    pub had_alpha: bool,
}

/// Decodes the picture in `bytes`; `name` is what messages call it.
///
/// # Errors
/// `Limit` before decoding when it is too large; `Unsupported`, naming the format, when it is none of JPEG, PNG, WebP, GIF
/// (the first frame is taken) and BMP, or a rare kind of them; `Format` when it is broken or cut off.
pub fn decode(bytes: &[u8], name: &str, limits: &Limits) -> Result<Picture> {
    if bytes.len() as u64 > limits.max_bytes {
        return Err(too_many_bytes(name, limits, bytes.len() as u64));
    }
    let format = sniff::format(bytes).map_err(|problem| Error::unsupported(name, problem))?;
    let source = Source { bytes, name, format, limits };
    // Decoders are other people's code and these are anyone's bytes: a panic there costs this picture, not the process.
    catch_unwind(AssertUnwindSafe(|| {
        let raster = source.decode()?;
        let (rgb, had_alpha) = flatten::over_white(raster.samples, raster.n_channels);
        let (size, rgb) = orient::upright(rgb, [raster.width, raster.height], raster.orientation);
        let [width, height] = size;
        Ok(Picture { width, height, rgb, format, orientation: raster.orientation, had_alpha })
    }))
    .unwrap_or_else(|_| Err(source.broken("the decoder failed")))
}

/// The bytes of a picture from a file or a pipe, never more than the limit.
///
/// # Errors
/// `Limit` when there are more bytes than `limits` allows, `Io` when reading fails.
pub fn read_limited(reader: impl Read, name: &str, limits: &Limits) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let n = reader
        .take(limits.max_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|cause| Error::io(name, cause))?;
    if n as u64 > limits.max_bytes {
        return Err(too_many_bytes(name, limits, n as u64));
    }
    Ok(bytes)
}

fn too_many_bytes(name: &str, limits: &Limits, found: u64) -> Error {
    Error::limit(format!("{name}: bytes of a picture"), limits.max_bytes, found)
}

/// A picture that is about to be decoded.
struct Source<'a> {
    bytes: &'a [u8],
    name: &'a str,
    format: PictureFormat,
    limits: &'a Limits,
}

/// What a decoder yields: 8-bit samples, rows from the top as they are stored.
struct Raster {
    width: usize,
    height: usize,
    /// 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha.
    n_channels: usize,
    samples: Vec<u8>,
    /// EXIF orientation, 1 to 8.
    orientation: u8,
}

impl Source<'_> {
    /// Checks the sides that the header claims; every decoder calls this before it allocates pixels.
    fn check_size(&self, width: usize, height: usize) -> Result<()> {
        if width == 0 || height == 0 {
            return Err(self.broken(format!("expected sides of at least 1 pixel, found {width} x {height}")));
        }
        let side = width.max(height);
        if side > MAX_SIDE_PX {
            let what = format!("{}: pixels on a side of a picture", self.name);
            return Err(Error::limit(what, MAX_SIDE_PX as u64, side as u64));
        }
        let n_pixels = width as u64 * height as u64;
        if n_pixels > self.limits.max_pixels {
            let what = format!("{}: pixels of a picture", self.name);
            return Err(Error::limit(what, self.limits.max_pixels, n_pixels));
        }
        Ok(())
    }

    /// Checks what a decoder will need beside the file: 8 bytes a pixel and 64 MiB. `check_size` has passed.
    fn check_memory(&self, [width, height]: [usize; 2], needed_bytes: u64) -> Result<()> {
        let max = (width * height * 8) as u64 + (64 << 20);
        if needed_bytes > max {
            let what = format!("{}: bytes of memory to decode this {}", self.name, self.format);
            return Err(Error::limit(what, max, needed_bytes));
        }
        Ok(())
    }

    fn broken(&self, problem: impl std::fmt::Display) -> Error {
        Error::format(self.name, format!("broken {}: {problem}", self.format))
    }

    fn cut_off(&self) -> Error {
        self.broken("the file ends before the picture does")
    }

    fn unsupported(&self, problem: impl std::fmt::Display) -> Error {
        Error::unsupported(self.name, format!("{}: {problem}", self.format))
    }
}
