//! Whoever waits for more than a second is told what for: one line on standard error, redrawn in place and wiped before
//! the answer starts. Nothing where standard error is no terminal, or a dumb one.

use super::terminal;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(1);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Steps,
    Bytes,
}

pub struct Progress {
    unit: Unit,
    is_wanted: bool,
    since: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Counts the wait from now; `is_quiet` never shows anything.
    pub fn new(unit: Unit, is_quiet: bool) -> Progress {
        let is_wanted = !is_quiet && stderr().is_terminal() && !terminal::is_dumb();
        Progress { unit, is_wanted, since: Instant::now(), bar: None }
    }

    /// `what` is going on: `done` of `total`, in whatever they count; 0 where nobody knows.
    pub fn show(&mut self, what: &str, done: u64, total: u64) {
        if !self.is_wanted || (self.bar.is_none() && self.since.elapsed() < PATIENCE) {
            return;
        }
        let unit = self.unit;
        let bar = self.bar.get_or_insert_with(|| new_bar(unit, total));
        if (bar.length() == Some(0)) != (total == 0) {
            bar.set_style(style(unit, total));
        }
        if bar.message() != what {
            bar.set_message(what.to_string());
        }
        bar.set_length(total);
        bar.set_position(done);
        bar.tick();
    }

    /// The wait is over, or the next one begins.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.since = Instant::now();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn new_bar(unit: Unit, total: u64) -> ProgressBar {
    ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr()).with_style(style(unit, total))
}

fn style(unit: Unit, total: u64) -> ProgressStyle {
    let template = match (unit, total) {
        (Unit::Steps, _) => "{msg} [{bar:24}] {pos}/{len}, {elapsed}",
        (Unit::Bytes, 0) => "{msg}, {decimal_bytes}, {elapsed}",
        (Unit::Bytes, _) => {
            "[{bar:24}] {decimal_bytes}/{decimal_total_bytes}, {decimal_bytes_per_sec}, {eta} left, {msg}"
        }
    };
    // What is wrong with a template is seen at once.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}
