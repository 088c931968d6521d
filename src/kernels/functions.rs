//! The functions between products, a value at a time: what they are, bit for bit. Every step is one rounded
//! operation, so vectors that take the same steps yield the same bits. Comes in: any f32. Goes out: a few
//! units in the last place off the true value, wherever that is a normal number; what is not finite gives
//! infinity or NaN. The coefficients are least-maximum fits of the relative error, made with 40 digits.

/// Adding this to a number below 2^22 rounds it to an integer, which then stands in the low bits.
pub const ROUNDING: f32 = 12_582_912.0;
pub const LOG2_E: f32 = std::f32::consts::LOG2_E;
pub const LN_2: f32 = std::f32::consts::LN_2;
/// ln(2) less [`LN_2`].
pub const LN_2_REST: f32 = -1.904_654_3e-9;
/// e to less than this is taken for zero: 1.6e-38, where normal numbers end.
pub const LEAST_EXPONENT: f32 = -87.0;
/// e^r = 1 + r + r^2 * (these by powers of r) for r from -ln(2)/2 to ln(2)/2, up to 3.1e-9.
pub const EXP: [f32; 5] = [0.499_999_94, 0.166_665_21, 0.041_668_39, 0.008_368_745, 0.001_381_453_8];

/// Beyond this distance from zero a normal distribution has nothing left that f32 could hold.
pub const FARTHEST: f32 = 14.0;
/// The normal distribution's tail: what lies below -a is e^(-a^2 / 2) * OVER(a) / UNDER(a) for a from 0 to
/// [`FARTHEST`], up to 5.2e-9. All are positive, so sums lose nothing.
pub const OVER: [f32; 5] = [0.5, 0.435_938_96, 0.181_491_62, 0.040_045_843, 0.004_029_162];
pub const UNDER: [f32; 6] = [1.0, 1.669_762_8, 1.195_257_1, 0.464_867_83, 0.100_387_33, 0.010_099_471];

/// CLIP's approximation of the normal distribution is a logistic function of this many x.
pub const QUICK: f32 = 1.702;

/// `x * Phi(x)`, the normal distribution's `Phi(x) = (1 + erf(x / sqrt 2)) / 2`.
///
/// As `max(x, 0) - |x| * Phi(-|x|)`, which subtracts nothing from one and so keeps every digit of small
/// results.
pub fn gelu(x: f32) -> f32 {
    let size = x.abs();
    let near = if size < FARTHEST { size } else { FARTHEST };
    let square = near * near;
    let rest = near.mul_add(near, -square);
    let power = exp(square * -0.5, rest * -0.5);
    let tail = size * (polynomial(&OVER, near) * power / polynomial(&UNDER, near));
    (if x > 0.0 { x } else { 0.0 }) - tail
}

/// `x * sigmoid(1.702 * x)`.
pub fn quick_gelu(x: f32) -> f32 {
    gated(x, x * QUICK)
}

/// `x * sigmoid(x)`.
pub fn silu(x: f32) -> f32 {
    gated(x, x)
}

/// `x * sigmoid(t)`, from e^(-|t|), which cannot overflow.
fn gated(x: f32, t: f32) -> f32 {
    let power = exp(-t.abs(), 0.0);
    let over = x * if t < 0.0 { power } else { 1.0 };
    over / (1.0 + power)
}

/// e^(x + rest) for x <= 0 and a rest far smaller.
pub fn exp(x: f32, rest: f32) -> f32 {
    let rounded = x.mul_add(LOG2_E, ROUNDING);
    let n = rounded - ROUNDING;
    let r = n.mul_add(-LN_2_REST, n.mul_add(-LN_2, x)) + rest;
    let p = (polynomial(&EXP, r) * r).mul_add(r, r) + 1.0;
    // n is added to the exponent of p.
    let power = f32::from_bits(p.to_bits().wrapping_add(rounded.to_bits() << 23));
    if x < LEAST_EXPONENT { 0.0 } else { power }
}

/// By powers of x, from the highest down.
fn polynomial<const N: usize>(coefficients: &[f32; N], x: f32) -> f32 {
    let mut sum = coefficients[N - 1];
    for &coefficient in coefficients[..N - 1].iter().rev() {
        sum = sum.mul_add(x, coefficient);
    }
    sum
}
