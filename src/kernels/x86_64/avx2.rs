//! Inner loops of AVX2. Codes of up to 6 bits come with a sign and meet activations without one in `maddubs`,
//! so that a vector of weights is read from memory by the very instruction that multiplies it; a column at a
//! time meets 32 rows, whose sums fit the registers. Sums of eight such products (of 6 bits: four) stay below
//! 2^15 because they start at minus the 128 that activations have too much, so they are widened once a block.
//! The adds wrap, only `maddubs` saturates, and no pair of products reaches that.

use std::arch::x86_64::*;

use super::super::weights::{Class, WeightType};
use super::activations::Activations;
use super::chunks::Way;
use super::dots::pinned;
use super::sixteen::{self, unrolled};
use super::tile::{Chunk, ChunkLoop, FloatTile, Floats, Out, by_columns};
use super::unpack::{SIGNED, unpack};

/// Rows of a panel of codes of fewer than eight bits.
const N_ROWS: usize = 32;
/// Vectors of rows.
const V: usize = N_ROWS / 8;
/// Bytes of a step of four elements.
const STEP: usize = 4 * N_ROWS;

/// Rows of a panel of floats.
pub(super) const N_FLOAT_ROWS: usize = 16;
const FLOAT_V: usize = N_FLOAT_ROWS / 8;

pub(super) const FLOAT: &[FloatTile] = by_columns!(float, 1 2 3 4 5 6);

/// How panels of `kind` are multiplied.
pub(super) fn way(kind: WeightType) -> Way {
    let (inner, panel_rows, flip): (ChunkLoop, _, _) = match (kind.class(), kind.has_minimum()) {
        (Class::Six, _) => (six, N_ROWS, 128),
        // Its sums have twice as many bits, and a first-level cache that two threads of a core share must hold it.
        (Class::Eight, _) => (sixteen::avx2_eight, sixteen::N_ROWS, 0),
        (_, false) => (low::<false>, N_ROWS, 128),
        (_, true) => (low::<true>, N_ROWS, 128),
    };
    Way { inner, panel_rows, unpack: unpack::<SIGNED>, flip }
}

/// # Safety
/// AVX2 and FMA; the chunk is there.
#[target_feature(enable = "avx2,fma")]
unsafe fn low<const MINIMUM: bool>(t: &Chunk<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        let ones = _mm256_set1_epi16(1);
        for (c, x) in t.activations.iter().enumerate() {
            let mut sums = [_mm256_setzero_ps(); V];
            for b in 0..t.n_blocks {
                let mut acc = starts(t, b);
                unrolled!(step in [0 1 2 3 4 5 6 7] { add_step(t, x, 8 * b + step, &mut acc); });
                add_block::<MINIMUM>(t, x, b, acc.map(|acc| _mm256_madd_epi16(acc, ones)), &mut sums);
            }
            store(t, c, &sums);
        }
    }
}

/// # Safety
/// AVX2 and FMA; the chunk is there.
#[target_feature(enable = "avx2,fma")]
unsafe fn six(t: &Chunk<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        for (c, x) in t.activations.iter().enumerate() {
            let mut sums = [_mm256_setzero_ps(); V];
            for b in 0..t.n_blocks {
                let mut acc = starts(t, 2 * b);
                unrolled!(step in [0 1 2 3] { add_step(t, x, 8 * b + step, &mut acc); });
                let first = scaled(t, 2 * b, acc);
                let mut acc = starts(t, 2 * b + 1);
                unrolled!(step in [4 5 6 7] { add_step(t, x, 8 * b + step, &mut acc); });
                let second = scaled(t, 2 * b + 1, acc);
                let whole = std::array::from_fn(|v| _mm256_add_epi32(first[v], second[v]));
                add_block::<false>(t, x, b, whole, &mut sums);
            }
            store(t, c, &sums);
        }
    }
}

/// # Safety
/// AVX2 and FMA; the tile is there.
#[target_feature(enable = "avx2,fma")]
unsafe fn float<const C: usize>(t: &Floats) {
    // SAFETY: the caller's promise.
    unsafe {
        let panel = t.panel.codes.cast::<f32>();
        let mut sums = [[_mm256_setzero_ps(); FLOAT_V]; C];
        for i in 0..t.n_in {
            let w: [__m256; FLOAT_V] =
                std::array::from_fn(|v| _mm256_loadu_ps(panel.add(i * N_FLOAT_ROWS + 8 * v)));
            for (c, sums) in sums.iter_mut().enumerate() {
                let x = _mm256_broadcast_ss(&*t.columns.add(c * t.stride + i));
                for v in 0..FLOAT_V {
                    sums[v] = _mm256_fmadd_ps(w[v], x, sums[v]);
                }
            }
        }
        store_floats(&t.out, &sums);
    }
}

/// Vector `v` of the codes of a step.
#[inline(always)]
unsafe fn codes(t: &Chunk<'_>, step: usize, v: usize) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe { _mm256_loadu_si256(t.panel.codes.add(step * STEP + 32 * v).cast()) }
}

/// Four activations in every lane.
#[inline(always)]
unsafe fn activations(x: &Activations, step: usize) -> __m256i {
    // SAFETY: a chunk has this step.
    unsafe { _mm256_set1_epi32(x.codes.as_ptr().add(4 * step).cast::<i32>().read_unaligned()) }
}

/// What the `i`th sums start at.
#[inline(always)]
unsafe fn starts(t: &Chunk<'_>, i: usize) -> [__m256i; V] {
    // SAFETY: the caller's promise.
    unsafe { std::array::from_fn(|v| _mm256_loadu_si256(t.panel.starts.add(i * N_ROWS + 8 * v).cast())) }
}

/// Adds the products of four elements.
#[inline(always)]
unsafe fn add_step(t: &Chunk<'_>, x: &Activations, step: usize, acc: &mut [__m256i; V]) {
    // SAFETY: the caller's promise.
    unsafe {
        let a = activations(x, step);
        for (v, acc) in acc.iter_mut().enumerate() {
            *acc = pinned(_mm256_add_epi16(*acc, _mm256_maddubs_epi16(a, codes(t, step, v))));
        }
    }
}

/// Sums of half a block times its integer scale.
#[inline(always)]
unsafe fn scaled(t: &Chunk<'_>, i: usize, acc: [__m256i; V]) -> [__m256i; V] {
    // SAFETY: the caller's promise.
    unsafe {
        std::array::from_fn(|v| {
            let at = t.panel.whole.add(i * N_ROWS + 8 * v);
            _mm256_madd_epi16(acc[v], _mm256_loadu_si256(at.cast()))
        })
    }
}

#[inline(always)]
unsafe fn scales(from: *const f32, b: usize, v: usize) -> __m256 {
    // SAFETY: the caller's promise.
    unsafe { _mm256_loadu_ps(from.add(b * N_ROWS + 8 * v)) }
}

/// Adds what a block yields to the sums of a column.
#[inline(always)]
unsafe fn add_block<const MINIMUM: bool>(
    t: &Chunk<'_>,
    x: &Activations,
    b: usize,
    whole: [__m256i; V],
    to: &mut [__m256; V],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let scale = _mm256_broadcast_ss(&*x.scales.as_ptr().add(b));
        for v in 0..V {
            let value = _mm256_mul_ps(_mm256_cvtepi32_ps(whole[v]), scale);
            to[v] = _mm256_fmadd_ps(value, scales(t.panel.scales, b, v), to[v]);
        }
        if MINIMUM {
            let sum = _mm256_broadcast_ss(&*x.sums.as_ptr().add(b));
            for (v, to) in to.iter_mut().enumerate() {
                *to = _mm256_fmadd_ps(sum, scales(t.panel.minimums, b, v), *to);
            }
        }
    }
}

#[inline(always)]
unsafe fn store(t: &Chunk<'_>, c: usize, sums: &[__m256; V]) {
    for (v, &sum) in sums.iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { t.store(c * N_ROWS + 8 * v, sum) }
    }
}

#[inline(always)]
unsafe fn store_floats<const C: usize>(out: &Out, sums: &[[__m256; FLOAT_V]; C]) {
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
