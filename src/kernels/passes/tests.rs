//! The functions against f64, the passes against their plain loops, on whatever instructions this CPU has.

use ggml::{Arg, custom};

use super::{Curve, Row, Statistics, To, pass_plain};
use crate::kernels::functions;
use crate::kernels::ops::{Pass, Work};
use crate::kernels::packed::{BLOCK, Layout, pack_plain};
use crate::kernels::self_check::{Numbers, floats, packed, rows_of_all_kinds};
use crate::kernels::simd::Simd;

/// Where the exponential is taken for zero, this much of x * sigmoid(x) is lost.
const LOST: f64 = 1.5e-36;
/// Largest errors elsewhere, in units in the last place.
const EXP_ULPS: f64 = 1.5;
const GELU_ULPS: f64 = 6.0;
const GATED_ULPS: f64 = 3.5;

/// One in 4,999 of all finite numbers, and one in 499 where the functions bend.
fn samples() -> impl Iterator<Item = f32> {
    let magnitudes = (0..f32::INFINITY.to_bits()).step_by(4999);
    let bends = (1e-3f32.to_bits()..32f32.to_bits()).step_by(499);
    magnitudes.chain(bends).map(f32::from_bits).flat_map(|size| [size, -size])
}

fn worst(name: &str, bound: f64, found: fn(f32) -> f32, expected: impl Fn(f32) -> f64) {
    let mut worst = (0.0, 0.0);
    for x in samples() {
        let (found, expected) = (found(x), expected(x));
        let ulp = expected.abs().max(f64::from(f32::MIN_POSITIVE)).log2().floor() - 23.0;
        let error = ((f64::from(found) - expected).abs() - LOST).max(0.0) / ulp.exp2();
        assert!(error <= bound, "{name}({x:e}): expected {expected:e}, found {found:e}: {error} ulps");
        if error > worst.0 {
            worst = (error, x);
        }
    }
    println!("{name}: {:.2} ulps at {:e}", worst.0, worst.1);
}

#[test]
fn functions_are_a_few_ulps_from_f64() {
    worst("exp", EXP_ULPS, |x| functions::exp(-x.abs(), 0.0), |x| f64::from(-x.abs()).exp());
    worst("gelu", GELU_ULPS, functions::gelu, |x| f64::from(x) * normal(f64::from(x)));
    let sigmoid = |t: f64| if t < 0.0 { t.exp() / (1.0 + t.exp()) } else { 1.0 / (1.0 + (-t).exp()) };
    worst("silu", GATED_ULPS, functions::silu, |x| f64::from(x) * sigmoid(x.into()));
    worst("quick_gelu", GATED_ULPS, functions::quick_gelu, |x| f64::from(x) * sigmoid((x * 1.702).into()));
}

/// What is not a number must not become one.
#[test]
fn poison_stays_poison() {
    for f in [functions::gelu, functions::quick_gelu, functions::silu] {
        assert!(f(f32::NAN).is_nan());
        assert!(!f(f32::INFINITY).is_finite() && !f(f32::NEG_INFINITY).is_finite());
        assert_eq!(f(-1e38), 0.0);
        assert_eq!(f(1e38), 1e38);
    }
}

/// The normal distribution: what lies below x. Good to 1e-13 of itself.
fn normal(x: f64) -> f64 {
    let a = x.abs();
    let tail = if a < 3.0 {
        // Marsaglia 2004: 1/2 - density * (a + a^3/3 + a^5/(3*5) + ...), in pairs that do not cancel.
        let (mut term, mut sum, mut k) = (a, a, 1.0);
        while term > sum * 1e-18 {
            k += 2.0;
            term *= a * a / k;
            sum += term;
        }
        0.5 - density(a) * sum
    } else {
        // Laplace's continued fraction.
        density(a) / (1..200).rev().fold(a, |below, k| a + f64::from(k) / below)
    };
    if x < 0.0 { tail } else { 1.0 - tail }
}

fn density(a: f64) -> f64 {
    (-a * a / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

/// Values and vectors of `n` elements; some rows lie far from zero, some hold what is not a number.
fn values(n: usize, round: u32) -> [Vec<f32>; 4] {
    let mut numbers = Numbers((n as u64) << 8 | u64::from(round));
    let mut of = |size: f32| -> Vec<f32> { (0..n).map(|_| numbers.float() * size).collect() };
    let mut values = [of([1.0, 30.0, 100.0, 1e-20, 1e20][round as usize % 5]), of(2.0), of(2.0), of(1.0)];
    let specials = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, f32::MAX, f32::MIN_POSITIVE / 4.0];
    if let Some(&special) = specials.get((round as usize).wrapping_sub(5)) {
        values[0][n / 2] = special;
    }
    values
}

#[test]
fn passes_equal_the_plain_loops() {
    let bits = |values: Vec<f32>| -> Vec<u32> {
        values.into_iter().map(|v| if v.is_nan() { f32::NAN.to_bits() } else { v.to_bits() }).collect()
    };
    for simd in Simd::available() {
        for n in [1, 7, 15, 16, 17, 31, 32, 33, 96, 160, 588, 3200] {
            for round in 0..11 {
                let values = values(n, round);
                for row in rows_of_all_kinds(values.each_ref().map(|v| &v[..])) {
                    let (found, expected) = (floats(Some(simd), &row), floats(None, &row));
                    let same = bits(found.clone()) == bits(expected.clone());
                    assert!(same, "{} n {n}, round {round}, {row:.9?}: {found:?}, {expected:?}", simd.name());
                    if n.is_multiple_of(BLOCK) {
                        assert!(
                            without_payloads(packed(Some(simd), &row), n)
                                == without_payloads(packed(None, &row), n),
                            "{} n {n}, round {round}, packed",
                            simd.name()
                        );
                    }
                }
            }
        }
    }
}

/// Which NaN a scale or a sum is says nothing.
fn without_payloads(mut packed: Vec<u8>, n: usize) -> Vec<u8> {
    for at in packed[n..][..n / BLOCK * 8].chunks_exact_mut(4) {
        if f32::from_le_bytes([at[0], at[1], at[2], at[3]]).is_nan() {
            at.copy_from_slice(&f32::NAN.to_le_bytes());
        }
    }
    packed
}

/// Packing in passing is packing afterwards, and a bias in passing is a bias before.
#[test]
fn what_is_fused_is_what_follows() {
    for round in 0..5 {
        let [x, other, weight, bias] = values(320, round);
        for row in rows_of_all_kinds([&x, &other, &weight, &bias]) {
            let mut expected = vec![0; Layout::new(320).unwrap().column_bytes()];
            pack_plain(&floats(None, &row), &mut expected);
            assert!(packed(None, &row) == expected, "round {round}, {row:.9?}");
        }
        let biased: Vec<f32> = x.iter().zip(&bias).map(|(x, bias)| x + bias).collect();
        for curve in [Curve::Gelu, Curve::QuickGelu] {
            let fused = floats(None, &Row::Curve { curve, x: &x, bias: Some(&bias) });
            assert!(fused == floats(None, &Row::Curve { curve, x: &biased, bias: None }));
        }
        for scale in [None, Some(&weight[..])] {
            let join = |branch, bias| floats(None, &Row::Join { hidden: &other, branch, bias, scale });
            assert!(join(&x, Some(&bias)) == join(&biased, None));
        }
    }
}

/// Norms against f64, by the error of every element, also of rows whose mean is a thousand times
/// their deviation, and of rows that are lost beside eps.
#[test]
fn norms_are_exact() {
    const EPS: f32 = 1e-6;
    const BOUND: f64 = 2.5e-7;
    for (n, round, far) in [(1, 0, 0.0), (96, 0, 0.0), (3200, 0, 0.0), (3200, 0, 1000.0), (3200, 3, 1e-19)] {
        let [x, ..] = values(n, round);
        let x: Vec<f32> = x.iter().map(|x| x + far).collect();
        let weight = vec![1.0; n];
        for is_centred in [false, true] {
            let statistics = Statistics { is_centred, eps: EPS };
            let found = floats(None, &Row::Norm { statistics, x: &x, weight: &weight, bias: None });
            let x: Vec<f64> = x.iter().map(|&x| x.into()).collect();
            let mean = if is_centred { x.iter().sum::<f64>() / n as f64 } else { 0.0 };
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
            for (x, found) in x.iter().zip(found) {
                let expected = (x - mean) / (variance + f64::from(EPS)).sqrt();
                let error = (f64::from(found) - expected).abs() / expected.abs().max(1e-16);
                assert!(error <= BOUND, "n {n}, {far} off: expected {expected}, found {found}: {error:e}");
            }
        }
    }
}

/// An operation finds its rows among its arguments, whatever the threads, and a row depends on itself alone.
#[test]
fn operations_compute_rows() {
    let (n, wide, n_columns) = (64, 160, 11);
    let mut numbers = Numbers(3);
    let mut of = |n: usize| -> Vec<f32> { (0..n).map(|_| numbers.float() * 3.0).collect() };
    let (x, hidden, weight, bias) = (of(wide * n_columns), of(n * n_columns), of(n), of(n));
    let matrix = |values, n: usize| Arg::of_f32([n as u64, n_columns as u64, 1, 1], values);
    let vector = |values| Arg::of_f32([n as u64, 1, 1, 1], values);
    let narrow: Vec<f32> = x[..n * n_columns].to_vec();
    let (wide_x, x, hidden_arg) = (matrix(&x, wide), matrix(&narrow, n), matrix(&hidden, n));
    let [weight_arg, bias_arg] = [vector(&weight), vector(&bias)];
    let statistics = Statistics { is_centred: true, eps: 1e-5 };
    let join = |has_bias, has_scale| Work::Join { has_bias, has_scale };
    let cases = [
        (Work::Norm { statistics, first: 0 }, vec![x, weight_arg]),
        (Work::Norm { statistics, first: 96 }, vec![wide_x, weight_arg, bias_arg]),
        (Work::Curve(Curve::Gelu), vec![x]),
        (Work::Curve(Curve::QuickGelu), vec![x, bias_arg]),
        (Work::Gate, vec![x, hidden_arg]),
        (join(false, false), vec![hidden_arg, x]),
        (join(true, false), vec![hidden_arg, x, bias_arg]),
        (join(false, true), vec![hidden_arg, x, weight_arg]),
        (join(true, true), vec![hidden_arg, x, bias_arg, weight_arg]),
    ];
    for simd in Simd::available() {
        for (work, args) in &cases {
            let column_bytes = Layout::new(n).unwrap().column_bytes();
            let (mut expected, mut expected_packed) =
                (vec![0.0; n * n_columns], vec![0; column_bytes * n_columns]);
            for (c, to) in expected.chunks_exact_mut(n).enumerate() {
                pass_plain(&row(*work, args, n, c), To::Floats(to));
            }
            for (c, to) in expected_packed.chunks_exact_mut(column_bytes).enumerate() {
                pass_plain(&row(*work, args, n, c), To::Packed(to));
            }
            for n_threads in [1, 3] {
                let mut found = vec![f32::NAN; n * n_columns];
                let op = Pass { simd, work: *work, is_packed: false };
                custom::run_alone(&op, args, [n, n_columns], &mut found, n_threads);
                assert!(found == expected, "{} {work:?}", simd.name());
                let mut found = vec![1i8; column_bytes * n_columns];
                let op = Pass { simd, work: *work, is_packed: true };
                custom::run_alone(&op, args, [column_bytes, n_columns], &mut found, n_threads);
                let found: Vec<u8> = found.into_iter().map(|byte| byte as u8).collect();
                assert!(found == expected_packed, "{} {work:?} packed", simd.name());
            }
        }
    }
}

/// Row `c` of an operation, by hand.
fn row<'a>(work: Work, args: &[Arg<'a>], n: usize, c: usize) -> Row<'a> {
    let part = |i: usize, first: usize| &args[i].f32s()[c * args[i].ne()[0] as usize + first..][..n];
    let all = |i: usize| args.get(i).map(|arg| arg.f32s());
    match work {
        Work::Norm { statistics, first } => {
            Row::Norm { statistics, x: part(0, first), weight: args[1].f32s(), bias: all(2) }
        }
        Work::Curve(curve) => Row::Curve { curve, x: part(0, 0), bias: all(1) },
        Work::Gate => Row::Gate { gate: part(0, 0), up: part(1, 0) },
        Work::Join { has_bias, has_scale } => {
            let (bias, scale) = match (has_bias, has_scale) {
                (true, true) => (all(2), all(3)),
                (true, false) => (all(2), None),
                (false, true) => (None, all(2)),
                (false, false) => (None, None),
            };
            Row::Join { hidden: part(0, 0), branch: part(1, 0), bias, scale }
        }
    }
}
