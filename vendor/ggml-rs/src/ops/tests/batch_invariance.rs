//! The law of the decoder: a column's bits depend on nothing but the column.

use super::{matrix, ne, noise};
use crate::{Backend, Cancel, DType, Executor, GraphBuilder, Tensor, Weights};

const K: u64 = 512;
const M: u64 = 35;
const COLUMNS: [usize; 5] = [1, 2, 7, 16, 256];

/// The product of a matrix with the first `n` of some columns.
fn product(weights: &Weights, w: Tensor, columns: &[f32], n: usize, n_threads: usize) -> Vec<f32> {
    let backend = Backend::cpu(n_threads).unwrap();
    let mut b = GraphBuilder::new(&backend, 8).unwrap();
    b.attach_weights(weights);
    let x = b.input("x", DType::F32, ne(&[K, n as u64]));
    let y = b.mul_mat(w, x);
    b.output(y);
    let mut executor = Executor::reproducible(&backend, 8).unwrap();
    executor.load(b.build()).unwrap();
    executor.set_f32(x, &columns[..K as usize * n]);
    executor.compute(&Cancel::new()).unwrap();
    let mut values = vec![0.0; M as usize * n];
    executor.read_f32(y, &mut values).unwrap();
    values
}

#[test]
fn products_do_not_depend_on_columns_or_threads() {
    use DType::*;
    let columns = noise(3, K as usize * 256);
    for dtype in [F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K] {
        let (weights, w, _) = matrix(&Backend::cpu(1).unwrap(), dtype, K, M);
        let reference = product(&weights, w, &columns, 256, 1);
        for n in COLUMNS {
            for n_threads in [1, 2, 3] {
                let found = product(&weights, w, &columns, n, n_threads);
                let same = found.iter().zip(&reference).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{dtype}: {n} columns on {n_threads} threads differ from 256 on one");
            }
        }
    }
}

const HEAD_DIM: u64 = 64;
const N_KV: u64 = 600;

/// Attention of the first `n` of 256 rows over 600 keys, in parts or in one node.
fn attention(qkv: &[Vec<f32>; 3], dtype: DType, one_node: bool, n: usize, n_threads: usize) -> Vec<f32> {
    let (d, n_kv) = (HEAD_DIM, N_KV);
    let backend = Backend::cpu(n_threads).unwrap();
    let mut b = GraphBuilder::new(&backend, 16).unwrap();
    let q = b.input("q", DType::F32, ne(&[d, n as u64]));
    let k = b.input("k", DType::F32, ne(&[d, n_kv]));
    let v = b.input("v", DType::F32, ne(&[d, n_kv]));
    let out = if one_node {
        let (k, v) = (b.cast(k, dtype), b.cast(v, dtype));
        b.flash_attn(q, k, v, None, 0.3)
    } else {
        let (k, v) = (b.cast(k, dtype), b.transpose(v));
        let v = b.cont(v);
        let v = b.cast(v, dtype);
        let scores = b.mul_mat(k, q);
        let scores = b.soft_max(scores, None, 0.3);
        b.mul_mat(v, scores)
    };
    b.output(out);
    let mut executor = Executor::reproducible(&backend, 16).unwrap();
    executor.load(b.build()).unwrap();
    executor.set_f32(q, &qkv[0][..d as usize * n]);
    executor.set_f32(k, &qkv[1]);
    executor.set_f32(v, &qkv[2]);
    executor.compute(&Cancel::new()).unwrap();
    let mut values = vec![0.0; d as usize * n];
    executor.read_f32(out, &mut values).unwrap();
    values
}

#[test]
fn attention_does_not_depend_on_rows_or_threads() {
    let qkv = [256, N_KV, N_KV].map(|n| noise(n, (HEAD_DIM * n) as usize));
    for dtype in [DType::F32, DType::F16] {
        for one_node in [false, true] {
            let reference = attention(&qkv, dtype, one_node, 256, 1);
            for n in COLUMNS {
                for n_threads in [1, 2, 3] {
                    let found = attention(&qkv, dtype, one_node, n, n_threads);
                    let same = found.iter().zip(&reference).all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "{dtype}, one node {one_node}: {n} rows on {n_threads} threads differ");
                }
            }
        }
    }
}
