//! The formula of each operation, as loops over plain slices.

use super::{Run, assert_close, matrix, ne, noise};
use crate::{Backend, Cancel, DType, Executor, GraphBuilder, Memory, Rope, RopeMode, Tensor};

/// Sums of f32 in another order.
const F32: f32 = 2e-6;
/// exp and erf by polynomials.
const APPROXIMATE: f32 = 2e-5;

#[test]
fn sums_and_products() {
    type Op = (&'static str, fn(&mut GraphBuilder, Tensor, Tensor) -> Tensor, fn(f32, f32) -> f32);
    let ops: [Op; 4] = [
        ("add", GraphBuilder::add, |a, b| a + b),
        ("sub", GraphBuilder::sub, |a, b| a - b),
        ("mul", GraphBuilder::mul, |a, b| a * b),
        ("div", GraphBuilder::div, |a, b| a / b),
    ];
    // b as large as a, a row for every row, one number for every row, one number.
    let shapes: [(&[u64], &[u64]); 6] = [
        (&[1], &[1]),
        (&[33, 5], &[33, 5]),
        (&[33, 5], &[33]),
        (&[33, 5, 2], &[1, 5]),
        (&[4, 3, 2, 2], &[4, 1, 2]),
        (&[7, 3], &[1]),
    ];
    for (name, op, formula) in ops {
        for (sizes_a, sizes_b) in shapes {
            let mut run = Run::new();
            let ((a, va), (b, vb)) = (run.input(sizes_a), run.input(sizes_b));
            let out = op(&mut run.builder, a, b);
            let (na, nb) = (ne(sizes_a), ne(sizes_b));
            let expected: Vec<f32> = (0..va.len())
                .map(|i| {
                    let (mut rest, mut j, mut stride) = (i as u64, 0, 1);
                    for d in 0..4 {
                        j += rest % na[d] % nb[d] * stride;
                        rest /= na[d];
                        stride *= nb[d];
                    }
                    formula(va[i], vb[j as usize])
                })
                .collect();
            assert_close(&format!("{name} {sizes_a:?} {sizes_b:?}"), &run.output(out), &expected, F32);
        }
    }
}

#[test]
fn activations() {
    // Abramowitz and Stegun 7.1.26 is too coarse here: the series of erf, in f64.
    fn erf(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..60 {
            term *= -x * x / n as f64;
            sum += term / (2 * n + 1) as f64;
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let gelu = |x: f64| 0.5 * x * (1.0 + erf(x / 2f64.sqrt()));
    type Op<'a> = (&'static str, fn(&mut GraphBuilder, Tensor) -> Tensor, &'a dyn Fn(f64) -> f64);
    let ops: [Op; 4] = [
        ("gelu_erf", GraphBuilder::gelu_erf, &gelu),
        ("gelu_quick", GraphBuilder::gelu_quick, &|x| x * sigmoid(1.702 * x)),
        ("silu", GraphBuilder::silu, &|x| x * sigmoid(x)),
        ("scale", |b, x| b.scale(x, -2.5), &|x| -2.5 * x),
    ];
    for (name, op, formula) in ops {
        for n in [1, 7, 31, 33] {
            let mut run = Run::new();
            let (x, values) = run.input(&[n, 3]);
            let (x4, out) = (run.builder.scale(x, 4.0), 4.0);
            let y = op(&mut run.builder, x4);
            let expected: Vec<f32> = values.iter().map(|&v| formula(f64::from(v) * out) as f32).collect();
            assert_close(&format!("{name} {n}"), &run.output(y), &expected, APPROXIMATE);
        }
    }
}

#[test]
fn swiglu_is_silu_of_the_gate_times_up() {
    let mut run = Run::new();
    let ((gate, g), (up, u)) = (run.input(&[37, 3]), run.input(&[37, 3]));
    let y = run.builder.swiglu_split(gate, up);
    let expected: Vec<f32> = g.iter().zip(&u).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
    assert_close("swiglu", &run.output(y), &expected, APPROXIMATE);
}

/// One after another in f64: zeros at the end of a row change no bit.
#[test]
fn rows_are_summed_in_order() {
    for n in [1, 2, 7, 33] {
        let mut run = Run::new();
        let (x, values) = run.input(&[n, 3, 2]);
        let y = run.builder.sum_rows(x);
        let in_order = |row: &[f32]| row.iter().fold(0.0, |sum, &v| sum + f64::from(v)) as f32;
        let expected: Vec<f32> = values.chunks(n as usize).map(in_order).collect();
        assert_eq!(run.output(y), expected, "{n}");
    }
}

#[test]
fn norms() {
    for n in [1, 5, 32, 33, 257] {
        for rms in [false, true] {
            let mut run = Run::new();
            let (x, values) = run.input(&[n, 3]);
            let y = if rms { run.builder.rms_norm(x, 1e-2) } else { run.builder.norm(x, 1e-2) };
            let mut expected = Vec::new();
            for row in values.chunks(n as usize) {
                let row: Vec<f64> = row.iter().map(|&v| v.into()).collect();
                let mean = if rms { 0.0 } else { row.iter().sum::<f64>() / n as f64 };
                let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
                expected.extend(row.iter().map(|v| ((v - mean) / (variance + 1e-2).sqrt()) as f32));
            }
            assert_close(&format!("norm {n} rms {rms}"), &run.output(y), &expected, F32);
        }
    }
}

/// mul_mat by the stored values; quantized types round the columns to 8 bits, too.
#[test]
fn matrix_products_of_every_type() {
    for dtype in DType::all().filter(|&dtype| crate::quantize::is_target(dtype)) {
        let bound = match dtype {
            DType::F32 => F32,
            DType::F16 => 1e-3,
            DType::BF16 => 8e-3,
            _ => 2.5e-2,
        };
        let lengths = if dtype.is_quantized() { vec![1, 2] } else { vec![1, 31, 32, 33, 256, 257] };
        for blocks in lengths {
            let (k, m) = (blocks * dtype.block_len(), 17);
            let backend = Backend::cpu(2).unwrap();
            let (weights, w, held) = matrix(&backend, dtype, k, m);
            for n in [1, 2, 7, 16] {
                let mut run = Run::new();
                let (x, values) = run.input(&[k, n]);
                run.builder.attach_weights(&weights);
                let y = run.builder.mul_mat(w, x);
                let mut expected = Vec::new();
                for column in values.chunks(k as usize) {
                    for row in held.chunks(k as usize) {
                        let sum: f64 =
                            row.iter().zip(column).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                        expected.push(sum as f32);
                    }
                }
                assert_close(&format!("mul_mat {dtype} [{k}, {m}] by {n}"), &run.output(y), &expected, bound);
            }
        }
    }
}

#[test]
fn matrix_products_share_outer_sizes() {
    let mut run = Run::new();
    let ((a, va), (b, vb)) = (run.input(&[5, 3, 2]), run.input(&[5, 4, 6]));
    let y = run.builder.mul_mat(a, b);
    assert_eq!(run.builder.ne(y), [3, 4, 6, 1]);
    let mut expected = Vec::new();
    for i2 in 0..6 {
        for n in 0..4 {
            for m in 0..3 {
                let (row, column) = (&va[(i2 / 3 * 3 + m) * 5..][..5], &vb[(i2 * 4 + n) * 5..][..5]);
                expected.push(row.iter().zip(column).map(|(a, b)| a * b).sum());
            }
        }
    }
    assert_close("mul_mat outer", &run.output(y), &expected, F32);
}

#[test]
fn rows_by_number_of_every_type() {
    for dtype in DType::all().filter(|&dtype| crate::quantize::is_target(dtype)) {
        let backend = Backend::cpu(1).unwrap();
        let k = dtype.block_len() * 2;
        let (weights, w, held) = matrix(&backend, dtype, k, 5);
        let mut run = Run::new();
        run.builder.attach_weights(&weights);
        let ids = run.rows(&[4, 0, 4]);
        let y = run.builder.get_rows(w, ids);
        let expected: Vec<f32> =
            [4, 0, 4].iter().flat_map(|&i| held[i * k as usize..][..k as usize].to_vec()).collect();
        assert_close(&format!("get_rows {dtype}"), &run.output(y), &expected, 0.0);
    }
}

#[test]
fn soft_max_with_and_without_a_mask() {
    for n in [1, 3, 16, 33] {
        for masked in [false, true] {
            let mut run = Run::new();
            let ((x, values), (mask, bias)) = (run.input(&[n, 4, 2]), run.input(&[n, 4]));
            let y = run.builder.soft_max(x, masked.then_some(mask), 1.5);
            let mut expected = Vec::new();
            for (r, row) in values.chunks(n as usize).enumerate() {
                let bias = &bias[r % 4 * n as usize..][..n as usize];
                let bias = |i: usize| if masked { bias[i] } else { 0.0 };
                let exps: Vec<f32> = row.iter().enumerate().map(|(i, v)| (v * 1.5 + bias(i)).exp()).collect();
                let sum: f32 = exps.iter().sum();
                expected.extend(exps.iter().map(|e| e / sum));
            }
            assert_close(&format!("soft_max {n} {masked}"), &run.output(y), &expected, APPROXIMATE);
        }
    }
}

/// The one-node attention against its parts, with heads that share keys and a mask that hides some.
#[test]
fn attention_in_one_node_and_in_parts() {
    let (d, n_kv, n_head, n_head_kv) = (32, 40, 4, 2);
    for (dtype, n_rows, bound) in [
        (DType::F32, 1, APPROXIMATE),
        (DType::F32, 70, APPROXIMATE),
        (DType::F16, 3, 2e-2),
        (DType::F16, 70, 2e-2),
        (DType::BF16, 3, 3e-2),
    ] {
        let parts = |one_node: bool| {
            let mut run = Run::new();
            let (q, _) = run.input(&[d, n_rows, n_head]);
            let (k, _) = run.input(&[d, n_kv, n_head_kv]);
            let (v, _) = run.input(&[d, n_kv, n_head_kv]);
            let hidden = |i: u64| if i % n_kv > 30 + i / n_kv { f32::NEG_INFINITY } else { 0.0 };
            let mask = run.builder.input("mask", DType::F32, ne(&[n_kv, n_rows]));
            run.values.insert(mask, (0..n_kv * n_rows).map(hidden).collect());
            let b = &mut run.builder;
            let out = if one_node {
                let (k, v) = (b.cast(k, dtype), b.cast(v, dtype));
                let mask = b.cast(mask, DType::F16);
                b.flash_attn(q, k, v, Some(mask), 0.2)
            } else {
                let scores = b.mul_mat(k, q);
                let weights = b.soft_max(scores, Some(mask), 0.2);
                let v = b.transpose(v);
                let v = b.cont(v);
                let out = b.mul_mat(v, weights);
                let out = b.permute(out, [0, 2, 1, 3]);
                b.cont(out)
            };
            assert_eq!(b.ne(out), [d, n_head, n_rows, 1]);
            run.output(out)
        };
        assert_close(&format!("flash_attn {dtype} {n_rows}"), &parts(true), &parts(false), bound);
    }
}

#[test]
fn rope_turns_pairs() {
    for (mode, n_dims) in
        [(RopeMode::Normal, 8), (RopeMode::Normal, 4), (RopeMode::Neox, 8), (RopeMode::Neox, 4)]
    {
        let mut run = Run::new();
        let (x, values) = run.input(&[8, 2, 3]);
        let at = [0, 5, 1000];
        let positions = run.rows(&at);
        let y = run.builder.rope(x, positions, Rope { n_dims, mode, freq_base: 10000.0 });
        let mut expected = values.clone();
        for (head, out) in expected.chunks_mut(8).enumerate() {
            for i in 0..n_dims as usize / 2 {
                let theta = f64::from(at[head / 2]) * 10000f64.powf(-2.0 * i as f64 / f64::from(n_dims));
                let (a, b) = match mode {
                    RopeMode::Normal => (2 * i, 2 * i + 1),
                    RopeMode::Neox => (i, i + n_dims as usize / 2),
                };
                let (x, y) = (f64::from(out[a]), f64::from(out[b]));
                out[a] = (x * theta.cos() - y * theta.sin()) as f32;
                out[b] = (x * theta.sin() + y * theta.cos()) as f32;
            }
        }
        // Angles up to 1000 in f32.
        assert_close(&format!("rope {mode:?} {n_dims}"), &run.output(y), &expected, 2e-4);
    }
}

#[test]
fn shapes_and_copies() {
    let mut run = Run::new();
    let (x, v) = run.input(&[4, 3, 2]);
    let b = &mut run.builder;
    let flipped = b.transpose(x);
    let flipped = b.cont(flipped);
    let part = b.view_3d(flipped, [2, 4, 2], [3 * 4, 12 * 4], 4);
    let part = b.cont(part);
    let row = b.view_1d(x, 4, 4 * 4);
    let rows = b.repeat(row, [4, 4, 1, 1]);
    let rows = b.reshape(rows, [2, 4, 2, 1]);
    let half = b.cast(rows, DType::F16);
    let back = b.cast(half, DType::F32);
    let out = b.concat(part, back, 1);
    assert_eq!(b.ne(out), [2, 8, 2, 1]);
    let mut expected = Vec::new();
    for i2 in 0..2 {
        for column in 0..4 {
            expected.extend([1, 2].map(|row| v[i2 * 12 + row * 4 + column]));
        }
        expected.extend((0..8).map(|i| v[4 + i % 4]));
    }
    assert_close("shapes", &run.output(out), &expected, 1e-3);
}

/// What a decoder does: one graph, loaded once, that writes a row of a cache and reads all of it.
#[test]
fn a_graph_runs_many_times_over_memory() {
    for dtype in [DType::F32, DType::F16, DType::Q8_0] {
        let backend = Backend::cpu(2).unwrap();
        let memory = Memory::new(&backend, &[("k", dtype, ne(&[32, 8]))]).unwrap();
        let cache = memory.tensor("k").unwrap();
        let mut b = GraphBuilder::new(&backend, 16).unwrap();
        b.attach_memory(&memory);
        let row = b.input("row", DType::F32, ne(&[32, 1]));
        let at = b.input("at", DType::I64, ne(&[1]));
        let query = b.input("query", DType::F32, ne(&[32, 1]));
        let written = b.set_rows(cache, row, at);
        let scores = b.mul_mat(written, query);
        b.output(scores);
        let mut executor = Executor::reproducible(&backend, 16).unwrap();
        executor.load(b.build()).unwrap();
        let q = noise(99, 32);
        executor.set_f32(query, &q);
        let mut expected = vec![0.0; 8];
        let mut found = vec![0.0; 8];
        let bytes = executor.compute_buffer_bytes();
        for step in 0..40 {
            let values = noise(step, 32);
            executor.set_f32(row, &values);
            executor.set_i64(at, &[step as i64 % 8]).unwrap();
            executor.compute(&Cancel::new()).unwrap();
            executor.read_f32(scores, &mut found).unwrap();
            expected[step as usize % 8] = values.iter().zip(&q).map(|(a, b)| a * b).sum();
            assert_close(&format!("{dtype} step {step}"), &found, &expected, 3e-2);
        }
        assert_eq!(executor.compute_buffer_bytes(), bytes);
    }
}
