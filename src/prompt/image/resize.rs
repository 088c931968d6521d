//! Pillow's bicubic resize, bit for bit.
//!
//! Comes in: 8-bit RGB of any size. Goes out: 8-bit RGB of the wanted size, equal to `Image.resize(size, BICUBIC)`. The
//! kernel widens when shrinking, weights are 22-bit fixed point, the horizontal pass is rounded to 8 bits before the
//! vertical one (Pillow, `Resample.c`). The rounded rows are never stored: each is added to the output rows that it
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
    assert!(from[0] > 0 && from[1] > 0 && to[0] > 0 && to[1] > 0, "resize from {from:?} to {to:?}");
    assert_eq!(rgb.len(), from[0] * from[1] * 3, "resize from {from:?}");
    if from == to {
        return rgb.to_vec();
    }
    let columns = (from[0] != to[0]).then(|| taps(from[0], to[0]));
    let rows = taps(from[1], to[1]);
    let mut out = vec![0; to[0] * to[1] * 3];
    out.par_chunks_mut(to[0] * 3 * ROWS_A_TASK).zip(rows.par_chunks(ROWS_A_TASK)).for_each(|(out, rows)| {
        resize_rows(rgb, from[0], columns.as_deref(), rows, out);
    });
    out
}

/// Where an output pixel lies in the source: the first source pixel and the weight of it and those that follow.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

impl Taps {
    fn end(&self) -> usize {
        self.first + self.weights.len()
    }
}

fn resize_rows(rgb: &[u8], width: usize, columns: Option<&[Taps]>, rows: &[Taps], out: &mut [u8]) {
    let (Some(top), Some(bottom)) = (rows.first(), rows.last()) else { return };
    let n_row_bytes = out.len() / rows.len();
    let mut sums = vec![HALF; out.len()];
    let mut line = vec![0; n_row_bytes];
    // First output row that still takes source rows. Windows move down monotonically.
    let mut n_done = 0;
    for y in top.first..bottom.end() {
        let source = &rgb[y * width * 3..(y + 1) * width * 3];
        match columns {
            Some(columns) => resize_line(source, columns, &mut line),
            None => line.copy_from_slice(source),
        }
        n_done += rows[n_done..].iter().take_while(|row| row.end() <= y).count();
        for (row, sums) in rows.iter().zip(sums.chunks_exact_mut(n_row_bytes)).skip(n_done) {
            let Some(&weight) = y.checked_sub(row.first).and_then(|tap| row.weights.get(tap)) else { break };
            for (sum, &value) in sums.iter_mut().zip(&line) {
                *sum += i32::from(value) * weight;
            }
        }
    }
    for (byte, sum) in out.iter_mut().zip(sums) {
        *byte = rounded(sum);
    }
}

fn resize_line(source: &[u8], columns: &[Taps], line: &mut [u8]) {
    for (column, out) in columns.iter().zip(line.chunks_exact_mut(3)) {
        let mut sums = [HALF; 3];
        let pixels = source[column.first * 3..column.end() * 3].chunks_exact(3);
        for (&weight, pixel) in column.weights.iter().zip(pixels) {
            for (sum, &value) in sums.iter_mut().zip(pixel) {
                *sum += i32::from(value) * weight;
            }
        }
        out.copy_from_slice(&sums.map(rounded));
    }
}

fn rounded(sum: i32) -> u8 {
    (sum >> WEIGHT_BITS).clamp(0, 255) as u8
}

/// The taps of each of `n_out` pixels on a side of `n_in`. The order of these operations is Pillow's: each rounding counts.
fn taps(n_in: usize, n_out: usize) -> Vec<Taps> {
    let scale = n_in as f64 / n_out as f64;
    let widening = scale.max(1.0);
    let support = SUPPORT * widening;
    let narrowing = 1.0 / widening;
    (0..n_out)
        .map(|i| {
            let center = (i as f64 + 0.5) * scale;
            // A cast truncates, and takes what is below 0 to 0.
            let first = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(n_in);
            let kernel: Vec<f64> =
                (0..end - first).map(|t| bicubic(((t + first) as f64 - center + 0.5) * narrowing)).collect();
            let sum: f64 = kernel.iter().sum();
            let weights = kernel.iter().map(|w| fixed_point(w / sum)).collect();
            Taps { first, weights }
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
            for taps in taps(n_in, n_out) {
                let sum: i64 = taps.weights.iter().map(|&w| i64::from(w)).sum();
                let one = 1 << WEIGHT_BITS;
                // Each weight is off by at most half a unit.
                assert!((sum - one).unsigned_abs() <= taps.weights.len() as u64, "{n_in} to {n_out}: {sum}");
                assert!(taps.end() <= n_in);
            }
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
