//! Whether attention computes on this very machine what its plain loops say: a part of the self-check at start-up.

use ggml::{Arg, custom};

use super::super::self_check::{Numbers, wild_rows};
use super::super::simd::Simd;
use super::super::weights::WeightType;
use super::{AttendCells, Heads, KEYS};

/// A query alone, and queries side by side of which some see a block of keys more than others, over every type of
/// cache.
pub fn agrees(simd: Simd) -> bool {
    const HEAD_DIM: usize = 32;
    // As few as make a group of lanes: the plain loops are what takes the time here.
    const SIDE_BY_SIDE: usize = 6;
    let heads = Heads { n_head: 1, n_head_kv: 1, head_dim: HEAD_DIM as u64 };
    let (n_cells, first) = (KEYS + 8, KEYS - 3);
    let mut numbers = Numbers(2);
    let queries: Vec<f32> = (0..HEAD_DIM * SIDE_BY_SIDE).map(|_| numbers.float() * 2.0).collect();
    [WeightType::F16, WeightType::F32, WeightType::Q8_0].into_iter().all(|kind| {
        let mut rows = wild_rows(kind, HEAD_DIM, n_cells, &mut numbers);
        if kind == WeightType::F32 {
            // The second block is louder, so that its maximum lowers what the first one left.
            for (i, value) in rows.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                let size = if i < KEYS * HEAD_DIM { 1.0 } else { 16.0 };
                *value = (numbers.float() * size).to_ne_bytes();
            }
        }
        let cells = Arg::new(kind.dtype(), [HEAD_DIM as u64, n_cells as u64, 1, 1], &rows);
        [1, SIDE_BY_SIDE].into_iter().all(|n| {
            let positions: Vec<i32> = (first as i32..).take(n).collect();
            let places: Vec<i64> = (first as i64..).take(n).collect();
            let vector = [n as u64, 1, 1, 1];
            let queries = Arg::of_f32([HEAD_DIM as u64, n as u64, 1, 1], &queries[..HEAD_DIM * n]);
            let (positions, places) = (Arg::of_i32(vector, &positions), Arg::of_i64(vector, &places));
            let attend = |simd| {
                let mut sums = vec![f32::NAN; HEAD_DIM * n];
                let op = AttendCells { simd, heads };
                let args = [queries, cells, cells, positions, places];
                custom::run_alone(&op, &args, [HEAD_DIM, n], &mut sums, 1);
                sums
            };
            attend(Some(simd)).iter().zip(attend(None)).all(|(a, b)| a.to_bits() == b.to_bits())
        })
    })
}
