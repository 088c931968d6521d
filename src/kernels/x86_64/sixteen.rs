//! A panel of 16 rows times the columns of a chunk, four at a time, so that their sums stay in registers: bytes with AVX2,
//! whose sums have 32 bits, and every type with AVX-VNNI, whose sums have as many anyway. Written once over [`Steps`].

use std::arch::x86_64::*;

use super::super::weights::{Class, WeightType};
use super::activations::Activations;
use super::chunks::Way;
use super::dots::{self, Steps};
use super::tile::Chunk;
use super::unpack::{WIDE, unpack};

/// Rows of a panel, and vectors of them.
pub(super) const N_ROWS: usize = 16;
const V: usize = N_ROWS / 8;

/// `$function` of all columns, four at a time, with the instructions of a level.
macro_rules! with {
    ($name:ident, $function:ident, $features:literal, $($parameter:tt)*) => {
        /// # Safety
        /// The CPU has the instructions; the chunk is there.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $name(t: &Chunk<'_>) {
            let n = t.activations.len();
            // SAFETY: the caller's promise; only columns that are there.
            unsafe {
                for c in (0..n / 4 * 4).step_by(4) {
                    $function::<$($parameter)*, 4>(t, c);
                }
                if n % 4 >= 2 {
                    $function::<$($parameter)*, 2>(t, n / 4 * 4);
                }
                if n % 2 == 1 {
                    $function::<$($parameter)*, 1>(t, n - 1);
                }
            }
        }
    };
}

with!(avx2_eight, whole, "avx2,fma", dots::Avx2, false);

/// How panels of every type are multiplied with the instructions of a level.
macro_rules! way {
    ($name:ident, $steps:ty, $features:literal) => {
        pub(super) fn $name(kind: WeightType) -> Way {
            with!(six_bits, six, $features, $steps);
            with!(plain, whole, $features, $steps, false);
            with!(minimum, whole, $features, $steps, true);
            let inner = match (kind.class(), kind.has_minimum()) {
                (Class::Six, _) => six_bits,
                (_, false) => plain,
                (_, true) => minimum,
            };
            Way { inner, panel_rows: N_ROWS, unpack: unpack::<WIDE>, flip: 128 }
        }
    };
}

way!(avx_vnni, dots::AvxVnni, "avx2,fma,avxvnni");
#[cfg(test)]
way!(stand_in, dots::StandIn, "avx2,fma");

/// Repeats a block for every step: left to itself the compiler keeps a loop, which costs a sixth of the speed.
macro_rules! unrolled {
    ($step:ident in [$($n:literal)*] $body:block) => { $({ let $step: usize = $n; $body })* };
}
pub(super) use unrolled;

/// The panel times `C` columns from `first` on.
#[inline(always)]
unsafe fn whole<D: Steps, const MINIMUM: bool, const C: usize>(t: &Chunk<'_>, first: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let x = t.activations.as_ptr().add(first);
        let mut sums = [[_mm256_setzero_ps(); V]; C];
        for b in 0..t.n_blocks {
            let mut acc = [starts::<D>(t, b); C];
            unrolled!(step in [0 1 2 3 4 5 6 7] { add_step::<D, C>(t, x, 8 * b + step, &mut acc); });
            for (c, (acc, sums)) in acc.iter().zip(&mut sums).enumerate() {
                let whole = [_mm256_cvtepi32_ps(acc[0]), _mm256_cvtepi32_ps(acc[1])];
                add_block::<MINIMUM>(t, &*x.add(c), b, whole, sums);
            }
        }
        store(t, first, &sums);
    }
}

/// The same of 6 bits, whose halves of a block have integer scales.
#[inline(always)]
unsafe fn six<D: Steps, const C: usize>(t: &Chunk<'_>, first: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let x = t.activations.as_ptr().add(first);
        let mut sums = [[_mm256_setzero_ps(); V]; C];
        for b in 0..t.n_blocks {
            // Integers below 2^24, so the sums of products with integer scales are exact in f32.
            let mut whole = [[_mm256_setzero_ps(); V]; C];
            let mut acc = [starts::<D>(t, 2 * b); C];
            unrolled!(step in [0 1 2 3] { add_step::<D, C>(t, x, 8 * b + step, &mut acc); });
            add_half(t, 2 * b, &acc, &mut whole);
            let mut acc = [starts::<D>(t, 2 * b + 1); C];
            unrolled!(step in [4 5 6 7] { add_step::<D, C>(t, x, 8 * b + step, &mut acc); });
            add_half(t, 2 * b + 1, &acc, &mut whole);
            for (c, (whole, sums)) in whole.into_iter().zip(&mut sums).enumerate() {
                add_block::<false>(t, &*x.add(c), b, whole, sums);
            }
        }
        store(t, first, &sums);
    }
}

/// What the `i`th sums start at.
#[inline(always)]
unsafe fn starts<D: Steps>(t: &Chunk<'_>, i: usize) -> [__m256i; V] {
    if !D::HAS_STARTS {
        // SAFETY: AVX.
        return [unsafe { _mm256_setzero_si256() }; V];
    }
    let at = t.panel.starts.wrapping_add(i * N_ROWS);
    // SAFETY: the caller's promise.
    unsafe { [_mm256_loadu_si256(at.cast()), _mm256_loadu_si256(at.add(8).cast())] }
}

/// Adds the products of four elements with those of `C` columns.
#[inline(always)]
unsafe fn add_step<D: Steps, const C: usize>(
    t: &Chunk<'_>,
    x: *const Activations,
    step: usize,
    acc: &mut [[__m256i; V]; C],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let at = t.panel.codes.add(step * 4 * N_ROWS);
        let w = [_mm256_loadu_si256(at.cast()), _mm256_loadu_si256(at.add(32).cast())];
        for (c, acc) in acc.iter_mut().enumerate() {
            let a = (*x.add(c)).codes.as_ptr().add(4 * step).cast::<i32>();
            let a = _mm256_set1_epi32(a.read_unaligned());
            for v in 0..V {
                acc[v] = D::add(acc[v], w[v], a);
            }
        }
    }
}

/// Adds the sums of a half block times its integer scale.
#[inline(always)]
unsafe fn add_half<const C: usize>(
    t: &Chunk<'_>,
    i: usize,
    acc: &[[__m256i; V]; C],
    whole: &mut [[__m256; V]; C],
) {
    for v in 0..V {
        // SAFETY: the caller's promise.
        unsafe {
            let at = t.panel.whole.add(i * N_ROWS + 8 * v);
            let scale = _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_loadu_si256(at.cast()), 16));
            for (acc, whole) in acc.iter().zip(&mut *whole) {
                whole[v] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc[v]), scale, whole[v]);
            }
        }
    }
}

/// Adds what a block yields to the sums of a column.
#[inline(always)]
unsafe fn add_block<const MINIMUM: bool>(
    t: &Chunk<'_>,
    x: &Activations,
    b: usize,
    whole: [__m256; V],
    sums: &mut [__m256; V],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let scale = _mm256_broadcast_ss(&*x.scales.as_ptr().add(b));
        for v in 0..V {
            let at = b * N_ROWS + 8 * v;
            let value = _mm256_mul_ps(whole[v], scale);
            sums[v] = _mm256_fmadd_ps(value, _mm256_loadu_ps(t.panel.scales.add(at)), sums[v]);
            if MINIMUM {
                let sum = _mm256_broadcast_ss(&*x.sums.as_ptr().add(b));
                sums[v] = _mm256_fmadd_ps(sum, _mm256_loadu_ps(t.panel.minimums.add(at)), sums[v]);
            }
        }
    }
}

#[inline(always)]
unsafe fn store<const C: usize>(t: &Chunk<'_>, first: usize, sums: &[[__m256; V]; C]) {
    for (c, sums) in sums.iter().enumerate() {
        for (v, &sum) in sums.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { t.store(N_ROWS * (first + c) + 8 * v, sum) }
        }
    }
}
