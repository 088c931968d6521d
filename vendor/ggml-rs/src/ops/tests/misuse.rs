//! What a wrong use does: an assertion that names op and shapes, never the end of the process.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;

use super::{matrix, ne};
use crate::{
    Backend, Cancel, DType, Executor, GraphBuilder, Memory, Place, Rope, RopeMode, Tensor, TensorSpec,
    Weights,
};

struct Bench {
    b: GraphBuilder,
    x: Tensor,
    tall: Tensor,
    ids: Tensor,
    mask: Tensor,
    w: Tensor,
    cache: Tensor,
}

fn bench() -> Bench {
    let backend = Backend::cpu(1).unwrap();
    let (weights, w, _) = matrix(&backend, DType::Q8_0, 32, 4);
    let memory = Memory::new(&backend, &[("k", DType::F16, ne(&[4, 8]))]).unwrap();
    let mut b = GraphBuilder::new(&backend, 16).unwrap();
    b.attach_weights(&weights);
    b.attach_memory(&memory);
    let x = b.input("x", DType::F32, ne(&[4, 3]));
    let tall = b.input("tall", DType::F32, ne(&[5, 3]));
    let ids = b.input("ids", DType::I32, ne(&[3]));
    let mask = b.input("mask", DType::F16, ne(&[4, 2]));
    let cache = memory.tensor("k").unwrap();
    Bench { b, x, tall, ids, mask, w, cache }
}

/// The message of the panic that `use_it` ends in.
pub fn panic_of<T>(use_it: impl FnOnce() -> T) -> String {
    let payload = catch_unwind(AssertUnwindSafe(|| drop(use_it()))).expect_err("expected a panic");
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => payload.downcast_ref::<&str>().copied().unwrap_or("").to_owned(),
    }
}

#[test]
fn wrong_shapes_and_types_panic_with_op_and_shapes() {
    const fn rope(n_dims: u32, freq_base: f32) -> Rope {
        Rope { n_dims, mode: RopeMode::Normal, freq_base }
    }
    type Use = fn(&mut Bench) -> Tensor;
    let cases: Vec<(&str, Use)> = vec![
        ("add: expected the second to tile the first, found x f32 [4, 3, 1, 1] and tall", |t| {
            t.b.add(t.x, t.tall)
        }),
        ("mul: expected f32", |t| t.b.mul(t.x, t.w)),
        ("mul_mat: expected rows of one length", |t| t.b.mul_mat(t.x, t.tall)),
        ("mul_mat: expected a matrix", |t| t.b.mul_mat(t.ids, t.ids)),
        ("mul_mat: expected a matrix in whole rows", |t| {
            let flipped = t.b.transpose(t.x);
            let column = t.b.input("c", DType::F32, ne(&[3]));
            t.b.mul_mat(flipped, column)
        }),
        ("get_rows: expected a matrix in whole rows and i32", |t| t.b.get_rows(t.x, t.tall)),
        ("get_rows: expected outer sizes to match", |t| {
            let ids = t.b.reshape(t.ids, [1, 3, 1, 1]);
            t.b.get_rows(t.x, ids)
        }),
        ("get_rows: expected row numbers from an input", |t| {
            let ids = t.b.concat(t.ids, t.ids, 0);
            t.b.get_rows(t.x, ids)
        }),
        ("set_rows: expected a destination in memory", |t| t.b.set_rows(t.tall, t.tall, t.ids)),
        ("set_rows: expected one row a number", |t| t.b.set_rows(t.cache, t.tall, t.ids)),
        ("set_rows: expected i64 or i32", |t| {
            let at = t.b.input("at", DType::F32, ne(&[3]));
            t.b.set_rows(t.cache, t.x, at)
        }),
        ("cpy: expected a destination in memory", |t| t.b.cpy(t.x, t.x)),
        ("cpy: expected to read from elsewhere", |t| {
            let (a, b) = (t.b.view_1d(t.cache, 4, 0), t.b.view_1d(t.cache, 4, 2));
            t.b.cpy(a, b)
        }),
        ("soft_max: expected a contiguous mask", |t| t.b.soft_max(t.x, Some(t.mask), 1.0)),
        ("soft_max: expected contiguous f32", |t| {
            let flipped = t.b.transpose(t.x);
            t.b.soft_max(flipped, None, 1.0)
        }),
        ("flash_attn: expected heads that match", |t| t.b.flash_attn(t.x, t.tall, t.tall, None, 1.0)),
        ("flash_attn: expected k and v of one type", |t| {
            let half = t.b.cast(t.x, DType::F16);
            t.b.flash_attn(t.x, t.x, half, None, 1.0)
        }),
        ("flash_attn: expected a contiguous f16 mask", |t| t.b.flash_attn(t.x, t.x, t.x, Some(t.mask), 1.0)),
        ("rope: expected one i32 position a row", |t| t.b.rope(t.x, t.ids, rope(4, 1e4))),
        ("norm: expected eps >= 0", |t| t.b.norm(t.x, -1.0)),
        ("rms_norm: expected eps >= 0", |t| t.b.rms_norm(t.x, f32::NAN)),
        ("reshape: expected contiguous elements", |t| t.b.reshape(t.x, [5, 3, 1, 1])),
        ("reshape: expected contiguous elements", |t| t.b.reshape(t.x, [u64::MAX, u64::MAX, 1, 1])),
        ("view_1d: expected to stay within 48 bytes", |t| t.b.view_1d(t.x, 4, 36)),
        ("view_1d: expected whole blocks", |t| t.b.view_1d(t.x, 0, 0)),
        ("view_1d: expected multiples of 4 bytes", |t| t.b.view_1d(t.x, 1, 2)),
        ("view_2d: expected to stay within 48 bytes", |t| t.b.view_2d(t.x, [4, 3], 20, 0)),
        ("view_2d: expected to stay within 48 bytes", |t| t.b.view_2d(t.x, [4, u64::MAX], u64::MAX - 3, 0)),
        ("view_2d: expected to stay within 48 bytes", |t| t.b.view_2d(t.x, [4, 4], 0, 0)),
        ("view_1d: expected whole blocks", |t| t.b.view_1d(t.w, 16, 0)),
        ("view_3d: expected multiples of 34 bytes", |t| t.b.view_3d(t.w, [32, 1, 1], [33, 34], 0)),
        ("permute: expected each axis once", |t| t.b.permute(t.x, [0, 0, 1, 2])),
        ("permute: expected blocks to stay in rows", |t| t.b.transpose(t.w)),
        ("cast: expected f32, f16 or bf16", |t| t.b.cast(t.x, DType::Q4_0)),
        ("concat: expected one type", |t| t.b.concat(t.x, t.tall, 1)),
        ("concat: expected one type", |t| t.b.concat(t.x, t.x, 4)),
        ("repeat: expected sizes that divide", |t| t.b.repeat(t.x, [6, 3, 1, 1])),
        ("repeat: expected sizes that divide", |t| t.b.repeat(t.x, [4, 3 << 40, 1, 1])),
        ("swiglu_split: expected one shape", |t| t.b.swiglu_split(t.x, t.tall)),
        ("input y: expected f32, f16, i32 or i64", |t| t.b.input("y", DType::Q8_0, ne(&[32]))),
        ("y: expected a possible shape", |t| t.b.input("y", DType::F32, ne(&[4, 0]))),
        ("y: expected a possible shape", |t| t.b.input("y", DType::F32, [1 << 30, 1 << 30, 1 << 30, 1])),
    ];
    for (expected, wrong) in cases {
        let mut bench = bench();
        let found = panic_of(|| wrong(&mut bench));
        assert!(found.starts_with(expected), "expected {expected:?}, found {found:?}");
    }
    for (n_dims, base) in [(3, 1e4), (6, 1e4), (0, 1e4), (4, 0.0), (4, f32::INFINITY)] {
        let mut bench = bench();
        let heads = bench.b.reshape(bench.x, [4, 1, 3, 1]);
        let found = panic_of(|| bench.b.rope(heads, bench.ids, rope(n_dims, base)));
        assert!(found.starts_with("rope: expected"), "{n_dims} {base}: {found:?}");
    }
}

#[test]
fn tensors_of_other_arenas_are_refused() {
    let (mut mine, other) = (bench(), bench());
    for foreign in [other.x, other.w, other.cache] {
        let found = panic_of(|| mine.b.add(mine.x, foreign));
        assert!(found.starts_with("add: expected a tensor of this graph"), "{found:?}");
    }
    // A handle outlives its arena without meeting the next one.
    let stale = other.x;
    drop(other);
    let mut next = bench();
    assert!(panic_of(|| next.b.add(stale, stale)).starts_with("add: expected a tensor of this graph"));
    let memory = Memory::new(&Backend::cpu(1).unwrap(), &[]).unwrap();
    assert!(panic_of(|| next.b.attach_memory(&memory)).contains("of the same backend"));
    assert!(panic_of(|| next.b.output(next.w)).starts_with("output: expected a node of this graph"));
    let of_memory = next.b.view_1d(next.cache, 4, 0);
    assert!(panic_of(|| next.b.output(of_memory)).starts_with("output: expected values of this graph"));
}

#[test]
fn a_full_graph_panics() {
    let backend = Backend::cpu(1).unwrap();
    let mut b = GraphBuilder::new(&backend, 3).unwrap();
    let mut x = b.input("x", DType::F32, ne(&[2]));
    for _ in 0..3 {
        x = b.scale(x, 2.0);
    }
    assert!(panic_of(|| b.scale(x, 2.0)).starts_with("scale: at most 3 nodes"));
    let mut b = GraphBuilder::new(&backend, 2).unwrap();
    for _ in 0..2 {
        b.input("x", DType::F32, ne(&[2]));
    }
    assert!(panic_of(|| b.input("x", DType::F32, ne(&[2]))).starts_with("input: at most 2 nodes"));
    for n in [0, usize::MAX] {
        assert!(panic_of(|| GraphBuilder::new(&backend, n).err()).starts_with("graph: expected 1 to"));
        assert!(panic_of(|| Executor::new(&backend, n).err()).starts_with("executor: expected 1 to"));
    }
}

#[test]
fn the_executor_checks_what_it_is_given() {
    let backend = Backend::cpu(1).unwrap();
    let memory = Memory::new(&backend, &[("k", DType::F32, ne(&[2, 4]))]).unwrap();
    let mut b = GraphBuilder::new(&backend, 8).unwrap();
    b.attach_memory(&memory);
    let table = b.input("table", DType::F32, ne(&[2, 5]));
    let ids = b.input("ids", DType::I32, ne(&[2]));
    let unused = b.input("unused", DType::F16, ne(&[3]));
    let rows = b.get_rows(table, ids);
    let written = b.set_rows(memory.tensor("k").unwrap(), rows, ids);
    let out = b.scale(written, 1.0);
    b.output(out);
    b.output(out);
    let mut executor = Executor::new(&backend, 8).unwrap();
    assert!(panic_of(|| executor.compute(&Cancel::new())).contains("expected a loaded graph"));
    executor.load(b.build()).unwrap();

    // The smaller of the two tables limits the numbers.
    for row in [-1, 4, 5, i32::MIN, i32::MAX] {
        let error = executor.set_i32(ids, &[0, row]).unwrap_err().to_string();
        assert_eq!(error, format!("ids: expected a row below 4, found {row}"));
    }
    assert!(
        panic_of(|| executor.set_f32(table, &[0.0])).contains("expected 10 values of f32, found 1 of f32")
    );
    assert!(
        panic_of(|| executor.set_i64(table, &[0; 10])).contains("expected 10 values of f32, found 10 of i64")
    );
    assert!(panic_of(|| executor.set_f32(out, &[0.0; 8])).contains("expected an input of the loaded graph"));
    assert!(panic_of(|| executor.read_f32(out, &mut [0.0; 8])).contains("expected a computed graph"));
    executor.set_f32(table, &[1.0; 10]);
    executor.set_f16(unused, &[0; 3]);
    assert!(panic_of(|| executor.compute(&Cancel::new())).contains("input ids was never set"));
    executor.set_i32(ids, &[0, 3]).unwrap();
    executor.compute(&Cancel::new()).unwrap();
    assert!(panic_of(|| executor.read_f32(rows, &mut [0.0; 4])).contains("expected an output"));
    assert!(panic_of(|| executor.read_f32(out, &mut [0.0; 7])).contains("expected 7 values"));
    let mut values = [9.0; 8];
    executor.read_f32(out, &mut values).unwrap();
    assert_eq!(values, [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]);

    let small = GraphBuilder::new(&backend, 64).map(|mut b| {
        for _ in 0..40 {
            b.input("x", DType::F32, ne(&[1]));
        }
        b.build()
    });
    assert!(panic_of(|| executor.load(small.unwrap())).starts_with("load: at most 34 tensors"));
}

#[test]
fn weights_are_never_written() {
    let backend = Backend::cpu(1).unwrap();
    let spec = TensorSpec {
        name: "w".into(),
        dtype: DType::F32,
        ne: ne(&[2, 4]),
        offset: 0,
        place: Place::Cpu,
        turn: None,
    };
    let weights = Weights::new(&backend, Bytes::from(vec![0; 64]), &[spec]).unwrap();
    let w = weights.tensor("w").unwrap();
    let mut b = GraphBuilder::new(&backend, 8).unwrap();
    b.attach_weights(&weights);
    let x = b.input("x", DType::F32, ne(&[2, 4]));
    let ids = b.input("ids", DType::I32, ne(&[4]));
    let view = b.reshape(w, [2, 4, 1, 1]);
    for target in [w, view] {
        assert!(
            panic_of(|| b.set_rows(target, x, ids)).starts_with("set_rows: expected a destination in memory")
        );
        assert!(panic_of(|| b.cpy(x, target)).starts_with("cpy: expected a destination in memory"));
    }
}
