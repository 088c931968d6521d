//! Attention against its plain loops and against sums in f64, on whatever instructions this CPU has.

use ggml::{Arg, custom, quantize};

use super::super::self_check::Numbers;
use super::super::simd::Simd;
use super::super::weights::WeightType;
use super::*;

const N_HEAD: usize = 4;
const N_HEAD_KV: usize = 2;

/// Distance of a result from the one with all digits; values go from -1 to 1.
const F64_BOUND: f64 = 1e-6;

/// Keys and values of `n_cells` cells of 2 heads in a type that caches have.
struct Cache {
    kind: WeightType,
    head_dim: usize,
    n_cells: usize,
    /// As a cache lies in memory.
    bytes: [Vec<u8>; 2],
    /// The same in f32, `[n_embd_kv, n_cells]`.
    floats: [Vec<f32>; 2],
}

impl Cache {
    fn new(kind: WeightType, [head_dim, n_cells]: [usize; 2], numbers: &mut Numbers) -> Cache {
        let n = N_HEAD_KV * head_dim;
        let halves = [(); 2].map(|()| {
            let floats: Vec<f32> = (0..n * n_cells).map(|_| numbers.float()).collect();
            let mut bytes = vec![0; kind.row_bytes(floats.len()).unwrap()];
            quantize::quantize_rows(kind.dtype(), &floats, n, None, &mut bytes).unwrap();
            let mut floats = floats;
            quantize::dequantize(kind.dtype(), &bytes, &mut floats).unwrap();
            (bytes, floats)
        });
        let [(k, k_floats), (v, v_floats)] = halves;
        Cache { kind, head_dim, n_cells, bytes: [k, v], floats: [k_floats, v_floats] }
    }

    fn args(&self) -> [Arg<'_>; 2] {
        let n = (N_HEAD_KV * self.head_dim) as u64;
        let rows = [n, self.n_cells as u64, 1, 1];
        self.bytes.each_ref().map(|bytes| Arg::new(self.kind.dtype(), rows, bytes))
    }
}

/// Every type of cache: rows of (where a sequence begins, position) by the operation, and each row by the plain
/// loops.
fn check_cells(cache: &Cache, rows: &[(usize, usize)], numbers: &mut Numbers) {
    let head_dim = cache.head_dim;
    let heads = Heads { n_head: N_HEAD as u64, n_head_kv: N_HEAD_KV as u64, head_dim: head_dim as u64 };
    let width = N_HEAD * head_dim;
    let q: Vec<f32> = (0..width * rows.len()).map(|_| numbers.float() * 4.0).collect();
    let positions: Vec<i32> = rows.iter().map(|row| row.1 as i32).collect();
    let places: Vec<i64> = rows.iter().map(|row| (row.0 + row.1) as i64).collect();
    let vector = [rows.len() as u64, 1, 1, 1];
    let [k, v] = cache.args();
    let args = [
        Arg::of_f32([width as u64, rows.len() as u64, 1, 1], &q),
        k,
        v,
        Arg::of_i32(vector, &positions),
        Arg::of_i64(vector, &places),
    ];
    let run = |simd, n_threads| {
        let mut found = vec![f32::NAN; q.len()];
        let op = AttendCells { simd, heads };
        custom::run_alone(&op, &args, [width, rows.len()], &mut found, n_threads);
        found
    };
    let expected = run(None, 1);
    for (simd, n_threads) in Simd::available().into_iter().flat_map(|simd| [(simd, 1), (simd, 3)]) {
        let found = run(Some(simd), n_threads);
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!(
                found.to_bits() == expected.to_bits(),
                "{} {:?}, heads of {head_dim}, {:?}, element {} of row {}: expected {expected}, found {found}",
                simd.name(),
                cache.kind,
                rows,
                i % width,
                i / width
            );
        }
    }
    for (i, found) in expected.chunks_exact(head_dim).enumerate() {
        let (head, (first, pos)) = (i % N_HEAD, rows[i / N_HEAD]);
        let truth = in_f64(&q[i * head_dim..][..head_dim], cache, first..first + pos + 1, head / 2);
        for (found, truth) in found.iter().zip(truth) {
            let error = (f64::from(*found) - truth).abs();
            assert!(error < F64_BOUND, "head {head} at {pos}: expected {truth}, found {found}: {error:e}");
        }
    }
}

/// softmax(q k) v with all digits.
fn in_f64(q: &[f32], cache: &Cache, cells: std::ops::Range<usize>, head: usize) -> Vec<f64> {
    let row = |half: usize, cell: usize| {
        let at = (cell * N_HEAD_KV + head) * cache.head_dim;
        cache.floats[half][at..][..cache.head_dim].iter().map(|&v| f64::from(v))
    };
    let scale = 1.0 / (cache.head_dim as f64).sqrt();
    let score = |cell| q.iter().zip(row(0, cell)).map(|(&q, k)| f64::from(q) * k).sum::<f64>() * scale;
    let scores: Vec<f64> = cells.clone().map(score).collect();
    let highest = scores.iter().copied().fold(f64::MIN, f64::max);
    let shares: Vec<f64> = scores.iter().map(|s| (s - highest).exp()).collect();
    let weight: f64 = shares.iter().sum();
    let mut sums = vec![0.0; cache.head_dim];
    for (cell, share) in cells.zip(shares) {
        for (sum, v) in sums.iter_mut().zip(row(1, cell)) {
            *sum += share / weight * v;
        }
    }
    sums
}

/// One row, few, a group, more than a tile; within a block, at its edges, over several.
#[test]
fn cached_cells_equal_the_plain_loops() {
    let mut numbers = Numbers(5);
    for kind in [WeightType::F16, WeightType::F32, WeightType::Q8_0] {
        let cache = Cache::new(kind, [32, 4 * KEYS], &mut numbers);
        for (first, n) in [(0, 1), (254, 1), (255, 1), (256, 1), (700, 2), (0, 5), (250, 17), (500, 70)] {
            let rows: Vec<_> = (first..first + n).map(|pos| (0, pos)).collect();
            check_cells(&cache, &rows, &mut numbers);
        }
        // Two sequences in turn, and one alone.
        let rows = [(0, 3), (512, 300), (512, 301), (0, 4)];
        check_cells(&cache, &rows, &mut numbers);
        let rows: Vec<(usize, usize)> =
            (0..9).map(|i| (0, 250 + i)).chain((0..7).map(|i| (256, i))).collect();
        check_cells(&cache, &rows, &mut numbers);
        // Heads of many vectors, and of no whole ones where a type has such.
        let sizes: &[usize] = if kind == WeightType::Q8_0 { &[96, 128] } else { &[20, 76, 128] };
        for &head_dim in sizes {
            let cache = Cache::new(kind, [head_dim, KEYS + 50], &mut numbers);
            for (first, n) in [(0, 1), (11, 1), (255, 1), (287, 3), (60, 7)] {
                let rows: Vec<_> = (first..first + n).map(|pos| (0, pos)).collect();
                check_cells(&cache, &rows, &mut numbers);
            }
        }
    }
}

/// Heads at any place of their rows, of sizes that are no whole vectors, over several blocks and tiles.
#[test]
fn rows_among_themselves_equal_the_plain_loops() {
    let mut numbers = Numbers(6);
    for (head_dim, n_rows) in [(32, 65), (128, 263), (20, 81), (7, 3), (48, 1)] {
        let heads = Heads { n_head: 2, n_head_kv: 2, head_dim: head_dim as u64 };
        let n = 2 * head_dim;
        let qkv: Vec<f32> = (0..3 * n * n_rows).map(|_| numbers.float() * 2.0).collect();
        let alone: Vec<f32> = (0..n * n_rows).map(|_| numbers.float()).collect();
        let matrix = |values, n: usize| Arg::of_f32([n as u64, n_rows as u64, 1, 1], values);
        let (fused, alone) = (matrix(&qkv, 3 * n), matrix(&alone, n));
        for (args, first) in [([fused; 3], [0, n, 2 * n]), ([alone, fused, fused], [0, 2 * n, 0])] {
            let run = |simd, n_threads| {
                let mut found = vec![f32::NAN; n * n_rows];
                let op = AttendAll { simd, heads, first };
                custom::run_alone(&op, &args, [n, n_rows], &mut found, n_threads);
                found
            };
            let expected = run(None, 1);
            for simd in Simd::available() {
                let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
                let is_same = bits(run(Some(simd), 2)) == bits(expected.clone());
                assert!(is_same, "{} heads of {head_dim}, {n_rows} rows", simd.name());
            }
        }
    }
}

/// What is no number makes the rows that see it no numbers. Of the others it reaches at most those that stand beside
/// them in a group of sixteen, for which it counts as zero times its value.
#[test]
fn poison_stays_poison() {
    let heads = Heads { n_head: 1, n_head_kv: 1, head_dim: 32 };
    let n_rows = 300;
    for (poison, poisoned) in [(f32::NAN, 17), (f32::INFINITY, 290)] {
        let mut values = vec![0.5; 32 * n_rows];
        values[32 * poisoned + 3] = poison;
        let (positions, places): (Vec<i32>, Vec<i64>) = (0..n_rows as i32).map(|i| (i, i64::from(i))).unzip();
        let queries = vec![1.0; values.len()];
        let matrix = |values| Arg::of_f32([32, n_rows as u64, 1, 1], values);
        let vector = [n_rows as u64, 1, 1, 1];
        let args = [
            matrix(&queries),
            matrix(&values),
            matrix(&values),
            Arg::of_i32(vector, &positions),
            Arg::of_i64(vector, &places),
        ];
        for simd in Simd::available().into_iter().map(Some).chain([None]) {
            let mut found = vec![0.0; values.len()];
            custom::run_alone(&AttendCells { simd, heads }, &args, [32, n_rows], &mut found, 1);
            for (row, found) in found.chunks_exact(32).enumerate() {
                let is_number = found.iter().all(|v| v.is_finite());
                let expected = match row {
                    _ if row >= poisoned => false,
                    _ if row < poisoned / 16 * 16 || simd.is_none() => true,
                    _ => continue,
                };
                assert!(is_number == expected, "{poison} in {poisoned}, row {row}: {found:?}");
            }
        }
    }
}
