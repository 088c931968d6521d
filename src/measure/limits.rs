//! What this machine can do at most: the yardstick that every figure of a bench is held against.
//!
//! Comes in: how many threads, and how many bytes to read. Goes out: four rates over all threads, the best of some
//! repetitions each, from fixed instruction sequences, so that no compiler can shorten or improve them. Knows no model.
//! Elsewhere than on x86-64 with AVX2 and FMA there are none today.

#[cfg(target_arch = "x86_64")]
#[path = "limits_x86_64.rs"]
mod sequences;

use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Rates in units of 10^9 a second. An operation is a multiplication or an addition.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes read from memory, each once.
    pub read_gb_s: f64,
    /// Products in f32, fused with their sums.
    pub fma_gflop_s: f64,
    /// Products of bytes, each pair of products widened at once: what 8-bit weights allow.
    pub madd1_gop_s: f64,
    /// Products of bytes, widened once for eight pairs of products: what 4 to 6-bit weights allow.
    pub madd8_gop_s: f64,
}

/// The fastest try counts: a limit is what nothing disturbed. There are at least so many, for at least so long.
const LEAST_TRIES: u32 = 5;
const LEAST_TIME: Duration = Duration::from_millis(300);

/// Rounds of one try: tens of milliseconds, long enough that starting threads is nothing.
const ROUNDS: u64 = 6_000_000;

impl Limits {
    /// The names of the four, in order, as reports have them, with their unit.
    pub const NAMES: [(&str, &str); 4] = [
        ("read_gb_s", "GB/s"),
        ("fma_gflop_s", "GFLOP/s"),
        ("madd1_gop_s", "GOP/s"),
        ("madd8_gop_s", "GOP/s"),
    ];

    /// Measures all four with `n_threads` at once; reading goes over `n_bytes` that nothing else has touched. `None` where this
    /// processor has no sequences.
    ///
    /// # Errors
    /// `Backend`: so much memory, or so many threads, are not to be had.
    pub fn measure(n_threads: usize, n_bytes: usize) -> Result<Option<Limits>> {
        on_this_processor(n_threads, n_bytes)
    }

    /// The four rates, in the order of [`Limits::NAMES`].
    pub fn rates(&self) -> [f64; 4] {
        [self.read_gb_s, self.fma_gflop_s, self.madd1_gop_s, self.madd8_gop_s]
    }

    fn from_rates([read_gb_s, fma_gflop_s, madd1_gop_s, madd8_gop_s]: [f64; 4]) -> Limits {
        Limits { read_gb_s, fma_gflop_s, madd1_gop_s, madd8_gop_s }
    }

    /// The higher of both, rate by rate.
    pub fn max(&self, other: &Limits) -> Limits {
        let (mut rates, others) = (self.rates(), other.rates());
        for (rate, other) in rates.iter_mut().zip(others) {
            *rate = rate.max(other);
        }
        Limits::from_rates(rates)
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn on_this_processor(_n_threads: usize, _n_bytes: usize) -> Result<Option<Limits>> {
    Ok(None)
}

#[cfg(target_arch = "x86_64")]
fn on_this_processor(n_threads: usize, n_bytes: usize) -> Result<Option<Limits>> {
    use sequences::Sequences;
    let Some(run) = Sequences::detect() else { return Ok(None) };
    let bytes = Touched::new(n_bytes)?;
    let slices = bytes.cut(n_threads);
    let n_read: usize = slices.iter().map(|slice| size_of_val(*slice)).sum();
    let rate = |n_operations: u64, work: &(dyn Fn(usize) + Sync)| -> Result<f64> {
        Ok(n_operations as f64 / best_seconds(n_threads, work)? / 1e9)
    };
    let n_rounds = n_threads as u64 * ROUNDS;
    Ok(Some(Limits {
        read_gb_s: rate(n_read as u64, &|thread| run.read(slices[thread]))?,
        fma_gflop_s: rate(n_rounds * Sequences::FMA_OPERATIONS, &|_| run.fma(ROUNDS))?,
        madd1_gop_s: rate(n_rounds * Sequences::MADD1_OPERATIONS, &|_| run.madd1(ROUNDS))?,
        // A round of this one is as long as four of the others.
        madd8_gop_s: rate(n_rounds / 4 * Sequences::MADD8_OPERATIONS, &|_| run.madd8(ROUNDS / 4))?,
    }))
}

/// The shortest time in which `n_threads` that start together all have done `work`, which gets its thread's number.
fn best_seconds(n_threads: usize, work: &(dyn Fn(usize) + Sync)) -> Result<f64> {
    let (begun, mut n_tries, mut best) = (Instant::now(), 0, f64::INFINITY);
    while n_tries < LEAST_TRIES || begun.elapsed() < LEAST_TIME {
        n_tries += 1;
        let started = Instant::now();
        thread::scope(|scope| {
            for index in 0..n_threads {
                thread::Builder::new().spawn_scoped(scope, move || work(index))?;
            }
            Ok(())
        })
        .map_err(|error: std::io::Error| Error::Backend(format!("limits: {n_threads} threads: {error}")))?;
        best = best.min(started.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// Memory whose every page is there and differs from zero, so that reading it goes to memory.
struct Touched(Vec<u64>);

/// What a thread reads at least: one turn of the loop.
const LINE_BYTES: usize = 128;

impl Touched {
    fn new(n_bytes: usize) -> Result<Touched> {
        let n_words = n_bytes / size_of::<u64>();
        let mut words = Vec::new();
        words
            .try_reserve_exact(n_words)
            .map_err(|_| Error::Backend(format!("limits: no memory for {n_bytes} bytes to read")))?;
        words.resize(n_words, 0x0101_0101_0101_0101);
        Ok(Touched(words))
    }

    /// One slice a thread, equally long, of whole aligned lines.
    fn cut(&self, n_threads: usize) -> Vec<&[u64]> {
        const LINE_WORDS: usize = LINE_BYTES / size_of::<u64>();
        let skipped = self.0.as_ptr().align_offset(LINE_BYTES).min(self.0.len());
        let words = &self.0[skipped..];
        let n_words = words.len() / n_threads / LINE_WORDS * LINE_WORDS;
        (0..n_threads).map(|index| &words[index * n_words..][..n_words]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_sane() {
        let Some(limits) = Limits::measure(2, 64 << 20).unwrap() else {
            println!("not run: this processor has no sequences");
            return;
        };
        let Limits { read_gb_s, fma_gflop_s, madd1_gop_s, madd8_gop_s } = limits;
        // A loop that was cut short would be beyond what any two cores do; one that trapped or spilled far below.
        assert!((1.0..4000.0).contains(&read_gb_s), "{limits:?}");
        assert!((2.0..700.0).contains(&fma_gflop_s), "{limits:?}");
        assert!((4.0..1500.0).contains(&madd1_gop_s), "{limits:?}");
        assert!((4.0..2500.0).contains(&madd8_gop_s), "{limits:?}");
        // Fewer instructions an operation: on a machine that is busy elsewhere, too, it is never slower by much.
        assert!(madd8_gop_s > 0.7 * madd1_gop_s, "{limits:?}");
    }

    #[test]
    fn slices_are_equal_whole_lines() {
        for (n_bytes, n_threads) in [(0, 1), (100, 1), (4096, 3), (1 << 20, 7)] {
            let touched = Touched::new(n_bytes).unwrap();
            let slices = touched.cut(n_threads);
            assert_eq!(slices.len(), n_threads);
            for slice in &slices {
                assert_eq!(size_of_val(*slice) % LINE_BYTES, 0);
                assert_eq!(slice.len(), slices[0].len());
                assert!(slice.iter().all(|&word| word == 0x0101_0101_0101_0101));
            }
        }
        let error = Touched::new(usize::MAX / 2).err().unwrap().to_string();
        assert!(error.starts_with("limits: no memory for "), "{error}");
    }

    #[test]
    fn the_higher_rate_counts() {
        let (a, b) = (Limits::from_rates([1.0, 20.0, 3.0, 40.0]), Limits::from_rates([10.0, 2.0, 30.0, 4.0]));
        assert_eq!(a.max(&b), Limits::from_rates([10.0, 20.0, 30.0, 40.0]));
    }
}
