//! Whether a kernel computes on this very machine what the plain loops say: a few milliseconds at start-up, on
//! every type, with whole and broken panels, chunks and tiles, on every pass and on attention. Also what the tests compare
//! with.

use ggml::{Arg, DType, custom};

use super::attention;
use super::ops::{Against, Multiply, Pack};
use super::packed::{BLOCK, Layout, pack_plain};
use super::passes::{Curve, LANES, Row, Statistics, To, pass_plain};
use super::plain::{dot_floats, dot_packed};
use super::simd::Simd;
use super::weights::{Class, WeightType, blocks_plain, values_plain};

/// Whether all products, passes and attention of `simd` have the right bits.
pub fn agrees(simd: Simd) -> bool {
    products_agree(simd) && passes_agree(simd) && attention::agrees(simd)
}

fn products_agree(simd: Simd) -> bool {
    Against::of_all_types().all(|(kind, against)| {
        // A whole panel of any kernel and a row, whole chunks and half a one. Integers as floats differ from floats in
        // how they are taken apart, for which one column is enough.
        let (n_in, n_out, n) = match (against, kind.class()) {
            (Against::Packed, _) => (768, 33, 9),
            (Against::F32, Class::Float) => (384, 33, 9),
            (Against::F32, _) => (512, 33, 1),
        };
        let mut numbers = Numbers(n_in as u64);
        let rows = wild_rows(kind, n_in, n_out, &mut numbers);
        let values: Vec<f32> = (0..n_in * n).map(|_| numbers.float()).collect();
        let expected = plain_product((kind, against), n_in, &rows, &values);
        // One column has kernels of its own.
        [n, 1].into_iter().all(|n| {
            let found = product(simd, (kind, against), n_in, &rows, &values[..n_in * n], 1);
            found.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits())
        })
    })
}

fn passes_agree(simd: Simd) -> bool {
    let mut numbers = Numbers(1);
    let values = [20.0, 2.0, 3.0, 4.0]
        .map(|size| -> Vec<f32> { (0..5 * BLOCK).map(|_| numbers.float() * size).collect() });
    // Whole blocks, packed and not, and a row that is no whole vectors.
    let whole = rows_of_all_kinds(values.each_ref().map(|v| &v[..]));
    let broken = rows_of_all_kinds(values.each_ref().map(|v| &v[..2 * LANES + 7]));
    let bits = |values: Vec<f32>| -> Vec<u32> { values.into_iter().map(f32::to_bits).collect() };
    whole.iter().all(|row| packed(Some(simd), row) == packed(None, row))
        && [whole, broken]
            .iter()
            .flatten()
            .all(|row| bits(floats(Some(simd), row)) == bits(floats(None, row)))
}

/// Every kind of row, with and without what may be missing, of four slices of one length.
pub fn rows_of_all_kinds<'a>([x, other, weight, bias]: [&'a [f32]; 4]) -> Vec<Row<'a>> {
    let mut rows = vec![Row::Gate { gate: x, up: other }];
    for bias in [None, Some(bias)] {
        rows.extend([false, true].map(|is_centred| {
            let statistics = Statistics { is_centred, eps: 1e-6 };
            Row::Norm { statistics, x, weight, bias }
        }));
        rows.extend([Curve::Gelu, Curve::QuickGelu].map(|curve| Row::Curve { curve, x, bias }));
        rows.extend([None, Some(weight)].map(|scale| Row::Join { hidden: other, branch: x, bias, scale }));
    }
    rows
}

/// A row as f32, by `simd` or by the plain loops.
pub fn floats(simd: Option<Simd>, row: &Row<'_>) -> Vec<f32> {
    let mut values = vec![f32::NAN; row.n()];
    let to = To::Floats(&mut values);
    match simd {
        Some(simd) => simd.pass(row, to),
        None => pass_plain(row, to),
    }
    values
}

/// A row of whole blocks as a packed column, by `simd` or by the plain loops.
pub fn packed(simd: Option<Simd>, row: &Row<'_>) -> Vec<u8> {
    let mut bytes = vec![1; Layout::new(row.n()).map_or(0, Layout::column_bytes)];
    let to = To::Packed(&mut bytes);
    match simd {
        Some(simd) => simd.pass(row, to),
        None => pass_plain(row, to),
    }
    bytes
}

/// Numbers that look random and are the same everywhere.
pub struct Numbers(pub u64);

impl Numbers {
    /// SplitMix64.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// From -1 to 1.
    pub fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Rows with every code and every scale a file can hold: random bytes, but no floats beyond numbers.
pub fn wild_rows(kind: WeightType, n_in: usize, n_out: usize, numbers: &mut Numbers) -> Vec<u8> {
    let bytes = kind.row_bytes(n_in).unwrap_or(0) * n_out;
    let mut rows: Vec<u8> = (0..bytes).map(|_| numbers.bits() as u8).collect();
    let (_, block) = kind.block();
    let floats: &[usize] = match kind {
        WeightType::Q4_0 | WeightType::Q5_0 | WeightType::Q8_0 | WeightType::Iq4Nl => &[0],
        WeightType::Q4_1 | WeightType::Q5_1 | WeightType::Q4K | WeightType::Q5K => &[0, 2],
        WeightType::Q6K => &[208],
        WeightType::F16 | WeightType::Bf16 => &[0],
        WeightType::F32 => &[2],
    };
    for at in rows.chunks_exact_mut(block) {
        for &float in floats {
            at[float + 1] = at[float + 1] & 0x80 | 0x20 | at[float + 1] & 0x07;
        }
    }
    rows
}

/// `rows` of `n_in` elements times the columns of `values`, by the plain loops: `[n_out, n_columns]`.
pub fn plain_product(
    (kind, against): (WeightType, Against),
    n_in: usize,
    rows: &[u8],
    values: &[f32],
) -> Vec<f32> {
    let row_bytes = kind.row_bytes(n_in).unwrap_or(1);
    let n_out = rows.len() / row_bytes;
    let rows = rows.chunks_exact(row_bytes);
    let columns = values.chunks_exact(n_in);
    let mut sums = vec![f32::NAN; n_out * columns.len()];
    // Each row is taken apart once.
    match Layout::new(n_in).filter(|_| against == Against::Packed) {
        Some(layout) => {
            let mut packed = vec![0; layout.column_bytes() * columns.len()];
            let packed_columns = packed.chunks_exact_mut(layout.column_bytes());
            columns.zip(packed_columns).for_each(|(column, packed)| pack_plain(column, packed));
            for (r, row) in rows.enumerate() {
                let row = blocks_plain(kind, row);
                for (c, column) in packed.chunks_exact(layout.column_bytes()).enumerate() {
                    sums[c * n_out + r] = dot_packed(&row, column, layout);
                }
            }
        }
        None => {
            for (r, row) in rows.enumerate() {
                let row = values_plain(kind, row);
                for (c, column) in columns.clone().enumerate() {
                    sums[c * n_out + r] = dot_floats(&row, column);
                }
            }
        }
    }
    sums
}

/// The same by kernels, on `n_threads` threads.
pub fn product(
    simd: Simd,
    (kind, against): (WeightType, Against),
    n_in: usize,
    rows: &[u8],
    values: &[f32],
    n_threads: usize,
) -> Vec<f32> {
    let n = values.len() / n_in;
    let n_out = rows.len() / kind.row_bytes(n_in).unwrap_or(1);
    let mut sums = vec![f32::NAN; n_out * n];
    let shape = |rows: usize, columns: usize| [rows as u64, columns as u64, 1, 1];
    let weights = Arg::new(kind.dtype(), shape(n_in, n_out), rows);
    let floats = Arg::of_f32(shape(n_in, n), values);
    let op = Multiply { simd, kind, against };
    let mut multiply =
        |columns| custom::run_alone(&op, &[weights, columns], [n_out, n], &mut sums, n_threads);
    match Layout::new(n_in).filter(|_| against == Against::Packed) {
        None => multiply(floats),
        Some(layout) => {
            let mut packed = vec![0i8; layout.column_bytes() * n];
            custom::run_alone(&Pack { simd }, &[floats], [layout.column_bytes(), n], &mut packed, n_threads);
            let packed: Vec<u8> = packed.into_iter().map(|byte| byte as u8).collect();
            multiply(Arg::new(DType::I8, shape(layout.column_bytes(), n), &packed));
        }
    }
    sums
}
