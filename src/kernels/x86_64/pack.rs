//! Packs activations with AVX2, as `packed::pack_plain` says.

use std::arch::x86_64::*;

use super::super::packed::{BLOCK, Layout};

/// Largest absolute values below this are zero, as in `packed`.
const LEAST: f32 = 1e-30;

/// Packs one column of `layout.n_in()` values.
///
/// # Safety
/// The CPU has AVX2; both are as long as `layout` says.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn pack(layout: Layout, column: *const f32, packed: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe {
        for b in 0..layout.n_blocks() {
            let values: [__m256; 4] = std::array::from_fn(|i| _mm256_loadu_ps(column.add(b * BLOCK + 8 * i)));
            block(&values, layout, b, packed);
        }
    }
}

/// Packs block `b` of a column.
///
/// # Safety
/// The CPU has AVX2; `packed` is a column of `layout`, and the block one of it.
#[inline(always)]
pub(super) unsafe fn block(values: &[__m256; 4], layout: Layout, b: usize, packed: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe {
        let largest = largest(values);
        let (scale, inverse) = if largest < LEAST { (0.0, 0.0) } else { (largest / 127.0, 127.0 / largest) };
        let inverse = _mm256_set1_ps(inverse);
        // Rounds to even; what is not a number becomes the least integer, and -127 below.
        let words = [words(values[0], values[1], inverse), words(values[2], values[3], inverse)];
        let codes = _mm256_max_epi8(_mm256_packs_epi16(words[0], words[1]), _mm256_set1_epi8(-127));
        // Packing goes lane by lane; this puts double words back in order.
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        let codes = _mm256_permutevar8x32_epi32(codes, order);
        _mm256_storeu_si256(packed.add(b * BLOCK).cast(), codes);

        // Neighbours, then places 0 and 1 apart from 2 and 3, over each half of the block.
        let neighbours = _mm256_maddubs_epi16(_mm256_set1_epi8(1), codes);
        let neighbours = _mm256_add_epi16(neighbours, _mm256_shuffle_epi32(neighbours, 0b1110));
        let neighbours = _mm256_add_epi16(neighbours, _mm256_shuffle_epi32(neighbours, 0b01));
        let first = _mm256_castsi256_si128(neighbours);
        let both = _mm_add_epi16(first, _mm256_extracti128_si256(neighbours, 1));
        let total = _mm_cvtsi128_si32(_mm_madd_epi16(both, _mm_set1_epi16(1)));
        let part = |at: usize| packed.add(at + 4 * b);
        part(layout.scales()).cast::<f32>().write_unaligned(scale);
        part(layout.sums()).cast::<f32>().write_unaligned(scale * total as f32);
        part(layout.pairs()).cast::<i32>().write_unaligned(_mm_cvtsi128_si32(both));
        part(layout.half_pairs()).cast::<i32>().write_unaligned(_mm_cvtsi128_si32(first));
    }
}

/// Sixteen rounded products, four by four in turn.
#[inline]
#[target_feature(enable = "avx2")]
fn words(a: __m256, b: __m256, factor: __m256) -> __m256i {
    let [a, b] = [_mm256_mul_ps(a, factor), _mm256_mul_ps(b, factor)];
    _mm256_packs_epi32(_mm256_cvtps_epi32(a), _mm256_cvtps_epi32(b))
}

/// The largest magnitude of 32 values, NaN as soon as one is: magnitudes are compared as integers.
#[inline]
#[target_feature(enable = "avx2")]
fn largest([a, b, c, d]: &[__m256; 4]) -> f32 {
    let eight = _mm256_max_epi32(larger(*a, *b), larger(*c, *d));
    let four = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    let two = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0b1110));
    let one = _mm_max_epi32(two, _mm_shuffle_epi32(two, 0b01));
    f32::from_bits(_mm_cvtsi128_si32(one) as u32)
}

#[inline]
#[target_feature(enable = "avx2")]
fn larger(a: __m256, b: __m256) -> __m256i {
    let size = _mm256_set1_epi32(i32::MAX);
    let [a, b] = [_mm256_castps_si256(a), _mm256_castps_si256(b)];
    _mm256_max_epi32(_mm256_and_si256(a, size), _mm256_and_si256(b, size))
}
