//! From ggml's blocks to a panel, eight rows at a time, with AVX2. Every function reads `n_blocks` blocks of
//! 32 elements of each of eight rows and writes codes, scales and minimums of a [`Group`], as
//! `weights::block_plain` says. Rows are turned into steps of four elements by transposing double words.

use std::arch::x86_64::*;

use super::super::weights::{NONLINEAR, WeightType};
use super::panel::Group;

/// Where eight rows begin; a row beyond the last is the last one again.
pub(super) type Rows = [*const u8; 8];

/// Bytes from what is read to what is asked for: a little more than a chunk of four bits.
const AHEAD: usize = 320;

/// Forms of a panel's codes: without sign; with one, the offset taken off; the same in lanes of 32 bits. Beside signed codes
/// stand starts, minus 128 times their sums, so that activations can come with 128 added: of 16 bits, which may wrap as
/// the sums do, for codes of fewer than eight bits, or of 32 bits for all.
pub(super) const UNSIGNED: u8 = 0;
pub(super) const SIGNED: u8 = 1;
pub(super) const WIDE: u8 = 2;

/// Unpacks a chunk of an integer type. `flip` is 128 where codes of eight bits are wanted without sign.
///
/// # Safety
/// The CPU has AVX2, F16C and FMA; every row has `n_blocks` blocks, whole blocks of its type; the group has
/// room for them.
#[target_feature(enable = "avx2,f16c,fma")]
pub(super) unsafe fn unpack<const FORM: u8>(
    kind: WeightType,
    rows: &Rows,
    n_blocks: usize,
    to: &Group,
    flip: u8,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match kind {
            WeightType::Q4_0 => small::<18, 2, false, false, FORM>(rows, n_blocks, to),
            WeightType::Q4_1 => small::<20, 4, false, true, FORM>(rows, n_blocks, to),
            WeightType::Q5_0 => small::<22, 6, true, false, FORM>(rows, n_blocks, to),
            WeightType::Q5_1 => small::<24, 8, true, true, FORM>(rows, n_blocks, to),
            WeightType::Iq4Nl => iq4_nl::<FORM>(rows, n_blocks, to, flip),
            WeightType::Q8_0 => q8_0::<FORM>(rows, n_blocks, to, flip),
            WeightType::Q4K => super_blocks::<144, false, FORM>(rows, n_blocks, to),
            WeightType::Q5K => super_blocks::<176, true, FORM>(rows, n_blocks, to),
            WeightType::Q6K => q6_k::<FORM>(rows, n_blocks, to),
            WeightType::F16 | WeightType::Bf16 | WeightType::F32 => {}
        }
    }
}

/// Asks for the bytes that lie `AHEAD` of `offset` in eight rows. A row is read in short pieces with others
/// between, a pattern that the CPU does not foresee.
#[inline(always)]
unsafe fn prefetch(rows: &Rows, offset: usize) {
    for row in rows {
        // SAFETY: a hint; any address may be named.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(offset + AHEAD).cast()) }
    }
}

/// 16 bytes of rows r and r + 4 at `offset`, for r from 0 to 3, as double words of all eight rows.
#[inline(always)]
pub(super) unsafe fn turned(rows: &Rows, offset: usize) -> [__m256i; 4] {
    // SAFETY: the caller's promise that 16 bytes are there.
    unsafe {
        let load = |r: usize| {
            let low = _mm_loadu_si128(rows[r].add(offset).cast());
            let high = _mm_loadu_si128(rows[r + 4].add(offset).cast());
            _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1)
        };
        let [a, b, c, d] = [load(0), load(1), load(2), load(3)];
        let (ab0, ab1) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
        let (cd0, cd1) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
        [
            _mm256_unpacklo_epi64(ab0, cd0),
            _mm256_unpackhi_epi64(ab0, cd0),
            _mm256_unpacklo_epi64(ab1, cd1),
            _mm256_unpackhi_epi64(ab1, cd1),
        ]
    }
}

/// Half floats at `offset` of eight rows.
#[inline(always)]
pub(super) unsafe fn halves(rows: &Rows, offset: usize) -> __m256 {
    // SAFETY: the caller's promise that two bytes are there, and F16C.
    unsafe {
        let at = |r: usize| rows[r].add(offset).cast::<i16>().read_unaligned();
        _mm256_cvtph_ps(_mm_setr_epi16(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)))
    }
}

#[inline(always)]
unsafe fn store_step(to: &Group, step: usize, codes: __m256i) {
    // SAFETY: the caller's promise that the group has this step.
    unsafe { _mm256_storeu_si256(to.codes.add(step * 4 * to.n_rows).cast(), codes) }
}

#[inline(always)]
unsafe fn store_scales(to: *mut f32, n_rows: usize, b: usize, scales: __m256) {
    // SAFETY: the caller's promise that the group has this block.
    unsafe { _mm256_storeu_ps(to.add(b * n_rows), scales) }
}

/// Codes on their way to a panel, and what becomes their start: minus 128 times sums of pairs in 16 bits, which may wrap, or these
/// sums themselves, which 16 bits hold.
struct Codes {
    form: u8,
    offset: __m256i,
    sums: __m256i,
}

impl Codes {
    #[inline(always)]
    unsafe fn new(form: u8, offset: i8) -> Codes {
        // SAFETY: AVX2.
        unsafe { Codes { form, offset: _mm256_set1_epi8(offset), sums: _mm256_setzero_si256() } }
    }

    /// Of eight bits, which have a sign already.
    #[inline(always)]
    unsafe fn of_eight(form: u8) -> Codes {
        // SAFETY: AVX2.
        unsafe { Codes::new(if form == WIDE { WIDE } else { UNSIGNED }, 0) }
    }

    #[inline(always)]
    unsafe fn store(&mut self, to: &Group, step: usize, mut codes: __m256i) {
        // SAFETY: the caller's promise that the group has this step.
        unsafe {
            if self.form != UNSIGNED {
                codes = _mm256_sub_epi8(codes, self.offset);
                let by = if self.form == SIGNED { -128 } else { 1 };
                let pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(by), codes);
                self.sums = match self.form {
                    SIGNED => _mm256_sub_epi16(self.sums, pairs),
                    _ => _mm256_add_epi16(self.sums, pairs),
                };
            }
            store_step(to, step, codes);
        }
    }

    /// Behind the codes of a block, or half of one: the `i`th of them.
    #[inline(always)]
    unsafe fn store_start(&self, to: &Group, i: usize) {
        // SAFETY: the caller's promise that the group has this block.
        unsafe {
            let start = match self.form {
                UNSIGNED => return,
                SIGNED => self.sums,
                _ => _mm256_madd_epi16(self.sums, _mm256_set1_epi16(-128)),
            };
            _mm256_storeu_si256(to.starts.add(i * to.n_rows).cast(), start);
        }
    }
}

/// The fifth bits of step `step` from 32 of them a row: 16 in every byte whose bit is set.
#[inline(always)]
unsafe fn fifth_bits(bits: __m256i, step: usize) -> __m256i {
    // SAFETY: AVX2.
    unsafe {
        let byte = _mm256_set1_epi32(((step / 2) as i32) * 0x0101_0101);
        let lanes = _mm256_setr_epi32(
            0,
            0x0404_0404,
            0x0808_0808,
            0x0c0c_0c0c,
            0,
            0x0404_0404,
            0x0808_0808,
            0x0c0c_0c0c,
        );
        let mask =
            _mm256_set1_epi32(if step.is_multiple_of(2) { 0x0804_0201 } else { 0x8040_2010_u32 as i32 });
        let copies = _mm256_shuffle_epi8(bits, _mm256_add_epi8(byte, lanes));
        let set = _mm256_cmpeq_epi8(_mm256_and_si256(copies, mask), mask);
        _mm256_and_si256(set, _mm256_set1_epi8(16))
    }
}

/// q4_0, q4_1, q5_0, q5_1: a half-float scale, a minimum or none, fifth bits or none, 16 bytes of nibbles.
#[inline(always)]
unsafe fn small<
    const BYTES: usize,
    const NIBBLES: usize,
    const FIFTH: bool,
    const MINIMUM: bool,
    const FORM: u8,
>(
    rows: &Rows,
    n_blocks: usize,
    to: &Group,
) {
    // SAFETY: offsets stay within the blocks that the caller promised.
    unsafe {
        let fifteen = _mm256_set1_epi8(15);
        let offset = match (FIFTH, MINIMUM) {
            (true, _) => 16,
            (false, true) => 0,
            (false, false) => 8,
        };
        for b in 0..n_blocks {
            let at = b * BYTES;
            prefetch(rows, at);
            let scales = halves(rows, at);
            store_scales(to.scales, to.n_rows, b, scales);
            if MINIMUM {
                let minimums = halves(rows, at + 2);
                let minimums =
                    if FIFTH { _mm256_fmadd_ps(scales, _mm256_set1_ps(16.0), minimums) } else { minimums };
                store_scales(to.minimums, to.n_rows, b, minimums);
            }
            let nibbles = turned(rows, at + NIBBLES);
            let mut bits = _mm256_setzero_si256();
            if FIFTH {
                let word = |r: usize| rows[r].add(at + NIBBLES - 4).cast::<i32>().read_unaligned();
                bits =
                    _mm256_setr_epi32(word(0), word(1), word(2), word(3), word(4), word(5), word(6), word(7));
            }
            let mut codes = Codes::new(FORM, offset);
            for (step, &bytes) in nibbles.iter().enumerate() {
                let mut low = _mm256_and_si256(bytes, fifteen);
                let mut high = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), fifteen);
                if FIFTH {
                    low = _mm256_or_si256(low, fifth_bits(bits, step));
                    high = _mm256_or_si256(high, fifth_bits(bits, step + 4));
                }
                codes.store(to, 8 * b + step, low);
                codes.store(to, 8 * b + step + 4, high);
            }
            codes.store_start(to, b);
        }
    }
}

#[inline(always)]
unsafe fn iq4_nl<const FORM: u8>(rows: &Rows, n_blocks: usize, to: &Group, flip: u8) {
    // SAFETY: offsets stay within the blocks that the caller promised; the table is 16 bytes.
    unsafe {
        let fifteen = _mm256_set1_epi8(15);
        let levels = _mm256_broadcastsi128_si256(_mm_loadu_si128(NONLINEAR.as_ptr().cast()));
        let levels = _mm256_xor_si256(levels, _mm256_set1_epi8(flip as i8));
        for b in 0..n_blocks {
            prefetch(rows, b * 18);
            store_scales(to.scales, to.n_rows, b, halves(rows, b * 18));
            let mut codes = Codes::of_eight(FORM);
            for (step, bytes) in turned(rows, b * 18 + 2).into_iter().enumerate() {
                let low = _mm256_and_si256(bytes, fifteen);
                let high = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), fifteen);
                codes.store(to, 8 * b + step, _mm256_shuffle_epi8(levels, low));
                codes.store(to, 8 * b + step + 4, _mm256_shuffle_epi8(levels, high));
            }
            codes.store_start(to, b);
        }
    }
}

#[inline(always)]
unsafe fn q8_0<const FORM: u8>(rows: &Rows, n_blocks: usize, to: &Group, flip: u8) {
    // SAFETY: offsets stay within the blocks that the caller promised.
    unsafe {
        let flip = _mm256_set1_epi8(flip as i8);
        for b in 0..n_blocks {
            prefetch(rows, b * 34);
            store_scales(to.scales, to.n_rows, b, halves(rows, b * 34));
            let mut codes = Codes::of_eight(FORM);
            for half in 0..2 {
                for (step, bytes) in turned(rows, b * 34 + 2 + 16 * half).into_iter().enumerate() {
                    codes.store(to, 8 * b + 4 * half + step, _mm256_xor_si256(bytes, flip));
                }
            }
            codes.store_start(to, b);
        }
    }
}

/// q4_k and q5_k: two half floats, six-bit scales and minimums of eight blocks, fifth bits or none, nibbles.
#[inline(always)]
unsafe fn super_blocks<const BYTES: usize, const FIFTH: bool, const FORM: u8>(
    rows: &Rows,
    n_blocks: usize,
    to: &Group,
) {
    // SAFETY: offsets stay within the blocks that the caller promised.
    unsafe {
        let fifteen = _mm256_set1_epi8(15);
        let nibbles_at = if FIFTH { 48 } else { 16 };
        for sb in 0..n_blocks / 8 {
            let at = sb * BYTES;
            let first = 8 * sb * to.n_rows;
            sub_scales::<FIFTH>(rows, at, to.scales.add(first), to.minimums.add(first), to.n_rows);
            let fifth = if FIFTH {
                let ([a, b, c, d], [e, f, g, h]) = (turned(rows, at + 16), turned(rows, at + 32));
                [a, b, c, d, e, f, g, h]
            } else {
                [_mm256_setzero_si256(); 8]
            };
            for pair in 0..4 {
                prefetch(rows, at + BYTES / 4 * pair);
                let offset = if FIFTH { 16 } else { 0 };
                let mut codes = [Codes::new(FORM, offset), Codes::new(FORM, offset)];
                let block = 8 * sb + 2 * pair;
                for half in 0..2 {
                    let bytes = turned(rows, at + nibbles_at + 32 * pair + 16 * half);
                    for (step, &bytes) in bytes.iter().enumerate() {
                        let step = 4 * half + step;
                        let mut low = _mm256_and_si256(bytes, fifteen);
                        let mut high = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), fifteen);
                        if FIFTH {
                            let sixteen = _mm256_set1_epi8(16);
                            // Bit `part` of every byte, where the fifth bit of a code belongs.
                            let bit = |part: i32| {
                                let (up, down) = (_mm_cvtsi32_si128(4 - part), _mm_cvtsi32_si128(part - 4));
                                match part {
                                    0..=4 => _mm256_sll_epi16(fifth[step], up),
                                    _ => _mm256_srl_epi16(fifth[step], down),
                                }
                            };
                            low = _mm256_or_si256(low, _mm256_and_si256(bit(2 * pair as i32), sixteen));
                            high = _mm256_or_si256(high, _mm256_and_si256(bit(2 * pair as i32 + 1), sixteen));
                        }
                        codes[0].store(to, 8 * block + step, low);
                        codes[1].store(to, 8 * (block + 1) + step, high);
                    }
                }
                for (part, codes) in codes.iter().enumerate() {
                    codes.store_start(to, block + part);
                }
            }
        }
    }
}

/// Scales and minimums of the eight blocks of a super block at `at`, for eight rows: `[8 of stride, 8]`.
///
/// # Safety
/// AVX2, F16C and FMA; the super blocks and the room are there.
#[inline]
#[target_feature(enable = "avx2,f16c,fma")]
pub(super) unsafe fn sub_scales<const FIFTH: bool>(
    rows: &Rows,
    at: usize,
    scales_to: *mut f32,
    minimums_to: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let [floats, a, b, c] = turned(rows, at);
        let scale = _mm256_cvtph_ps(low_words(floats));
        let minimum = _mm256_cvtph_ps(low_words(_mm256_srli_epi32(floats, 16)));
        let six = |v: __m256i| _mm256_and_si256(v, _mm256_set1_epi32(0x3f3f_3f3f));
        let four = |v: __m256i| _mm256_and_si256(v, _mm256_set1_epi32(0x0f0f_0f0f));
        // The two top bits of each byte, as bits 4 and 5.
        let top = |v: __m256i| _mm256_and_si256(_mm256_srli_epi32(v, 2), _mm256_set1_epi32(0x3030_3030));
        let whole = [six(a), _mm256_or_si256(four(c), top(a))];
        let least = [six(b), _mm256_or_si256(four(_mm256_srli_epi32(c, 4)), top(b))];
        for part in 0..8 {
            let byte = |v: [__m256i; 2]| {
                let shifted = _mm256_srl_epi32(v[part / 4], _mm_cvtsi32_si128(8 * (part as i32 % 4)));
                _mm256_cvtepi32_ps(_mm256_and_si256(shifted, _mm256_set1_epi32(255)))
            };
            let scales = _mm256_mul_ps(scale, byte(whole));
            let minimums = _mm256_xor_ps(_mm256_mul_ps(minimum, byte(least)), _mm256_set1_ps(-0.0));
            let minimums =
                if FIFTH { _mm256_fmadd_ps(scales, _mm256_set1_ps(16.0), minimums) } else { minimums };
            _mm256_storeu_ps(scales_to.add(part * stride), scales);
            _mm256_storeu_ps(minimums_to.add(part * stride), minimums);
        }
    }
}

/// The low halves of eight double words.
#[inline(always)]
unsafe fn low_words(v: __m256i) -> __m128i {
    // SAFETY: AVX2.
    unsafe {
        let words = _mm256_and_si256(v, _mm256_set1_epi32(0xffff));
        let packed = _mm256_packus_epi32(words, words);
        _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0b1000))
    }
}

#[inline(always)]
unsafe fn q6_k<const FORM: u8>(rows: &Rows, n_blocks: usize, to: &Group) {
    // SAFETY: offsets stay within the blocks that the caller promised.
    unsafe {
        let fifteen = _mm256_set1_epi8(15);
        let two_bits = _mm256_set1_epi8(0x30);
        for sb in 0..n_blocks / 8 {
            let at = sb * 210;
            let scale = halves(rows, at + 208);
            let whole = turned(rows, at + 192);
            for part in 0..8 {
                let block = 8 * sb + part;
                store_scales(to.scales, to.n_rows, block, scale);
                for half in 0..2 {
                    // Byte 2 * part + half of 16, with its sign, in both halves of a double word.
                    let left = 24 - 8 * ((2 * part + half) as i32 % 4);
                    let top = _mm256_sll_epi32(whole[part / 2], _mm_cvtsi32_si128(left));
                    let value = _mm256_srai_epi32(top, 24);
                    let both = _mm256_blend_epi16(value, _mm256_slli_epi32(value, 16), 0b1010_1010);
                    _mm256_storeu_si256(to.whole.add((2 * block + half) * to.n_rows).cast(), both);
                }
            }
            for n in 0..2 {
                for half in 0..2 {
                    prefetch(rows, at + 105 * n + 52 * half);
                    let near = turned(rows, at + 64 * n + 16 * half);
                    let far = turned(rows, at + 64 * n + 32 + 16 * half);
                    let high = turned(rows, at + 128 + 32 * n + 16 * half);
                    let new = || Codes::new(FORM, 32);
                    let mut all = [new(), new(), new(), new()];
                    for step in 0..4 {
                        let (near, far, high) = (near[step], far[step], high[step]);
                        let four = |v: __m256i| _mm256_and_si256(v, fifteen);
                        let two = |v: __m256i| _mm256_and_si256(v, two_bits);
                        let codes = [
                            _mm256_or_si256(four(near), two(_mm256_slli_epi16(high, 4))),
                            _mm256_or_si256(four(far), two(_mm256_slli_epi16(high, 2))),
                            _mm256_or_si256(four(_mm256_srli_epi16(near, 4)), two(high)),
                            _mm256_or_si256(four(_mm256_srli_epi16(far, 4)), two(_mm256_srli_epi16(high, 2))),
                        ];
                        for (part, codes) in codes.into_iter().enumerate() {
                            all[part].store(to, 8 * (8 * sb + 4 * n + part) + 4 * half + step, codes);
                        }
                    }
                    for (part, codes) in all.iter().enumerate() {
                        codes.store_start(to, 2 * (8 * sb + 4 * n + part) + half);
                    }
                }
            }
        }
    }
}

/// Unpacks `n` elements of floats as `[n_rows, n]` f32.
///
/// # Safety
/// The CPU has AVX2 and F16C; every row has `n` elements of `kind`; the group has room for them.
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn unpack_floats(kind: WeightType, rows: &Rows, n: usize, to: &Group) {
    // SAFETY: eight elements at a time while there are eight, then one by one.
    unsafe {
        let load = |r: usize, i: usize| match kind {
            WeightType::F16 => _mm256_cvtph_ps(_mm_loadu_si128(rows[r].add(2 * i).cast())),
            WeightType::Bf16 => {
                let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(rows[r].add(2 * i).cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16))
            }
            _ => _mm256_loadu_ps(rows[r].add(4 * i).cast()),
        };
        let to_floats = to.codes.cast::<f32>();
        let mut i = 0;
        while i + 8 <= n {
            let turned = turned_floats(std::array::from_fn(|r| load(r, i)));
            for (k, v) in turned.into_iter().enumerate() {
                _mm256_storeu_ps(to_floats.add((i + k) * to.n_rows), v);
            }
            i += 8;
        }
        let (_, size) = kind.block();
        while i < n {
            for (r, row) in rows.iter().enumerate() {
                let bytes = std::slice::from_raw_parts(row.add(size * i), size);
                *to_floats.add(i * to.n_rows + r) = super::super::weights::float_plain(kind, bytes, 0);
            }
            i += 1;
        }
    }
}

/// Transposes 8 x 8 floats.
#[inline(always)]
unsafe fn turned_floats(rows: [__m256; 8]) -> [__m256; 8] {
    // SAFETY: AVX.
    unsafe {
        let pair =
            |a: usize, b: usize| (_mm256_unpacklo_ps(rows[a], rows[b]), _mm256_unpackhi_ps(rows[a], rows[b]));
        let ((ab0, ab1), (cd0, cd1), (ef0, ef1), (gh0, gh1)) =
            (pair(0, 1), pair(2, 3), pair(4, 5), pair(6, 7));
        let four = |x: __m256, y: __m256| {
            [_mm256_shuffle_ps(x, y, 0b0100_0100), _mm256_shuffle_ps(x, y, 0b1110_1110)]
        };
        let ([l0, l1], [l2, l3]) = (four(ab0, cd0), four(ab1, cd1));
        let ([h0, h1], [h2, h3]) = (four(ef0, gh0), four(ef1, gh1));
        let low = |x, y| _mm256_permute2f128_ps(x, y, 0x20);
        let high = |x, y| _mm256_permute2f128_ps(x, y, 0x31);
        [
            low(l0, h0),
            low(l1, h1),
            low(l2, h2),
            low(l3, h3),
            high(l0, h0),
            high(l1, h1),
            high(l2, h2),
            high(l3, h3),
        ]
    }
}
