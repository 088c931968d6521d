//! Every operation against plain loops, and what a wrong use of one does.

mod against_loops;
mod batch_invariance;
mod custom;
mod misuse;
mod places;
mod turns;

use std::collections::HashMap;

use bytes::Bytes;

use crate::{Backend, Cancel, DType, Executor, GraphBuilder, Place, Tensor, TensorSpec, Weights, quantize};

/// Numbers in -1..1 that are the same everywhere.
pub fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x1234_5678_9ABC_DEF1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(n).collect()
}

pub fn len(ne: [u64; 4]) -> usize {
    ne.iter().product::<u64>() as usize
}

/// Shapes padded with 1.
pub fn ne(sizes: &[u64]) -> [u64; 4] {
    let mut ne = [1; 4];
    ne[..sizes.len()].copy_from_slice(sizes);
    ne
}

/// One graph over f32 inputs with noise (input i has seed i), computed once.
pub struct Run {
    builder: GraphBuilder,
    backend: Backend,
    values: HashMap<Tensor, Vec<f32>>,
    rows: HashMap<Tensor, Vec<i32>>,
    n: u64,
}

impl Run {
    pub fn new() -> Run {
        let backend = Backend::cpu(2).unwrap();
        let builder = GraphBuilder::new(&backend, 64).unwrap();
        Run { builder, backend, values: HashMap::new(), rows: HashMap::new(), n: 0 }
    }

    pub fn input(&mut self, sizes: &[u64]) -> (Tensor, Vec<f32>) {
        let ne = ne(sizes);
        let tensor = self.builder.input("x", DType::F32, ne);
        let values = noise(self.n, len(ne));
        self.n += 1;
        self.values.insert(tensor, values.clone());
        (tensor, values)
    }

    pub fn rows(&mut self, values: &[i32]) -> Tensor {
        let tensor = self.builder.input("rows", DType::I32, ne(&[values.len() as u64]));
        self.rows.insert(tensor, values.to_vec());
        tensor
    }

    pub fn output(mut self, tensor: Tensor) -> Vec<f32> {
        self.builder.output(tensor);
        let mut values = vec![0.0; len(self.builder.ne(tensor))];
        let mut executor = Executor::new(&self.backend, 64).unwrap();
        executor.load(self.builder.build()).unwrap();
        for (input, values) in &self.values {
            executor.set_f32(*input, values);
        }
        for (input, values) in &self.rows {
            executor.set_i32(*input, values).unwrap();
        }
        executor.compute(&Cancel::new()).unwrap();
        executor.read_f32(tensor, &mut values).unwrap();
        values
    }
}

/// A matrix [k, m] of any type from noise, and the values that it really holds.
pub fn matrix(backend: &Backend, dtype: DType, k: u64, m: u64) -> (Weights, Tensor, Vec<f32>) {
    let values = noise(k * 7 + m, (k * m) as usize);
    let mut bytes = vec![0; dtype.tensor_bytes(ne(&[k, m])).unwrap() as usize];
    quantize::quantize_rows(dtype, &values, k as usize, None, &mut bytes).unwrap();
    let mut held = vec![0.0; values.len()];
    quantize::dequantize(dtype, &bytes, &mut held).unwrap();
    let spec =
        TensorSpec { name: "w".into(), dtype, ne: ne(&[k, m]), offset: 0, place: Place::Cpu, turn: None };
    let weights = Weights::new(backend, Bytes::from(bytes), &[spec]).unwrap();
    let tensor = weights.tensor("w").unwrap();
    (weights, tensor, held)
}

/// Both sides in the message. `bound` is on the largest difference over the root mean square of `expected`.
pub fn assert_close(what: &str, found: &[f32], expected: &[f32], bound: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let rms = (expected.iter().map(|x| x * x).sum::<f32>() / expected.len() as f32).sqrt().max(1e-6);
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        let error = (a - b).abs() / rms;
        assert!(error <= bound, "{what}: element {i}: found {a}, expected {b}, error {error} over {bound}");
    }
}
