//! Attention of one query alone: what decoding does, where reading keys and values is most of the time. Keys are the lanes
//! of scores, elements those of the result; both go from where they lie straight into sums, and what comes next is
//! asked for meanwhile. The bits are those of [`super::super::attention`].

use std::arch::x86_64::*;

use super::super::attention::{KEYS, LOWEST, Plane};
use super::super::passes::LANES;
use super::super::weights::WeightType;
use super::attention::{Job, Scratch};
use super::functions::exp;
use super::stage::{Elements, F16, F32, Q8, transposed};
use super::vector::Vector;

/// Lanes of the vectors that elements are read into.
const EIGHT: usize = 8;
/// Vectors of keys side by side: one alone would wait for its own sums.
const GROUPS: usize = 2;
/// Keys that are scored at once.
const AT_ONCE: usize = GROUPS * EIGHT;
/// Rows from what is read to what is asked for. They lie apart, a pattern that the CPU does not foresee.
const AHEAD: usize = 2 * AT_ONCE;

/// The query of `row`.
///
/// # Safety
/// The CPU has the instructions of `V`, AVX2, FMA and F16C.
#[inline(always)]
pub(super) unsafe fn one<V: Vector>(job: &Job<'_>, row: usize, scratch: &mut Scratch, to: &mut [f32]) {
    let head_dim = job.queries.head_dim;
    let padded = head_dim.next_multiple_of(LANES);
    let [query, sums, of_block, shares] = scratch.parts([head_dim, padded, padded, KEYS]);
    let n_seen = job.queries.n_seen(row);
    // SAFETY: the caller's promise; all parts are as long as their shapes say.
    unsafe {
        for (e, q) in job.queries.row(row).iter().enumerate() {
            *query.add(e) = q * job.queries.scale;
        }
        let zero = V::of(0.0);
        for d in (0..padded).step_by(LANES) {
            zero.store(sums.add(d));
        }
        let (mut maximum, mut weight) = (V::of(LOWEST), zero);
        for b in 0..n_seen.div_ceil(KEYS) {
            let n = KEYS.min(n_seen - b * KEYS);
            scores(&job.keys.block(b, n), query, shares);
            let highest = highest::<V>(shares, n);
            let mut share = 0.0;
            for c in (0..n).step_by(LANES) {
                let at = shares.add(c);
                exp(V::load(at).sub(highest), zero).store(at);
            }
            for c in 0..n {
                share += *shares.add(c);
            }
            for d in (0..padded).step_by(LANES) {
                zero.store(of_block.add(d));
            }
            add_values(&job.values.block(b, n), shares, of_block);

            let before = maximum;
            maximum = before.max(highest);
            let (keep, join) = (exp(before.sub(maximum), zero), exp(highest.sub(maximum), zero));
            weight = V::of(share).mul_add(join, weight.mul(keep));
            for d in (0..padded).step_by(LANES) {
                let at = sums.add(d);
                V::load(of_block.add(d)).mul_add(join, V::load(at).mul(keep)).store(at);
            }
        }
        let inverse = V::of(1.0).div(weight);
        for d in (0..padded).step_by(LANES) {
            let at = sums.add(d);
            V::load(at).mul(inverse).store(at);
        }
        to.copy_from_slice(std::slice::from_raw_parts(sums, head_dim));
    }
}

/// In every lane the highest of `n` scores. What is behind the last one in its vector is set below all.
#[inline(always)]
unsafe fn highest<V: Vector>(scores: *mut f32, n: usize) -> V {
    // SAFETY: the caller's promise; there is room for whole vectors.
    unsafe {
        for c in n..n.next_multiple_of(LANES) {
            *scores.add(c) = f32::NEG_INFINITY;
        }
        let mut highest = V::of(LOWEST);
        for c in (0..n).step_by(LANES) {
            highest = highest.max(V::load(scores.add(c)));
        }
        let mut lanes = [0f32; LANES];
        highest.store(lanes.as_mut_ptr());
        V::of(lanes.into_iter().fold(LOWEST, |a, b| if a > b { a } else { b }))
    }
}

/// Scores of all keys of a block, and something behind them in the last [`AT_ONCE`].
///
/// # Safety
/// AVX2, FMA and F16C; a query of this width, and room for whole [`AT_ONCE`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn scores(keys: &Plane<'_>, query: *const f32, to: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        match keys.kind() {
            WeightType::F32 => scores_of::<F32>(keys, query, to),
            WeightType::F16 => scores_of::<F16>(keys, query, to),
            WeightType::Q8_0 => scores_of::<Q8>(keys, query, to),
            kind => panic!("expected cells of f32, f16 or q8_0, found {kind:?}"),
        }
    }
}

/// # Safety
/// As [`scores`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn scores_of<E: Elements>(keys: &Plane<'_>, query: *const f32, to: *mut f32) {
    let (n, width) = (keys.n_rows(), keys.width());
    let whole = width / EIGHT * EIGHT;
    let asked_a_step = (AT_ONCE * EIGHT).div_ceil(whole.max(1));
    for first in (0..n).step_by(AT_ONCE) {
        let row = |g: usize, i: usize| (first + g * EIGHT + i).min(n - 1);
        let rows: [[*const u8; EIGHT]; GROUPS] =
            std::array::from_fn(|g| std::array::from_fn(|i| keys.row(row(g, i)).as_ptr()));
        let mut sums = [_mm256_setzero_ps(); GROUPS];
        let mut asked = first + AHEAD..first + AHEAD + AT_ONCE;
        // SAFETY: the caller's promise; only elements that are there.
        unsafe {
            for e in (0..whole).step_by(EIGHT) {
                for r in asked.by_ref().take(asked_a_step) {
                    prefetch(keys, r);
                }
                for (rows, sum) in rows.iter().zip(&mut sums) {
                    let columns = transposed(rows.map(|row| E::eight(row, e)));
                    for (i, column) in columns.into_iter().enumerate() {
                        *sum = _mm256_fmadd_ps(column, _mm256_broadcast_ss(&*query.add(e + i)), *sum);
                    }
                }
            }
            for e in whole..width {
                let q = _mm256_broadcast_ss(&*query.add(e));
                for (g, sum) in sums.iter_mut().enumerate() {
                    let column: [f32; EIGHT] = std::array::from_fn(|i| keys.value(row(g, i), e));
                    *sum = _mm256_fmadd_ps(_mm256_loadu_ps(column.as_ptr()), q, *sum);
                }
            }
            for (g, sum) in sums.into_iter().enumerate() {
                _mm256_storeu_ps(to.add(first + g * EIGHT), sum);
            }
        }
    }
}

/// Adds the values of a block by their shares to `sums`.
///
/// # Safety
/// AVX2, FMA and F16C; as many shares as rows, as many sums as elements.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add_values(values: &Plane<'_>, shares: *const f32, sums: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        match values.kind() {
            WeightType::F32 => add_values_of::<F32>(values, shares, sums),
            WeightType::F16 => add_values_of::<F16>(values, shares, sums),
            WeightType::Q8_0 => add_values_of::<Q8>(values, shares, sums),
            kind => panic!("expected cells of f32, f16 or q8_0, found {kind:?}"),
        }
    }
}

/// # Safety
/// As [`add_values`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add_values_of<E: Elements>(values: &Plane<'_>, shares: *const f32, sums: *mut f32) {
    const MANY: usize = 8;
    let width = values.width();
    let mut d = 0;
    // SAFETY: the caller's promise; only elements that are there.
    unsafe {
        while d + MANY * EIGHT <= width {
            add_vectors::<E, MANY>(values, d, shares, sums.add(d));
            d += MANY * EIGHT;
        }
        while d + EIGHT <= width {
            add_vectors::<E, 1>(values, d, shares, sums.add(d));
            d += EIGHT;
        }
        for d in d..width {
            for c in 0..values.n_rows() {
                *sums.add(d) = values.value(c, d).mul_add(*shares.add(c), *sums.add(d));
            }
        }
    }
}

/// `N` vectors of elements from `first` on.
///
/// # Safety
/// As [`add_values`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add_vectors<E: Elements, const N: usize>(
    values: &Plane<'_>,
    first: usize,
    shares: *const f32,
    to: *mut f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [_mm256_setzero_ps(); N];
        for (v, sum) in sums.iter_mut().enumerate() {
            *sum = _mm256_loadu_ps(to.add(v * EIGHT));
        }
        for c in 0..values.n_rows() {
            if first == 0 {
                prefetch(values, c + AHEAD);
            }
            let (row, share) = (values.row(c).as_ptr(), _mm256_broadcast_ss(&*shares.add(c)));
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = _mm256_fmadd_ps(E::eight(row, first + v * EIGHT), share, *sum);
            }
        }
        for (v, sum) in sums.into_iter().enumerate() {
            _mm256_storeu_ps(to.add(v * EIGHT), sum);
        }
    }
}

/// Asks for row `r` of `plane`, or for what lies where it would be: a row of the next block.
#[inline(always)]
fn prefetch(plane: &Plane<'_>, r: usize) {
    let row = plane.row(0).as_ptr().wrapping_add(r * plane.stride());
    for at in (0..plane.kind().row_bytes(plane.width()).unwrap_or(0)).step_by(64) {
        // SAFETY: a hint; any address may be named.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(at).cast()) }
    }
}
