//! The instruction sequences behind the limits, for x86-64 with AVX2 and FMA.
//!
//! Four loops in assembly, each as dense in arithmetic (or in reading) as its kind of kernel can be at best. What they
//! compute is thrown away; the operands are ones, since subnormal numbers would be slow. The only unsafe code of this
//! room: a value of [`Sequences`] exists only where the processor has the instructions.

#![allow(unsafe_code)]

use std::arch::asm;

/// Proof that this processor has AVX2 and FMA.
#[derive(Clone, Copy)]
pub(super) struct Sequences(());

/// A product of bytes, widened at once, onto sum `$sum`, by way of register `$way`.
#[rustfmt::skip]
macro_rules! widened {
    ($way:literal, $sum:literal) => {
        concat!(
            "vpmaddubsw ymm", $way, ", ymm15, ymm14\n",
            "vpmaddwd ymm", $way, ", ymm", $way, ", ymm13\n",
            "vpaddd ymm", $sum, ", ymm", $sum, ", ymm", $way, "\n",
        )
    };
}

/// Four products of bytes onto four sums of 16 bits.
macro_rules! four_narrow {
    () => {
        concat!(
            "vpmaddubsw ymm8, ymm15, ymm14\n",
            "vpaddw ymm0, ymm0, ymm8\n",
            "vpmaddubsw ymm9, ymm15, ymm14\n",
            "vpaddw ymm1, ymm1, ymm9\n",
            "vpmaddubsw ymm10, ymm15, ymm14\n",
            "vpaddw ymm2, ymm2, ymm10\n",
            "vpmaddubsw ymm11, ymm15, ymm14\n",
            "vpaddw ymm3, ymm3, ymm11\n",
        )
    };
}

/// A sum of 16 bits widened onto one of 32.
macro_rules! widen {
    ($narrow:literal, $sum:literal) => {
        concat!("vpmaddwd ymm12, ymm", $narrow, ", ymm13\n", "vpaddd ymm", $sum, ", ymm", $sum, ", ymm12\n",)
    };
}

/// Sets every byte of the factors to 1.
macro_rules! bytes_of_one {
    () => {
        "vpcmpeqd ymm15, ymm15, ymm15\nvpabsb ymm15, ymm15\nvmovdqa ymm14, ymm15\nvmovdqa ymm13, ymm15\n"
    };
}

/// Runs `$body` `$n` times, at least once, after `$set_up`. Registers are all that it touches.
macro_rules! repeat {
    ($n:expr, $set_up:expr, $body:expr) => {{
        // SAFETY: the caller's Sequences proves AVX2 and FMA. Only vector registers, all of them declared, and the
        // counter change; no memory and no stack are touched.
        unsafe {
            asm!(
                $set_up,
                "2:",
                $body,
                "dec {n}",
                "jnz 2b",
                "vzeroupper",
                n = inout(reg) $n.max(1) => _,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                options(nomem, nostack),
            );
        }
    }};
}

impl Sequences {
    /// Operations of one round: 12 instructions, 8 products and 8 sums each.
    pub(super) const FMA_OPERATIONS: u64 = 12 * 16;
    /// 8 products of 32 bytes, of two operations a byte.
    pub(super) const MADD1_OPERATIONS: u64 = 8 * 64;
    /// 32 products of 32 bytes.
    pub(super) const MADD8_OPERATIONS: u64 = 32 * 64;

    pub(super) fn detect() -> Option<Sequences> {
        let has_both = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        has_both.then_some(Sequences(()))
    }

    /// 12 independent products of 8 f32, fused with their sums, `n` times.
    pub(super) fn fma(self, n: u64) {
        repeat!(
            n,
            // 1.0 in every float: its exponent's seven low bits are all ones.
            "vpcmpeqd ymm15, ymm15, ymm15\nvpslld ymm15, ymm15, 25\nvpsrld ymm15, ymm15, 2\nvmovaps ymm14, ymm15\n",
            concat!(
                "vfmadd231ps ymm0, ymm15, ymm14\n",
                "vfmadd231ps ymm1, ymm15, ymm14\n",
                "vfmadd231ps ymm2, ymm15, ymm14\n",
                "vfmadd231ps ymm3, ymm15, ymm14\n",
                "vfmadd231ps ymm4, ymm15, ymm14\n",
                "vfmadd231ps ymm5, ymm15, ymm14\n",
                "vfmadd231ps ymm6, ymm15, ymm14\n",
                "vfmadd231ps ymm7, ymm15, ymm14\n",
                "vfmadd231ps ymm8, ymm15, ymm14\n",
                "vfmadd231ps ymm9, ymm15, ymm14\n",
                "vfmadd231ps ymm10, ymm15, ymm14\n",
                "vfmadd231ps ymm11, ymm15, ymm14\n",
            )
        );
    }

    /// 8 products of 32 bytes, each widened at once, `n` times.
    pub(super) fn madd1(self, n: u64) {
        repeat!(
            n,
            bytes_of_one!(),
            concat!(
                widened!(12, 0),
                widened!(11, 1),
                widened!(12, 2),
                widened!(11, 3),
                widened!(12, 4),
                widened!(11, 5),
                widened!(12, 6),
                widened!(11, 7),
            )
        );
    }

    /// 32 products of 32 bytes onto 4 sums, each widened once, `n` times.
    pub(super) fn madd8(self, n: u64) {
        repeat!(
            n,
            bytes_of_one!(),
            concat!(
                four_narrow!(),
                four_narrow!(),
                four_narrow!(),
                four_narrow!(),
                four_narrow!(),
                four_narrow!(),
                four_narrow!(),
                four_narrow!(),
                widen!(0, 4),
                widen!(1, 5),
                widen!(2, 6),
                widen!(3, 7),
            )
        );
    }

    /// Reads `words` once, front to back; what is not a whole number of 128 bytes is left out.
    pub(super) fn read(self, words: &[u64]) {
        let (lines, _) = words.as_chunks::<16>();
        let range = lines.as_ptr_range();
        if range.is_empty() {
            return;
        }
        // SAFETY: Sequences proves AVX2. Reads from the first line to the end of the last one, all of them inside of
        // `words`; writes no memory, and the declared registers only.
        unsafe {
            asm!(
                "2:",
                "vpaddq ymm0, ymm0, ymmword ptr [{at}]",
                "vpaddq ymm0, ymm0, ymmword ptr [{at} + 32]",
                "vpaddq ymm0, ymm0, ymmword ptr [{at} + 64]",
                "vpaddq ymm0, ymm0, ymmword ptr [{at} + 96]",
                "add {at}, 128",
                "cmp {at}, {end}",
                "jb 2b",
                "vzeroupper",
                at = inout(reg) range.start => _,
                end = in(reg) range.end,
                // vzeroupper clears the upper halves of all of them.
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                options(readonly, nostack),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every length, at the very end of what belongs to the slice: a read beyond would be seen by a sanitizer, and zero
    /// rounds must end.
    #[test]
    fn empty_work_ends() {
        let Some(run) = Sequences::detect() else {
            println!("not run: this processor lacks AVX2 or FMA");
            return;
        };
        run.fma(0);
        run.madd1(0);
        run.madd8(0);
        for n in [0, 1, 15, 16, 17, 32, 100] {
            run.read(&vec![1; n]);
        }
    }
}
