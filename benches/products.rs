//! How fast products of each type of weights are, by number of columns, beside what the machine can do.
//!
//! `cargo bench --bench products` goes over all integer types; `-- q4_0 q8_0` over these, `-- avx2 q4_0` by these kernels.
//! The matrix is as wide as the text half's and larger than a cache. A line has the rate of products, of bytes of weights
//! read, and the share of the limit.
//! `-- shapes` goes over the matrices of InternVL-Chat-V1-1 in its default types instead, each with as many columns as a
//! picture, a piece of a prompt and a token have.

use std::collections::HashSet;
use std::time::Instant;

use ggml::custom::run_alone;
use ggml::{Arg, DType};
use owlet::engine::PROMPT_ROWS;
use owlet::kernels::{Arithmetic, Kernels, Product};
use owlet::measure::{Limits, shape};
use owlet_convert::checkpoint::SourceType;
use owlet_convert::{Options, Recipe};
use owlet_format::{Part, Role};

type Failure = Box<dyn std::error::Error>;

const N_IN: usize = 5120;
/// What all weights are made of: as half floats it is 0.08, as codes it is unlike zero. Products of integers take no longer for
/// others.
const BYTE: u8 = 0x2d;
/// Multiplications and additions that a measurement takes at least, and rows that its matrix has at least.
const LEAST_OPERATIONS: f64 = 2e9;
const LEAST_ROWS: usize = 1536;
/// Bytes of weights where they are read for a few columns only: more than caches hold.
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
    let (kernels, names): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|name| Kernels::names().contains(&name.as_str()));
    let kernels = match kernels.first() {
        Some(name) => Kernels::named(name, Arithmetic::Packed)?,
        None => Kernels::of_this_machine(Arithmetic::Packed),
    };
    println!("{kernels}, {n_threads} threads");
    let products = if names == ["shapes"] { of_shapes()? } else { of_types(&names) };
    for products in products {
        let before = Limits::measure(n_threads, 512 << 20)?;
        let seconds: Vec<_> = products.iter().map(|product| product.seconds(&kernels, n_threads)).collect();
        let after = Limits::measure(n_threads, 512 << 20)?;
        let limits = before.zip(after).map(|(before, after)| before.max(&after));
        for (product, seconds) in products.iter().zip(seconds) {
            println!("{}", product.line(seconds, limits.as_ref()));
        }
    }
    Ok(())
}

/// A matrix of weights times some columns.
struct Timed {
    name: String,
    dtype: DType,
    n_in: usize,
    n_rows: usize,
    n_columns: usize,
}

/// The types of these names, or all, by number of columns.
fn of_types(names: &[String]) -> Vec<Vec<Timed>> {
    let of_type = |dtype: DType| {
        let timed = |n_columns| {
            let row_bytes = dtype.row_bytes(N_IN as u64).unwrap_or(1) as usize;
            let least = (LEAST_OPERATIONS / (2 * N_IN * n_columns) as f64) as usize;
            let n_rows = least.clamp(LEAST_ROWS, BYTES / row_bytes).next_multiple_of(64);
            Timed { name: String::new(), dtype, n_in: N_IN, n_rows, n_columns }
        };
        COLUMNS.map(timed).into()
    };
    let types = TYPES.into_iter().filter(|dtype| names.is_empty() || names.contains(&dtype.to_string()));
    types.map(of_type).collect()
}

/// The matrices of the model, those of one part together, each shape and type once.
fn of_shapes() -> Result<Vec<Vec<Timed>>, Failure> {
    let config = shape("internvl-chat-v1-1", None, None)?;
    let options = Options::default();
    let (text, vision, rules) = (options.text, options.vision, options.rules);
    let recipe = Recipe { text, vision, projector: vision, rules, has_importance: false };
    let n_of_picture = config.vision.as_ref().map_or(0, |vision| vision.n_positions()) as usize;
    let n_image_tokens = config.image.as_ref().map_or(0, |image| image.n_tokens) as usize;
    let parts = [
        (Part::Vision, n_of_picture),
        (Part::Projector, n_image_tokens),
        (Part::Text, PROMPT_ROWS),
        (Part::Text, 1),
    ];
    let of_part = |(part, n_columns): (Part, usize)| {
        let mut seen = HashSet::new();
        let timed = |spec: owlet_format::TensorSpec| {
            let is_wanted = matches!(spec.role, Role::Matrix | Role::Output) && spec.part == part;
            let dtype = recipe.choose(&spec, SourceType::BF16, &config).dtype;
            let [n_in, n_rows, ..] = spec.ne.padded().map(|n| n as usize);
            let n_columns = if spec.role == Role::Output { 1 } else { n_columns };
            let is_new = is_wanted && seen.insert((n_in, n_rows, dtype));
            is_new.then_some(Timed { name: spec.name, dtype, n_in, n_rows, n_columns })
        };
        config.tensors().into_iter().filter_map(timed).collect()
    };
    Ok(parts.map(of_part).into())
}

impl Timed {
    fn n_bytes(&self) -> usize {
        self.dtype.row_bytes(self.n_in as u64).unwrap_or(0) as usize * self.n_rows
    }

    fn line(&self, seconds: Option<f64>, limits: Option<&Limits>) -> String {
        let Timed { name, dtype, n_in, n_rows, n_columns } = self;
        let what = match name.as_str() {
            "" => format!("{dtype:<7} {n_columns:>5} columns"),
            _ => format!("{name:<26} {n_in:>5} to {n_rows:>5} {dtype:<5} {n_columns:>4} columns"),
        };
        let Some(seconds) = seconds else { return format!("{what} by ggml") };
        let operations = 2.0 * (n_in * n_rows * n_columns) as f64;
        let least = limits.map(|limits| {
            let rate = if *dtype == DType::Q8_0 { limits.madd1_gop_s } else { limits.madd8_gop_s };
            (operations / rate).max(self.n_bytes() as f64 / limits.read_gb_s) / 1e9
        });
        let share =
            least.map_or(String::new(), |least| format!("{:>5.0}% of the limit", 100.0 * least / seconds));
        let (rate, read) = (operations / seconds / 1e9, self.n_bytes() as f64 / seconds / 1e9);
        format!("{what} {:>8.3} ms {rate:>7.1} GOP/s {read:>7.2} GB/s {share}", 1e3 * seconds)
    }

    /// The median time; `None` where ggml multiplies.
    fn seconds(&self, kernels: &Kernels, n_threads: usize) -> Option<f64> {
        let Timed { dtype, n_in, n_rows, n_columns: n, .. } = *self;
        let columns = kernels.pack(n_in as u64)?;
        let Product::OfPacked(product) = kernels.product(dtype, n_in as u64)? else { return None };
        let shape = |rows: usize, columns: usize| [rows as u64, columns as u64, 1, 1];
        let floats: Vec<f32> = (0..n_in * n).map(|i| ((i * 7919 % 2003) as f32 - 1001.0) / 500.0).collect();
        let mut packed = vec![0i8; columns.column_bytes as usize * n];
        let values = Arg::of_f32(shape(n_in, n), &floats);
        run_alone(&*columns.op, &[values], [columns.column_bytes as usize, n], &mut packed, n_threads);
        let packed: Vec<u8> = packed.into_iter().map(|code| code as u8).collect();
        // As many copies of the matrix as caches don't hold.
        let copies = vec![BYTE; self.n_bytes() * BYTES.div_ceil(self.n_bytes())];
        let mut copies = copies.chunks_exact(self.n_bytes()).cycle();
        let mut sums = vec![0f32; n_rows * n];
        let mut once = || {
            let args = [
                Arg::new(dtype, shape(n_in, n_rows), copies.next()?),
                Arg::new(DType::I8, shape(columns.column_bytes as usize, n), &packed),
            ];
            let started = Instant::now();
            run_alone(&*product, &args, [n_rows, n], &mut sums, n_threads);
            Some(started.elapsed().as_secs_f64())
        };
        once()?;
        let mut seconds: Vec<f64> = (0..REPETITIONS).map_while(|_| once()).collect();
        seconds.sort_by(f64::total_cmp);
        Some(seconds[REPETITIONS / 2])
    }
}
