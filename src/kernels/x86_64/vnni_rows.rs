//! One column with AVX-512 VNNI: what decoding does, where reading the weights is all that takes time. Rows
//! are multiplied as they lie, two to a vector and sixteen at once, and their products are added across the
//! lanes at the end of each block; that is less work than building a panel for a single column. Integer sums
//! are exact, so the bits are those of `vnni`.

use std::arch::x86_64::*;

use super::super::packed::BLOCK;
use super::super::plain::CHUNK;
use super::super::weights::{NONLINEAR, WeightType};
use super::tile::{Column, Rows as RowsOf};
use super::unpack::sub_scales;

/// Rows that are multiplied at once.
pub(super) const N_ROWS: usize = 16;
type Rows = RowsOf<N_ROWS>;

/// Bytes from what is read to what is asked for.
const AHEAD: usize = 192;

/// Sixteen rows times the column.
///
/// # Safety
/// AVX-512 F, BW and VNNI, F16C; the rows are whole and of `kind`, the column is as long.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,f16c,fma")]
pub(super) unsafe fn product(kind: WeightType, rows: &Rows, [x]: &[Column; 1]) -> [[f32; N_ROWS]; 1] {
    // SAFETY: the caller's promise.
    let sums = unsafe {
        match kind {
            WeightType::Q4_0 => small::<18, 2, false, false>(rows, x),
            WeightType::Q4_1 => small::<20, 4, false, true>(rows, x),
            WeightType::Q5_0 => small::<22, 6, true, false>(rows, x),
            WeightType::Q5_1 => small::<24, 8, true, true>(rows, x),
            WeightType::Q8_0 => q8_0(rows, x),
            WeightType::Iq4Nl => iq4_nl(rows, x),
            WeightType::Q4K => super_blocks::<144, false>(rows, x),
            WeightType::Q5K => super_blocks::<176, true>(rows, x),
            WeightType::Q6K => q6_k(rows, x),
            WeightType::F16 | WeightType::Bf16 | WeightType::F32 => _mm512_setzero_ps(),
        }
    };
    let mut out = [0.0; N_ROWS];
    // SAFETY: sixteen floats.
    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sums) };
    [out]
}

/// Sums of a chunk, and of all chunks before it.
struct Sums {
    chunk: __m512,
    total: __m512,
}

impl Sums {
    #[inline(always)]
    unsafe fn new() -> Sums {
        // SAFETY: AVX-512 F.
        unsafe { Sums { chunk: _mm512_setzero_ps(), total: _mm512_setzero_ps() } }
    }

    /// Adds block `b`: its integers times the column's scale and the rows' scales.
    #[inline(always)]
    unsafe fn add(&mut self, x: &Column, b: usize, whole: __m512, scales: __m512) {
        // SAFETY: AVX-512 F; the column has block `b`.
        unsafe {
            let value = _mm512_mul_ps(whole, _mm512_set1_ps(x.scales.add(b).read_unaligned()));
            self.chunk = _mm512_fmadd_ps(value, scales, self.chunk);
        }
    }

    #[inline(always)]
    unsafe fn add_minimums(&mut self, x: &Column, b: usize, minimums: __m512) {
        // SAFETY: AVX-512 F; the column has block `b`.
        unsafe {
            let sum = _mm512_set1_ps(x.sums.add(b).read_unaligned());
            self.chunk = _mm512_fmadd_ps(sum, minimums, self.chunk);
        }
    }

    /// After block `b` of `n_blocks`.
    #[inline(always)]
    unsafe fn end_block(&mut self, b: usize, n_blocks: usize) {
        const LAST: usize = CHUNK / BLOCK - 1;
        if b % (LAST + 1) == LAST || b + 1 == n_blocks {
            // SAFETY: AVX-512 F.
            unsafe {
                let is_first = b <= LAST;
                self.total = if is_first { self.chunk } else { _mm512_add_ps(self.total, self.chunk) };
                self.chunk = _mm512_setzero_ps();
            }
        }
    }
}

/// Asks for what lies ahead of `offset`: in the same rows, then in the sixteen after them.
#[inline(always)]
unsafe fn prefetch(rows: &Rows, offset: usize) {
    let ahead = offset + AHEAD;
    let ahead = if ahead < rows.row_bytes { ahead } else { ahead + (N_ROWS - 1) * rows.row_bytes };
    for row in rows.at {
        // SAFETY: a hint; any address may be named.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(ahead).cast()) }
    }
}

/// Which rows share a vector, so that `added` yields rows in order: (low half, high half).
const PAIRS: [(usize, usize); 8] = [(0, 4), (1, 5), (2, 6), (3, 7), (8, 12), (9, 13), (10, 14), (11, 15)];

/// Per 128 bits, sums over four lanes of four vectors: eight vectors to two.
#[inline(always)]
unsafe fn gathered(v: [__m512i; 8]) -> [__m512i; 2] {
    // SAFETY: AVX-512 F.
    unsafe {
        let two = |a, b| _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let four = |a, b| _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
        [four(two(v[0], v[1]), two(v[2], v[3])), four(two(v[4], v[5]), two(v[6], v[7]))]
    }
}

/// The first and the second halves of sixteen blocks, in order of rows.
#[inline(always)]
unsafe fn halves_of(v: [__m512i; 8]) -> [__m512i; 2] {
    // SAFETY: AVX-512 F.
    unsafe {
        let [a, b] = gathered(v);
        [_mm512_shuffle_i32x4::<0b10_00_10_00>(a, b), _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b)]
    }
}

/// Sums over whole blocks, in order of rows.
#[inline(always)]
unsafe fn added(v: [__m512i; 8]) -> __m512i {
    // SAFETY: AVX-512 F.
    unsafe {
        let [first, second] = halves_of(v);
        _mm512_add_epi32(first, second)
    }
}

/// Sixteen bytes of each row of a pair, twice, with the upper nibbles moved down in the second copy: codes of a
/// block of nibbles in order, with what else the bytes hold above.
#[inline(always)]
unsafe fn nibbles(rows: &Rows, (low, high): (usize, usize), offset: usize) -> __m512i {
    // SAFETY: AVX-512 F; the caller's promise that 16 bytes are there.
    unsafe {
        let low = _mm512_broadcast_i32x4(_mm_loadu_si128(rows.at[low].add(offset).cast()));
        let high = _mm_loadu_si128(rows.at[high].add(offset).cast());
        let both = _mm512_mask_broadcast_i32x4(low, 0xff00, high);
        let shift = _mm512_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4, 0, 0, 0, 0, 4, 4, 4, 4);
        _mm512_and_si512(_mm512_srlv_epi32(both, shift), _mm512_set1_epi8(15))
    }
}

/// 32 bytes of each row of a pair.
#[inline(always)]
unsafe fn pair(rows: &Rows, (low, high): (usize, usize), offset: usize) -> __m512i {
    // SAFETY: AVX-512 F; the caller's promise that 32 bytes are there.
    unsafe {
        let low = _mm256_loadu_si256(rows.at[low].add(offset).cast());
        let high = _mm256_loadu_si256(rows.at[high].add(offset).cast());
        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
    }
}

/// Half floats at `offset` of all rows.
#[inline(always)]
unsafe fn half_floats(rows: &Rows, offset: usize) -> __m512 {
    // SAFETY: AVX-512 F; the caller's promise that two bytes are there.
    unsafe {
        let at = |r: usize| rows.at[r].add(offset).cast::<i16>().read_unaligned();
        let low = _mm_setr_epi16(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7));
        let high = _mm_setr_epi16(at(8), at(9), at(10), at(11), at(12), at(13), at(14), at(15));
        _mm512_cvtph_ps(_mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1))
    }
}

/// Signed bytes at `offset` of all rows.
#[inline(always)]
unsafe fn bytes(rows: &Rows, offset: usize) -> __m512 {
    // SAFETY: AVX-512 F; the caller's promise that a byte is there.
    unsafe {
        let at = |r: usize| *rows.at[r].add(offset).cast::<i8>();
        let all = _mm_setr_epi8(
            at(0),
            at(1),
            at(2),
            at(3),
            at(4),
            at(5),
            at(6),
            at(7),
            at(8),
            at(9),
            at(10),
            at(11),
            at(12),
            at(13),
            at(14),
            at(15),
        );
        _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(all))
    }
}

/// The activations of block `b`, for both rows of a pair.
#[inline(always)]
unsafe fn activations(x: &Column, b: usize) -> __m512i {
    // SAFETY: AVX-512 F; the column has block `b`.
    unsafe { _mm512_broadcast_i64x4(_mm256_loadu_si256(x.codes.add(b * BLOCK).cast())) }
}

/// Minus `offset` times the activations of block `b`.
#[inline(always)]
unsafe fn correction(x: &Column, b: usize, offset: i16) -> __m512i {
    // SAFETY: AVX-512 BW; the column has block `b`.
    unsafe {
        let pairs = _mm512_set1_epi32(x.pairs.add(b).read_unaligned());
        _mm512_madd_epi16(pairs, _mm512_set1_epi16(-offset))
    }
}

#[inline(always)]
unsafe fn dot(codes: __m512i, activations: __m512i) -> __m512i {
    // SAFETY: AVX-512 VNNI.
    unsafe { _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, activations) }
}

/// q4_0, q4_1, q5_0, q5_1, as in `unpack`.
#[inline(always)]
unsafe fn small<const BYTES: usize, const NIBBLES: usize, const FIFTH: bool, const MINIMUM: bool>(
    rows: &Rows,
    x: &Column,
) -> __m512 {
    // SAFETY: offsets stay within the rows that the caller promised.
    unsafe {
        let offset = if FIFTH {
            16
        } else if MINIMUM {
            0
        } else {
            8
        };
        let mut sums = Sums::new();
        for b in 0..rows.n_blocks {
            let at = b * BYTES;
            if b % (64 / BYTES) == 0 {
                prefetch(rows, at);
            }
            let a = activations(x, b);
            let mut dots = [_mm512_setzero_si512(); 8];
            for (dots, (low, high)) in dots.iter_mut().zip(PAIRS) {
                let mut codes = nibbles(rows, (low, high), at + NIBBLES);
                if FIFTH {
                    let bits = |r: usize| rows.at[r].add(at + NIBBLES - 4).cast::<u32>().read_unaligned();
                    let fifth = u64::from(bits(high)) << 32 | u64::from(bits(low));
                    codes = _mm512_mask_add_epi8(codes, fifth, codes, _mm512_set1_epi8(16));
                }
                *dots = dot(codes, a);
            }
            let whole = _mm512_add_epi32(added(dots), correction(x, b, offset));
            let scales = half_floats(rows, at);
            sums.add(x, b, _mm512_cvtepi32_ps(whole), scales);
            if MINIMUM {
                let minimums = half_floats(rows, at + 2);
                let minimums =
                    if FIFTH { _mm512_fmadd_ps(scales, _mm512_set1_ps(16.0), minimums) } else { minimums };
                sums.add_minimums(x, b, minimums);
            }
            sums.end_block(b, rows.n_blocks);
        }
        sums.total
    }
}

#[inline(always)]
unsafe fn q8_0(rows: &Rows, x: &Column) -> __m512 {
    // SAFETY: offsets stay within the rows that the caller promised.
    unsafe {
        let flip = _mm512_set1_epi8(-128);
        let mut sums = Sums::new();
        for b in 0..rows.n_blocks {
            let at = b * 34;
            prefetch(rows, at);
            let a = activations(x, b);
            let mut dots = [_mm512_setzero_si512(); 8];
            for (dots, p) in dots.iter_mut().zip(PAIRS) {
                *dots = dot(_mm512_xor_si512(pair(rows, p, at + 2), flip), a);
            }
            let whole = _mm512_add_epi32(added(dots), correction(x, b, 128));
            sums.add(x, b, _mm512_cvtepi32_ps(whole), half_floats(rows, at));
            sums.end_block(b, rows.n_blocks);
        }
        sums.total
    }
}

#[inline(always)]
unsafe fn iq4_nl(rows: &Rows, x: &Column) -> __m512 {
    // SAFETY: offsets stay within the rows that the caller promised; the table is 16 bytes.
    unsafe {
        let levels = _mm512_broadcast_i32x4(_mm_loadu_si128(NONLINEAR.as_ptr().cast()));
        let levels = _mm512_xor_si512(levels, _mm512_set1_epi8(-128));
        let mut sums = Sums::new();
        for b in 0..rows.n_blocks {
            let at = b * 18;
            if b % 3 == 0 {
                prefetch(rows, at);
            }
            let a = activations(x, b);
            let mut dots = [_mm512_setzero_si512(); 8];
            for (dots, p) in dots.iter_mut().zip(PAIRS) {
                *dots = dot(_mm512_shuffle_epi8(levels, nibbles(rows, p, at + 2)), a);
            }
            let whole = _mm512_add_epi32(added(dots), correction(x, b, 128));
            sums.add(x, b, _mm512_cvtepi32_ps(whole), half_floats(rows, at));
            sums.end_block(b, rows.n_blocks);
        }
        sums.total
    }
}

/// q4_k and q5_k, as in `unpack`.
#[inline(always)]
unsafe fn super_blocks<const BYTES: usize, const FIFTH: bool>(rows: &Rows, x: &Column) -> __m512 {
    // SAFETY: offsets stay within the rows that the caller promised.
    unsafe {
        let fifteen = _mm512_set1_epi8(15);
        let nibbles_at = if FIFTH { 48 } else { 16 };
        let mut sums = Sums::new();
        let (low, high) = rows.at.split_at(8);
        let (low, high) = (std::array::from_fn(|r| low[r]), std::array::from_fn(|r| high[r]));
        for sb in 0..rows.n_blocks / 8 {
            let at = sb * BYTES;
            let (mut scales, mut minimums) = ([[0f32; N_ROWS]; 8], [[0f32; N_ROWS]; 8]);
            let (scales_to, minimums_to) =
                (scales.as_mut_ptr().cast::<f32>(), minimums.as_mut_ptr().cast::<f32>());
            sub_scales::<FIFTH>(&low, at, scales_to, minimums_to, N_ROWS);
            sub_scales::<FIFTH>(&high, at, scales_to.add(8), minimums_to.add(8), N_ROWS);
            for c in 0..4 {
                prefetch(rows, at + BYTES / 4 * c);
                let first = 8 * sb + 2 * c;
                let a = [activations(x, first), activations(x, first + 1)];
                let mut dots = [[_mm512_setzero_si512(); 8]; 2];
                for (i, &p) in PAIRS.iter().enumerate() {
                    let bytes = pair(rows, p, at + nibbles_at + 32 * c);
                    let mut codes = [
                        _mm512_and_si512(bytes, fifteen),
                        _mm512_and_si512(_mm512_srli_epi16(bytes, 4), fifteen),
                    ];
                    if FIFTH {
                        let high = pair(rows, p, at + 16);
                        for (part, codes) in codes.iter_mut().enumerate() {
                            let bit = _mm512_set1_epi8((1 << (2 * c + part)) as u8 as i8);
                            let set = _mm512_test_epi8_mask(high, bit);
                            *codes = _mm512_mask_add_epi8(*codes, set, *codes, _mm512_set1_epi8(16));
                        }
                    }
                    dots[0][i] = dot(codes[0], a[0]);
                    dots[1][i] = dot(codes[1], a[1]);
                }
                for (part, dots) in dots.into_iter().enumerate() {
                    let (b, at) = (first + part, 2 * c + part);
                    let mut whole = added(dots);
                    if FIFTH {
                        whole = _mm512_add_epi32(whole, correction(x, b, 16));
                    }
                    sums.add(x, b, _mm512_cvtepi32_ps(whole), _mm512_loadu_ps(scales[at].as_ptr()));
                    sums.add_minimums(x, b, _mm512_loadu_ps(minimums[at].as_ptr()));
                    sums.end_block(b, rows.n_blocks);
                }
            }
        }
        sums.total
    }
}

#[inline(always)]
unsafe fn q6_k(rows: &Rows, x: &Column) -> __m512 {
    // SAFETY: offsets stay within the rows that the caller promised.
    unsafe {
        let fifteen = _mm512_set1_epi8(15);
        let two_bits = _mm512_set1_epi8(0x30);
        let mut sums = Sums::new();
        for sb in 0..rows.n_blocks / 8 {
            let at = sb * 210;
            let scale = half_floats(rows, at + 208);
            for n in 0..2 {
                prefetch(rows, at + 105 * n);
                prefetch(rows, at + 105 * n + 52);
                let mut dots = [[_mm512_setzero_si512(); 8]; 4];
                let first = 8 * sb + 4 * n;
                for (i, &p) in PAIRS.iter().enumerate() {
                    let near = pair(rows, p, at + 64 * n);
                    let far = pair(rows, p, at + 64 * n + 32);
                    let high = pair(rows, p, at + 128 + 32 * n);
                    let four = |v| _mm512_and_si512(v, fifteen);
                    let two = |v| _mm512_and_si512(v, two_bits);
                    let codes = [
                        _mm512_or_si512(four(near), two(_mm512_slli_epi16(high, 4))),
                        _mm512_or_si512(four(far), two(_mm512_slli_epi16(high, 2))),
                        _mm512_or_si512(four(_mm512_srli_epi16(near, 4)), two(high)),
                        _mm512_or_si512(four(_mm512_srli_epi16(far, 4)), two(_mm512_srli_epi16(high, 2))),
                    ];
                    for (part, codes) in codes.into_iter().enumerate() {
                        dots[part][i] = dot(codes, activations(x, first + part));
                    }
                }
                for (part, dots) in dots.into_iter().enumerate() {
                    let b = first + part;
                    let offset = _mm512_set1_epi16(-32);
                    let half = _mm512_set1_epi32(x.half_pairs.add(b).read_unaligned());
                    let rest = _mm512_sub_epi16(_mm512_set1_epi32(x.pairs.add(b).read_unaligned()), half);
                    let [first_half, second_half] = halves_of(dots);
                    let first_half = _mm512_add_epi32(first_half, _mm512_madd_epi16(half, offset));
                    let second_half = _mm512_add_epi32(second_half, _mm512_madd_epi16(rest, offset));
                    let scales_at = at + 192 + 8 * n + 2 * part;
                    // Exact, as in `vnni`.
                    let value = _mm512_mul_ps(_mm512_cvtepi32_ps(first_half), bytes(rows, scales_at));
                    let second = _mm512_cvtepi32_ps(second_half);
                    let value = _mm512_fmadd_ps(second, bytes(rows, scales_at + 1), value);
                    sums.add(x, b, value, scale);
                    sums.end_block(b, rows.n_blocks);
                }
            }
        }
        sums.total
    }
}
