//! What a bench found out, for people and for programs: medians, their spread, rates, shares of the limit.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::Limits;
use super::machine::Machine;
use super::test::Test;
use super::timing::Timing;

/// Everything about one bench.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// In UTC: `2026-11-23T08:05:00Z`.
    pub date: String,
    pub model: ModelFacts,
    pub machine: Machine,
    /// Whose code multiplied.
    pub kernels: String,
    /// The higher of both measurements, which `share_of_limit` is counted against. Absent where this processor has none, or
    /// none were wanted.
    pub limits: Option<Limits>,
    pub limits_before: Option<Limits>,
    pub limits_after: Option<Limits>,
    /// Bytes that were read to measure `read_gb_s`.
    pub read_bytes: Option<u64>,
    pub results: Vec<Measured>,
    pub skipped: Vec<Skipped>,
    /// What a reader should know before believing a figure.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFacts {
    pub name: String,
    pub family: String,
    pub n_bytes: u64,
    pub n_parameters: u64,
    pub vision_layers: Option<u32>,
    pub text_layers: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub test: Test,
    /// Of the weights, or of the file.
    #[serde(rename = "type")]
    pub dtype: Option<String>,
    /// Of one picture, one prompt, one token, one start: the median of the repetitions.
    pub seconds: Option<f64>,
    pub seconds_min: Option<f64>,
    pub seconds_max: Option<f64>,
    pub repetitions: usize,
    pub rate: f64,
    pub unit: String,
    /// The least time that the limits allow over the median.
    pub share_of_limit: Option<f64>,
    /// Extrapolated, not measured: the seconds of the model with all its layers, at the same share of the limit.
    pub full_depth_seconds: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    pub test: Test,
    pub why: String,
}

impl Report {
    pub fn result(&self, test: Test) -> Option<&Measured> {
        self.results.iter().find(|result| result.test == test)
    }
}

impl Measured {
    /// `None` where nothing was timed.
    pub(super) fn new(timing: &Timing, limits: Option<&Limits>) -> Option<Measured> {
        let seconds = median(&timing.seconds)?;
        let share = |work: &super::Work| Some(work.least_seconds(limits?) / seconds);
        let full = timing.work.as_ref().zip(timing.full.as_ref());
        Some(Measured {
            test: timing.test,
            dtype: timing.dtype.clone(),
            seconds: Some(seconds),
            seconds_min: timing.seconds.iter().copied().reduce(f64::min),
            seconds_max: timing.seconds.iter().copied().reduce(f64::max),
            repetitions: timing.seconds.len(),
            rate: timing.n_units / seconds,
            unit: timing.unit.into(),
            share_of_limit: timing.work.as_ref().and_then(share),
            full_depth_seconds: full.map(|(work, full)| seconds * work.times(full, limits)),
        })
    }

    pub(super) fn of_memory(peak_bytes: u64) -> Measured {
        Measured {
            test: Test::Memory,
            dtype: None,
            seconds: None,
            seconds_min: None,
            seconds_max: None,
            repetitions: 1,
            rate: peak_bytes as f64 / 1e9,
            unit: "GB".into(),
            share_of_limit: None,
            full_depth_seconds: None,
        }
    }

    /// From the fastest to the slowest repetition, as a part of the median.
    pub fn spread(&self) -> Option<f64> {
        Some((self.seconds_max? - self.seconds_min?) / self.seconds?)
    }
}

/// The one in the middle, or the mean of both.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len() % 2 == 1 { upper } else { (sorted.get(middle - 1)? + upper) / 2.0 })
}

/// Rates that changed by more than a tenth while the tests ran, in words.
pub(super) fn unsteady(before: &Limits, after: &Limits) -> Vec<String> {
    let units: HashMap<_, _> = Limits::NAMES.into_iter().collect();
    let names = Limits::NAMES.map(|(name, _)| name);
    let rates = names.into_iter().zip(before.rates().into_iter().zip(after.rates()));
    rates
        .filter(|(_, (before, after))| (before - after).abs() > 0.1 * before.min(*after))
        .map(|(name, (before, after))| {
            let unit = units.get(name).copied().unwrap_or_default();
            format!(
                "{name}: {before:.1} before and {after:.1} {unit} after the tests; this machine is not steady"
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use owlet_format::TextConfig;

    use super::*;

    const LIMITS: Limits = Limits { read_gb_s: 1.0, fma_gflop_s: 2.0, madd1_gop_s: 4.0, madd8_gop_s: 8.0 };

    #[test]
    fn medians() {
        for (values, expected) in [
            (&[][..], None),
            (&[3.0], Some(3.0)),
            (&[3.0, 1.0], Some(2.0)),
            (&[9.0, 1.0, 2.0], Some(2.0)),
            (&[4.0, 1.0, 9.0, 2.0], Some(3.0)),
        ] {
            assert_eq!(median(values), expected, "{values:?}");
        }
    }

    /// Attention alone: 4 * 3 layers * 50 wide * 10,000 pairs are 6 MFLOP, 3 ms at 2 GFLOP/s; measured at 4 ms.
    #[test]
    fn shares_and_extrapolation() {
        let text = |n_layer| TextConfig {
            n_vocab: 10,
            n_ctx_train: 1 << 20,
            n_embd: 50,
            n_layer,
            n_ff: 1,
            n_head: 1,
            n_head_kv: 1,
            norm_eps: 1e-5,
            rope_dim: 2,
            rope_base: 1e4,
        };
        let timing = Timing {
            test: Test::Decode,
            dtype: Some("q4_0".into()),
            seconds: vec![0.005, 0.004, 0.003],
            n_units: 1.0,
            unit: "tokens/s",
            work: Some(super::super::Work::text(&text(3), &[], 9_999, 1)),
            full: Some(super::super::Work::text(&text(30), &[], 9_999, 1)),
        };
        let close = |found: Option<f64>, expected: f64| {
            assert!(
                found.is_some_and(|found| (found / expected - 1.0).abs() < 1e-9),
                "{found:?}, {expected}"
            );
        };
        let measured = Measured::new(&timing, Some(&LIMITS)).unwrap();
        close(measured.seconds, 0.004);
        close(measured.share_of_limit, 0.75);
        close(measured.full_depth_seconds, 0.04);
        close(measured.spread(), 0.5);
        close(Some(measured.rate), 250.0);
        assert_eq!(measured.repetitions, 3);

        let without = Measured::new(&timing, None).unwrap();
        assert_eq!(without.share_of_limit, None);
        close(without.full_depth_seconds, 0.04);
        assert_eq!(Measured::new(&Timing { seconds: Vec::new(), ..timing }, None), None);
    }

    #[test]
    fn a_machine_that_changes_is_called_unsteady() {
        let after = Limits { read_gb_s: 1.09, fma_gflop_s: 1.7, ..LIMITS };
        let notes = unsteady(&LIMITS, &after);
        let expected = "fma_gflop_s: 2.0 before and 1.7 GFLOP/s after the tests; this machine is not steady";
        assert_eq!(notes, [expected]);
    }
}
