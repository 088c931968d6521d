//! Inner loops of AVX2: panels of 16 rows, two vectors. Unsigned codes meet signed activations in
//! `maddubs`; sums of eight such products stay below 2^15 because they start at minus the offset's share, so
//! they are widened once a block. The adds wrap, only `maddubs` saturates, and no pair of products reaches
//! that.

use std::arch::asm;
use std::arch::x86_64::*;

use super::tile::{FloatTile, Floats, Out, Packed, PackedTile, by_columns};

/// Rows of a panel.
pub(super) const N_ROWS: usize = 16;
const V: usize = N_ROWS / 8;
/// Bytes of a step of four elements.
const STEP: usize = 4 * N_ROWS;

pub(super) const LOW: &[PackedTile] = by_columns!(low, false, 1 2 3 4);
pub(super) const LOW_MINIMUM: &[PackedTile] = by_columns!(low, true, 1 2 3 4);
pub(super) const SIX: &[PackedTile] = by_columns!(six, 1 2 3 4);
pub(super) const EIGHT: &[PackedTile] = by_columns!(eight, 1 2 3 4);
pub(super) const FLOAT: &[FloatTile] = by_columns!(float, 1 2 3 4 5 6);

/// Repeats a block for every step: left to itself the compiler keeps a loop, which costs a sixth of the speed.
macro_rules! unrolled {
    ($step:ident in [$($n:literal)*] $body:block) => { $({ let $step: usize = $n; $body })* };
}

/// # Safety
/// AVX2 and FMA; the tile is there.
#[target_feature(enable = "avx2,fma")]
unsafe fn low<const C: usize, const MINIMUM: bool>(t: &Packed) {
    // SAFETY: the caller's promise.
    unsafe {
        let ones = _mm256_set1_epi16(1);
        let offset = _mm256_set1_epi16(-t.offset);
        let mut sums = [[_mm256_setzero_ps(); V]; C];
        for b in 0..t.n_blocks {
            let mut acc = [[_mm256_setzero_si256(); V]; C];
            for (c, acc) in acc.iter_mut().enumerate() {
                *acc = [_mm256_mullo_epi16(word(t.pairs, t, c, b), offset); V];
            }
            unrolled!(step in [0 1 2 3 4 5 6 7] {
                let w = codes(t, 8 * b + step);
                for (c, acc) in acc.iter_mut().enumerate() {
                    let a = activations(t, c, b, step);
                    for v in 0..V {
                        acc[v] = pinned(_mm256_add_epi16(acc[v], _mm256_maddubs_epi16(w[v], a)));
                    }
                }
            });
            for (c, acc) in acc.iter().enumerate() {
                let whole = acc.map(|acc| _mm256_madd_epi16(acc, ones));
                add_block::<MINIMUM>(t, c, b, whole, &mut sums[c]);
            }
        }
        store(&t.out, &sums);
    }
}

/// # Safety
/// AVX2 and FMA; the tile is there.
#[target_feature(enable = "avx2,fma")]
unsafe fn six<const C: usize>(t: &Packed) {
    // SAFETY: the caller's promise.
    unsafe {
        let offset = _mm256_set1_epi16(-32);
        let mut sums = [[_mm256_setzero_ps(); V]; C];
        for b in 0..t.n_blocks {
            let mut whole = [[_mm256_setzero_si256(); V]; C];
            for half in 0..2 {
                let mut acc = [[_mm256_setzero_si256(); V]; C];
                for (c, acc) in acc.iter_mut().enumerate() {
                    let first = word(t.half_pairs, t, c, b);
                    let pair =
                        if half == 0 { first } else { _mm256_sub_epi16(word(t.pairs, t, c, b), first) };
                    *acc = [_mm256_mullo_epi16(pair, offset); V];
                }
                unrolled!(step in [0 1 2 3] {
                    let w = codes(t, 8 * b + 4 * half + step);
                    for (c, acc) in acc.iter_mut().enumerate() {
                        let a = activations(t, c, b, 4 * half + step);
                        for v in 0..V {
                            acc[v] = pinned(_mm256_add_epi16(acc[v], _mm256_maddubs_epi16(w[v], a)));
                        }
                    }
                });
                for v in 0..V {
                    let at = t.panel.whole.add((2 * b + half) * N_ROWS + 8 * v);
                    let scale = _mm256_loadu_si256(at.cast());
                    for c in 0..C {
                        whole[c][v] = _mm256_add_epi32(whole[c][v], _mm256_madd_epi16(acc[c][v], scale));
                    }
                }
            }
            for (c, whole) in whole.into_iter().enumerate() {
                add_block::<false>(t, c, b, whole, &mut sums[c]);
            }
        }
        store(&t.out, &sums);
    }
}

/// # Safety
/// AVX2 and FMA; the tile is there.
#[target_feature(enable = "avx2,fma")]
unsafe fn eight<const C: usize>(t: &Packed) {
    // SAFETY: the caller's promise.
    unsafe {
        let ones = _mm256_set1_epi16(1);
        let mut sums = [[_mm256_setzero_ps(); V]; C];
        for b in 0..t.n_blocks {
            let mut acc = [[_mm256_setzero_si256(); V]; C];
            unrolled!(step in [0 1 2 3 4 5 6 7] {
                let w = codes(t, 8 * b + step);
                // The sign goes over to the activations, which are never -128.
                let size = w.map(|w| _mm256_abs_epi8(w));
                for (c, acc) in acc.iter_mut().enumerate() {
                    let a = activations(t, c, b, step);
                    for v in 0..V {
                        let products = _mm256_maddubs_epi16(size[v], _mm256_sign_epi8(a, w[v]));
                        acc[v] = pinned(_mm256_add_epi32(acc[v], _mm256_madd_epi16(products, ones)));
                    }
                }
            });
            for (c, acc) in acc.into_iter().enumerate() {
                add_block::<false>(t, c, b, acc, &mut sums[c]);
            }
        }
        store(&t.out, &sums);
    }
}

/// # Safety
/// AVX2 and FMA; the tile is there.
#[target_feature(enable = "avx2,fma")]
unsafe fn float<const C: usize>(t: &Floats) {
    // SAFETY: the caller's promise.
    unsafe {
        let panel = t.panel.codes.cast::<f32>();
        let mut sums = [[_mm256_setzero_ps(); V]; C];
        for i in 0..t.n_in {
            let w: [__m256; V] = std::array::from_fn(|v| _mm256_loadu_ps(panel.add(i * N_ROWS + 8 * v)));
            for (c, sums) in sums.iter_mut().enumerate() {
                let x = _mm256_broadcast_ss(&*t.columns.add(c * t.stride + i));
                for v in 0..V {
                    sums[v] = _mm256_fmadd_ps(w[v], x, sums[v]);
                }
            }
        }
        store(&t.out, &sums);
    }
}

/// Keeps sums in program order: the compiler would turn long chains into trees, whose leaves do not fit the
/// registers.
///
/// # Safety
/// AVX2.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn pinned(mut sum: __m256i) -> __m256i {
    // SAFETY: no instruction at all.
    unsafe { asm!("/* {0} */", inout(ymm_reg) sum, options(pure, nomem, nostack, preserves_flags)) };
    sum
}

#[inline(always)]
unsafe fn codes(t: &Packed, step: usize) -> [__m256i; V] {
    // SAFETY: the caller's promise.
    unsafe { std::array::from_fn(|v| _mm256_loadu_si256(t.panel.codes.add(step * STEP + 32 * v).cast())) }
}

/// Four activations in every lane.
#[inline(always)]
unsafe fn activations(t: &Packed, c: usize, b: usize, step: usize) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        let at = t.codes.add(c * t.column_bytes + 32 * b + 4 * step);
        _mm256_set1_epi32(at.cast::<i32>().read_unaligned())
    }
}

/// The word of block `b` in column `c`, in every lane.
#[inline(always)]
unsafe fn word(from: *const i32, t: &Packed, c: usize, b: usize) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe { _mm256_set1_epi32(from.byte_add(c * t.column_bytes).add(b).read_unaligned()) }
}

/// Adds what a block yields to the sums of a column.
#[inline(always)]
unsafe fn add_block<const MINIMUM: bool>(
    t: &Packed,
    c: usize,
    b: usize,
    whole: [__m256i; V],
    sums: &mut [__m256; V],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let scale = _mm256_castsi256_ps(word(t.scales.cast(), t, c, b));
        for v in 0..V {
            let at = b * N_ROWS + 8 * v;
            let value = _mm256_mul_ps(_mm256_cvtepi32_ps(whole[v]), scale);
            sums[v] = _mm256_fmadd_ps(value, _mm256_loadu_ps(t.panel.scales.add(at)), sums[v]);
            if MINIMUM {
                let sum = _mm256_castsi256_ps(word(t.sums.cast(), t, c, b));
                sums[v] = _mm256_fmadd_ps(sum, _mm256_loadu_ps(t.panel.minimums.add(at)), sums[v]);
            }
        }
    }
}

#[inline(always)]
unsafe fn store<const C: usize>(out: &Out, sums: &[[__m256; V]; C]) {
    // SAFETY: the caller's promise.
    unsafe {
        for (c, sums) in sums.iter().enumerate() {
            for (v, &sum) in sums.iter().enumerate() {
                let at = out.to.add(c * out.stride + 8 * v);
                let total = if out.is_first { sum } else { _mm256_add_ps(_mm256_loadu_ps(at), sum) };
                _mm256_storeu_ps(at, total);
            }
        }
    }
}
