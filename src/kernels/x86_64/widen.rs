//! Integer weights as floats, for products with activations that keep all of their bits: from the codes that
//! `unpack` yields to what a float panel holds.

use std::arch::x86_64::*;

use super::super::packed::BLOCK;
use super::super::plain::FLOAT_CHUNK;
use super::super::weights::{Class, WeightType};
use super::panel::{GROUP, Group};
use super::unpack::{Rows, UNSIGNED, unpack};

const MAX_BLOCKS: usize = FLOAT_CHUNK / BLOCK;

/// Codes, scales and minimums of eight rows, as a panel of its own.
#[repr(C, align(32))]
struct Unpacked {
    codes: [u8; GROUP * FLOAT_CHUNK],
    scales: [f32; GROUP * MAX_BLOCKS],
    minimums: [f32; GROUP * MAX_BLOCKS],
    whole: [u32; 2 * GROUP * MAX_BLOCKS],
    starts: [u32; 2 * GROUP * MAX_BLOCKS],
}

/// Unpacks `n_blocks` blocks of an integer type as `[n_rows, 32 * n_blocks]` f32.
///
/// # Safety
/// As [`unpack`], and at most a chunk of floats.
#[target_feature(enable = "avx2,f16c,fma")]
pub(super) unsafe fn unpack_as_floats(kind: WeightType, rows: &Rows, n_blocks: usize, to: &Group) {
    assert!(n_blocks <= MAX_BLOCKS, "at most a chunk of floats");
    let mut from = Unpacked {
        codes: [0; GROUP * FLOAT_CHUNK],
        scales: [0.0; GROUP * MAX_BLOCKS],
        minimums: [0.0; GROUP * MAX_BLOCKS],
        whole: [0; 2 * GROUP * MAX_BLOCKS],
        starts: [0; 2 * GROUP * MAX_BLOCKS],
    };
    let group = Group {
        codes: from.codes.as_mut_ptr(),
        scales: from.scales.as_mut_ptr(),
        minimums: from.minimums.as_mut_ptr(),
        whole: from.whole.as_mut_ptr(),
        starts: from.starts.as_mut_ptr(),
        n_rows: GROUP,
    };
    let offset = if kind.class() == Class::Six { 32 } else { i32::from(kind.offset()) };
    // SAFETY: the caller's promise; the group has room for a chunk, and all reads stay within it.
    unsafe {
        unpack::<UNSIGNED>(kind, rows, n_blocks, &group, 0);
        for b in 0..n_blocks {
            let scale = _mm256_loadu_ps(from.scales.as_ptr().add(b * GROUP));
            let minimum = _mm256_loadu_ps(from.minimums.as_ptr().add(b * GROUP));
            for step in 0..BLOCK / 4 {
                let codes = _mm256_loadu_si256(from.codes.as_ptr().add((8 * b + step) * 4 * GROUP).cast());
                for k in 0..4 {
                    let top = _mm256_sll_epi32(codes, _mm_cvtsi32_si128(24 - 8 * k as i32));
                    let mut code = if kind.class() == Class::Eight {
                        _mm256_srai_epi32(top, 24)
                    } else {
                        _mm256_sub_epi32(_mm256_srli_epi32(top, 24), _mm256_set1_epi32(offset))
                    };
                    if kind.class() == Class::Six {
                        let at = from.whole.as_ptr().add((2 * b + step / 4) * GROUP);
                        let whole = _mm256_srai_epi32(_mm256_loadu_si256(at.cast()), 16);
                        code = _mm256_mullo_epi32(code, whole);
                    }
                    let code = _mm256_cvtepi32_ps(code);
                    let value = match kind.has_minimum() {
                        true => _mm256_fmadd_ps(code, scale, minimum),
                        false => _mm256_mul_ps(code, scale),
                    };
                    let element = b * BLOCK + 4 * step + k;
                    _mm256_storeu_ps(to.codes.cast::<f32>().add(element * to.n_rows), value);
                }
            }
        }
    }
}
