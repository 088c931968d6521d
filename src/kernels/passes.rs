//! The passes between products, a row at a time: norms, activations, joins of a branch with what it left.
//! Comes in: rows of f32. Goes out: a row of f32, or the same packed for the integer kernels, so that what
//! only products read is never stored in f32. The plain loops here say what every SIMD form must yield, bit
//! for bit; a row depends on nothing but itself.

#[cfg(test)]
mod tests;

use super::functions::{gelu, quick_gelu, silu};
use super::packed::{Layout, pack_plain};

/// Sums of a row are kept apart by place modulo this, then added as a tree.
pub const LANES: usize = 16;

/// How a row is normalised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Statistics {
    /// Its mean is taken off first, which makes the norm LayerNorm's, else RMSNorm's.
    pub is_centred: bool,
    pub eps: f32,
}

/// An activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    Gelu,
    QuickGelu,
}

/// What a row is made of. All slices are of one length.
#[derive(Clone, Copy, Debug)]
pub enum Row<'a> {
    /// `(x - mean) / deviation * weight + bias`
    Norm { statistics: Statistics, x: &'a [f32], weight: &'a [f32], bias: Option<&'a [f32]> },
    /// `curve(x + bias)`
    Curve { curve: Curve, x: &'a [f32], bias: Option<&'a [f32]> },
    /// `silu(gate) * up`
    Gate { gate: &'a [f32], up: &'a [f32] },
    /// `hidden + (branch + bias) * scale`
    Join { hidden: &'a [f32], branch: &'a [f32], bias: Option<&'a [f32]>, scale: Option<&'a [f32]> },
}

/// Where a row goes.
pub enum To<'a> {
    Floats(&'a mut [f32]),
    /// A packed column, see [`super::packed`].
    Packed(&'a mut [u8]),
}

impl Row<'_> {
    /// Elements.
    ///
    /// # Panics
    /// When the slices are not of one length.
    pub fn n(&self) -> usize {
        let [first, others @ ..] = match *self {
            Row::Norm { x, weight, bias, .. } => [Some(x), Some(weight), bias, None],
            Row::Curve { x, bias, .. } => [Some(x), bias, None, None],
            Row::Gate { gate, up } => [Some(gate), Some(up), None, None],
            Row::Join { hidden, branch, bias, scale } => [Some(hidden), Some(branch), bias, scale],
        };
        let n = first.map_or(0, <[f32]>::len);
        assert!(others.iter().flatten().all(|other| other.len() == n), "expected slices of one length");
        n
    }
}

impl To<'_> {
    /// # Panics
    /// Unless this is the place of a row of `n` elements.
    pub fn expect(&self, n: usize) {
        match self {
            To::Floats(values) => assert_eq!(values.len(), n, "elements of a row"),
            To::Packed(bytes) => {
                let expected = Layout::new(n).map(Layout::column_bytes);
                assert_eq!(Some(bytes.len()), expected, "bytes of a packed column");
            }
        }
    }
}

/// # Panics
/// When lengths don't belong together.
pub fn pass_plain(row: &Row<'_>, to: To<'_>) {
    let n = row.n();
    to.expect(n);
    let plus = |value: f32, bias: Option<&[f32]>, i: usize| bias.map_or(value, |bias| value + bias[i]);
    let places = 0..n;
    let values: Vec<f32> = match *row {
        Row::Norm { statistics, x, weight, bias } => {
            let norm = moments_plain(statistics, x);
            places.map(|i| plus(norm.of(x[i]) * weight[i], bias, i)).collect()
        }
        Row::Curve { curve, x, bias } => {
            let curve = match curve {
                Curve::Gelu => gelu,
                Curve::QuickGelu => quick_gelu,
            };
            places.map(|i| curve(plus(x[i], bias, i))).collect()
        }
        Row::Gate { gate, up } => places.map(|i| silu(gate[i]) * up[i]).collect(),
        Row::Join { hidden, branch, bias, scale } => {
            let scaled = |value: f32, i: usize| scale.map_or(value, |scale| value * scale[i]);
            places.map(|i| hidden[i] + scaled(plus(branch[i], bias, i), i)).collect()
        }
    };
    match to {
        To::Floats(to) => to.copy_from_slice(&values),
        To::Packed(to) => pack_plain(&values, to),
    }
}

/// What is taken off the values of a row, and what they are multiplied by then.
#[derive(Clone, Copy, Debug)]
pub struct Moments {
    /// Two numbers whose sum is the mean, so that a row far from zero keeps its digits.
    pub mean: [f32; 2],
    pub inverse: f32,
}

impl Moments {
    /// Of a row of `n` elements, from the mean and the sums of squared distances from it.
    pub fn new(mean: f64, squares: [f64; LANES], n: usize, eps: f32) -> Moments {
        let high = mean as f32;
        let variance = total(squares) / n as f64;
        let inverse = (1.0 / (variance + f64::from(eps)).sqrt()) as f32;
        Moments { mean: [high, (mean - f64::from(high)) as f32], inverse }
    }

    fn of(&self, value: f32) -> f32 {
        (value - self.mean[0] - self.mean[1]) * self.inverse
    }
}

fn moments_plain(statistics: Statistics, x: &[f32]) -> Moments {
    let mut mean = 0.0;
    if statistics.is_centred {
        let mut sums = [0.0; LANES];
        for (i, &value) in x.iter().enumerate() {
            sums[i % LANES] += f64::from(value);
        }
        mean = total(sums) / x.len() as f64;
    }
    let mut squares = [0.0f64; LANES];
    for (i, &value) in x.iter().enumerate() {
        let distance = f64::from(value) - mean;
        squares[i % LANES] = distance.mul_add(distance, squares[i % LANES]);
    }
    Moments::new(mean, squares, x.len(), statistics.eps)
}

/// The sum of all lanes: the upper half is added to the lower one until one is left.
pub fn total(mut lanes: [f64; LANES]) -> f64 {
    let mut n = LANES;
    while n > 1 {
        n /= 2;
        for i in 0..n {
            lanes[i] += lanes[n + i];
        }
    }
    lanes[0]
}
