//! Operations of ours in graphs: every element once, at any cut and number of threads, as often as wanted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::misuse::panic_of;
use super::{matrix, ne, noise};
use crate::custom::run_alone;
use crate::{
    Arg, Backend, Cancel, CustomOp, DType, Error, Executor, GraphBuilder, Memory, Tensor, Tile, TileShape,
};

const CUTS: [TileShape; 6] = [
    TileShape::WHOLE,
    TileShape::new(1, 1),
    TileShape::new(3, 2),
    TileShape::rows(4),
    TileShape::columns(2),
    TileShape::new(1000, 1000),
];

/// A closure that computes one element from the arguments, its row and its column.
struct Each<F>(TileShape, F);

impl<F: Fn(&[Arg<'_>], usize, usize) -> f32 + Send + Sync> CustomOp for Each<F> {
    fn tile(&self, _: [usize; 2]) -> TileShape {
        self.0
    }

    fn run(&self, args: &[Arg<'_>], tile: &mut Tile<'_>) {
        for column in tile.columns() {
            let rows = tile.rows();
            for (value, row) in tile.column_f32(column).iter_mut().zip(rows) {
                *value = self.1(args, row, column);
            }
        }
    }
}

fn each(
    cut: TileShape,
    f: impl Fn(&[Arg<'_>], usize, usize) -> f32 + Send + Sync + 'static,
) -> Arc<dyn CustomOp> {
    Arc::new(Each(cut, f))
}

/// x of [rows, columns] plus the place of each element.
fn plus_place(cut: TileShape) -> Arc<dyn CustomOp> {
    each(cut, |args, row, column| {
        let n_rows = args[0].ne()[0] as usize;
        args[0].f32s()[column * n_rows + row] + (row * 1000 + column) as f32
    })
}

fn read(executor: &Executor, tensor: Tensor, n: usize) -> Vec<f32> {
    let mut values = vec![f32::NAN; n];
    executor.read_f32(tensor, &mut values).unwrap();
    values
}

#[test]
fn every_element_is_computed_at_any_cut() {
    let sizes: [[usize; 2]; 6] = [[1, 1], [5, 1], [1, 7], [7, 5], [8, 4], [33, 17]];
    for n_threads in [1, 2, 3] {
        let backend = Backend::cpu(n_threads).unwrap();
        for [n_rows, n_columns] in sizes {
            let values = noise(5, n_rows * n_columns);
            let place = |i: usize| (i % n_rows * 1000 + i / n_rows) as f32;
            let expected: Vec<f32> = values.iter().enumerate().map(|(i, x)| x + place(i)).collect();
            for cut in CUTS {
                let what = format!("{n_rows} x {n_columns} by {cut:?} on {n_threads} threads");
                let shape = ne(&[n_rows as u64, n_columns as u64]);
                for make in [Executor::new, Executor::reproducible] {
                    let mut b = GraphBuilder::new(&backend, 8).unwrap();
                    let x = b.input("x", DType::F32, shape);
                    let y = b.custom("y", DType::F32, shape, &[x], plus_place(cut));
                    b.output(y);
                    let mut executor = make(&backend, 8).unwrap();
                    executor.load(b.build()).unwrap();
                    executor.set_f32(x, &values);
                    executor.compute(&Cancel::new()).unwrap();
                    assert_eq!(read(&executor, y, values.len()), expected, "{what}");
                }
                let mut alone = vec![f32::NAN; values.len()];
                let args = [Arg::of_f32(shape, &values)];
                run_alone(&*plus_place(cut), &args, [n_rows, n_columns], &mut alone, n_threads);
                assert_eq!(alone, expected, "{what}, alone");
            }
        }
    }
}

#[test]
fn each_tile_runs_once() {
    let backend = Backend::cpu(3).unwrap();
    for (cut, n_tiles) in CUTS.into_iter().zip([1, 35, 9, 2, 3, 1]) {
        let counts: Arc<Vec<AtomicUsize>> = Arc::new((0..35).map(|_| AtomicUsize::new(0)).collect());
        let in_op = Arc::clone(&counts);
        let op = each(cut, move |_, row, column| {
            in_op[column * 7 + row].fetch_add(1, Ordering::Relaxed);
            0.0
        });
        let mut b = GraphBuilder::new(&backend, 8).unwrap();
        let x = b.input("x", DType::F32, ne(&[1]));
        b.custom("y", DType::F32, ne(&[7, 5]), &[x], op);
        let mut executor = Executor::new(&backend, 8).unwrap();
        executor.load(b.build()).unwrap();
        executor.set_f32(x, &[0.0]);
        for n_computes in 1..4 {
            executor.compute(&Cancel::new()).unwrap();
            let found: Vec<_> = counts.iter().map(|n| n.load(Ordering::Relaxed)).collect();
            assert_eq!(found, [n_computes; 35], "{cut:?}");
        }
        assert_eq!(crate::custom::Grid::new(DType::F32, [7, 5], cut).n_tiles(), n_tiles, "{cut:?}");
    }
}

/// Waits for `done`, which other threads bring about, for a while.
fn wait_for(done: impl Fn() -> bool) -> bool {
    let started = Instant::now();
    while !done() && started.elapsed() < Duration::from_secs(20) {
        thread::yield_now();
    }
    done()
}

#[test]
fn a_slow_tile_leaves_the_others_to_other_threads() {
    let n = 16;
    let slow_tile = |n_done: Arc<AtomicUsize>| {
        each(TileShape::rows(1), move |_, row, _| {
            let others_were_done = row > 0 || wait_for(|| n_done.load(Ordering::Relaxed) == n - 1);
            n_done.fetch_add(usize::from(row > 0), Ordering::Relaxed);
            f32::from(u8::from(others_were_done))
        })
    };
    let n_done = Arc::new(AtomicUsize::new(0));
    let backend = Backend::cpu(2).unwrap();
    let mut b = GraphBuilder::new(&backend, 8).unwrap();
    let x = b.input("x", DType::F32, ne(&[1]));
    let y = b.custom("y", DType::F32, ne(&[n as u64]), &[x], slow_tile(Arc::clone(&n_done)));
    b.output(y);
    let mut executor = Executor::new(&backend, 8).unwrap();
    executor.load(b.build()).unwrap();
    executor.set_f32(x, &[0.0]);
    for _ in 0..3 {
        n_done.store(0, Ordering::Relaxed);
        executor.compute(&Cancel::new()).unwrap();
        assert_eq!(read(&executor, y, n), [1.0; 16]);
    }
    let mut alone = [0.0; 16];
    run_alone(&*slow_tile(Arc::default()), &[], [n, 1], &mut alone, 2);
    assert_eq!(alone, [1.0; 16]);
}

#[test]
fn a_graph_of_single_tiles_stays_on_one_thread() {
    let backend = Backend::cpu(3).unwrap();
    let mut b = GraphBuilder::new(&backend, 128).unwrap();
    let x = b.input("x", DType::F32, ne(&[4]));
    let caller = thread::current().id();
    let mut y = x;
    for _ in 0..50 {
        let op = each(TileShape::WHOLE, move |args, row, _| {
            args[0].f32s()[row] + f32::from(u8::from(thread::current().id() == caller))
        });
        y = b.custom("y", DType::F32, ne(&[4]), &[y], op);
    }
    b.output(y);
    let mut executor = Executor::new(&backend, 128).unwrap();
    executor.load(b.build()).unwrap();
    executor.set_f32(x, &[0.0; 4]);
    executor.compute(&Cancel::new()).unwrap();
    assert_eq!(read(&executor, y, 4), [50.0; 4]);
}

/// Columns as f32 scale and bytes in one i8 tensor [4 + n, columns]: what a kernel for quantized weights reads.
struct Pack(usize);

impl CustomOp for Pack {
    fn tile(&self, _: [usize; 2]) -> TileShape {
        TileShape::columns(1)
    }

    fn run(&self, args: &[Arg<'_>], tile: &mut Tile<'_>) {
        for column in tile.columns() {
            let x = &args[0].f32s()[column * self.0..][..self.0];
            let scale = x.iter().fold(0.0f32, |max, x| max.max(x.abs())) / 127.0;
            let (head, rest) = tile.column_bytes(column).split_at_mut(4);
            head.copy_from_slice(&scale.to_ne_bytes());
            for (byte, x) in rest.iter_mut().zip(x) {
                *byte = (x / scale).round() as i8 as u8;
            }
        }
    }
}

/// The dot product of f32 rows with packed columns, through the pointer as SIMD code writes.
struct PackedProduct {
    n: usize,
    m: usize,
}

impl CustomOp for PackedProduct {
    fn tile(&self, _: [usize; 2]) -> TileShape {
        TileShape::new(2, 3)
    }

    fn run(&self, args: &[Arg<'_>], tile: &mut Tile<'_>) {
        let (w, packed) = (args[0].f32s(), args[1].bytes());
        assert_eq!((args[0].ne()[1], args[1].dtype()), (self.m as u64, DType::I8));
        let (rows, columns, stride) = (tile.rows(), tile.columns(), tile.column_stride());
        for (i, column) in columns.enumerate() {
            let (head, rest) = packed[column * (4 + self.n)..][..4 + self.n].split_at(4);
            let scale = f32::from_ne_bytes([head[0], head[1], head[2], head[3]]);
            for (j, row) in rows.clone().enumerate() {
                let w = &w[row * self.n..][..self.n];
                let sum: f32 = w.iter().zip(rest).map(|(w, &byte)| w * f32::from(byte as i8)).sum();
                // SAFETY: row j of column i of this tile.
                unsafe { tile.as_mut_ptr().add(i * stride).cast::<f32>().add(j).write(scale * sum) };
            }
        }
    }
}

#[test]
fn packed_activations_feed_another_operation() {
    let (n, m, n_columns) = (20, 7, 11);
    let (w_values, x_values) = (noise(1, n * m), noise(2, n * n_columns));
    let mut expected = vec![0.0; m * n_columns];
    for (y, x) in expected.chunks_mut(m).zip(x_values.chunks(n)) {
        let scale = x.iter().fold(0.0f32, |max, x| max.max(x.abs())) / 127.0;
        for (y, w) in y.iter_mut().zip(w_values.chunks(n)) {
            *y = scale * w.iter().zip(x).map(|(w, x)| w * (x / scale).round()).sum::<f32>();
        }
    }
    let backend = Backend::cpu(3).unwrap();
    let mut b = GraphBuilder::new(&backend, 16).unwrap();
    let w = b.input("w", DType::F32, ne(&[n as u64, m as u64]));
    let x = b.input("x", DType::F32, ne(&[n as u64, n_columns as u64]));
    let packed = ne(&[4 + n as u64, n_columns as u64]);
    // Between nodes of ggml, so that the allocator gives places away as in a real graph.
    let x1 = b.scale(x, 1.0);
    let q = b.custom("pack", DType::I8, packed, &[x1], Arc::new(Pack(n)));
    let product = || Arc::new(PackedProduct { n, m });
    let y0 = b.custom("gate", DType::F32, ne(&[m as u64, n_columns as u64]), &[w, q], product());
    let y1 = b.custom("up", DType::F32, ne(&[m as u64, n_columns as u64]), &[w, q], product());
    let y = b.add(y0, y1);
    let y = b.scale(y, 0.5);
    b.output(y);
    let mut executor = Executor::reproducible(&backend, 16).unwrap();
    executor.load(b.build()).unwrap();
    executor.set_f32(w, &w_values);
    executor.set_f32(x, &x_values);
    for _ in 0..3 {
        executor.compute(&Cancel::new()).unwrap();
        assert_eq!(read(&executor, y, expected.len()), expected);
    }
    let mut alone = vec![0i8; (4 + n) * n_columns];
    let args = [Arg::of_f32(ne(&[n as u64, n_columns as u64]), &x_values)];
    run_alone(&Pack(n), &args, [4 + n, n_columns], &mut alone, 2);
    assert_eq!(
        alone[4],
        (x_values[0] / f32::from_ne_bytes([0, 1, 2, 3].map(|i| alone[i] as u8))).round() as i8
    );
}

#[test]
fn arguments_are_what_the_graph_says() {
    let backend = Backend::cpu(2).unwrap();
    let (weights, w, held) = matrix(&backend, DType::Q8_0, 32, 4);
    let memory = Memory::new(&backend, &[("k", DType::F16, ne(&[4, 8]))]).unwrap();
    let cache = memory.tensor("k").unwrap();
    memory.write(cache, 0, &[7; 64]).unwrap();
    let mut b = GraphBuilder::new(&backend, 16).unwrap();
    b.attach_weights(&weights);
    b.attach_memory(&memory);
    let x = b.input("x", DType::F32, ne(&[4, 3, 2]));
    let ids = b.input("ids", DType::I32, ne(&[3]));
    let row = b.view_1d(x, 4, 16);
    let later = b.view_1d(cache, 4, 8);
    let op = each(TileShape::WHOLE, move |args, row, _| {
        let [w, x, ids, view, cache, later, again, _, last] = args else { panic!("{args:?}") };
        assert_eq!((w.dtype(), w.ne(), w.bytes().len()), (DType::Q8_0, [32, 4, 1, 1], 4 * 34));
        let mut values = vec![0.0; 128];
        crate::quantize::dequantize(DType::Q8_0, w.bytes(), &mut values).unwrap();
        assert_eq!(values, held);
        assert_eq!((x.ne(), x.f32s().len()), ([4, 3, 2, 1], 24));
        assert_eq!((ids.i32s(), view.f32s()), (&[5, 6, -7][..], &x.f32s()[4..8]));
        assert_eq!((cache.u16s()[0], cache.u16s().len()), (0x0707, 32));
        assert_eq!(later.bytes().as_ptr(), cache.bytes()[8..].as_ptr());
        assert_eq!(again.bytes().as_ptr(), last.bytes().as_ptr());
        row as f32
    });
    let y = b.custom("y", DType::F32, ne(&[2]), &[w, x, ids, row, cache, later, x, x, x], op);
    b.output(y);
    let mut executor = Executor::new(&backend, 16).unwrap();
    executor.load(b.build()).unwrap();
    executor.set_f32(x, &noise(3, 24));
    executor.set_i32(ids, &[5, 6, -7]).unwrap();
    executor.compute(&Cancel::new()).unwrap();
    assert_eq!(read(&executor, y, 2), [0.0, 1.0]);
}

#[test]
fn the_result_never_lies_over_an_argument() {
    let backend = Backend::cpu(2).unwrap();
    let shape = ne(&[64, 3]);
    let mut b = GraphBuilder::new(&backend, 128).unwrap();
    let x = b.input("x", DType::F32, shape);
    let mut y = b.scale(x, 1.0);
    for _ in 0..20 {
        // Reads the whole argument for each element, so that any overlap shows; ggml's own node may be in place.
        let op = each(TileShape::new(5, 1), |args, row, column| {
            let values = args[0].f32s();
            values[column * 64 + row] + values[191 - column * 64 - row] * 0.5
        });
        y = b.custom("mix", DType::F32, shape, &[y], op);
        y = b.scale(y, 0.5);
    }
    b.output(y);
    let mut expected = noise(9, 192);
    for _ in 0..20 {
        expected = (0..192).map(|i| (expected[i] + expected[191 - i] * 0.5) * 0.5).collect();
    }
    let mut executor = Executor::new(&backend, 128).unwrap();
    executor.load(b.build()).unwrap();
    executor.set_f32(x, &noise(9, 192));
    executor.compute(&Cancel::new()).unwrap();
    assert_eq!(read(&executor, y, 192), expected);
}

#[test]
fn a_panic_ends_the_computation_and_not_the_process() {
    let backend = Backend::cpu(3).unwrap();
    let memory = Memory::new(&backend, &[("k", DType::F32, ne(&[8]))]).unwrap();
    let broken = Arc::new(AtomicBool::new(true));
    let in_op = Arc::clone(&broken);
    let mut b = GraphBuilder::new(&backend, 16).unwrap();
    b.attach_memory(&memory);
    let x = b.input("x", DType::F32, ne(&[8]));
    let op = each(TileShape::rows(1), move |args, row, _| {
        if row == 5 && in_op.load(Ordering::Relaxed) {
            panic!("row {row} of {:?}", args[0]);
        }
        args[0].f32s()[row] * 2.0
    });
    let y = b.custom("blk.3.ffn_up", DType::F32, ne(&[8]), &[x], op);
    let y = b.scale(y, 2.0);
    b.cpy(y, memory.tensor("k").unwrap());
    let z = b.custom("after", DType::F32, ne(&[8]), &[y], plus_place(TileShape::WHOLE));
    b.output(z);
    let mut executor = Executor::new(&backend, 16).unwrap();
    executor.load(b.build()).unwrap();
    executor.set_f32(x, &[1.0; 8]);
    for is_broken in [true, false, true, true, false] {
        broken.store(is_broken, Ordering::Relaxed);
        let result = executor.compute(&Cancel::new());
        let mut bytes = [0; 32];
        memory.read(memory.tensor("k").unwrap(), 0, &mut bytes).unwrap();
        if is_broken {
            let text = result.unwrap_err().to_string();
            assert_eq!(text, "blk.3.ffn_up: the kernel panicked: row 5 of f32 [8, 1, 1, 1]");
            assert_eq!(bytes, [0; 32], "what follows the node did not run");
        } else {
            result.unwrap();
            assert_eq!(read(&executor, z, 8)[3], 3004.0);
            assert_eq!(bytes[..4], 4.0f32.to_ne_bytes());
            memory.write(memory.tensor("k").unwrap(), 0, &[0; 32]).unwrap();
        }
    }
    // Wrong types inside of an operation are such panics.
    let mut b = GraphBuilder::new(&backend, 16).unwrap();
    let x = b.input("x", DType::I32, ne(&[8]));
    b.custom("y", DType::F32, ne(&[8]), &[x], plus_place(TileShape::WHOLE));
    executor.load(b.build()).unwrap();
    executor.set_i32(x, &[0; 8]).unwrap();
    let text = executor.compute(&Cancel::new()).unwrap_err().to_string();
    assert_eq!(text, "y: the kernel panicked: expected an argument of f32, found i32 [8, 1, 1, 1]");
}

#[test]
fn a_cancelled_computation_runs_again() {
    let backend = Backend::cpu(2).unwrap();
    let mut b = GraphBuilder::new(&backend, 256).unwrap();
    let x = b.input("x", DType::F32, ne(&[16]));
    let n_slow = Arc::new(AtomicUsize::new(0));
    let mut y = x;
    for _ in 0..100 {
        let in_op = Arc::clone(&n_slow);
        let op = each(TileShape::rows(4), move |args, row, _| {
            if row == 0 && in_op.load(Ordering::Relaxed) < 50 {
                in_op.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(4));
            }
            args[0].f32s()[row] + 1.0
        });
        y = b.custom("slow", DType::F32, ne(&[16]), &[y], op);
    }
    b.output(y);
    let mut executor = Executor::new(&backend, 256).unwrap();
    executor.load(b.build()).unwrap();
    executor.set_f32(x, &[0.0; 16]);
    let cancel = Cancel::new();
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            while n_slow.load(Ordering::Relaxed) < 3 {
                thread::yield_now();
            }
            cancel.cancel();
        });
        executor.compute(&cancel)
    });
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    assert!(n_slow.load(Ordering::Relaxed) < 50, "stopped between nodes");
    for start in [1.0, 2.0] {
        executor.set_f32(x, &[start; 16]);
        executor.compute(&Cancel::new()).unwrap();
        assert_eq!(read(&executor, y, 16), [100.0 + start; 16]);
    }
}

/// An operation outlives the builder, in the graph, and goes with it.
#[test]
fn the_graph_keeps_its_operations() {
    let backend = Backend::cpu(1).unwrap();
    let op = plus_place(TileShape::WHOLE);
    let mut executor = Executor::new(&backend, 8).unwrap();
    let graph = |op: &Arc<dyn CustomOp>| {
        let mut b = GraphBuilder::new(&backend, 8).unwrap();
        let x = b.input("x", DType::F32, ne(&[2]));
        b.custom("y", DType::F32, ne(&[2]), &[x], Arc::clone(op));
        b.build()
    };
    executor.load(graph(&op)).unwrap();
    assert_eq!(Arc::strong_count(&op), 2);
    executor.load(graph(&op)).unwrap();
    assert_eq!(Arc::strong_count(&op), 2);
    drop(executor);
    assert_eq!(Arc::strong_count(&op), 1);
}

#[test]
fn wrong_nodes_and_tiles_panic() {
    let op = || plus_place(TileShape::WHOLE);
    let matrix = |n| ne(&[n, 3]);
    let backend = Backend::cpu(1).unwrap();
    let mut b = GraphBuilder::new(&backend, 16).unwrap();
    let x = b.input("x", DType::F32, matrix(4));
    let flipped = b.transpose(x);
    let other = GraphBuilder::new(&backend, 4).unwrap().input("other", DType::F32, matrix(4));
    let mut custom = |dtype, ne, args: &[Tensor]| panic_of(|| b.custom("y", dtype, ne, args, op()));
    let cases = [
        (custom(DType::F32, matrix(4), &[]), "y: expected 1 to 9 arguments, found 0"),
        (custom(DType::F32, matrix(4), &[x; 10]), "y: expected 1 to 9 arguments, found 10"),
        (
            custom(DType::F16, matrix(4), &[x]),
            "y: expected a result of f32 or i8 in rows and columns, found f16",
        ),
        (custom(DType::F32, ne(&[4, 1, 2]), &[x]), "y: expected a result of f32 or i8 in rows and columns"),
        (custom(DType::F32, matrix(0), &[x]), "y: expected a possible result, found f32 [0, 3, 1, 1]"),
        (custom(DType::F32, ne(&[1 << 30, 1 << 30]), &[x]), "y: expected a possible result"),
        (
            custom(DType::F32, matrix(4), &[x, flipped]),
            "y: expected contiguous arguments, found x (permuted)",
        ),
        (custom(DType::F32, matrix(4), &[other]), "y: expected a tensor of this graph"),
        (panic_of(|| TileShape::new(0, 1)), "tile: expected at least one row"),
        (
            panic_of(|| Arg::new(DType::Q8_0, ne(&[32]), &[0; 33])),
            "argument: expected the bytes of q8_0 [32, 1, 1, 1], found 33",
        ),
        (
            panic_of(|| Arg::of_f32(ne(&[2]), &[0.0; 3])),
            "argument: expected the bytes of f32 [2, 1, 1, 1], found 12",
        ),
        (
            panic_of(|| run_alone(&*op(), &[], [2, 2], &mut [0.0f32; 3], 1)),
            "run_alone: expected a result of [2, 2]",
        ),
        (
            panic_of(|| run_alone(&Misfit(0), &[], [4, 4], &mut [0.0f32; 16], 1)),
            "expected a column of 0..2, found 2",
        ),
        (
            panic_of(|| run_alone(&Misfit(1), &[], [4, 4], &mut [0i8; 16], 1)),
            "expected a result of f32, found i8",
        ),
        (
            panic_of(|| run_alone(&Misfit(2), &[], [4, 4], &mut [0i8; 16], 1)),
            "expected a column of 0..2, found",
        ),
    ];
    for (found, expected) in cases {
        assert!(found.starts_with(expected), "expected {expected:?}, found {found:?}");
    }
    run_alone(&Misfit(0), &[], [0, 4], &mut [0.0f32; 0], 2);
}

/// Reaches beyond its tile.
struct Misfit(usize);

impl CustomOp for Misfit {
    fn tile(&self, _: [usize; 2]) -> TileShape {
        TileShape::columns(2)
    }

    fn run(&self, _: &[Arg<'_>], tile: &mut Tile<'_>) {
        match self.0 {
            0 => drop(tile.column_f32(2)[0]),
            1 => drop(tile.column_f32(0)[0]),
            _ => drop(tile.column_bytes(usize::MAX)[0]),
        }
    }
}
