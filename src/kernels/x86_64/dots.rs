//! How 256 bits of bytes are multiplied and their products added: the one thing in which AVX2 and both VNNI differ
//! where kernels are written once for all of them. Integers are exact whichever way they are added, so the bits of a
//! product are the same.

use std::arch::asm;
use std::arch::x86_64::*;

/// Of a loop over rows as they lie, whose codes have no sign; activations have one.
///
/// # Safety
/// Of every method: the CPU has AVX2 and the instructions of the implementation.
pub(super) trait Dots {
    /// Both halves of a block of codes of at most 5 bits.
    unsafe fn low(codes: [__m256i; 2], activations: [__m256i; 2]) -> __m256i;
    /// Half a block of 6 bits.
    unsafe fn six(codes: __m256i, activations: __m256i) -> __m256i;
    /// Both halves of a block of 8 bits, which have a sign, to lanes of 32 bits.
    unsafe fn eight(codes: [__m256i; 2], activations: [__m256i; 2]) -> __m256i;
    /// What `low` or `six` yielded of four vectors, added over their lanes as [`added_wide`] adds.
    unsafe fn added(dots: [__m256i; 4]) -> __m256i;
}

/// Of a loop over a panel of 16 rows whose codes have a sign.
///
/// # Safety
/// As [`Dots`].
pub(super) trait Steps {
    /// Activations come with 128 added, which the panel's starts take off.
    const HAS_STARTS: bool;
    /// `sums` and the products of four neighbours in each lane.
    unsafe fn add(sums: __m256i, codes: __m256i, activations: __m256i) -> __m256i;
}

/// Four products of a byte without sign and one with it are added to a lane of 32 bits in one instruction.
///
/// # Safety
/// As [`Dots`].
pub(super) trait Quads {
    unsafe fn add(sums: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i;
}

/// AVX2: two products are added to 16 bits, which may saturate, and two of these to 32 bits.
pub(super) enum Avx2 {}
pub(super) enum AvxVnni {}
/// In registers of 256 bits.
pub(super) enum Avx512Vnni {}

impl Quads for AvxVnni {
    #[inline]
    #[target_feature(enable = "avx2,avxvnni")]
    unsafe fn add(sums: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
        _mm256_dpbusd_avx_epi32(sums, unsigned, signed)
    }
}

impl Quads for Avx512Vnni {
    #[inline]
    #[target_feature(enable = "avx2,avx512vnni,avx512vl")]
    unsafe fn add(sums: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
        _mm256_dpbusd_epi32(sums, unsigned, signed)
    }
}

/// The same sums with AVX2, so that what is written over [`Quads`] is tested where no VNNI is.
#[cfg(test)]
pub(super) enum StandIn {}

#[cfg(test)]
impl Quads for StandIn {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn add(sums: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
        let even = _mm256_madd_epi16(
            _mm256_and_si256(unsigned, _mm256_set1_epi16(0xff)),
            _mm256_srai_epi16(_mm256_slli_epi16(signed, 8), 8),
        );
        let odd = _mm256_madd_epi16(_mm256_srli_epi16(unsigned, 8), _mm256_srai_epi16(signed, 8));
        _mm256_add_epi32(sums, _mm256_add_epi32(even, odd))
    }
}

impl Dots for Avx2 {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn low(codes: [__m256i; 2], activations: [__m256i; 2]) -> __m256i {
        let half = |h: usize| _mm256_maddubs_epi16(codes[h], activations[h]);
        _mm256_add_epi16(half(0), half(1))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn six(codes: __m256i, activations: __m256i) -> __m256i {
        _mm256_maddubs_epi16(codes, activations)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn eight(codes: [__m256i; 2], activations: [__m256i; 2]) -> __m256i {
        let ones = _mm256_set1_epi16(1);
        let half = |h: usize| {
            let (size, a) = without_sign(codes[h], activations[h]);
            _mm256_madd_epi16(_mm256_maddubs_epi16(size, a), ones)
        };
        _mm256_add_epi32(half(0), half(1))
    }

    /// Lanes are of 16 bits, at most 2^14.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn added([a, b, c, d]: [__m256i; 4]) -> __m256i {
        let ones = _mm256_set1_epi16(1);
        let two = |a, b| {
            let sums = _mm256_add_epi16(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
            _mm256_madd_epi16(sums, ones)
        };
        four(two(a, b), two(c, d))
    }
}

impl<Q: Quads> Dots for Q {
    #[inline(always)]
    unsafe fn low(codes: [__m256i; 2], activations: [__m256i; 2]) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { <Q as Quads>::add(Q::six(codes[0], activations[0]), codes[1], activations[1]) }
    }

    #[inline(always)]
    unsafe fn six(codes: __m256i, activations: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { <Q as Quads>::add(_mm256_setzero_si256(), codes, activations) }
    }

    #[inline(always)]
    unsafe fn eight(codes: [__m256i; 2], activations: [__m256i; 2]) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe {
            let (first, a) = without_sign(codes[0], activations[0]);
            let (second, b) = without_sign(codes[1], activations[1]);
            Q::low([first, second], [a, b])
        }
    }

    #[inline(always)]
    unsafe fn added(dots: [__m256i; 4]) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { added_wide(dots) }
    }
}

impl Steps for Avx2 {
    const HAS_STARTS: bool = false;

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn add(sums: __m256i, codes: __m256i, activations: __m256i) -> __m256i {
        // SAFETY: the same instructions.
        unsafe {
            let (size, a) = without_sign(codes, activations);
            let products = _mm256_maddubs_epi16(size, a);
            pinned(_mm256_add_epi32(sums, _mm256_madd_epi16(products, _mm256_set1_epi16(1))))
        }
    }
}

impl<Q: Quads> Steps for Q {
    const HAS_STARTS: bool = true;

    #[inline(always)]
    unsafe fn add(sums: __m256i, codes: __m256i, activations: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { <Q as Quads>::add(sums, activations, codes) }
    }
}

/// Codes lose their sign to the activations, which are never -128.
#[inline]
#[target_feature(enable = "avx2")]
fn without_sign(codes: __m256i, activations: __m256i) -> (__m256i, __m256i) {
    (_mm256_abs_epi8(codes), _mm256_sign_epi8(activations, codes))
}

/// Sums over the lanes, of 32 bits, of pairs of rows, in order of rows.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn added_wide([a, b, c, d]: [__m256i; 4]) -> __m256i {
    let two = |a, b| _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    four(two(a, b), two(c, d))
}

#[inline]
#[target_feature(enable = "avx2")]
fn four(ab: __m256i, cd: __m256i) -> __m256i {
    _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd))
}

/// Keeps sums in program order: the compiler would turn long chains into trees, whose leaves do not fit the
/// registers.
///
/// # Safety
/// AVX2.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn pinned(mut sum: __m256i) -> __m256i {
    // SAFETY: no instruction at all.
    unsafe { asm!("/* {0} */", inout(ymm_reg) sum, options(pure, nomem, nostack, preserves_flags)) };
    sum
}
