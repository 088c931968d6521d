//! What a pass of several rows costs on this machine, against a pass of one. Learnt from the passes of answers, since it
//! depends on kernels, memory and what else the machine does. Must not know what rows are.

use std::time::Duration;

/// Rows of the largest pass whose cost is learnt.
pub const MAX_ROWS: usize = 16;

/// What a further row is thought to cost before it was measured: little, since measuring is how it comes to be known.
const HOPED_FOR: f64 = 0.1;

/// How much the newest measurement counts.
const NEWEST: f64 = 0.25;

/// Part of its distance from what is hoped for that a figure loses at each pass of one row, so that a disturbed
/// measurement is not believed for ever.
const FORGOTTEN: f64 = 1.0 / 256.0;

/// The figures.
#[derive(Default)]
pub struct Pace {
    /// Seconds of a pass of one row.
    one_row: Option<f64>,
    /// Of passes of two rows and more: how many passes of one row they cost.
    costs: [Option<f64>; MAX_ROWS - 1],
    /// How many passes of one row one behind a pass of several rows takes longer than others: it makes its graph anew.
    behind: Option<f64>,
    /// Rows of the largest pass so far.
    largest: usize,
    /// Rows of the pass before, if it was one of a single answer.
    before: Option<usize>,
}

impl Pace {
    /// A pass of a single answer, `n_rows` rows, `took` so long.
    pub fn saw(&mut self, n_rows: usize, took: Duration) {
        let took = took.as_secs_f64();
        if n_rows == 1 {
            // One that differs from the pass before had to make ready first.
            match (self.before, self.one_row) {
                (Some(1), _) => {
                    self.one_row = Some(mixed(self.one_row, took));
                    self.forget_a_little();
                }
                (Some(_), Some(one_row)) if one_row > 0.0 => {
                    self.behind = Some(mixed(self.behind, (took / one_row - 1.0).max(0.0)));
                }
                _ => {}
            }
        } else if let (Some(one_row), Some(cost)) = (self.one_row, self.costs.get_mut(n_rows - 2))
            && one_row > 0.0
        {
            *cost = Some(mixed(*cost, took / one_row));
            self.largest = self.largest.max(n_rows);
        }
        self.before = Some(n_rows);
    }

    /// A pass of another kind.
    pub fn saw_other(&mut self) {
        self.before = None;
    }

    /// Seconds, once they are known.
    pub fn one_row(&self) -> Option<f64> {
        self.one_row
    }

    /// How many passes of one row a pass of `n_rows` costs: as measured, else as the next smaller one that was, with what
    /// is hoped for on top; never more than a larger one.
    pub fn cost(&self, n_rows: usize) -> f64 {
        let n_rows = n_rows.clamp(1, MAX_ROWS);
        let measured = |n: usize| if n < 2 { Some(1.0) } else { self.costs[n - 2] };
        let below = (1..=n_rows).rev().find_map(|n| Some((n, measured(n)?)));
        let (n_below, cost) = below.unwrap_or((1, 1.0));
        let hoped_for = cost + HOPED_FOR * (n_rows - n_below) as f64;
        (n_rows..=MAX_ROWS).filter_map(measured).fold(hoped_for, f64::min).max(1.0)
    }

    /// How many passes of one row a pass of `n_rows` loses where nothing of its draft is right.
    pub fn loss(&self, n_rows: usize) -> f64 {
        self.cost(n_rows) - 1.0 + self.behind.unwrap_or(HOPED_FOR)
    }

    /// Rows of the largest pass to try: what a larger one costs is learnt step by step, so that no step costs much.
    pub fn most_rows(&self) -> usize {
        2 * self.largest.max(1)
    }

    fn forget_a_little(&mut self) {
        for (n_rows, cost) in (2..).zip(self.costs.iter_mut().map(Option::as_mut)) {
            let hoped_for = 1.0 + HOPED_FOR * f64::from(n_rows - 1);
            if let Some(cost) = cost.filter(|cost| **cost > hoped_for) {
                *cost -= FORGOTTEN * (*cost - hoped_for);
            }
        }
    }
}

fn mixed(before: Option<f64>, newest: f64) -> f64 {
    before.map_or(newest, |before| before + NEWEST * (newest - before))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(passes: &[(usize, u64)]) -> Pace {
        let mut pace = Pace::default();
        passes.iter().for_each(|&(n_rows, ms)| pace.saw(n_rows, Duration::from_millis(ms)));
        pace
    }

    #[test]
    fn costs_are_what_was_measured() {
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        let nothing = pace(&[(1, 10)]);
        assert_eq!(nothing.one_row(), None, "the first pass had to make ready");
        assert!(close(nothing.cost(1), 1.0) && close(nothing.cost(4), 1.3));

        let some = pace(&[(1, 70), (1, 10), (5, 20), (1, 90)]);
        assert_eq!(some.one_row(), Some(0.01), "nor does the one behind a draft count");
        for (n_rows, expected) in [(1, 1.0), (2, 1.1), (4, 1.3), (5, 2.0), (6, 2.1), (16, 3.1), (99, 3.1)] {
            assert!(close(some.cost(n_rows), expected), "{n_rows}: {}", some.cost(n_rows));
        }
        // A smaller pass is not thought to cost more than a larger one did.
        assert!(close(pace(&[(1, 10), (1, 10), (3, 30), (9, 12)]).cost(4), 1.2));

        // What is lost with a draft is its rows, and what the pass behind it takes longer.
        assert!(close(pace(&[(1, 10), (1, 10)]).loss(3), 0.2 + HOPED_FOR));
        assert!(close(pace(&[(1, 10), (1, 10), (3, 18), (1, 15)]).loss(3), 0.8 + 0.5));
        assert_eq!((nothing.most_rows(), some.most_rows()), (2, 10));

        let mut other = pace(&[(1, 10), (1, 10)]);
        other.saw_other();
        other.saw(1, Duration::from_millis(80));
        assert_eq!(other.one_row(), Some(0.01));
    }

    /// A pass that something disturbed is not held against drafts for ever; one that is dear every time is.
    #[test]
    fn a_disturbance_is_forgotten() {
        let mut disturbed = pace(&[(1, 10), (1, 10), (2, 100)]);
        assert!(disturbed.cost(2) > 9.0);
        for _ in 0..2000 {
            disturbed.saw(1, Duration::from_millis(10));
        }
        assert!(disturbed.cost(2) < 1.2, "{}", disturbed.cost(2));
    }
}
