//! The passes between products, written once over [`Vector`]: a row is read, computed sixteen values at a time
//! and stored or packed from the registers. What the bits are is said in [`super::super::passes`].

use std::arch::x86_64::{__m256, __m512};

use super::super::packed::{BLOCK, Layout};
use super::super::passes::{Curve, LANES, Moments, Row, Statistics, To, pass_plain, total};
use super::functions::{gelu, quick_gelu, silu};
use super::vector::Vector;
use super::{Simd, pack};

impl Simd {
    /// Computes a row, see [`super::super::passes`].
    ///
    /// # Panics
    /// When lengths don't belong together.
    pub fn pass(self, row: &Row<'_>, to: To<'_>) {
        let n = row.n();
        to.expect(n);
        if n < LANES {
            return pass_plain(row, to);
        }
        // SAFETY: the level says what the CPU has; there are `n >= LANES` of everything, and whole blocks where
        // a row is packed.
        unsafe { if self.has_512() { avx512(row, n, to) } else { avx2(row, n, to) } }
    }
}

/// # Safety
/// AVX2 and FMA; all slices of the row are `n` long, at least [`LANES`], and so is the place it goes to.
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(row: &Row<'_>, n: usize, to: To<'_>) {
    // SAFETY: the caller's promise.
    unsafe { pass::<[__m256; 2]>(row, n, to) }
}

/// # Safety
/// As [`avx2`], and AVX-512 F.
#[target_feature(enable = "avx2,fma,avx512f")]
unsafe fn avx512(row: &Row<'_>, n: usize, to: To<'_>) {
    // SAFETY: the caller's promise.
    unsafe { pass::<__m512>(row, n, to) }
}

#[inline(always)]
unsafe fn pass<V: Vector>(row: &Row<'_>, n: usize, to: To<'_>) {
    let optional = |values: Option<&[f32]>| values.map(<[f32]>::as_ptr);
    // SAFETY: the caller's promise.
    unsafe {
        match *row {
            Row::Norm { statistics, x, weight, bias } => {
                let Moments { mean, inverse } = moments::<V>(statistics, x);
                let (mean, inverse) = ([V::of(mean[0]), V::of(mean[1])], V::of(inverse));
                let (x, weight) = (x.as_ptr(), weight.as_ptr());
                write(&Normal { x, mean, inverse, weight, bias: optional(bias) }, n, to);
            }
            Row::Curve { curve: Curve::Gelu, x, bias } => {
                write::<V>(&Curved::<false> { x: x.as_ptr(), bias: optional(bias) }, n, to);
            }
            Row::Curve { curve: Curve::QuickGelu, x, bias } => {
                write::<V>(&Curved::<true> { x: x.as_ptr(), bias: optional(bias) }, n, to);
            }
            Row::Gate { gate, up } => write::<V>(&Gated { gate: gate.as_ptr(), up: up.as_ptr() }, n, to),
            Row::Join { hidden, branch, bias, scale } => {
                let (hidden, branch) = (hidden.as_ptr(), branch.as_ptr());
                let (bias, scale) = (optional(bias), optional(scale));
                write::<V>(&Joined { hidden, branch, bias, scale }, n, to);
            }
        }
    }
}

/// A row that is computed as it is written.
trait Values<V> {
    /// The elements from `i` on.
    ///
    /// # Safety
    /// The CPU has the instructions of `V`; the row has [`LANES`] elements from there.
    unsafe fn at(&self, i: usize) -> V;
}

/// Writes `n` elements.
#[inline(always)]
unsafe fn write<V: Vector>(values: &impl Values<V>, n: usize, to: To<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        match to {
            To::Floats(to) => {
                let to = to.as_mut_ptr();
                for i in (0..n / LANES * LANES).step_by(LANES) {
                    values.at(i).store(to.add(i));
                }
                if !n.is_multiple_of(LANES) {
                    // The last ones, some of them once more.
                    values.at(n - LANES).store(to.add(n - LANES));
                }
            }
            To::Packed(to) => {
                let Some(layout) = Layout::new(n) else { return };
                for b in 0..layout.n_blocks() {
                    let (a, c) = (values.at(b * BLOCK).halves(), values.at(b * BLOCK + LANES).halves());
                    pack::block(&[a[0], a[1], c[0], c[1]], layout, b, to.as_mut_ptr());
                }
            }
        }
    }
}

struct Normal<V> {
    x: *const f32,
    mean: [V; 2],
    inverse: V,
    weight: *const f32,
    bias: Option<*const f32>,
}

impl<V: Vector> Values<V> for Normal<V> {
    #[inline(always)]
    unsafe fn at(&self, i: usize) -> V {
        // SAFETY: the caller's promise.
        unsafe {
            let normal = V::load(self.x.add(i)).sub(self.mean[0]).sub(self.mean[1]).mul(self.inverse);
            plus(normal.mul(V::load(self.weight.add(i))), self.bias, i)
        }
    }
}

struct Curved<const QUICK: bool> {
    x: *const f32,
    bias: Option<*const f32>,
}

impl<V: Vector, const QUICK: bool> Values<V> for Curved<QUICK> {
    #[inline(always)]
    unsafe fn at(&self, i: usize) -> V {
        // SAFETY: the caller's promise.
        unsafe {
            let x = plus(V::load(self.x.add(i)), self.bias, i);
            if QUICK { quick_gelu(x) } else { gelu(x) }
        }
    }
}

struct Gated {
    gate: *const f32,
    up: *const f32,
}

impl<V: Vector> Values<V> for Gated {
    #[inline(always)]
    unsafe fn at(&self, i: usize) -> V {
        // SAFETY: the caller's promise.
        unsafe { silu(V::load(self.gate.add(i))).mul(V::load(self.up.add(i))) }
    }
}

struct Joined {
    hidden: *const f32,
    branch: *const f32,
    bias: Option<*const f32>,
    scale: Option<*const f32>,
}

impl<V: Vector> Values<V> for Joined {
    #[inline(always)]
    unsafe fn at(&self, i: usize) -> V {
        // SAFETY: the caller's promise.
        unsafe {
            let mut branch = plus(V::load(self.branch.add(i)), self.bias, i);
            if let Some(scale) = self.scale {
                branch = branch.mul(V::load(scale.add(i)));
            }
            V::load(self.hidden.add(i)).add(branch)
        }
    }
}

#[inline(always)]
unsafe fn plus<V: Vector>(value: V, bias: Option<*const f32>, i: usize) -> V {
    match bias {
        // SAFETY: the caller's promise.
        Some(bias) => unsafe { value.add(V::load(bias.add(i))) },
        None => value,
    }
}

/// Sums over whole vectors, then the elements that are left, each in its lane.
#[inline(always)]
unsafe fn moments<V: Vector>(statistics: Statistics, x: &[f32]) -> Moments {
    let (vectors, rest) = x.as_chunks::<LANES>();
    // SAFETY: the caller's promise.
    unsafe {
        let mut mean = 0.0;
        if statistics.is_centred {
            let mut sums = V::wide(0.0);
            for vector in vectors {
                sums = V::wide_add(sums, V::load(vector.as_ptr()).widen());
            }
            let mut sums = V::wide_lanes(sums);
            for (sum, &value) in sums.iter_mut().zip(rest) {
                *sum += f64::from(value);
            }
            mean = total(sums) / x.len() as f64;
        }
        let (mut squares, from) = (V::wide(0.0), V::wide(mean));
        for vector in vectors {
            let distance = V::wide_sub(V::load(vector.as_ptr()).widen(), from);
            squares = V::wide_square_add(distance, squares);
        }
        let mut squares = V::wide_lanes(squares);
        for (square, &value) in squares.iter_mut().zip(rest) {
            let distance = f64::from(value) - mean;
            *square = distance.mul_add(distance, *square);
        }
        Moments::new(mean, squares, x.len(), statistics.eps)
    }
}
