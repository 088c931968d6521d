//! What a conversation took so far, for `/stats`.

use crate::cli::follow::Followed;
use crate::cli::receipt::{seconds, tokens};
use crate::engine::{CacheCounts, EmbeddingSource, Timings};
use std::time::Duration;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    n_answers: usize,
    n_read: usize,
    n_reused: usize,
    n_written: usize,
    /// Those of the written that a pass of their own chose: the first token falls out of the prefill.
    n_decoded: usize,
    n_looked: usize,
    timings: Timings,
    /// The receipt of the last answer.
    last: String,
}

impl Totals {
    /// Adds an answer, whose receipt is `receipt`.
    pub fn add(&mut self, followed: &Followed, receipt: String) {
        self.last = receipt;
        let outcome = &followed.outcome;
        let computed = Some(EmbeddingSource::Computed);
        self.n_answers += 1;
        self.n_read += outcome.n_prompt.saturating_sub(outcome.n_reused);
        self.n_reused += outcome.n_reused;
        self.n_written += outcome.ids.len();
        self.n_decoded += outcome.ids.len().saturating_sub(1);
        self.n_looked += followed.sources.iter().filter(|source| **source == computed).count();
        self.timings.encode += outcome.timings.encode;
        self.timings.prefill += outcome.timings.prefill;
        self.timings.decode += outcome.timings.decode;
    }

    /// Lines of a name and what there is to say.
    pub fn in_words(&self, cache: CacheCounts) -> Vec<(&'static str, String)> {
        let Timings { encode, prefill, decode } = self.timings;
        let n_cached = cache.from_memory + cache.from_disk;
        let pictures = if self.n_looked == 1 { "picture" } else { "pictures" };
        let speed = |n: usize, took: Duration| match took.as_secs_f64() {
            took if took > 0.0 && n > 0 => format!(", {:.1} tokens/s", n as f64 / took),
            _ => String::new(),
        };
        let mut lines = vec![
            ("answers", self.n_answers.to_string()),
            ("looked at", format!("{} {pictures} in {}, {n_cached} cached", self.n_looked, seconds(encode))),
            (
                "read",
                format!(
                    "{} in {}{}, {} reused",
                    tokens(self.n_read),
                    seconds(prefill),
                    speed(self.n_read, prefill),
                    self.n_reused
                ),
            ),
            (
                "written",
                format!("{} in {}{}", tokens(self.n_written), seconds(decode), speed(self.n_decoded, decode)),
            ),
        ];
        if self.n_answers > 0 {
            lines.push(("last answer", self.last.clone()));
        }
        lines
    }
}
