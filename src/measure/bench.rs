//! A bench from beginning to end: the model is loaded, the limits are measured, the tests run, the limits are measured
//! again, and the report is made.

use owlet_format::ModelConfig;

use super::limits::Limits;
use super::machine::{self, Machine};
use super::options::Options;
use super::report::{Measured, Report, Skipped, unsteady};
use super::runs::{Outcome, Runs};
use super::subject::{Source, Subject};
use super::test::Test;
use super::timing::Timing;
use super::watch::Watch;
use super::work::Work;
use super::{available, memory};
use crate::error::Result;
use crate::model::{Arithmetic, KvType, kv_bytes};

/// Positions that the longest test fills.
pub const POSITIONS: u32 = 2304;

/// Runs the tests of `options` on the model of `source`.
///
/// # Errors
/// What is wrong with the model; `Backend` where memory or threads are not to be had; `Cancelled`.
pub fn bench(source: &Source, options: &Options, watch: &mut Watch) -> Result<Report> {
    let spare = |config: &ModelConfig| spare_bytes(config, options.setup.kv_type);
    let subject = Subject::load(source, &options.setup, spare, watch)?;
    let read_bytes = options.with_limits.then(read_bytes);
    let limits = |watch: &mut Watch, when| {
        (watch.progress)(when, 0, 1);
        read_bytes.map_or(Ok(None), |n_bytes| Limits::measure(options.setup.n_threads, n_bytes))
    };

    let before = limits(watch, "limits before the tests")?;
    let counts_peak = memory::forget_peak();
    let (mut timings, mut skipped) = run(&subject, options, watch)?;
    if options.setup.arithmetic == Arithmetic::Exact {
        let works = timings.iter_mut().flat_map(|timing| [&mut timing.work, &mut timing.full]);
        works.for_each(|work| *work = work.take().map(Work::in_floats));
    }
    let peak = memory::peak().filter(|_| counts_peak);
    let after = limits(watch, "limits after the tests")?;

    let limits = before.zip(after).map(|(before, after)| before.max(&after));
    let mut results: Vec<_> =
        timings.iter().filter_map(|timing| Measured::new(timing, limits.as_ref())).collect();
    if options.tests.contains(&Test::Memory) {
        match peak {
            Some(peak) => results.push(Measured::of_memory(peak)),
            None => skipped.push(Skipped { test: Test::Memory, why: "this system does not count it".into() }),
        }
    }
    let mut notes = before.zip(after).map_or_else(Vec::new, |(before, after)| unsteady(&before, &after));
    if options.with_limits && limits.is_none() {
        notes.push("no limits, so no shares: they need a processor with AVX2 and FMA".into());
    }
    notes.extend(depth(&subject));
    Ok(Report {
        date: machine::now(),
        model: subject.facts(),
        machine: Machine::here(options.setup.n_threads),
        kernels: subject.model.kernels(),
        limits,
        limits_before: before,
        limits_after: after,
        read_bytes: limits.and(read_bytes).map(|n| n as u64),
        results,
        skipped,
        notes,
    })
}

/// Runs all tests but that of memory, which is what the others left behind.
fn run(subject: &Subject, options: &Options, watch: &mut Watch) -> Result<(Vec<Timing>, Vec<Skipped>)> {
    let is_wanted = |test: Test| options.tests.contains(&test);
    let mut runs = Runs { subject, options, watch };
    let (mut timings, mut skipped): (Vec<Timing>, Vec<Skipped>) = Default::default();
    for test in Test::ALL.into_iter().filter(|&test| is_wanted(test) && test != Test::Memory) {
        if timings.iter().any(|timing| timing.test == test) {
            continue;
        }
        match runs.run(test)? {
            Outcome::Ran(ran) => timings.extend(ran.into_iter().filter(|timing| is_wanted(timing.test))),
            Outcome::Skipped(why) => skipped.push(Skipped { test, why }),
        }
    }
    let ran = |test| timings.iter().any(|timing| timing.test == test);
    if is_wanted(Test::Memory) && ![Test::Vision, Test::Prefill256, Test::Decode].into_iter().all(ran) {
        runs.answer_once()?;
    }
    Ok((timings, skipped))
}

/// What running a model of random weights takes beside the weights, generously.
fn spare_bytes(config: &ModelConfig, kv_type: KvType) -> u64 {
    const BUFFERS: u64 = 600 << 20;
    let kv =
        config.text.as_ref().map_or(0, |text| kv_bytes(text, POSITIONS.min(text.n_ctx_train), 1, kv_type));
    BUFFERS + kv
}

/// How much to read for the limit of reading: far more than any cache holds, without pushing the model out of memory.
fn read_bytes() -> usize {
    const LEAST: u64 = 256 << 20;
    const MOST: u64 = 2 << 30;
    available().map_or(MOST / 2, |available| (available / 4).clamp(LEAST, MOST)) as usize
}

/// Says that the model is not as deep as its shape, where that is so.
fn depth(subject: &Subject) -> Option<String> {
    let full = subject.full()?.config();
    let layers = |config: &ModelConfig| {
        [config.vision.as_ref().map_or(0, |v| v.n_layer), config.text.as_ref().map_or(0, |t| t.n_layer)]
    };
    let ([vision, text], [full_vision, full_text]) = (layers(&subject.config), layers(full));
    Some(format!(
        "{vision} of {full_vision} vision layers and {text} of {full_text} text layers ran; what is said about the full \
         depth is extrapolated from them"
    ))
}
