//! The functions between products, sixteen values at a time: the steps of the plain ones, see
//! [`super::super::functions`], lane by lane. All are parts of inner loops: the caller has the instructions of
//! its vector.

use super::super::functions::*;
use super::vector::Vector;

/// `x * Phi(x)`.
#[inline(always)]
pub(super) unsafe fn gelu<V: Vector>(x: V) -> V {
    // SAFETY: the caller's promise.
    unsafe {
        let size = x.abs();
        let near = size.min(V::of(FARTHEST));
        let square = near.mul(near);
        let rest = near.mul_add(near, square.mul(V::of(-1.0)));
        let half = V::of(-0.5);
        let power = exp(square.mul(half), rest.mul(half));
        let tail = size.mul(polynomial(&OVER, near).mul(power).div(polynomial(&UNDER, near)));
        x.max(V::of(0.0)).sub(tail)
    }
}

/// `x * sigmoid(1.702 * x)`.
#[inline(always)]
pub(super) unsafe fn quick_gelu<V: Vector>(x: V) -> V {
    // SAFETY: the caller's promise.
    unsafe { gated(x, x.mul(V::of(QUICK))) }
}

/// `x * sigmoid(x)`.
#[inline(always)]
pub(super) unsafe fn silu<V: Vector>(x: V) -> V {
    // SAFETY: the caller's promise.
    unsafe { gated(x, x) }
}

#[inline(always)]
unsafe fn gated<V: Vector>(x: V, t: V) -> V {
    // SAFETY: the caller's promise.
    unsafe {
        let (zero, one) = (V::of(0.0), V::of(1.0));
        let power = exp(t.abs().mul(V::of(-1.0)), zero);
        let over = x.mul(t.where_below(zero, power, one));
        over.div(one.add(power))
    }
}

/// e^(x + rest) for x <= 0 and a rest far smaller.
#[inline(always)]
pub(super) unsafe fn exp<V: Vector>(x: V, rest: V) -> V {
    // SAFETY: the caller's promise.
    unsafe {
        let rounding = V::of(ROUNDING);
        let rounded = x.mul_add(V::of(LOG2_E), rounding);
        let n = rounded.sub(rounding);
        let r = n.mul_add(V::of(-LN_2_REST), n.mul_add(V::of(-LN_2), x)).add(rest);
        let p = polynomial(&EXP, r).mul(r).mul_add(r, r).add(V::of(1.0));
        x.where_below(V::of(LEAST_EXPONENT), V::of(0.0), p.add_exponents(rounded))
    }
}

#[inline(always)]
unsafe fn polynomial<V: Vector, const N: usize>(coefficients: &[f32; N], x: V) -> V {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sum = V::of(coefficients[N - 1]);
        for &coefficient in coefficients[..N - 1].iter().rev() {
            sum = sum.mul_add(x, V::of(coefficient));
        }
        sum
    }
}
