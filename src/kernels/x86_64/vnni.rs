//! Inner loops of AVX-512 with VNNI: panels of 32 rows, two vectors. `dpbusd` adds four products of unsigned
//! codes and signed activations to 32 bits without saturating, so all codes are stored without sign and sums
//! start at minus the offset's share.

use std::arch::x86_64::*;

use super::super::weights::{Class, WeightType};
use super::tile::{FloatTile, Floats, Out, Packed, PackedTile, by_columns};

/// Rows of a panel.
pub(super) const N_ROWS: usize = 32;
const V: usize = N_ROWS / 16;
/// Bytes of a step of four elements.
const STEP: usize = 4 * N_ROWS;

const LOW: &[PackedTile] = by_columns!(whole, false, 1 2 3 4 5 6);
const LOW_MINIMUM: &[PackedTile] = by_columns!(whole, true, 1 2 3 4 5 6);
const SIX: &[PackedTile] = by_columns!(six, 1 2 3 4);
const EIGHT: &[PackedTile] = by_columns!(whole, false, 1 2 3 4 5 6);
pub(super) const FLOAT: &[FloatTile] = by_columns!(float, 1 2 3 4 5 6 7 8);

/// What multiplies a panel of `kind`, by number of columns.
pub(super) fn packed_tiles(kind: WeightType) -> &'static [PackedTile] {
    match (kind.class(), kind.has_minimum()) {
        (Class::Six, _) => SIX,
        (Class::Eight, _) => EIGHT,
        (_, false) => LOW,
        (_, true) => LOW_MINIMUM,
    }
}

/// # Safety
/// AVX-512 F, BW and VNNI; the tile is there.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn whole<const C: usize, const MINIMUM: bool>(t: &Packed) {
    // SAFETY: the caller's promise.
    unsafe {
        let offset = _mm512_set1_epi16(-t.offset);
        let mut sums = [[_mm512_setzero_ps(); V]; C];
        for b in 0..t.n_blocks {
            let mut acc = [[_mm512_setzero_si512(); V]; C];
            for (c, acc) in acc.iter_mut().enumerate() {
                *acc = [_mm512_madd_epi16(word(t.pairs, t, c, b), offset); V];
            }
            for step in 0..8 {
                let w = codes(t, 8 * b + step);
                for (c, acc) in acc.iter_mut().enumerate() {
                    let a = activations(t, c, b, step);
                    for v in 0..V {
                        acc[v] = _mm512_dpbusd_epi32(acc[v], w[v], a);
                    }
                }
            }
            for (c, acc) in acc.iter().enumerate() {
                add_block::<MINIMUM>(t, c, b, acc.map(|acc| _mm512_cvtepi32_ps(acc)), &mut sums[c]);
            }
        }
        store(&t.out, &sums);
    }
}

/// # Safety
/// AVX-512 F, BW and VNNI; the tile is there.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn six<const C: usize>(t: &Packed) {
    // SAFETY: the caller's promise.
    unsafe {
        let offset = _mm512_set1_epi16(-32);
        let mut sums = [[_mm512_setzero_ps(); V]; C];
        for b in 0..t.n_blocks {
            // Integers below 2^24, so the sums of products with integer scales are exact in f32.
            let mut whole = [[_mm512_setzero_ps(); V]; C];
            for half in 0..2 {
                let mut acc = [[_mm512_setzero_si512(); V]; C];
                for (c, acc) in acc.iter_mut().enumerate() {
                    let first = word(t.half_pairs, t, c, b);
                    let pair =
                        if half == 0 { first } else { _mm512_sub_epi16(word(t.pairs, t, c, b), first) };
                    *acc = [_mm512_madd_epi16(pair, offset); V];
                }
                for step in 4 * half..4 * half + 4 {
                    let w = codes(t, 8 * b + step);
                    for (c, acc) in acc.iter_mut().enumerate() {
                        let a = activations(t, c, b, step);
                        for v in 0..V {
                            acc[v] = _mm512_dpbusd_epi32(acc[v], w[v], a);
                        }
                    }
                }
                for v in 0..V {
                    let at = t.panel.whole.add((2 * b + half) * N_ROWS + 16 * v);
                    let scale = _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_loadu_si512(at.cast()), 16));
                    for c in 0..C {
                        whole[c][v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[c][v]), scale, whole[c][v]);
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
/// AVX-512 F; the tile is there.
#[target_feature(enable = "avx512f")]
unsafe fn float<const C: usize>(t: &Floats) {
    // SAFETY: the caller's promise.
    unsafe {
        let panel = t.panel.codes.cast::<f32>();
        let mut sums = [[_mm512_setzero_ps(); V]; C];
        for i in 0..t.n_in {
            let w: [__m512; V] = std::array::from_fn(|v| _mm512_loadu_ps(panel.add(i * N_ROWS + 16 * v)));
            for (c, sums) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*t.columns.add(c * t.stride + i));
                for v in 0..V {
                    sums[v] = _mm512_fmadd_ps(w[v], x, sums[v]);
                }
            }
        }
        store(&t.out, &sums);
    }
}

#[inline(always)]
unsafe fn codes(t: &Packed, step: usize) -> [__m512i; V] {
    // SAFETY: the caller's promise.
    unsafe { std::array::from_fn(|v| _mm512_loadu_si512(t.panel.codes.add(step * STEP + 64 * v).cast())) }
}

/// Four activations in every lane.
#[inline(always)]
unsafe fn activations(t: &Packed, c: usize, b: usize, step: usize) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe {
        let at = t.codes.add(c * t.column_bytes + 32 * b + 4 * step);
        _mm512_set1_epi32(at.cast::<i32>().read_unaligned())
    }
}

/// The word of block `b` in column `c`, in every lane.
#[inline(always)]
unsafe fn word(from: *const i32, t: &Packed, c: usize, b: usize) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe { _mm512_set1_epi32(from.byte_add(c * t.column_bytes).add(b).read_unaligned()) }
}

/// Adds what a block yields to the sums of a column.
#[inline(always)]
unsafe fn add_block<const MINIMUM: bool>(
    t: &Packed,
    c: usize,
    b: usize,
    whole: [__m512; V],
    sums: &mut [__m512; V],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let scale = _mm512_castsi512_ps(word(t.scales.cast(), t, c, b));
        for v in 0..V {
            let at = b * N_ROWS + 16 * v;
            let value = _mm512_mul_ps(whole[v], scale);
            sums[v] = _mm512_fmadd_ps(value, _mm512_loadu_ps(t.panel.scales.add(at)), sums[v]);
            if MINIMUM {
                let sum = _mm512_castsi512_ps(word(t.sums.cast(), t, c, b));
                sums[v] = _mm512_fmadd_ps(sum, _mm512_loadu_ps(t.panel.minimums.add(at)), sums[v]);
            }
        }
    }
}

#[inline(always)]
unsafe fn store<const C: usize>(out: &Out, sums: &[[__m512; V]; C]) {
    // SAFETY: the caller's promise.
    unsafe {
        for (c, sums) in sums.iter().enumerate() {
            for (v, &sum) in sums.iter().enumerate() {
                let at = out.to.add(c * out.stride + 16 * v);
                let total = if out.is_first { sum } else { _mm512_add_ps(_mm512_loadu_ps(at), sum) };
                _mm512_storeu_ps(at, total);
            }
        }
    }
}
