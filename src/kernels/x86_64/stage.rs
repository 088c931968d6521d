//! Keys and values as the inner loops of attention read them: in f32, rows in order or turned over, so that
//! columns become rows. Both levels have the instructions; no arithmetic but the scale of a quantized block.

use std::arch::x86_64::*;

use super::super::attention::Plane;
use super::super::packed::BLOCK;
use super::super::weights::WeightType;

/// Elements of a row that are read at once.
pub(super) trait Elements {
    /// Elements `i` to `i + 8` of the row at `row`; `i` is a multiple of 8.
    ///
    /// # Safety
    /// AVX2 and F16C; they are there.
    unsafe fn eight(row: *const u8, i: usize) -> __m256;
}

pub(super) struct F32;
pub(super) struct F16;
pub(super) struct Q8;

impl Elements for F32 {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn eight(row: *const u8, i: usize) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_ps(row.cast::<f32>().add(i)) }
    }
}

impl Elements for F16 {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn eight(row: *const u8, i: usize) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(row.add(2 * i).cast())) }
    }
}

/// q8_0: a scale in f16, then [`BLOCK`] codes.
impl Elements for Q8 {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn eight(row: *const u8, i: usize) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe {
            let block = row.add(i / BLOCK * (2 + BLOCK));
            let scale = _mm_set1_epi16(block.cast::<i16>().read_unaligned());
            let codes = _mm256_cvtepi8_epi32(_mm_loadl_epi64(block.add(2 + i % BLOCK).cast()));
            _mm256_mul_ps(_mm256_cvtepi32_ps(codes), _mm256_cvtph_ps(scale))
        }
    }
}

/// Writes `plane` row after row, `stride` elements apart.
///
/// # Safety
/// AVX2 and F16C; `to` has room for so many rows.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn in_order(plane: &Plane<'_>, to: *mut f32, stride: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        match plane.kind() {
            WeightType::F32 => copy::<F32>(plane, to, stride),
            WeightType::F16 => copy::<F16>(plane, to, stride),
            WeightType::Q8_0 => copy::<Q8>(plane, to, stride),
            kind => panic!("expected cells of f32, f16 or q8_0, found {kind:?}"),
        }
    }
}

/// Writes `plane` column after column, `stride` elements apart.
///
/// # Safety
/// As [`in_order`], for columns.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn turned(plane: &Plane<'_>, to: *mut f32, stride: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        match plane.kind() {
            WeightType::F32 => turn::<F32>(plane, to, stride),
            WeightType::F16 => turn::<F16>(plane, to, stride),
            WeightType::Q8_0 => turn::<Q8>(plane, to, stride),
            kind => panic!("expected cells of f32, f16 or q8_0, found {kind:?}"),
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn copy<E: Elements>(plane: &Plane<'_>, to: *mut f32, stride: usize) {
    let whole = plane.width() / 8 * 8;
    for r in 0..plane.n_rows() {
        let row = plane.row(r).as_ptr();
        // SAFETY: the caller's promise; a plane holds its rows.
        unsafe {
            let to = to.add(r * stride);
            for i in (0..whole).step_by(8) {
                _mm256_storeu_ps(to.add(i), E::eight(row, i));
            }
            for i in whole..plane.width() {
                *to.add(i) = plane.value(r, i);
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn turn<E: Elements>(plane: &Plane<'_>, to: *mut f32, stride: usize) {
    let whole = [plane.width() / 8 * 8, plane.n_rows() / 8 * 8];
    // SAFETY: the caller's promise; a plane holds its rows.
    unsafe {
        for r in (0..whole[1]).step_by(8) {
            let rows: [*const u8; 8] = std::array::from_fn(|i| plane.row(r + i).as_ptr());
            for i in (0..whole[0]).step_by(8) {
                let columns = transposed(rows.map(|row| E::eight(row, i)));
                for (c, column) in columns.into_iter().enumerate() {
                    _mm256_storeu_ps(to.add((i + c) * stride + r), column);
                }
            }
        }
        for r in 0..plane.n_rows() {
            let first = if r < whole[1] { whole[0] } else { 0 };
            for i in first..plane.width() {
                *to.add(i * stride + r) = plane.value(r, i);
            }
        }
    }
}

/// Eight rows of eight to eight columns.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn transposed(rows: [__m256; 8]) -> [__m256; 8] {
    // Pairs, then fours within each half, then halves.
    let pair = |i: usize| {
        let (a, b) = (rows[2 * i], rows[2 * i + 1]);
        [_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b)]
    };
    let pairs = [pair(0), pair(1), pair(2), pair(3)];
    let four = |i: usize, high: usize| {
        let (a, b) = (pairs[2 * i][high], pairs[2 * i + 1][high]);
        [_mm256_shuffle_ps::<0x44>(a, b), _mm256_shuffle_ps::<0xee>(a, b)]
    };
    let (upper, lower) = ([four(0, 0), four(0, 1)], [four(1, 0), four(1, 1)]);
    let mut columns = [_mm256_setzero_ps(); 8];
    for i in 0..4 {
        let (a, b) = (upper[i / 2][i % 2], lower[i / 2][i % 2]);
        columns[i] = _mm256_permute2f128_ps::<0x20>(a, b);
        columns[i + 4] = _mm256_permute2f128_ps::<0x31>(a, b);
    }
    columns
}
