//! Rotary positions: neighbours of a head turn together, each pair at a speed of its own (Su et al., RoFormer, 2021).
//! Comes in: positions; rows `[head_dim * n_head, n_rows]`. Goes out: the angles' cosines and sines, once for all
//! layers; the rows, turned.
//!
//! Frequencies and angles are rounded to f32 where PyTorch rounds them, for these are the angles that models were
//! trained with. ggml multiplies from pair to pair instead, which at position 3,832 of heads of 128 is 6e-4 off that.

use ggml::{Arg, CustomOp, Tile, TileShape};

const TILE_ROWS: usize = 4;

/// How fast the pairs of a head turn.
pub struct Turns {
    frequencies: Vec<f32>,
}

impl Turns {
    /// Of `n_dims` dimensions.
    pub fn new(n_dims: u32, base: f32) -> Turns {
        let frequency = |pair: u32| {
            let exponent = (2 * pair) as f32 / n_dims as f32;
            1.0 / f64::from(base).powf(exponent.into()) as f32
        };
        Turns { frequencies: (0..n_dims / 2).map(frequency).collect() }
    }

    /// Cosine and sine of every pair's angle at each of `positions`: `[n_dims, n_positions]`.
    pub fn at(&self, positions: impl IntoIterator<Item = u32>) -> impl Iterator<Item = f32> {
        let turn = |position: u32, frequency: f32| {
            let angle = f64::from(position as f32 * frequency);
            [angle.cos() as f32, angle.sin() as f32]
        };
        let at =
            move |position| self.frequencies.iter().flat_map(move |&frequency| turn(position, frequency));
        positions.into_iter().flat_map(at)
    }
}

/// Arguments are the rows and their turns; what is behind the turned part of a head stays.
pub struct Rotate {
    pub head_dim: usize,
}

impl CustomOp for Rotate {
    fn tile(&self, _: [usize; 2]) -> TileShape {
        TileShape::columns(TILE_ROWS)
    }

    fn run(&self, args: &[Arg<'_>], tile: &mut Tile<'_>) {
        let (width, n_dims) = (args[0].ne()[0] as usize, args[1].ne()[0] as usize);
        let (values, turns) = (args[0].f32s(), args[1].f32s());
        for row in tile.columns() {
            let (x, turns) = (&values[row * width..][..width], &turns[row * n_dims..][..n_dims]);
            rotate(x, turns, self.head_dim, tile.column_f32(row));
        }
    }
}

fn rotate(x: &[f32], turns: &[f32], head_dim: usize, out: &mut [f32]) {
    for (x, out) in x.chunks_exact(head_dim).zip(out.chunks_exact_mut(head_dim)) {
        let pairs = x.chunks_exact(2).zip(turns.chunks_exact(2));
        for ((pair, turn), out) in pairs.zip(out.chunks_exact_mut(2)) {
            out[0] = pair[0] * turn[0] - pair[1] * turn[1];
            out[1] = pair[0] * turn[1] + pair[1] * turn[0];
        }
        out[turns.len()..].copy_from_slice(&x[turns.len()..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(positions: impl IntoIterator<Item = u32>, n_dims: u32, base: f32) -> Vec<f32> {
        Turns::new(n_dims, base).at(positions).collect()
    }

    /// Dimension and base; pair; position; cosine and sine.
    type Case = ((u32, f32), usize, u32, [f32; 2]);

    /// Cosine and sine of a pair far into a context, as PyTorch 2.15 has them in f32 (`1 / base ** (arange(0, n_dims, 2) /
    /// n_dims)`, times the position).
    const PYTORCH: [Case; 15] = [
        ((128, 10_000.0), 0, 4095, [-0.065_975_994, -0.997_821_2]),
        ((128, 10_000.0), 1, 4046, [-0.685_077_85, -0.728_469_85]),
        ((128, 10_000.0), 6, 3832, [0.397_123_28, 0.917_765_26]),
        ((128, 10_000.0), 20, 2047, [-0.428_767_09, 0.903_415_1]),
        ((128, 10_000.0), 63, 4095, [0.890_258_85, 0.455_454_98]),
        ((64, 10_000.0), 0, 4095, [-0.065_975_994, -0.997_821_2]),
        ((64, 10_000.0), 1, 4046, [0.760_650_4, -0.649_161_76]),
        ((64, 10_000.0), 6, 3832, [-0.958_540_7, 0.284_955_8]),
        ((64, 10_000.0), 20, 2047, [0.982_004_76, 0.188_856_32]),
        ((64, 10_000.0), 31, 4095, [0.854_568_4, 0.519_338_85]),
        ((128, 1e6), 0, 4095, [-0.065_975_994, -0.997_821_2]),
        ((128, 1e6), 1, 4046, [0.860_049_2, -0.510_211_17]),
        ((128, 1e6), 6, 3832, [0.997_517_3, 0.070_422_12]),
        ((128, 1e6), 20, 2047, [-0.559_388_9, 0.828_905_34]),
        ((128, 1e6), 63, 4095, [0.999_987_07, 0.005_081_618]),
    ];

    #[test]
    fn angles_are_pytorchs_wherever_a_context_reaches() {
        for ((n_dims, base), pair, position, expected) in PYTORCH {
            let turns = turns([position], n_dims, base);
            for (found, expected) in turns[2 * pair..].iter().zip(expected) {
                let error = (found - expected).abs();
                assert!(error < 2e-7, "pair {pair} of {n_dims}, {base}, at {position}: {found}, {expected}");
            }
        }
    }

    /// PyTorch's own angles are off by their rounding: three units in the last place of the largest.
    #[test]
    fn angles_drift_no_farther_than_f32_has_digits() {
        let drift = |n_dims: u32, base: f32, position: u32| {
            let exact = (0..n_dims / 2).flat_map(|pair| {
                let frequency = f64::from(base).powf(-2.0 * f64::from(pair) / f64::from(n_dims));
                let angle = f64::from(position) * frequency;
                [angle.cos(), angle.sin()]
            });
            let turns = turns([position], n_dims, base);
            turns.iter().zip(exact).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
        };
        for (n_dims, base) in [(128, 10_000.0), (64, 10_000.0), (128, 1e6)] {
            for position in (0..4096).step_by(7) {
                let drift = drift(n_dims, base, position);
                let bound = 8e-8 * f64::from(position) + 1e-7;
                assert!(drift < bound, "{n_dims}, {base}, position {position}: {drift:e}");
            }
        }
    }

    #[test]
    fn pairs_turn_and_the_rest_of_a_head_stays() {
        let turns = turns([0, 3], 2, 10_000.0);
        let x = [1.0, 0.0, 5.0, 0.0, 2.0, 7.0];
        let mut out = [f32::NAN; 6];
        rotate(&x, &turns[..2], 3, &mut out);
        assert_eq!(out, x, "position 0 turns nothing");
        rotate(&x, &turns[2..], 3, &mut out);
        let (cos, sin) = (3f32.cos(), 3f32.sin());
        for (found, expected) in out.iter().zip([cos, sin, 5.0, -2.0 * sin, 2.0 * cos, 7.0]) {
            assert!((found - expected).abs() < 1e-6, "{out:?}");
        }
    }
}
