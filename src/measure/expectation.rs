//! How long a model will take, from what was measured before.
//!
//! A model that was measured itself takes what it took. Another one takes the least time that the limits allow it, at the
//! share of the limit that the measured one reached: right for models of about one size and types, and said to be guessed.

use owlet_format::{Gguf, ModelConfig};
use serde::Serialize;

use super::history::History;
use super::machine::Machine;
use super::report::{Measured, ModelFacts, Report};
use super::subject::{facts, typed};
use super::test::Test;
use super::work::{Typed, Work};

/// What one test is expected to take.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Expected {
    pub test: Test,
    pub seconds: f64,
    /// When it was measured, in UTC.
    pub date: String,
    /// On which model.
    pub measured_on: String,
    /// That model is this one, so the figure is measured and not guessed.
    pub is_same_model: bool,
}

/// What the tests that a person waits for will take on the model of `file`; nothing for those that `history` knows
/// nothing about.
pub fn expect(file: &Gguf, config: &ModelConfig, history: &History) -> Vec<Expected> {
    let tensors = typed(config, file);
    let facts = facts(file, config, &tensors);
    let machine = Machine::here(1);
    let waited_for =
        [Test::Startup, Test::Vision, Test::Projector, Test::Prefill256, Test::Decode, Test::Decode2048];
    let expected = |test| {
        let (report, measured) = history.timing(test, &facts, &machine)?;
        expected(&facts, work(test, config, &tensors).as_ref(), report, measured)
    };
    waited_for.into_iter().filter_map(expected).collect()
}

fn work(test: Test, config: &ModelConfig, tensors: &[Typed]) -> Option<Work> {
    match test {
        Test::Vision => Some(Work::vision(config.vision.as_ref()?, tensors)),
        Test::Projector => {
            Some(Work::projector(config.vision.as_ref()?, config.projector.as_ref()?, tensors))
        }
        Test::Prefill256 => Some(Work::text(config.text.as_ref()?, tensors, 0, 256)),
        Test::Decode => Some(Work::text(config.text.as_ref()?, tensors, 8, 1)),
        Test::Decode2048 => Some(Work::text(config.text.as_ref()?, tensors, 2056, 1)),
        _ => None,
    }
}

fn expected(
    facts: &ModelFacts,
    work: Option<&Work>,
    report: &Report,
    measured: &Measured,
) -> Option<Expected> {
    let is_same_model = report.model == *facts;
    let seconds = match is_same_model {
        true => measured.seconds?,
        false => work?.least_seconds(report.limits.as_ref()?) / measured.share_of_limit?,
    };
    Some(Expected {
        test: measured.test,
        seconds,
        date: report.date.clone(),
        measured_on: report.model.name.clone(),
        is_same_model,
    })
}
