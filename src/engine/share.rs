//! How much of the work of others fits beside answers that are being written. Learnt from what passes and pieces of the tower take,
//! since it depends on the model and the machine. Must not know what the work is.

use std::time::Duration;

/// Work of others in a round, in usual rounds: what an answer waits for longer than usual. The rest up to twice the gap is for what
/// is mistaken.
const OTHERS: f64 = 0.7;

/// How much the newest measurement counts.
const NEWEST: f64 = 0.25;

/// Rows of a prompt beside answers, before anything was measured.
const FIRST_ROWS: usize = 4;

/// Positions of a prompt that are copied beside answers, before anything was measured.
const FIRST_COPIES: usize = 16;

/// The figures, in seconds.
#[derive(Default)]
pub struct Share {
    /// A pass of answers alone.
    usual: Option<f64>,
    /// What a row of a prompt adds to that.
    prompt_row: Option<f64>,
    /// A position of a prompt that is copied.
    copy: Option<f64>,
    /// A multiplication of the tower.
    operation: Option<f64>,
}

impl Share {
    /// A pass of answers, with `n_rows` rows of a prompt among them, `took` so long.
    pub fn saw_pass(&mut self, n_rows: usize, took: Duration) {
        let took = took.as_secs_f64();
        if n_rows == 0 {
            mix(&mut self.usual, took);
        } else if let Some(usual) = self.usual {
            // Never nothing, or the next piece would have no end.
            mix(&mut self.prompt_row, (took - usual).max(usual / 128.0) / n_rows as f64);
        }
    }

    /// To copy `n` positions of a prompt, in all layers, `took` so long.
    pub fn saw_copy(&mut self, n: usize, took: Duration) {
        if n > 0 {
            mix(&mut self.copy, took.as_secs_f64() / n as f64);
        }
    }

    /// A piece of the tower of `n_operations` multiplications `took` so long.
    pub fn saw_piece(&mut self, n_operations: u64, took: Duration) {
        if n_operations > 0 {
            mix(&mut self.operation, took.as_secs_f64() / n_operations as f64);
        }
    }

    /// Rows of a prompt that a pass of answers may take along, at least 1.
    pub fn prompt_rows(&self) -> usize {
        self.n_beside(self.prompt_row).map_or(FIRST_ROWS, |n| (n as usize).max(1))
    }

    /// Positions that may be copied between two passes of answers, at least 1.
    pub fn copied_rows(&self) -> usize {
        self.n_beside(self.copy).map_or(FIRST_COPIES, |n| (n as usize).max(1))
    }

    /// Multiplications of the tower that may come between two passes of answers; few where that was not measured.
    pub fn operations(&self) -> u64 {
        self.n_beside(self.operation).map_or(0, |n| n as u64)
    }

    /// How many of what takes so long each have room beside answers, where both are known.
    fn n_beside(&self, one: Option<f64>) -> Option<f64> {
        Some(OTHERS * self.usual? / one?)
    }
}

fn mix(figure: &mut Option<f64>, newest: f64) {
    *figure = Some(figure.map_or(newest, |before| before + NEWEST * (newest - before)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_get_what_an_answer_takes() {
        let ms = Duration::from_millis;
        // Of what would take as long as a usual pass.
        let of = |usual: f64| (OTHERS * usual) as u64;
        let mut share = Share::default();
        assert_eq!((share.prompt_rows(), share.operations()), (FIRST_ROWS, 0));
        share.saw_pass(9, ms(100));
        share.saw_piece(0, ms(100));
        assert_eq!((share.prompt_rows(), share.operations()), (FIRST_ROWS, 0), "nothing to compare with");
        share.saw_pass(0, ms(40));
        share.saw_pass(4, ms(80));
        assert_eq!(share.prompt_rows() as u64, of(4.0), "10 ms a row");
        share.saw_pass(8, ms(40));
        assert_eq!(share.prompt_rows() as u64, of(5.3), "a row that cost nothing counts for a quarter");
        share.saw_piece(1 << 20, ms(80));
        assert!(share.operations().abs_diff(of(f64::from(1 << 19))) < 2, "{}", share.operations());
        // So does a disturbed one.
        share.saw_piece(1 << 20, ms(400));
        assert!(share.operations().abs_diff(of(f64::from(1 << 18))) < 2, "{}", share.operations());
        share.saw_pass(4, ms(10_000));
        assert_eq!(share.prompt_rows(), 1);
        assert_eq!(share.copied_rows(), FIRST_COPIES);
        share.saw_copy(16, ms(33));
        assert_eq!(share.copied_rows() as u64, of(19.4), "2 ms a position");
        share.saw_copy(1, ms(10_000));
        assert_eq!(share.copied_rows(), 1);
    }
}
