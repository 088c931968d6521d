//! What a conversion will take, before it runs: memory by its buffers, time by how fast this machine quantizes.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use ggml::{DType, quantize};

use crate::checkpoint::SourceType;
use crate::job::total_source_bytes;
use crate::outline::{Line, Outline};
use crate::read_ahead::N_READ_AHEAD;

/// Program, configuration, tables: what a run has besides its buffers.
const BASE_BYTES: u64 = 24 << 20;
/// Numbers that are quantized to see how fast that is: whole blocks of every type.
const TRIAL_ELEMENTS: usize = 1 << 16;
const TRIAL_TIME: Duration = Duration::from_millis(10);

/// `Display` is two lines.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    pub peak_memory_bytes: u64,
    pub n_source_bytes: u64,
    pub n_threads: usize,
    /// For all of the weights, with that many threads.
    pub quantize_seconds: f64,
}

impl Estimate {
    /// Quantizes some numbers as each type of `job`, which takes a moment.
    pub fn of(job: &dyn Outline) -> Estimate {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let n_threads = job.n_threads().unwrap_or(cores);
        let lines = job.lines();
        let mut n_elements: BTreeMap<DType, u64> = BTreeMap::new();
        for line in lines.iter().filter(|line| !line.is_copied) {
            *n_elements.entry(line.to.dtype).or_default() += line.spec.ne.n_elements();
        }
        let seconds = n_elements.iter().map(|(dtype, n)| *n as f64 * seconds_per_element(*dtype));
        Estimate {
            peak_memory_bytes: peak_memory(&lines, n_threads),
            n_source_bytes: total_source_bytes(job),
            n_threads,
            quantize_seconds: seconds.sum::<f64>() / n_threads as f64,
        }
    }
}

/// Of one thread.
fn seconds_per_element(dtype: DType) -> f64 {
    let values: Vec<f32> = (0..TRIAL_ELEMENTS as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32 - 0.5)
        .collect();
    let mut blocks = vec![0; dtype.row_bytes(TRIAL_ELEMENTS as u64).unwrap_or(0) as usize];
    let started = Instant::now();
    let mut n_elements = 0;
    while started.elapsed() < TRIAL_TIME {
        // types that can't be written are in no plan
        if quantize::quantize_rows(dtype, &values, TRIAL_ELEMENTS, None, &mut blocks).is_err() {
            return 0.0;
        }
        n_elements += TRIAL_ELEMENTS;
    }
    started.elapsed().as_secs_f64() / n_elements as f64
}

/// Chunks that wait, are read and are worked on, the blocks that one becomes, and a row for each thread.
fn peak_memory(lines: &[Line], n_threads: usize) -> u64 {
    let row = |line: &Line| line.spec.ne.padded()[0] * SourceType::F32.n_bytes();
    let largest = |size: &dyn Fn(&Line) -> u64| lines.iter().map(size).max().unwrap_or(0);
    // f32 blocks of bf16 numbers are twice as long
    let n_chunks = N_READ_AHEAD as u64 + 2 + 2;
    BASE_BYTES + n_chunks * largest(&|line| line.chunk_bytes) + n_threads as u64 * largest(&row)
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Estimate { peak_memory_bytes, n_source_bytes, n_threads, quantize_seconds } = self;
        writeln!(f, "memory     at most about {} MiB", peak_memory_bytes >> 20)?;
        let megabytes = *n_source_bytes as f64 / 1e6;
        let threads = if *n_threads == 1 { "thread" } else { "threads" };
        writeln!(
            f,
            "time       about {quantize_seconds:.1} s to quantize with {n_threads} {threads}; \
             a disk below {:.0} MB/s takes longer to read the {megabytes:.1} MB",
            megabytes / quantize_seconds.max(1e-3)
        )
    }
}
