//! Raw seconds of a test beside the work that they took.

use super::test::Test;
use super::work::Work;

/// How a test went.
#[derive(Clone, Debug)]
pub(super) struct Timing {
    pub test: Test,
    /// Of the weights, or of the file.
    pub dtype: Option<String>,
    /// One entry a repetition.
    pub seconds: Vec<f64>,
    /// How many `unit`s take so long.
    pub n_units: f64,
    pub unit: &'static str,
    pub work: Option<Work>,
    /// The same test at the model's full depth, where this one has fewer layers.
    pub full: Option<Work>,
}
