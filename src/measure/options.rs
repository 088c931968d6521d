//! What a bench is asked for.

use super::test::Test;
use crate::engine::Setup;

/// What a bench does.
#[derive(Clone, Debug)]
pub struct Options {
    pub tests: Vec<Test>,
    /// Of each test; one more run comes before them and does not count.
    pub repetitions: u32,
    pub setup: Setup,
    /// Without them there are no shares.
    pub with_limits: bool,
}
