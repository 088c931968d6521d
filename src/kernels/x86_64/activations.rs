//! Columns over one chunk, as the inner loops of AVX2 read them: copied once for many rows of weights, so that
//! a chunk of all columns lies together and stays in the second-level cache.

use std::arch::x86_64::*;

use super::super::packed::{BLOCK, Layout};
use super::super::plain::CHUNK;

const MAX_BLOCKS: usize = CHUNK / BLOCK;

/// One column over one chunk.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Activations {
    /// With 128 added where weights bring a sign.
    pub(super) codes: [u8; CHUNK],
    pub(super) scales: [f32; MAX_BLOCKS],
    pub(super) sums: [f32; MAX_BLOCKS],
}

impl Activations {
    pub(super) const NONE: Activations =
        Activations { codes: [0; CHUNK], scales: [0.0; MAX_BLOCKS], sums: [0.0; MAX_BLOCKS] };

    /// Copies `n_blocks` blocks of a packed column from block `first` on; `flip` is 128 where codes are wanted
    /// without sign.
    ///
    /// # Safety
    /// The CPU has AVX2; `packed` is a column of `layout` and has these blocks, at most a chunk of them.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn copy(
        &mut self,
        packed: *const u8,
        layout: Layout,
        (first, n_blocks): (usize, usize),
        flip: u8,
    ) {
        let flip = _mm256_set1_epi8(flip as i8);
        // SAFETY: the caller's promise.
        unsafe {
            for b in 0..n_blocks {
                let codes = _mm256_loadu_si256(packed.add((first + b) * BLOCK).cast());
                let to = self.codes.as_mut_ptr().add(b * BLOCK);
                _mm256_storeu_si256(to.cast(), _mm256_xor_si256(codes, flip));
            }
            let parts = [(layout.scales(), &mut self.scales), (layout.sums(), &mut self.sums)];
            for (at, to) in parts {
                let (from, to) = (packed.add(at + 4 * first), to.as_mut_ptr().cast::<u8>());
                // A whole chunk needs no loop.
                match n_blocks {
                    MAX_BLOCKS => from.copy_to_nonoverlapping(to, 4 * MAX_BLOCKS),
                    _ => from.copy_to_nonoverlapping(to, 4 * n_blocks),
                }
            }
        }
    }
}
