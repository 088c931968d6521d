//! What a product is, bit for bit: plain loops that every SIMD kernel must equal, on every machine. One order
//! of sums for a column, whatever columns ride along: exact integers within a block of 32, blocks in order
//! within a chunk, chunks in order.

use super::packed::{BLOCK, Layout};
use super::weights::{Class, WeightType, block_plain, value_plain};

/// Elements of a row whose sum starts anew: what fits a first-level cache as a panel of rows, and short
/// chains of additions keep the error of long rows small.
pub const CHUNK: usize = 512;
/// The same for floats, whose panels are four times as large.
pub const FLOAT_CHUNK: usize = 256;

/// One row of weights times one packed column.
///
/// # Panics
/// When the lengths don't belong together.
pub fn dot_packed(kind: WeightType, row: &[u8], packed: &[u8], layout: Layout) -> f32 {
    assert_ne!(kind.class(), Class::Float);
    assert_eq!(Some(row.len()), kind.row_bytes(layout.n_in()));
    assert_eq!(packed.len(), layout.column_bytes());
    let f32_at = |at: usize, b: usize| {
        let at = at + 4 * b;
        f32::from_le_bytes([packed[at], packed[at + 1], packed[at + 2], packed[at + 3]])
    };
    let mut total = 0.0;
    for chunk in 0..layout.n_blocks().div_ceil(CHUNK / BLOCK) {
        let first = chunk * (CHUNK / BLOCK);
        let mut sum = 0f32;
        for b in first..layout.n_blocks().min(first + CHUNK / BLOCK) {
            let block = block_plain(kind, row, b);
            let activations = &packed[b * BLOCK..][..BLOCK];
            let whole: i32 = (0..BLOCK)
                .map(|i| block.codes[i] * i32::from(activations[i] as i8) * block.whole[i / 16])
                .sum();
            sum = (whole as f32 * f32_at(layout.scales(), b)).mul_add(block.scale, sum);
            if let Some(minimum) = block.minimum {
                sum = f32_at(layout.sums(), b).mul_add(minimum, sum);
            }
        }
        total = if chunk == 0 { sum } else { total + sum };
    }
    total
}

/// One row of weights of any type times one column of f32.
///
/// # Panics
/// When the lengths don't belong together.
pub fn dot_floats(kind: WeightType, row: &[u8], column: &[f32]) -> f32 {
    assert_eq!(Some(row.len()), kind.row_bytes(column.len()));
    let mut total = 0.0;
    for (chunk, values) in column.chunks(FLOAT_CHUNK).enumerate() {
        let mut sum = 0f32;
        for (i, value) in values.iter().enumerate() {
            sum = value_plain(kind, row, chunk * FLOAT_CHUNK + i).mul_add(*value, sum);
        }
        total = if chunk == 0 { sum } else { total + sum };
    }
    total
}
