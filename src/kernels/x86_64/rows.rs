//! One column, or a few: what decoding does, where reading the weights is all that takes time. Rows are
//! multiplied as they lie, eight at once, and their products are added across the lanes at the end of each
//! block; that is less work than building a panel for so few columns. Written once over [`Dots`], in registers of 256
//! bits. Integer sums are exact, so the bits are those of panels.

use std::arch::x86_64::*;

use super::super::packed::BLOCK;
use super::super::plain::CHUNK;
use super::super::weights::{NONLINEAR, WeightType};
use super::dots::{self, Dots, added_wide};
use super::tile::{Column, Rows as RowsOf};
use super::unpack::{halves, sub_scales, turned};

/// Rows that are multiplied at once.
pub(super) const N_ROWS: usize = 8;
type Rows = RowsOf<N_ROWS>;

/// Bytes from what is read to what is asked for.
const AHEAD: usize = 256;

/// `product` with the instructions of a level.
macro_rules! with {
    ($name:ident, $dots:ty, $features:literal) => {
        /// Eight rows times the columns.
        ///
        /// # Safety
        /// The CPU has the instructions; the rows are whole and of `kind`, the columns are as long.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $name<const C: usize>(
            kind: WeightType,
            rows: &Rows,
            x: &[Column; C],
        ) -> [[f32; N_ROWS]; C] {
            // SAFETY: the caller's promise.
            unsafe { product::<$dots, C>(kind, rows, x) }
        }
    };
}

with!(avx2, dots::Avx2, "avx2,f16c,fma");
with!(avx_vnni, dots::AvxVnni, "avx2,f16c,fma,avxvnni");
with!(avx512_vnni, dots::Avx512Vnni, "avx2,f16c,fma,avx512f,avx512bw,avx512vl,avx512vnni");
#[cfg(test)]
with!(stand_in, dots::StandIn, "avx2,f16c,fma");

#[inline(always)]
unsafe fn product<D: Dots, const C: usize>(
    kind: WeightType,
    rows: &Rows,
    x: &[Column; C],
) -> [[f32; N_ROWS]; C] {
    // SAFETY: the caller's promise.
    let sums = unsafe {
        match kind {
            WeightType::Q4_0 => small::<D, 18, 2, false, false, C>(rows, x),
            WeightType::Q4_1 => small::<D, 20, 4, false, true, C>(rows, x),
            WeightType::Q5_0 => small::<D, 22, 6, true, false, C>(rows, x),
            WeightType::Q5_1 => small::<D, 24, 8, true, true, C>(rows, x),
            WeightType::Q8_0 => q8_0::<D, C>(rows, x),
            WeightType::Iq4Nl => iq4_nl::<D, C>(rows, x),
            WeightType::Q4K => super_blocks::<D, 144, false, C>(rows, x),
            WeightType::Q5K => super_blocks::<D, 176, true, C>(rows, x),
            WeightType::Q6K => q6_k::<D, C>(rows, x),
            WeightType::F16 | WeightType::Bf16 | WeightType::F32 => [_mm256_setzero_ps(); C],
        }
    };
    let mut out = [[0.0; N_ROWS]; C];
    for (out, sums) in out.iter_mut().zip(sums) {
        // SAFETY: eight floats.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), sums) };
    }
    out
}

/// Sums of a chunk, and of all chunks before it, a column each.
struct Sums<const C: usize> {
    chunk: [__m256; C],
    total: [__m256; C],
}

impl<const C: usize> Sums<C> {
    #[inline(always)]
    unsafe fn new() -> Sums<C> {
        // SAFETY: AVX.
        unsafe { Sums { chunk: [_mm256_setzero_ps(); C], total: [_mm256_setzero_ps(); C] } }
    }

    /// Adds block `b` of column `c`: its integers times the column's scale and the rows' scales.
    #[inline(always)]
    unsafe fn add(&mut self, x: &[Column; C], c: usize, b: usize, whole: __m256i, scales: __m256) {
        // SAFETY: FMA; the column has block `b`.
        unsafe {
            let scale = _mm256_set1_ps(x[c].scales.add(b).read_unaligned());
            let value = _mm256_mul_ps(_mm256_cvtepi32_ps(whole), scale);
            self.chunk[c] = _mm256_fmadd_ps(value, scales, self.chunk[c]);
        }
    }

    #[inline(always)]
    unsafe fn add_minimums(&mut self, x: &[Column; C], c: usize, b: usize, minimums: __m256) {
        // SAFETY: FMA; the column has block `b`.
        unsafe {
            let sum = _mm256_set1_ps(x[c].sums.add(b).read_unaligned());
            self.chunk[c] = _mm256_fmadd_ps(sum, minimums, self.chunk[c]);
        }
    }

    /// After block `b` of `n_blocks`.
    #[inline(always)]
    unsafe fn end_block(&mut self, b: usize, n_blocks: usize) {
        const LAST: usize = CHUNK / BLOCK - 1;
        if b % (LAST + 1) == LAST || b + 1 == n_blocks {
            let is_first = b <= LAST;
            for (chunk, total) in self.chunk.iter_mut().zip(&mut self.total) {
                // SAFETY: AVX.
                unsafe {
                    *total = if is_first { *chunk } else { _mm256_add_ps(*total, *chunk) };
                    *chunk = _mm256_setzero_ps();
                }
            }
        }
    }
}

/// Asks for what lies ahead of `offset`: in the same rows, then in the eight after them.
#[inline(always)]
unsafe fn prefetch(rows: &Rows, offset: usize) {
    let ahead = offset + AHEAD;
    let ahead = if ahead < rows.row_bytes { ahead } else { ahead + (N_ROWS - 1) * rows.row_bytes };
    for row in rows.at {
        // SAFETY: a hint; any address may be named.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(ahead).cast()) }
    }
}

/// 16 bytes of rows `r` and `r + 4`.
#[inline(always)]
unsafe fn pair(rows: &Rows, r: usize, offset: usize) -> __m256i {
    // SAFETY: AVX2; the caller's promise that 16 bytes are there.
    unsafe {
        let low = _mm_loadu_si128(rows.at[r].add(offset).cast());
        let high = _mm_loadu_si128(rows.at[r + 4].add(offset).cast());
        _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1)
    }
}

/// The activations of block `b` of every column, each half of them for both rows of a pair.
#[inline(always)]
unsafe fn activations<const C: usize>(x: &[Column; C], b: usize) -> [[__m256i; 2]; C] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut all = [[_mm256_setzero_si256(); 2]; C];
        for (a, x) in all.iter_mut().zip(x) {
            *a = activations_of(x, b);
        }
        all
    }
}

#[inline(always)]
unsafe fn activations_of(x: &Column, b: usize) -> [__m256i; 2] {
    // SAFETY: AVX2; the column has block `b`.
    unsafe {
        let half = |at: usize| _mm256_broadcastsi128_si256(_mm_loadu_si128(x.codes.add(at).cast()));
        [half(b * BLOCK), half(b * BLOCK + 16)]
    }
}

/// Minus `offset` times the activations of block `b`.
#[inline(always)]
unsafe fn correction(pairs: __m256i, offset: i16) -> __m256i {
    // SAFETY: AVX2.
    unsafe { _mm256_madd_epi16(pairs, _mm256_set1_epi16(-offset)) }
}

#[inline(always)]
unsafe fn word(from: *const i32, b: usize) -> __m256i {
    // SAFETY: AVX2; the caller's promise that the column has block `b`.
    unsafe { _mm256_set1_epi32(from.add(b).read_unaligned()) }
}

/// Lower and upper nibbles of bytes.
#[inline(always)]
unsafe fn nibbles(bytes: __m256i) -> [__m256i; 2] {
    // SAFETY: AVX2.
    unsafe {
        let fifteen = _mm256_set1_epi8(15);
        [_mm256_and_si256(bytes, fifteen), _mm256_and_si256(_mm256_srli_epi16(bytes, 4), fifteen)]
    }
}

/// Both halves of the fifth bits of rows `r` and `r + 4`, 32 of each: 16 in every byte whose bit is set.
#[inline(always)]
unsafe fn fifth_bits(rows: &Rows, r: usize, offset: usize) -> [__m256i; 2] {
    // SAFETY: AVX2; the caller's promise that four bytes are there.
    unsafe {
        let bits = |r: usize| _mm_cvtsi32_si128(rows.at[r].add(offset).cast::<i32>().read_unaligned());
        let both = _mm256_inserti128_si256(_mm256_castsi128_si256(bits(r)), bits(r + 4), 1);
        let mask = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
        let half = |low: i64, high: i64| {
            let copies = _mm256_shuffle_epi8(both, _mm256_setr_epi64x(low, high, low, high));
            let set = _mm256_cmpeq_epi8(_mm256_and_si256(copies, mask), mask);
            _mm256_and_si256(set, _mm256_set1_epi8(16))
        };
        [half(0, 0x0101_0101_0101_0101), half(0x0202_0202_0202_0202, 0x0303_0303_0303_0303)]
    }
}

/// q4_0, q4_1, q5_0, q5_1, as in `unpack`.
#[inline(always)]
unsafe fn small<
    D: Dots,
    const BYTES: usize,
    const NIBBLES: usize,
    const FIFTH: bool,
    const MINIMUM: bool,
    const C: usize,
>(
    rows: &Rows,
    x: &[Column; C],
) -> [__m256; C] {
    // SAFETY: offsets stay within the rows that the caller promised.
    unsafe {
        let offset = match (FIFTH, MINIMUM) {
            (true, _) => 16,
            (false, true) => 0,
            (false, false) => 8,
        };
        let mut sums = Sums::new();
        for b in 0..rows.n_blocks {
            let at = b * BYTES;
            if b % (64 / BYTES) == 0 {
                prefetch(rows, at);
            }
            let a = activations(x, b);
            // By column and pair of rows.
            let mut dots = [[_mm256_setzero_si256(); 4]; C];
            for r in 0..4 {
                let mut codes = nibbles(pair(rows, r, at + NIBBLES));
                if FIFTH {
                    let fifth = fifth_bits(rows, r, at + NIBBLES - 4);
                    codes = [_mm256_or_si256(codes[0], fifth[0]), _mm256_or_si256(codes[1], fifth[1])];
                }
                for (dots, a) in dots.iter_mut().zip(a) {
                    dots[r] = D::low(codes, a);
                }
            }
            let scales = halves(&rows.at, at);
            let mut minimums = _mm256_setzero_ps();
            if MINIMUM {
                minimums = halves(&rows.at, at + 2);
                if FIFTH {
                    minimums = _mm256_fmadd_ps(scales, _mm256_set1_ps(16.0), minimums);
                }
            }
            for (c, dots) in dots.into_iter().enumerate() {
                let whole = _mm256_add_epi32(D::added(dots), correction(word(x[c].pairs, b), offset));
                sums.add(x, c, b, whole, scales);
                if MINIMUM {
                    sums.add_minimums(x, c, b, minimums);
                }
            }
            sums.end_block(b, rows.n_blocks);
        }
        sums.total
    }
}

#[inline(always)]
unsafe fn q8_0<D: Dots, const C: usize>(rows: &Rows, x: &[Column; C]) -> [__m256; C] {
    // SAFETY: offsets stay within the rows that the caller promised.
    unsafe {
        let mut sums = Sums::new();
        for b in 0..rows.n_blocks {
            let at = b * 34;
            prefetch(rows, at);
            let a = activations(x, b);
            let mut dots = [[_mm256_setzero_si256(); 4]; C];
            for r in 0..4 {
                let codes = [pair(rows, r, at + 2), pair(rows, r, at + 18)];
                for (dots, a) in dots.iter_mut().zip(a) {
                    dots[r] = D::eight(codes, a);
                }
            }
            let scales = halves(&rows.at, at);
            for (c, dots) in dots.into_iter().enumerate() {
                sums.add(x, c, b, added_wide(dots), scales);
            }
            sums.end_block(b, rows.n_blocks);
        }
        sums.total
    }
}

#[inline(always)]
unsafe fn iq4_nl<D: Dots, const C: usize>(rows: &Rows, x: &[Column; C]) -> [__m256; C] {
    // SAFETY: offsets stay within the rows that the caller promised; the table is 16 bytes.
    unsafe {
        let levels = _mm256_broadcastsi128_si256(_mm_loadu_si128(NONLINEAR.as_ptr().cast()));
        let mut sums = Sums::new();
        for b in 0..rows.n_blocks {
            let at = b * 18;
            if b % 3 == 0 {
                prefetch(rows, at);
            }
            let a = activations(x, b);
            let mut dots = [[_mm256_setzero_si256(); 4]; C];
            for r in 0..4 {
                let [low, high] = nibbles(pair(rows, r, at + 2));
                let codes = [_mm256_shuffle_epi8(levels, low), _mm256_shuffle_epi8(levels, high)];
                for (dots, a) in dots.iter_mut().zip(a) {
                    dots[r] = D::eight(codes, a);
                }
            }
            let scales = halves(&rows.at, at);
            for (c, dots) in dots.into_iter().enumerate() {
                sums.add(x, c, b, added_wide(dots), scales);
            }
            sums.end_block(b, rows.n_blocks);
        }
        sums.total
    }
}

/// q4_k and q5_k, as in `unpack`.
#[inline(always)]
unsafe fn super_blocks<D: Dots, const BYTES: usize, const FIFTH: bool, const C: usize>(
    rows: &Rows,
    x: &[Column; C],
) -> [__m256; C] {
    // SAFETY: offsets stay within the rows that the caller promised.
    unsafe {
        let nibbles_at = if FIFTH { 48 } else { 16 };
        let mut sums = Sums::new();
        for sb in 0..rows.n_blocks / 8 {
            let at = sb * BYTES;
            let (mut scales, mut minimums) = ([[0f32; N_ROWS]; 8], [[0f32; N_ROWS]; 8]);
            let (scales_to, minimums_to) = (scales.as_mut_ptr().cast(), minimums.as_mut_ptr().cast());
            sub_scales::<FIFTH>(&rows.at, at, scales_to, minimums_to, N_ROWS);
            for pair_of_blocks in 0..4 {
                prefetch(rows, at + BYTES / 4 * pair_of_blocks);
                let first = 8 * sb + 2 * pair_of_blocks;
                let a = [activations(x, first), activations(x, first + 1)];
                // By part, column and pair of rows.
                let mut dots = [[[_mm256_setzero_si256(); 4]; C]; 2];
                for r in 0..4 {
                    let mut codes = [[_mm256_setzero_si256(); 2]; 2];
                    for half in 0..2 {
                        let both = nibbles(pair(rows, r, at + nibbles_at + 32 * pair_of_blocks + 16 * half));
                        codes[0][half] = both[0];
                        codes[1][half] = both[1];
                        if FIFTH {
                            let fifth = pair(rows, r, at + 16 + 16 * half);
                            for (part, codes) in codes.iter_mut().enumerate() {
                                let bit = _mm256_set1_epi8((1 << (2 * pair_of_blocks + part)) as u8 as i8);
                                let set = _mm256_cmpeq_epi8(_mm256_and_si256(fifth, bit), bit);
                                let sixteen = _mm256_and_si256(set, _mm256_set1_epi8(16));
                                codes[half] = _mm256_or_si256(codes[half], sixteen);
                            }
                        }
                    }
                    for ((dots, codes), a) in dots.iter_mut().zip(codes).zip(a) {
                        for (dots, a) in dots.iter_mut().zip(a) {
                            dots[r] = D::low(codes, a);
                        }
                    }
                }
                for (part, dots) in dots.into_iter().enumerate() {
                    let (b, at) = (first + part, 2 * pair_of_blocks + part);
                    let scales = _mm256_loadu_ps(scales[at].as_ptr());
                    let minimums = _mm256_loadu_ps(minimums[at].as_ptr());
                    for (c, dots) in dots.into_iter().enumerate() {
                        let mut whole = D::added(dots);
                        if FIFTH {
                            whole = _mm256_add_epi32(whole, correction(word(x[c].pairs, b), 16));
                        }
                        sums.add(x, c, b, whole, scales);
                        sums.add_minimums(x, c, b, minimums);
                    }
                    sums.end_block(b, rows.n_blocks);
                }
            }
        }
        sums.total
    }
}

#[inline(always)]
unsafe fn q6_k<D: Dots, const C: usize>(rows: &Rows, x: &[Column; C]) -> [__m256; C] {
    // SAFETY: offsets stay within the rows that the caller promised.
    unsafe {
        let two_bits = _mm256_set1_epi8(0x30);
        let two = |v: __m256i| _mm256_and_si256(v, two_bits);
        let mut sums = Sums::new();
        for sb in 0..rows.n_blocks / 8 {
            let at = sb * 210;
            let scale = halves(&rows.at, at + 208);
            let bytes = turned(&rows.at, at + 192);
            for n in 0..2 {
                let first = 8 * sb + 4 * n;
                // Sums of half blocks: by half, part, column and pair of rows.
                let mut dots = [[[[_mm256_setzero_si256(); 4]; C]; 4]; 2];
                for (half, dots) in dots.iter_mut().enumerate() {
                    prefetch(rows, at + 105 * n + 52 * half);
                    for r in 0..4 {
                        let near = nibbles(pair(rows, r, at + 64 * n + 16 * half));
                        let far = nibbles(pair(rows, r, at + 64 * n + 32 + 16 * half));
                        let high = pair(rows, r, at + 128 + 32 * n + 16 * half);
                        let codes = [
                            _mm256_or_si256(near[0], two(_mm256_slli_epi16(high, 4))),
                            _mm256_or_si256(far[0], two(_mm256_slli_epi16(high, 2))),
                            _mm256_or_si256(near[1], two(high)),
                            _mm256_or_si256(far[1], two(_mm256_srli_epi16(high, 2))),
                        ];
                        for (part, (dots, codes)) in dots.iter_mut().zip(codes).enumerate() {
                            for (dots, x) in dots.iter_mut().zip(x) {
                                let a = activations_of(x, first + part)[half];
                                dots[r] = D::six(codes, a);
                            }
                        }
                    }
                }
                for part in 0..4 {
                    let b = first + part;
                    // Byte 2 * (4 * n + part) + half of 16, with its sign.
                    let whole_scale = |half: usize| {
                        let i = 2 * (4 * n + part) + half;
                        let left = _mm_cvtsi32_si128(24 - 8 * (i as i32 % 4));
                        _mm256_srai_epi32(_mm256_sll_epi32(bytes[i / 4], left), 24)
                    };
                    let whole_scales = [whole_scale(0), whole_scale(1)];
                    for (c, x_c) in x.iter().enumerate() {
                        let half_pairs = word(x_c.half_pairs, b);
                        let pairs = [half_pairs, _mm256_sub_epi16(word(x_c.pairs, b), half_pairs)];
                        let mut whole = _mm256_setzero_si256();
                        for (half, dots) in dots.iter().enumerate() {
                            let sum = D::added(dots[part][c]);
                            let sum = _mm256_add_epi32(sum, correction(pairs[half], 32));
                            whole = _mm256_add_epi32(whole, _mm256_mullo_epi32(sum, whole_scales[half]));
                        }
                        sums.add(x, c, b, whole, scale);
                    }
                    sums.end_block(b, rows.n_blocks);
                }
            }
        }
        sums.total
    }
}
