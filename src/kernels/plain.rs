//! What a product is, bit for bit: plain loops that every SIMD kernel must equal, on every machine. One order
//! of sums for a column, whatever columns ride along: exact integers within a block of 32, blocks in order
//! within a chunk, chunks in order.

use super::packed::{BLOCK, Layout};
use super::weights::Block;

/// Elements of a row whose sum starts anew: what fits a first-level cache as a panel of rows, and short
/// chains of additions keep the error of long rows small.
pub const CHUNK: usize = 512;
/// The same for floats, whose panels are four times as large.
pub const FLOAT_CHUNK: usize = 256;

/// One row of integer weights times one packed column.
///
/// # Panics
/// When the lengths don't belong together.
pub fn dot_packed(row: &[Block], packed: &[u8], layout: Layout) -> f32 {
    assert_eq!(row.len(), layout.n_blocks());
    assert_eq!(packed.len(), layout.column_bytes());
    let f32_at = |at: usize, b: usize| {
        let at = at + 4 * b;
        f32::from_le_bytes([packed[at], packed[at + 1], packed[at + 2], packed[at + 3]])
    };
    let mut total = 0.0;
    for (chunk, blocks) in row.chunks(CHUNK / BLOCK).enumerate() {
        let mut sum = 0f32;
        for (b, block) in (chunk * (CHUNK / BLOCK)..).zip(blocks) {
            let activations = &packed[b * BLOCK..][..BLOCK];
            let half = |codes: &[i32], activations: &[u8]| -> i32 {
                codes.iter().zip(activations).map(|(&code, &a)| code * i32::from(a as i8)).sum()
            };
            let (first, second) = block.codes.split_at(BLOCK / 2);
            let whole = half(first, activations) * block.whole[0]
                + half(second, &activations[BLOCK / 2..]) * block.whole[1];
            sum = (whole as f32 * f32_at(layout.scales(), b)).mul_add(block.scale, sum);
            if let Some(minimum) = block.minimum {
                sum = f32_at(layout.sums(), b).mul_add(minimum, sum);
            }
        }
        total = if chunk == 0 { sum } else { total + sum };
    }
    total
}

/// One row of weights of any type, as floats, times one column of f32.
///
/// # Panics
/// When the lengths don't belong together.
pub fn dot_floats(row: &[f32], column: &[f32]) -> f32 {
    assert_eq!(row.len(), column.len());
    let mut total = 0.0;
    for (chunk, (weights, values)) in row.chunks(FLOAT_CHUNK).zip(column.chunks(FLOAT_CHUNK)).enumerate() {
        let mut sum = 0f32;
        for (weight, value) in weights.iter().zip(values) {
            sum = weight.mul_add(*value, sum);
        }
        total = if chunk == 0 { sum } else { total + sum };
    }
    total
}
