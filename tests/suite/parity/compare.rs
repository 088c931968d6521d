//! The measure: how far a node is from its golden.
//!
//! Error = max |a - b| / rms(b), taken over the samples, over the node's rms and over its projection on
//! pseudo-random signs. The first alone could miss a value that is not sampled; the last two see every value.

use super::formula;
use super::golden::Node;

/// The largest error of f32 nodes. 1e-4 is what the project promises. Measured is 5e-6 in the tower and 1.3e-5 behind
/// the decoder's third layer; the closest wrong variant, GELU's tanh form, is 3.7e-4 away, so the tests hold this one.
pub const F32_BOUND: f64 = 3e-5;

/// How many times the bound a wrong variant must be away.
pub const TRAP_DISTANCE: f64 = 10.0;

/// The error of `values` against a golden; a shape that differs is infinitely far away.
pub fn error(values: &[f32], ne: &[u64], node: &Node, samples: &[f32]) -> f64 {
    if trimmed(ne) != trimmed(&node.ne) || values.len() as u64 != node.ne.iter().product::<u64>() {
        return f64::INFINITY;
    }
    let rms = (values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
    let whole = (rms - node.rms).abs().max((formula::projection(&node.name, values) - node.projection).abs());
    let at = formula::sample_positions(&node.name, values.len(), samples.len());
    let sampled = at.iter().zip(samples).map(|(&at, &b)| (f64::from(values[at]) - f64::from(b)).abs());
    worst(sampled.chain([whole])) / node.rms
}

/// The same between two networks, all of whose values are at hand.
pub fn distance(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    let rms = (b.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / b.len() as f64).sqrt();
    worst(a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs())) / rms
}

/// The largest; a NaN counts as infinitely large, where `f64::max` would pass over it.
fn worst(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|v| if v.is_nan() { f64::INFINITY } else { v }).fold(0.0, f64::max)
}

fn trimmed(ne: &[u64]) -> &[u64] {
    let used = ne.iter().rposition(|&n| n != 1).map_or(1, |last| last + 1);
    &ne[..used]
}
