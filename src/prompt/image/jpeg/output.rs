//! From planes of samples to RGB.
//!
//! Comes in: a finished frame and the meaning of its components. Goes out: gray or RGB rows. Chroma that is stored at half
//! the size is interpolated with libjpeg's triangle filter, colours are converted with its 16-bit constants, and CMYK as
//! Pillow's `convert("RGB")` does, so the pixels are those that the models were trained on.

use super::frame::{Component, Frame};
use super::huffman::Problem;

/// What the components mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    Gray,
    Rgb,
    YCbCr,
    /// Inverted, as every known writer stores it.
    Cmyk,
    /// Inverted, its first three channels as luma and chroma.
    Ycck,
}

/// Gray (one byte a pixel) or RGB samples of the picture.
pub(super) fn samples(frame: &Frame, colour: Colour) -> Result<Vec<u8>, Problem> {
    let [width, height] = frame.size;
    let ways: Vec<Upsample> = frame
        .components
        .iter()
        .map(|part| Upsample::of(part, frame.max_sampling))
        .collect::<Result<_, _>>()?;
    let mut rows = vec![Vec::new(); frame.components.len()];
    let n_channels = if colour == Colour::Gray { 1 } else { 3 };
    let mut out = Vec::with_capacity(width * height * n_channels);
    let tables = YccTables::new();
    for y in 0..height {
        for ((way, component), row) in ways.iter().zip(&frame.components).zip(&mut rows) {
            row.clear();
            way.row(component, y, row);
        }
        match (colour, rows.as_slice()) {
            (Colour::Gray, [gray]) => out.extend_from_slice(&gray[..width]),
            (Colour::Rgb, [r, g, b]) => out.extend((0..width).flat_map(|x| [r[x], g[x], b[x]])),
            (Colour::YCbCr, [y, cb, cr]) => {
                out.extend((0..width).flat_map(|x| tables.rgb(y[x], cb[x], cr[x])))
            }
            (Colour::Cmyk, [c, m, y, k]) => {
                out.extend((0..width).flat_map(|x| cmyk_to_rgb([c[x], m[x], y[x]], k[x])));
            }
            (Colour::Ycck, [y, cb, cr, k]) => {
                let cmy = |x: usize| tables.rgb(y[x], cb[x], cr[x]).map(|v| 255 - v);
                out.extend((0..width).flat_map(|x| cmyk_to_rgb(cmy(x), k[x])));
            }
            _ => return Err("components that do not fit the colour space"),
        }
    }
    Ok(out)
}

/// How a component gets the size of the picture.
#[derive(Clone, Copy)]
enum Upsample {
    Whole,
    /// Interpolates across, down, or both.
    Across,
    Down,
    Both,
    Repeat([usize; 2]),
}

impl Upsample {
    fn of(component: &Component, max_sampling: [usize; 2]) -> Result<Upsample, Problem> {
        let [h, v] = component.sampling;
        if !max_sampling[0].is_multiple_of(h) || !max_sampling[1].is_multiple_of(v) {
            return Err("sampling factors that do not divide each other");
        }
        let ratio = [max_sampling[0] / h, max_sampling[1] / v];
        // libjpeg repeats where there are too few columns to interpolate between.
        let is_wide = component.size[0] > 2;
        Ok(match ratio {
            [1, 1] => Upsample::Whole,
            [2, 1] if is_wide => Upsample::Across,
            [1, 2] => Upsample::Down,
            [2, 2] if is_wide => Upsample::Both,
            _ => Upsample::Repeat(ratio),
        })
    }

    /// Appends row `y` of the picture, at least as long as the picture is wide.
    fn row(self, component: &Component, y: usize, out: &mut Vec<u8>) {
        // The row that holds the sample, and the one on the other side of the output row.
        let near = y / 2;
        let far =
            if y.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(component.size[1] - 1) };
        match self {
            Upsample::Whole => out.extend_from_slice(component.row(y)),
            Upsample::Across => {
                let row = component.row(y);
                interpolate(|i| i32::from(row[i]), row.len(), [1, 2], 2, out);
            }
            Upsample::Down => {
                let bias = if y.is_multiple_of(2) { 1 } else { 2 };
                let pairs = component.row(near).iter().zip(component.row(far));
                out.extend(
                    pairs.map(|(&near, &far)| ((i32::from(near) * 3 + i32::from(far) + bias) >> 2) as u8),
                );
            }
            Upsample::Both => {
                let (near, far) = (component.row(near), component.row(far));
                let sum = |i: usize| i32::from(near[i]) * 3 + i32::from(far[i]);
                interpolate(sum, near.len(), [8, 7], 4, out);
            }
            Upsample::Repeat([across, down]) => {
                let row = component.row(y / down);
                out.extend(row.iter().flat_map(|&sample| std::iter::repeat_n(sample, across)));
            }
        }
    }
}

/// Two outputs a sample: three quarters of it and one of its neighbour, left then right, rounded by `bias` in turn so
/// that errors even out. `shift` takes the weights off.
fn interpolate(sample: impl Fn(usize) -> i32, n: usize, bias: [i32; 2], shift: u32, out: &mut Vec<u8>) {
    for i in 0..n {
        let (left, right) = (sample(i.saturating_sub(1)), sample((i + 1).min(n - 1)));
        let middle = sample(i) * 3;
        out.extend(
            [(middle + left + bias[0]) >> shift, (middle + right + bias[1]) >> shift].map(|v| v as u8),
        );
    }
}

/// What each chroma level adds, in 16-bit fixed point (ITU-R BT.601, full range).
struct YccTables {
    cr_to_r: [i32; 256],
    cb_to_b: [i32; 256],
    cr_to_g: [i32; 256],
    cb_to_g: [i32; 256],
}

impl YccTables {
    fn new() -> YccTables {
        const HALF: i32 = 1 << 15;
        let table = |factor: i32, half: i32, shift: u32| {
            std::array::from_fn(|level| (factor * (level as i32 - 128) + half) >> shift)
        };
        YccTables {
            cr_to_r: table(91_881, HALF, 16),
            cb_to_b: table(116_130, HALF, 16),
            // Their sum is rounded once.
            cr_to_g: table(-46_802, 0, 0),
            cb_to_g: table(-22_554, HALF, 0),
        }
    }

    fn rgb(&self, y: u8, cb: u8, cr: u8) -> [u8; 3] {
        let (y, cb, cr) = (i32::from(y), usize::from(cb), usize::from(cr));
        let g = (self.cb_to_g[cb] + self.cr_to_g[cr]) >> 16;
        [y + self.cr_to_r[cr], y + g, y + self.cb_to_b[cb]].map(|v| v.clamp(0, 255) as u8)
    }
}

/// `white` has ink as it is stored, inverted: 255 is no ink. `k` likewise.
fn cmyk_to_rgb(white: [u8; 3], k: u8) -> [u8; 3] {
    white.map(|white| {
        let ink = 255 - u32::from(white);
        let product = ink * u32::from(k) + 128;
        let product = ((product >> 8) + product) >> 8;
        (u32::from(k).saturating_sub(product)) as u8
    })
}
