//! Pillow's bicubic resize, bit for bit.
//!
//! Comes in: 8-bit RGB of any size. Goes out: 8-bit RGB of the wanted size, equal to `Image.resize(size, BICUBIC)`. The
//! kernel widens when shrinking, weights are 22-bit fixed point, the horizontal pass is rounded to 8 bits before the
//! vertical one (Pillow, `Resample.c`). A canvas around the picture and a window of the result are taken into account
//! without being made. The rounded rows are never stored: each is added to the output rows that it
//! touches, which changes no sum and keeps memory at the size of the output whatever the input's height.

use rayon::prelude::*;

/// Fraction bits of a weight: 32 less 8 of the pixel and 2 for the kernel's overshoot.
const WEIGHT_BITS: u32 = 22;
const HALF: i32 = 1 << (WEIGHT_BITS - 1);
/// The kernel reaches two source pixels to each side, more when shrinking.
const SUPPORT: f64 = 2.0;
/// Kernel parameter: -0.5 as in Pillow (torch has -0.75).
const A: f64 = -0.5;
/// Output rows that one task makes; each task redoes the few source rows it shares with its neighbours.
const ROWS_A_TASK: usize = 56;

/// Resizes `rgb`, `[3, from[0], from[1]]` bytes with sides `[width, height]`, to sides `to`. An equal size is a copy.
///
/// # Panics
/// When a side is 0 or `rgb` has another length.
pub fn resize(rgb: &[u8], from: [usize; 2], to: [usize; 2]) -> Vec<u8> {
    resize_placed(rgb, [0, 1].map(|axis| Axis::whole(from[axis], to[axis])), [0; 3])
}

/// What happens along one side: the picture lies on a canvas, the canvas is resized, a window of the result is kept.
/// Neither the canvas nor what lies outside of the window is ever made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Axis {
    /// Pixels of the picture, of the canvas before the picture, and of the whole canvas.
    pub(super) n_in: usize,
    pub(super) before: usize,
    pub(super) n_canvas: usize,
    /// Pixels that the canvas is resized to, the first one that is kept, and how many are.
    pub(super) n_out: usize,
    pub(super) first: usize,
    pub(super) n_kept: usize,
}

impl Axis {
    /// The picture is the canvas, and all of the result is kept.
    pub(super) fn whole(n_in: usize, n_out: usize) -> Axis {
        Axis { n_in, before: 0, n_canvas: n_in, n_out, first: 0, n_kept: n_out }
    }

    fn is_copy(&self) -> bool {
        *self == Axis::whole(self.n_in, self.n_in)
    }
}

/// [`resize`] of `rgb` on a canvas of the colour `fill`, x and y: what PIL yields for pasting, resizing and cropping one
/// behind the other.
///
/// # Panics
/// When a side is 0, the picture does not lie on its canvas, the window not in the result, or `rgb` has another length.
pub(super) fn resize_placed(rgb: &[u8], axes: [Axis; 2], fill: [u8; 3]) -> Vec<u8> {
    for axis in &axes {
        assert!(axis.n_in > 0 && axis.n_out > 0 && axis.n_kept > 0, "resize along {axis:?}");
        assert!(axis.before + axis.n_in <= axis.n_canvas, "resize along {axis:?}");
        assert!(axis.first + axis.n_kept <= axis.n_out, "resize along {axis:?}");
    }
    let [across, down] = axes;
    assert_eq!(rgb.len(), across.n_in * down.n_in * 3, "resize along {across:?} and {down:?}");
    if across.is_copy() && down.is_copy() {
        return rgb.to_vec();
    }
    let columns = (!across.is_copy()).then(|| taps(&across));
    let rows = taps(&down);
    let picture = Source { rgb, width: across.n_in, fill, columns: columns.as_deref() };
    let empty = picture.empty_line(across.n_kept);
    let mut out = vec![0; across.n_kept * down.n_kept * 3];
    let chunks = out.par_chunks_mut(across.n_kept * 3 * ROWS_A_TASK).zip(rows.par_chunks(ROWS_A_TASK));
    chunks.for_each(|(out, rows)| picture.resize_rows(rows, &empty, out));
    out
}

/// Where an output pixel lies in the picture: the first source pixel, the weight of it and those that follow, and the
/// weight that falls beside the picture.
struct Taps {
    first: usize,
    weights: Vec<i32>,
    outside: i32,
}

impl Taps {
    fn end(&self) -> usize {
        self.first + self.weights.len()
    }
}

struct Source<'a> {
    rgb: &'a [u8],
    width: usize,
    fill: [u8; 3],
    /// None: a line stays as it is.
    columns: Option<&'a [Taps]>,
}

impl Source<'_> {
    fn resize_rows(&self, rows: &[Taps], empty: &[u8], out: &mut [u8]) {
        let (Some(top), Some(bottom)) = (rows.first(), rows.last()) else { return };
        let n_row_bytes = out.len() / rows.len();
        let mut sums = Vec::with_capacity(out.len());
        for row in rows {
            sums.extend(empty.iter().map(|&value| HALF + i32::from(value) * row.outside));
        }
        let mut line = vec![0; n_row_bytes];
        // First output row that still takes source rows. Windows move down monotonically.
        let mut n_done = 0;
        for y in top.first..bottom.end() {
            let source = &self.rgb[y * self.width * 3..(y + 1) * self.width * 3];
            match self.columns {
                Some(columns) => self.resize_line(source, columns, &mut line),
                None => line.copy_from_slice(source),
            }
            n_done += rows[n_done..].iter().take_while(|row| row.end() <= y).count();
            for (row, sums) in rows.iter().zip(sums.chunks_exact_mut(n_row_bytes)).skip(n_done) {
                let Some(&weight) = y.checked_sub(row.first).and_then(|tap| row.weights.get(tap)) else {
                    break;
                };
                for (sum, &value) in sums.iter_mut().zip(&line) {
                    *sum += i32::from(value) * weight;
                }
            }
        }
        for (byte, sum) in out.iter_mut().zip(sums) {
            *byte = rounded(sum);
        }
    }

    fn resize_line(&self, source: &[u8], columns: &[Taps], line: &mut [u8]) {
        for (column, out) in columns.iter().zip(line.chunks_exact_mut(3)) {
            let mut sums = self.fill.map(|value| HALF + i32::from(value) * column.outside);
            let pixels = source[column.first * 3..column.end() * 3].chunks_exact(3);
            for (&weight, pixel) in column.weights.iter().zip(pixels) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(value) * weight;
                }
            }
            out.copy_from_slice(&sums.map(rounded));
        }
    }

    /// What a line of the canvas above or below the picture becomes.
    fn empty_line(&self, n_kept: usize) -> Vec<u8> {
        let Some(columns) = self.columns else { return self.fill.repeat(n_kept) };
        let whole = |column: &Taps| column.weights.iter().sum::<i32>() + column.outside;
        let pixel = |column| self.fill.map(|value| rounded(HALF + i32::from(value) * whole(column)));
        columns.iter().flat_map(pixel).collect()
    }
}

fn rounded(sum: i32) -> u8 {
    (sum >> WEIGHT_BITS).clamp(0, 255) as u8
}

/// The taps of each pixel that is kept. The order of these operations is Pillow's: each rounding counts.
fn taps(axis: &Axis) -> Vec<Taps> {
    let scale = axis.n_canvas as f64 / axis.n_out as f64;
    let widening = scale.max(1.0);
    let support = SUPPORT * widening;
    let narrowing = 1.0 / widening;
    let picture = axis.before..axis.before + axis.n_in;
    (axis.first..axis.first + axis.n_kept)
        .map(|i| {
            let center = (i as f64 + 0.5) * scale;
            // A cast truncates, and takes what is below 0 to 0.
            let first = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(axis.n_canvas);
            let kernel: Vec<f64> =
                (0..end - first).map(|t| bicubic(((t + first) as f64 - center + 0.5) * narrowing)).collect();
            let sum: f64 = kernel.iter().sum();
            let (mut weights, mut outside) = (Vec::with_capacity(kernel.len()), 0);
            for (at, weight) in (first..).zip(kernel) {
                let weight = fixed_point(weight / sum);
                if picture.contains(&at) { weights.push(weight) } else { outside += weight }
            }
            Taps { first: first.clamp(picture.start, picture.end) - picture.start, weights, outside }
        })
        .collect()
}

/// Keys' cubic convolution kernel.
fn bicubic(d: f64) -> f64 {
    let d = d.abs();
    if d < 1.0 {
        ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0
    } else if d < 2.0 {
        (((d - 5.0) * d + 8.0) * d - 4.0) * A
    } else {
        0.0
    }
}

/// Rounds half away from zero.
fn fixed_point(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << WEIGHT_BITS);
    (scaled + 0.5f64.copysign(scaled)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one() {
        for (n_in, n_out) in [(1, 448), (3, 7), (448, 448), (449, 448), (65535, 448), (65535, 1)] {
            for taps in taps(&Axis::whole(n_in, n_out)) {
                let sum: i64 = taps.weights.iter().map(|&w| i64::from(w)).sum();
                let one = 1 << WEIGHT_BITS;
                // Each weight is off by at most half a unit.
                assert!((sum - one).unsigned_abs() <= taps.weights.len() as u64, "{n_in} to {n_out}: {sum}");
                assert!(taps.end() <= n_in && taps.outside == 0);
            }
        }
    }

    /// What is never made must come out as if it had been.
    #[test]
    fn canvas_and_window_are_those_of_the_long_way() {
        let fill = [7, 130, 255];
        let cases = [
            // picture, its place, canvas, result, window
            ([5, 3], [0, 1], [5, 5], [9, 9], [0, 0], [9, 9]),
            ([4, 90], [43, 0], [90, 90], [20, 20], [0, 0], [20, 20]),
            ([61, 7], [0, 27], [61, 61], [61, 61], [0, 0], [61, 61]),
            ([30, 20], [0, 0], [30, 20], [21, 14], [3, 0], [14, 14]),
            ([3, 200], [0, 0], [3, 200], [8, 533], [0, 262], [8, 8]),
            ([9, 9], [2, 3], [20, 17], [11, 31], [4, 5], [6, 7]),
        ];
        for (sides, at, canvas, to, first, kept) in cases {
            let rgb: Vec<u8> = (0..sides[0] * sides[1] * 3).map(|i| (i * 37 % 251) as u8).collect();
            let mut whole = fill.repeat(canvas[0] * canvas[1]);
            for y in 0..sides[1] {
                let to = ((y + at[1]) * canvas[0] + at[0]) * 3;
                whole[to..to + sides[0] * 3].copy_from_slice(&rgb[y * sides[0] * 3..][..sides[0] * 3]);
            }
            let resized = resize(&whole, canvas, to);
            let rows = first[1]..first[1] + kept[1];
            let expected: Vec<u8> =
                rows.flat_map(|y| &resized[(y * to[0] + first[0]) * 3..][..kept[0] * 3]).copied().collect();
            let axis = |n: usize| Axis {
                n_in: sides[n],
                before: at[n],
                n_canvas: canvas[n],
                n_out: to[n],
                first: first[n],
                n_kept: kept[n],
            };
            assert!(resize_placed(&rgb, [axis(0), axis(1)], fill) == expected, "{sides:?} on {canvas:?}");
        }
    }

    #[test]
    fn one_colour_stays_one_colour() {
        for from in [[1, 1], [1, 900], [900, 1], [17, 5]] {
            let rgb = [9, 128, 250].repeat(from[0] * from[1]);
            assert_eq!(resize(&rgb, from, [11, 13]), [9, 128, 250].repeat(11 * 13));
        }
    }
}
