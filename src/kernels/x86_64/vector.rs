//! Sixteen f32 at a time, and their sums in f64: the same steps with AVX2 and AVX-512, so that what is written
//! once over [`Vector`] has the same bits on both. A method is one rounded operation a lane.

use std::arch::x86_64::*;

use super::super::passes::LANES;

/// [`LANES`] of f32.
///
/// # Safety
/// Of every method: the CPU has the instructions of the implementation, and pointers lead to [`LANES`]
/// elements.
pub(super) trait Vector: Copy {
    /// As many of f64.
    type Wide: Copy;

    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn of(value: f32) -> Self;
    unsafe fn add(self, b: Self) -> Self;
    unsafe fn sub(self, b: Self) -> Self;
    unsafe fn mul(self, b: Self) -> Self;
    unsafe fn div(self, b: Self) -> Self;
    /// `self * b + c`, rounded once.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    /// `b` where the two cannot be compared.
    unsafe fn min(self, b: Self) -> Self;
    /// `b` where the two cannot be compared.
    unsafe fn max(self, b: Self) -> Self;
    unsafe fn abs(self) -> Self;
    /// `then` where `self < limit`.
    unsafe fn where_below(self, limit: Self, then: Self, otherwise: Self) -> Self;
    /// The low bits of `n` are added to the exponents of `self`.
    unsafe fn add_exponents(self, n: Self) -> Self;
    unsafe fn halves(self) -> [__m256; 2];

    unsafe fn widen(self) -> Self::Wide;
    unsafe fn wide(value: f64) -> Self::Wide;
    unsafe fn wide_add(a: Self::Wide, b: Self::Wide) -> Self::Wide;
    unsafe fn wide_sub(a: Self::Wide, b: Self::Wide) -> Self::Wide;
    /// `a * a + sum`, rounded once.
    unsafe fn wide_square_add(a: Self::Wide, sum: Self::Wide) -> Self::Wide;
    unsafe fn wide_lanes(a: Self::Wide) -> [f64; LANES];
}

/// AVX2 and FMA: eight lanes each.
impl Vector for [__m256; 2] {
    type Wide = [__m256d; 4];

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            _mm256_storeu_ps(to, self[0]);
            _mm256_storeu_ps(to.add(8), self[1]);
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn of(value: f32) -> Self {
        [_mm256_set1_ps(value); 2]
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn add(self, b: Self) -> Self {
        [_mm256_add_ps(self[0], b[0]), _mm256_add_ps(self[1], b[1])]
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn sub(self, b: Self) -> Self {
        [_mm256_sub_ps(self[0], b[0]), _mm256_sub_ps(self[1], b[1])]
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn mul(self, b: Self) -> Self {
        [_mm256_mul_ps(self[0], b[0]), _mm256_mul_ps(self[1], b[1])]
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn div(self, b: Self) -> Self {
        [_mm256_div_ps(self[0], b[0]), _mm256_div_ps(self[1], b[1])]
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        [_mm256_fmadd_ps(self[0], b[0], c[0]), _mm256_fmadd_ps(self[1], b[1], c[1])]
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn min(self, b: Self) -> Self {
        [_mm256_min_ps(self[0], b[0]), _mm256_min_ps(self[1], b[1])]
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn max(self, b: Self) -> Self {
        [_mm256_max_ps(self[0], b[0]), _mm256_max_ps(self[1], b[1])]
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn abs(self) -> Self {
        let sign = _mm256_set1_ps(-0.0);
        [_mm256_andnot_ps(sign, self[0]), _mm256_andnot_ps(sign, self[1])]
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn where_below(self, limit: Self, then: Self, otherwise: Self) -> Self {
        let is_below = |i: usize| _mm256_cmp_ps::<_CMP_LT_OQ>(self[i], limit[i]);
        [
            _mm256_blendv_ps(otherwise[0], then[0], is_below(0)),
            _mm256_blendv_ps(otherwise[1], then[1], is_below(1)),
        ]
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn add_exponents(self, n: Self) -> Self {
        let add = |a: __m256, n: __m256| {
            let n = _mm256_slli_epi32::<23>(_mm256_castps_si256(n));
            _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), n))
        };
        [add(self[0], n[0]), add(self[1], n[1])]
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn halves(self) -> [__m256; 2] {
        self
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn widen(self) -> Self::Wide {
        let low = |a: __m256| _mm256_cvtps_pd(_mm256_castps256_ps128(a));
        let high = |a: __m256| _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(a));
        [low(self[0]), high(self[0]), low(self[1]), high(self[1])]
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn wide(value: f64) -> Self::Wide {
        [_mm256_set1_pd(value); 4]
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn wide_add(a: Self::Wide, b: Self::Wide) -> Self::Wide {
        let add = |i: usize| _mm256_add_pd(a[i], b[i]);
        [add(0), add(1), add(2), add(3)]
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn wide_sub(a: Self::Wide, b: Self::Wide) -> Self::Wide {
        let sub = |i: usize| _mm256_sub_pd(a[i], b[i]);
        [sub(0), sub(1), sub(2), sub(3)]
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn wide_square_add(a: Self::Wide, sum: Self::Wide) -> Self::Wide {
        let add = |i: usize| _mm256_fmadd_pd(a[i], a[i], sum[i]);
        [add(0), add(1), add(2), add(3)]
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn wide_lanes(a: Self::Wide) -> [f64; LANES] {
        let mut lanes = [0.0; LANES];
        for (i, a) in a.into_iter().enumerate() {
            // SAFETY: four of sixteen.
            unsafe { _mm256_storeu_pd(lanes[4 * i..][..4].as_mut_ptr(), a) };
        }
        lanes
    }
}

/// AVX-512 F.
impl Vector for __m512 {
    type Wide = [__m512d; 2];

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_ps(to, self) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn of(value: f32) -> Self {
        _mm512_set1_ps(value)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn add(self, b: Self) -> Self {
        _mm512_add_ps(self, b)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn sub(self, b: Self) -> Self {
        _mm512_sub_ps(self, b)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn mul(self, b: Self) -> Self {
        _mm512_mul_ps(self, b)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn div(self, b: Self) -> Self {
        _mm512_div_ps(self, b)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        _mm512_fmadd_ps(self, b, c)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn min(self, b: Self) -> Self {
        _mm512_min_ps(self, b)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn max(self, b: Self) -> Self {
        _mm512_max_ps(self, b)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn abs(self) -> Self {
        _mm512_abs_ps(self)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn where_below(self, limit: Self, then: Self, otherwise: Self) -> Self {
        _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(self, limit), otherwise, then)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn add_exponents(self, n: Self) -> Self {
        let n = _mm512_slli_epi32::<23>(_mm512_castps_si512(n));
        _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(self), n))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn halves(self) -> [__m256; 2] {
        let high = _mm512_extractf64x4_pd::<1>(_mm512_castps_pd(self));
        [_mm512_castps512_ps256(self), _mm256_castpd_ps(high)]
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn widen(self) -> Self::Wide {
        // SAFETY: the same instructions.
        let [low, high] = unsafe { self.halves() };
        [_mm512_cvtps_pd(low), _mm512_cvtps_pd(high)]
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn wide(value: f64) -> Self::Wide {
        [_mm512_set1_pd(value); 2]
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn wide_add(a: Self::Wide, b: Self::Wide) -> Self::Wide {
        [_mm512_add_pd(a[0], b[0]), _mm512_add_pd(a[1], b[1])]
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn wide_sub(a: Self::Wide, b: Self::Wide) -> Self::Wide {
        [_mm512_sub_pd(a[0], b[0]), _mm512_sub_pd(a[1], b[1])]
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn wide_square_add(a: Self::Wide, sum: Self::Wide) -> Self::Wide {
        [_mm512_fmadd_pd(a[0], a[0], sum[0]), _mm512_fmadd_pd(a[1], a[1], sum[1])]
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn wide_lanes(a: Self::Wide) -> [f64; LANES] {
        let mut lanes = [0.0; LANES];
        for (i, a) in a.into_iter().enumerate() {
            // SAFETY: eight of sixteen.
            unsafe { _mm512_storeu_pd(lanes[8 * i..][..8].as_mut_ptr(), a) };
        }
        lanes
    }
}
