//! The reports of earlier benches, kept in one file, so that a plan can say how long things will take.

use std::fs;
use std::path::{Path, PathBuf};

use super::machine::Machine;
use super::report::{Measured, ModelFacts, Report};
use super::test::Test;
use crate::error::{Error, Result};

/// Reports that are kept; the oldest go.
const MAX_KEPT: usize = 32;

/// A model so many times larger or smaller says nothing about another one: small matrices never come near the limits.
const MAX_TIMES: f64 = 32.0;

const FILE: &str = "bench.json";

/// Reports, oldest first.
pub struct History {
    path: PathBuf,
    reports: Vec<Report>,
}

impl History {
    /// The history in the directory `dir`. None is an empty one, and so is one that another version of this program wrote
    /// another way: it is only a memory.
    pub fn open(dir: &Path) -> History {
        let path = dir.join(FILE);
        let reports = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        History { path, reports: reports.unwrap_or_default() }
    }

    /// Keeps `report`.
    ///
    /// # Errors
    /// `Io`: the file cannot be written.
    pub fn add(&mut self, report: Report) -> Result<()> {
        self.reports.push(report);
        let n_surplus = self.reports.len().saturating_sub(MAX_KEPT);
        self.reports.drain(..n_surplus);
        let failed = |cause| Error::io(&self.path, cause);
        let text = serde_json::to_vec(&self.reports).map_err(|error| failed(error.into()))?;
        // Another program may be reading it.
        let part = self.path.with_extension(format!("{}.part", std::process::id()));
        fs::write(&part, text).and_then(|()| fs::rename(&part, &self.path)).map_err(failed)
    }

    /// The best known timing of `test` for `model` on this machine: the latest of that very model, else of the one that is
    /// nearest in size, if it is near at all.
    pub fn timing(&self, test: Test, model: &ModelFacts, machine: &Machine) -> Option<(&Report, &Measured)> {
        let timed =
            self.reports.iter().filter(|report| report.machine.cpu == machine.cpu).filter_map(|report| {
                let measured = report.result(test).filter(|measured| measured.seconds.is_some())?;
                Some((report, measured))
            });
        let distance = |report: &Report| match report.model == *model {
            true => -1.0,
            false => (report.model.n_bytes as f64 / model.n_bytes as f64).ln().abs(),
        };
        // The last one of those that are equally near.
        timed
            .filter(|timed| distance(timed.0) <= MAX_TIMES.ln())
            .reduce(|best, next| if distance(next.0) <= distance(best.0) { next } else { best })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(name: &str, n_bytes: u64) -> ModelFacts {
        ModelFacts {
            name: name.into(),
            family: "f".into(),
            n_bytes,
            n_parameters: n_bytes,
            vision_layers: None,
            text_layers: Some(2),
        }
    }

    fn machine(cpu: &str) -> Machine {
        Machine { cpu: cpu.into(), n_cores: 2, n_threads: 2, features: Vec::new(), available_bytes: None }
    }

    fn report(name: &str, n_bytes: u64, cpu: &str, tests: &[(Test, f64)]) -> Report {
        let measured = |&(test, seconds): &(Test, f64)| Measured {
            test,
            seconds: Some(seconds),
            ..Measured::of_memory(0)
        };
        Report {
            date: "2026-11-23T08:05:00Z".into(),
            model: facts(name, n_bytes),
            machine: machine(cpu),
            kernels: "k".into(),
            limits: None,
            limits_before: None,
            limits_after: None,
            read_bytes: None,
            results: tests.iter().map(measured).collect(),
            skipped: Vec::new(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn the_same_model_counts_most_then_the_latest_then_the_nearest() {
        let dir = tempfile::tempdir().unwrap();
        let mut history = History::open(dir.path());
        let here = machine("here");
        assert!(history.timing(Test::Vision, &facts("a", 100), &here).is_none());
        for report in [
            report("a", 100, "here", &[(Test::Vision, 1.0), (Test::Decode, 2.0)]),
            report("a", 100, "here", &[(Test::Vision, 3.0)]),
            report("big", 10_000, "here", &[(Test::Vision, 4.0), (Test::Startup, 5.0)]),
            report("small", 1, "here", &[(Test::Startup, 6.0)]),
            report("a", 100, "elsewhere", &[(Test::Vision, 7.0), (Test::Prefill256, 8.0)]),
        ] {
            history.add(report).unwrap();
        }
        let again = History::open(dir.path());
        assert_eq!(again.reports, history.reports);
        let seconds = |test, n_bytes| {
            let name = if n_bytes == 100 { "a" } else { "other" };
            again.timing(test, &facts(name, n_bytes), &here).map(|(_, measured)| measured.seconds.unwrap())
        };
        for (test, n_bytes, expected) in [
            (Test::Vision, 100, Some(3.0)),
            (Test::Decode, 100, Some(2.0)),
            (Test::Vision, 200, Some(3.0)),
            (Test::Vision, 9_000, Some(4.0)),
            (Test::Startup, 5_000, Some(5.0)),
            (Test::Startup, 3, Some(6.0)),
            (Test::Startup, 10_000 * 31, Some(5.0)),
            (Test::Startup, 10_000 * 33, None),
            (Test::Prefill256, 100, None),
        ] {
            assert_eq!(seconds(test, n_bytes), expected, "{test} {n_bytes}");
        }
    }

    #[test]
    fn old_reports_go_and_strange_files_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut history = History::open(dir.path());
        for n in 0..MAX_KEPT as u64 + 3 {
            history.add(report("a", n, "here", &[])).unwrap();
        }
        let kept = History::open(dir.path()).reports;
        assert_eq!((kept.len(), kept[0].model.n_bytes), (MAX_KEPT, 3));
        for text in ["", "[1]", "{}", "[{\"date\":\"x\"}]", "\u{0}"] {
            fs::write(dir.path().join(FILE), text).unwrap();
            assert!(History::open(dir.path()).reports.is_empty(), "{text:?}");
        }
        let nowhere = dir.path().join("not there");
        let error = History::open(&nowhere).add(report("a", 1, "here", &[])).unwrap_err().to_string();
        assert!(error.starts_with(&nowhere.join(FILE).display().to_string()), "{error}");
    }
}
