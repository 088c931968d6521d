//! From 64 coefficients to 8 x 8 samples: the "slow integer" inverse DCT.
//!
//! Loeffler, Ligtenberg and Moschytz's eleven-multiplication form with 13-bit constants and 2 extra bits between the
//! passes; the roundings are those of the Independent JPEG Group's code, so samples equal libjpeg's. Arithmetic wraps: on
//! coefficients that no encoder makes the samples mean nothing, but nothing else happens.

use std::array;
use std::num::Wrapping;

type Fixed = Wrapping<i32>;

const CONST_BITS: usize = 13;
const PASS_BITS: usize = 2;

const fn constant(units: i32) -> Fixed {
    Wrapping(units)
}

const C_0_298: Fixed = constant(2446);
const C_0_390: Fixed = constant(3196);
const C_0_541: Fixed = constant(4433);
const C_0_765: Fixed = constant(6270);
const C_0_899: Fixed = constant(7373);
const C_1_175: Fixed = constant(9633);
const C_1_501: Fixed = constant(12299);
const C_1_847: Fixed = constant(15137);
const C_1_961: Fixed = constant(16069);
const C_2_053: Fixed = constant(16819);
const C_2_562: Fixed = constant(20995);
const C_3_072: Fixed = constant(25172);

/// The samples of a block, rows from the top. `coefficients` and `quant` are in row order.
pub(super) fn inverse(coefficients: &[i16; 64], quant: &[u16; 64]) -> [u8; 64] {
    let mut work = [Wrapping(0); 64];
    for x in 0..8 {
        let column = array::from_fn(|y| {
            let at = y * 8 + x;
            Wrapping(i32::from(coefficients[at])) * Wrapping(i32::from(quant[at]))
        });
        for (y, value) in transform(column, CONST_BITS - PASS_BITS).into_iter().enumerate() {
            work[y * 8 + x] = value;
        }
    }
    let mut samples = [0; 64];
    for (row, out) in work.chunks_exact(8).zip(samples.chunks_exact_mut(8)) {
        let row = transform(array::from_fn(|x| row[x]), CONST_BITS + PASS_BITS + 3);
        for (sample, value) in out.iter_mut().zip(row) {
            *sample = (value + Wrapping(128)).0.clamp(0, 255) as u8;
        }
    }
    samples
}

/// One dimension, scaled by the square root of 8 and rounded off by `shift` bits.
fn transform(v: [Fixed; 8], shift: usize) -> [Fixed; 8] {
    let z = (v[2] + v[6]) * C_0_541;
    let (even2, even3) = (z - v[6] * C_1_847, z + v[2] * C_0_765);
    let (even0, even1) = ((v[0] + v[4]) << CONST_BITS, (v[0] - v[4]) << CONST_BITS);
    let even = [even0 + even3, even1 + even2, even1 - even2, even0 - even3];

    let z5 = (v[7] + v[3] + v[5] + v[1]) * C_1_175;
    let z1 = -(v[7] + v[1]) * C_0_899;
    let z2 = -(v[5] + v[3]) * C_2_562;
    let z3 = z5 - (v[7] + v[3]) * C_1_961;
    let z4 = z5 - (v[5] + v[1]) * C_0_390;
    let odd = [
        v[1] * C_1_501 + z1 + z4,
        v[3] * C_3_072 + z2 + z3,
        v[5] * C_2_053 + z2 + z4,
        v[7] * C_0_298 + z1 + z3,
    ];
    let half = Wrapping(1 << (shift - 1));
    array::from_fn(|i| {
        let sum = if i < 4 { even[i] + odd[i] } else { even[7 - i] - odd[7 - i] };
        (sum + half) >> shift
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_the_exact_transform() {
        // Some hundred blocks of moderate coefficients against the definition in f64.
        let mut state = 1u32;
        for _ in 0..100 {
            let coefficients: [i16; 64] = array::from_fn(|i| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let range = if i == 0 { 64 } else { 16 };
                ((state >> 16) % (2 * range)) as i16 - range as i16
            });
            let samples = inverse(&coefficients, &[4; 64]);
            for y in 0..8 {
                for x in 0..8 {
                    let exact = exact_sample(&coefficients, x, y);
                    let found = f64::from(samples[y * 8 + x]);
                    assert!((found - exact.clamp(0.0, 255.0)).abs() < 0.6, "{found} {exact}");
                }
            }
        }
    }

    fn exact_sample(coefficients: &[i16; 64], x: usize, y: usize) -> f64 {
        let basis = |u: usize, x: usize| {
            let scale = if u == 0 { 0.5f64.sqrt() } else { 1.0 };
            scale * ((2 * x + 1) as f64 * u as f64 * std::f64::consts::PI / 16.0).cos()
        };
        let mut sum = 0.0;
        for v in 0..8 {
            for u in 0..8 {
                sum += f64::from(coefficients[v * 8 + u]) * 4.0 * basis(u, x) * basis(v, y);
            }
        }
        sum / 4.0 + 128.0
    }

    #[test]
    fn any_coefficients() {
        inverse(&[i16::MIN; 64], &[u16::MAX; 64]);
        inverse(&[i16::MAX; 64], &[u16::MAX; 64]);
    }
}
