//! WHAT IT COSTS: how fast this machine runs a model, how near that is to what the machine can do, and what a model will
//! need before it is loaded.
//!
//! A bench ([`bench`]) measures the machine's [`Limits`], then the tests on a model from a file or of random weights
//! ([`Synthetic`], in a [`shape`] that needs no download), and yields a [`Report`]; a [`Plan`] says what a file will take of
//! memory, by part, and [`expect`] how long it will take, from the reports that were [kept](History). A [`Calibration`] watches what every matrix is multiplied with; [`check_self_test`] says whether a
//! model computes here what it computed where its file was recorded. Knows no
//! terminal and prints nothing: doors show what comes out. Numbers that a door shows are in units that their names end with.

mod asker;
mod bench;
mod cores;
mod expectation;
mod history;
mod imatrix;
mod limits;
mod machine;
mod memory;
mod options;
mod photo;
mod plan;
mod report;
mod runs;
mod self_test;
mod shapes;
mod subject;
mod synthetic;
mod test;
mod timing;
mod watch;
mod work;

pub use bench::{POSITIONS, bench};
pub use cores::n_cores;
pub use expectation::{Expected, expect};
pub use history::History;
pub use imatrix::Calibration;
pub use limits::Limits;
pub use machine::Machine;
pub use memory::{available, bytes_in_words};
pub use options::Options;
pub use plan::{Plan, Planned, Room, Use, room};
pub use report::{Measured, ModelFacts, Report, Skipped};
pub use self_test::{Difference, SelfTestVerdict, check_self_test, record_self_test};
pub use shapes::{SHAPES, shape};
pub use subject::Source;
pub use synthetic::Synthetic;
pub use test::Test;
pub use watch::Watch;
pub use work::{Typed, Work};
