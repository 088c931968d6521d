//! Drafts: tokens that the answer may go on with, since the conversation has gone on so before. A pass over a draft's rows
//! chooses each token from the same logits, with the same random numbers, as a pass a token would, and keeps the rows up
//! to the first token that is another than the draft's; so an answer is the same with drafts and without, whatever the
//! settings, and text that repeats the prompt or itself takes fewer passes.
//!
//! In: the sequence as it grows, and what passes take. Out: a draft, or none where it would not pay. A draft is a bet: it
//! costs rows for sure and wins tokens perhaps. It is made where it wins on average, by how often drafts from matches as
//! long went on and by what the rows cost; and only where losing it leaves this answer at most [`LOSABLE`] behind one
//! without drafts. Must not know the network.

mod ngrams;
mod pace;

pub use pace::Pace;

use super::session::Cell;
use crate::token::TokenId;
use ngrams::{Match, Ngrams};
use pace::MAX_ROWS;
use std::time::Duration;

/// Whether answers are drafted ahead. No choice changes a word of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speculation {
    Off,
    /// Where it saves time.
    #[default]
    Auto,
    /// At every token, whatever it costs: what tests and measurements want.
    Always,
}

/// Longest draft. A pass has one row beside it, of the token before.
const MAX_DRAFT: usize = MAX_ROWS - 1;

/// Part of an answer's time that drafts may cost it before they have won anything.
const LOSABLE: f64 = 0.01;

/// How much faster a draft has to make an answer, by what is known before; less is within what clocks tell.
const WORTHWHILE: f64 = 1.05;

/// Drafts that what was expected of a match before any came weighs as much as.
const PRIOR_WEIGHT: f64 = 2.0;

/// What a draft leaves of the weight of those before it, and a token without a draft of that of all of them.
const KEPT_BY_DRAFT: f64 = 0.9;
const KEPT_BY_TOKEN: f64 = 0.98;

/// Drafts one answer.
pub struct Speculator {
    speculation: Speculation,
    ngrams: Ngrams,
    draft: Vec<TokenId>,
    /// Tokens of `draft` that were chosen.
    n_right: usize,
    /// The match that `draft` continues.
    from: Match,
    /// By length of the match, see [`class`].
    records: [Record; N_CLASSES],
    /// Seconds of a pass of one row, as known when the last draft was thought of.
    one_row: Option<f64>,
    /// Seconds that this answer's passes have taken.
    elapsed: f64,
    /// Seconds that drafts have saved it.
    saved: f64,
    /// The pass before this one had a draft.
    was_drafted: bool,
    n_drafted: usize,
    n_accepted: usize,
}

/// How drafts went.
#[derive(Clone, Copy, Default)]
struct Record {
    n_tried: f64,
    n_right: f64,
}

const N_CLASSES: usize = 4;

/// Matches of 2, of 3 and 4, of 5 to 8, and longer ones have records of their own.
fn class(n_matched: usize) -> usize {
    match n_matched {
        0..=2 => 0,
        3..=4 => 1,
        5..=8 => 2,
        _ => 3,
    }
}

impl Speculator {
    /// For an answer to `prompt`.
    pub fn new(speculation: Speculation, prompt: &[Cell]) -> Speculator {
        let mut ngrams = Ngrams::default();
        if speculation != Speculation::Off {
            for cell in prompt {
                ngrams.push(match cell {
                    Cell::Token(id) => Some(*id),
                    Cell::Image { .. } => None,
                });
            }
        }
        Speculator {
            speculation,
            ngrams,
            draft: Vec::with_capacity(MAX_DRAFT),
            n_right: 0,
            from: Match::default(),
            records: Default::default(),
            one_row: None,
            elapsed: 0.0,
            saved: 0.0,
            was_drafted: false,
            n_drafted: 0,
            n_accepted: 0,
        }
    }

    /// What the next pass runs behind the last token that was chosen.
    pub fn draft(&self) -> &[TokenId] {
        &self.draft
    }

    /// Drafted tokens so far, and those of them that were chosen.
    pub fn counts(&self) -> (usize, usize) {
        (self.n_drafted, self.n_accepted)
    }

    /// Nothing is drafted for the next pass.
    pub fn forget_draft(&mut self) {
        self.draft.clear();
        self.n_right = 0;
    }

    /// Thinks of at most `n_max` tokens that may come next. None of `stop_ids` is among them: nothing comes behind those.
    pub fn think(&mut self, n_max: usize, stop_ids: &[TokenId], pace: &Pace) {
        self.forget_draft();
        self.one_row = pace.one_row();
        let n_max = n_max.min(MAX_DRAFT);
        let found = match self.speculation {
            Speculation::Off => return,
            Speculation::Auto => self.ngrams.longest_match(),
            // Any draft is better than none: the sequence from its beginning.
            Speculation::Always => Some(self.ngrams.longest_match().unwrap_or_default()),
        };
        let Some(found) = found.filter(|_| n_max > 0) else { return };
        self.from = found;
        let mut draft = std::mem::take(&mut self.draft);
        self.ngrams.continuation(found, n_max, &mut draft);
        if let Some(end) = draft.iter().position(|id| stop_ids.contains(id)) {
            draft.truncate(end);
        }
        if self.speculation == Speculation::Auto {
            draft.truncate(self.worthwhile(draft.len(), pace));
        }
        self.draft = draft;
    }

    /// Only the first `n` tokens of the draft can come.
    pub fn shorten(&mut self, n: usize) {
        self.draft.truncate(n);
    }

    /// `id` was chosen as the next token. Says whether that is what was drafted, so that the row behind it counts.
    pub fn chose(&mut self, id: TokenId) -> bool {
        if self.speculation != Speculation::Off {
            self.ngrams.push(Some(id));
        }
        let is_right = self.draft.get(self.n_right) == Some(&id);
        self.n_right += usize::from(is_right);
        is_right
    }

    /// The pass is over and `took` so long; the answer goes on behind `n_kept` tokens of the draft, or ended there. Yields
    /// how many rows of it are for nothing.
    pub fn settle(&mut self, n_kept: usize, took: Duration) -> usize {
        let (n_drafted, took) = (self.draft.len(), took.as_secs_f64());
        self.elapsed += took;
        if let Some(one_row) = self.one_row.filter(|_| n_drafted > 0 || self.was_drafted) {
            // Also the pass behind a draft: it may have to build its graph anew.
            self.saved += (n_kept + 1) as f64 * one_row - took;
        }
        if n_drafted > 0 {
            let record = &mut self.records[class(self.from.n_matched)];
            record.fade(KEPT_BY_DRAFT);
            record.n_right += n_kept as f64;
            record.n_tried += (n_kept + 1).min(n_drafted) as f64;
        } else {
            self.records.iter_mut().for_each(|record| record.fade(KEPT_BY_TOKEN));
        }
        self.was_drafted = n_drafted > 0;
        self.n_drafted += n_drafted;
        self.n_accepted += n_kept;
        self.forget_draft();
        n_drafted - n_kept
    }

    /// How many of `n` tokens are worth their rows: the number that makes the answer fastest on average, if losing all of
    /// them can be borne.
    fn worthwhile(&self, n: usize, pace: &Pace) -> usize {
        let Some(one_row) = self.one_row else { return 0 };
        let bearable = self.saved + LOSABLE * self.elapsed;
        let chance = self.records[class(self.from.n_matched)].chance(self.from.n_matched);
        let (mut best, mut best_gain) = (0, WORTHWHILE);
        // Tokens of a pass on average: the one that every pass brings, and those of the draft up to the first wrong one.
        let (mut n_tokens, mut all_right) = (1.0, 1.0);
        for n_drafted in 1..=n {
            all_right *= chance;
            n_tokens += all_right;
            let n_rows = n_drafted + 1;
            if n_rows > pace.most_rows() || pace.loss(n_rows) * one_row > bearable {
                break;
            }
            let cost = pace.cost(n_rows);
            if n_tokens / cost > best_gain {
                (best, best_gain) = (n_drafted, n_tokens / cost);
            }
        }
        best
    }
}

impl Record {
    fn fade(&mut self, kept: f64) {
        self.n_tried *= kept;
        self.n_right *= kept;
    }

    /// That a token behind a match of `n_matched` is the one that came there before.
    fn chance(&self, n_matched: usize) -> f64 {
        let expected = n_matched as f64 / (n_matched + 2) as f64;
        (self.n_right + PRIOR_WEIGHT * expected) / (self.n_tried + PRIOR_WEIGHT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// Words to ids, the same word to the same one.
    fn tokens(text: &str) -> Vec<TokenId> {
        let mut ids = HashMap::new();
        let mut id = |word| {
            let n = ids.len() as TokenId;
            *ids.entry(word).or_insert(n)
        };
        text.split_whitespace().map(&mut id).collect()
    }

    /// How many times faster a model says what stands behind the first `n_prompt` words of `text`, where a pass of n rows
    /// takes `cost(n)` seconds, one of one row 1, and `switch` more behind one of another number of rows. So does an answer
    /// after it, when it is known what passes take.
    fn speedups(text: &str, n_prompt: usize, cost: impl Fn(usize) -> f64, switch: f64) -> [f64; 2] {
        let mut pace = Pace::default();
        [(); 2].map(|()| {
            speedup(text, n_prompt, &mut pace, |n_rows, n_before| {
                cost(n_rows) + if n_rows == n_before { 0.0 } else { switch }
            })
        })
    }

    /// The same of one answer; `cost` is told the rows of the pass before, too.
    fn speedup(text: &str, n_prompt: usize, pace: &mut Pace, cost: impl Fn(usize, usize) -> f64) -> f64 {
        let tokens = tokens(text);
        let (prompt, answer) = tokens.split_at(n_prompt);
        let prompt: Vec<_> = prompt.iter().map(|&id| Cell::Token(id)).collect();
        let mut speculator = Speculator::new(Speculation::Auto, &prompt);
        let (mut n_said, mut seconds, mut n_before) = (0, 0.0, 1);
        while n_said < answer.len() {
            speculator.think(answer.len() - n_said - 1, &[], pace);
            let n_rows = 1 + speculator.draft().len();
            let took = Duration::from_secs_f64(cost(n_rows, n_before));
            n_before = n_rows;
            let mut n_kept = 0;
            for _ in 0..n_rows {
                let is_right = speculator.chose(answer[n_said]);
                n_said += 1;
                if !is_right {
                    break;
                }
                n_kept += 1;
            }
            pace.saw(n_rows, took);
            speculator.settle(n_kept, took);
            seconds += took.as_secs_f64();
        }
        answer.len() as f64 / seconds
    }

    /// A table of `n` lines whose numbers differ.
    fn table(n: usize) -> String {
        let line = |i: usize| {
            format!(
                "| item no. {} | {} pieces of | EUR {} each | in stock since | day {} |\n",
                i * 37 % 101,
                i * 7 % 13,
                i * 53 % 89,
                i * 11 % 31
            )
        };
        (0..n).map(line).collect()
    }

    /// Numbers in no order.
    fn noise(n: usize, n_kinds: u64) -> String {
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n_kinds
        };
        (0..n).map(|_| format!("{} ", next())).collect()
    }

    #[test]
    fn what_repeats_gains_and_nothing_loses() {
        // Dearer and dearer rows; the last ones never pay.
        let slopes = [0.05, 0.15, 0.3, 0.6, 1.0, 1.5];
        let said_twice = noise(400, 5000).repeat(2);
        // Every few words of the answer stand in the prompt, and go on in another way there each time.
        let astray = |n: usize| -> String {
            let prompt =
                (0..200).map(|i| (i..i + n).map(|i| format!("{i} ")).collect::<String>() + &format!("x{i} "));
            prompt.chain((0..200).map(|i| format!("{i} "))).collect()
        };
        let (pairs, sixes) = (astray(2), astray(6));
        let ambiguous: String = (0..300).map(|i| format!("so it is {i} ")).collect();
        let cases: [(&str, &str, usize, [f64; 6]); 8] = [
            ("pairs that lead astray", &pairs, 600, [0.975; 6]),
            ("six words that lead astray", &sixes, 1400, [0.975; 6]),
            ("what stood in the prompt", &said_twice, 400, [5.0, 3.5, 2.2, 1.3, 0.98, 0.98]),
            ("a table", &table(40), 30, [1.8, 1.5, 1.2, 0.98, 0.98, 0.98]),
            ("words that never come again", &noise(400, 1 << 40), 100, [0.98; 6]),
            ("few words in no order", &noise(400, 12), 100, [0.98; 6]),
            ("beginnings that go on otherwise", &ambiguous, 100, [1.15, 1.1, 1.05, 0.98, 0.98, 0.98]),
            ("a short answer", "a b c a b d a b c a b e", 6, [0.98; 6]),
        ];
        for (name, text, n_prompt, expected) in cases {
            for (slope, expected) in slopes.into_iter().zip(expected) {
                let found =
                    |switch| speedups(text, n_prompt, |n_rows| 1.0 + slope * (n_rows - 1) as f64, switch);
                let (at_once, behind_others) = (found(0.0), [found(0.2), found(1.0)].concat());
                assert!(
                    at_once.iter().all(|&found| found >= expected)
                        && behind_others.iter().all(|&found| found >= 0.975),
                    "{name}, {slope} a row: {at_once:.3?}, {behind_others:.3?} times as fast"
                );
            }
        }
    }

    /// What nobody has measured yet is learnt with one token, and then with twice as many rows each time.
    #[test]
    fn the_first_drafts_are_short() {
        let prompt: Vec<_> = (0..400).map(|i| Cell::Token(i % 40)).collect();
        let mut speculator = Speculator::new(Speculation::Auto, &prompt);
        let mut pace = Pace::default();
        // A long answer so far, which may lose a lot.
        for _ in 0..1000 {
            pace.saw(1, Duration::from_millis(10));
            speculator.settle(0, Duration::from_millis(10));
        }
        let lengths = [(); 5].map(|()| {
            speculator.think(100, &[], &pace);
            let n_rows = 1 + speculator.draft().len();
            pace.saw(n_rows, Duration::from_millis(10));
            speculator.settle(n_rows - 1, Duration::from_millis(10));
            n_rows
        });
        assert_eq!(lengths, [2, 4, 8, 16, 16]);
    }

    /// Rows that come in groups: what was measured is what counts.
    #[test]
    fn steps_of_costs_are_learnt() {
        let cost = |n_rows: usize| 1.0 + 0.9 * ((n_rows - 1) / 4) as f64;
        let found = speedups(&noise(400, 5000).repeat(2), 400, cost, 0.0);
        assert!(found.iter().all(|&found| found > 2.2), "{found:.3?} times as fast");
    }

    #[test]
    fn nothing_comes_behind_a_stop() {
        let prompt: Vec<_> = [1, 2, 3, 4, 5, 1, 2].into_iter().map(Cell::Token).collect();
        let draft = |stop_ids: &[TokenId], n_max| {
            let mut speculator = Speculator::new(Speculation::Always, &prompt);
            speculator.think(n_max, stop_ids, &Pace::default());
            speculator.draft().to_vec()
        };
        assert_eq!(draft(&[], 4), [3, 4, 5, 1]);
        assert_eq!(draft(&[5, 9], 4), [3, 4]);
        assert!(draft(&[3], 4).is_empty());
        assert_eq!(draft(&[], 1), [3]);
        assert!(draft(&[], 0).is_empty());
    }

    /// The rows behind the first token that was chosen otherwise are for nothing, and those behind the answer's end.
    #[test]
    fn a_draft_is_settled() {
        let prompt: Vec<_> = [1, 2, 3, 4, 5, 1, 2].into_iter().map(Cell::Token).collect();
        let mut speculator = Speculator::new(Speculation::Always, &prompt);
        speculator.think(3, &[], &Pace::default());
        assert_eq!([3, 4, 9].map(|id| speculator.chose(id)), [true, true, false]);
        assert_eq!(speculator.settle(2, Duration::ZERO), 1);
        assert_eq!((speculator.counts(), speculator.draft()), ((3, 2), &[][..]));
        speculator.think(3, &[], &Pace::default());
        let n_drafted = speculator.draft().len();
        assert!(!speculator.chose(77));
        assert_eq!(speculator.settle(0, Duration::ZERO), n_drafted);
        assert_eq!(speculator.counts(), (3 + n_drafted, 2));
    }
}
