//! How fast products of each type of weights are, by number of columns, beside what the machine can do.
//!
//! `cargo bench --bench products` goes over all integer types; `-- q4_0 q8_0` over these. The matrix is as wide as the text
//! half's and larger than a cache. A line has the rate of products, of bytes of weights read, and the share of the limit.

use std::time::Instant;

use ggml::custom::run_alone;
use ggml::{Arg, DType};
use owlet::kernels::{Arithmetic, Kernels, Product};
use owlet::measure::Limits;

type Failure = Box<dyn std::error::Error>;

const N_IN: usize = 5120;
/// What all weights are made of: as half floats it is 0.08, as codes it is unlike zero. Products of integers take no longer for
/// others.
const BYTE: u8 = 0x2d;
/// Multiplications and additions that a measurement takes at least, and rows that it has at least.
const LEAST_OPERATIONS: f64 = 2e9;
const LEAST_ROWS: usize = 1536;
/// Bytes of weights where they are read for a few columns only.
const BYTES: usize = 128 << 20;
const REPETITIONS: usize = 7;
const COLUMNS: [usize; 7] = [1, 2, 4, 8, 16, 128, 1025];

const TYPES: [DType; 9] = [
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::Q4_K,
    DType::Q5_K,
    DType::Q6_K,
    DType::Q8_0,
    DType::IQ4_NL,
];

fn main() -> Result<(), Failure> {
    // Cargo adds --bench to what the user gives.
    let names: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let n_threads = std::thread::available_parallelism()?.get();
    let kernels = Kernels::of_this_machine(Arithmetic::Packed);
    println!("{kernels}, {n_threads} threads");
    for dtype in TYPES.into_iter().filter(|dtype| names.is_empty() || names.contains(&dtype.to_string())) {
        let before = Limits::measure(n_threads, 512 << 20)?;
        let seconds = COLUMNS.map(|n| (n, seconds(&kernels, dtype, n, n_threads)));
        let after = Limits::measure(n_threads, 512 << 20)?;
        let limits = before.zip(after).map(|(before, after)| before.max(&after));
        for (n, seconds) in seconds {
            let Some((seconds, n_rows)) = seconds else { continue };
            let operations = 2.0 * (N_IN * n_rows * n) as f64;
            let bytes = (dtype.tensor_bytes([N_IN as u64, n_rows as u64, 1, 1]).unwrap_or(0)) as f64;
            let least = limits.map(|limits| {
                let rate = if dtype == DType::Q8_0 { limits.madd1_gop_s } else { limits.madd8_gop_s };
                (operations / rate).max(bytes / limits.read_gb_s) / 1e9
            });
            let share = least
                .map_or(String::new(), |least| format!("{:>5.0}% of the limit", 100.0 * least / seconds));
            let (rate, read) = (operations / seconds / 1e9, bytes / seconds / 1e9);
            println!("{dtype:<7} {n:>5} columns {rate:>7.1} GOP/s {read:>7.2} GB/s {share}");
        }
    }
    Ok(())
}

/// The median time of a product with `n` columns, and the rows of its matrix.
fn seconds(kernels: &Kernels, dtype: DType, n: usize, n_threads: usize) -> Option<(f64, usize)> {
    let row_bytes = dtype.tensor_bytes([N_IN as u64, 1, 1, 1])? as usize;
    let least = (LEAST_OPERATIONS / (2 * N_IN * n) as f64) as usize;
    let n_rows = least.clamp(LEAST_ROWS, BYTES / row_bytes).next_multiple_of(64);
    let floats: Vec<f32> = (0..N_IN * n).map(|i| ((i * 7919 % 2003) as f32 - 1001.0) / 500.0).collect();
    let rows = vec![BYTE; row_bytes * n_rows];
    let columns = kernels.pack(N_IN as u64)?;
    let Product::OfPacked(product) = kernels.product(dtype, N_IN as u64)? else { return None };
    let shape = |rows: usize, columns: usize| [rows as u64, columns as u64, 1, 1];
    let mut packed = vec![0i8; columns.column_bytes as usize * n];
    let values = Arg::of_f32(shape(N_IN, n), &floats);
    run_alone(&*columns.op, &[values], [columns.column_bytes as usize, n], &mut packed, n_threads);
    let packed: Vec<u8> = packed.into_iter().map(|code| code as u8).collect();
    let args = [
        Arg::new(dtype, shape(N_IN, n_rows), &rows),
        Arg::new(DType::I8, shape(columns.column_bytes as usize, n), &packed),
    ];
    let mut sums = vec![0f32; n_rows * n];
    let mut seconds: Vec<f64> = (0..=REPETITIONS)
        .map(|_| {
            let started = Instant::now();
            run_alone(&*product, &args, [n_rows, n], &mut sums, n_threads);
            started.elapsed().as_secs_f64()
        })
        .skip(1)
        .collect();
    seconds.sort_by(f64::total_cmp);
    Some((seconds[REPETITIONS / 2], n_rows))
}
