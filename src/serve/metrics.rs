//! What happened since the server started, in Prometheus' text form.

use super::keeper::{Condition, Kept};
use crate::engine::{CacheCounts, Outcome};
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[derive(Default)]
pub struct Metrics {
    /// Responses by the first digit of their status.
    by_status: [AtomicU64; 5],
    /// Of those: sent away since all places were taken.
    busy: AtomicU64,
    answers: AtomicU64,
    cancelled: AtomicU64,
    prompt_tokens: AtomicU64,
    reused_tokens: AtomicU64,
    copied_tokens: AtomicU64,
    completion_tokens: AtomicU64,
    encode_us: AtomicU64,
    prefill_us: AtomicU64,
    decode_us: AtomicU64,
    connections: AtomicU64,
}

/// What others know at the moment.
pub struct Now {
    pub n_answered: usize,
    pub n_queued: usize,
    pub kept: Kept,
    pub is_ready: bool,
}

impl Metrics {
    pub fn saw_response(&self, status: u16) {
        if let Some(count) = self.by_status.get(usize::from(status / 100).wrapping_sub(1)) {
            add(count, 1);
        }
        if status == 429 {
            add(&self.busy, 1);
        }
    }

    pub fn saw_connection(&self) {
        add(&self.connections, 1);
    }

    pub fn saw_answer(&self, outcome: &Outcome) {
        let us = |time: Duration| time.as_micros() as u64;
        add(&self.answers, 1);
        add(&self.prompt_tokens, outcome.n_prompt as u64);
        add(&self.reused_tokens, outcome.n_reused as u64);
        add(&self.copied_tokens, outcome.n_copied as u64);
        add(&self.completion_tokens, outcome.ids.len() as u64);
        add(&self.encode_us, us(outcome.timings.encode));
        add(&self.prefill_us, us(outcome.timings.prefill));
        add(&self.decode_us, us(outcome.timings.decode));
    }

    /// Somebody left before their answer was done.
    pub fn saw_cancelled(&self) {
        add(&self.cancelled, 1);
    }

    pub fn text(&self, now: &Now) -> String {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed).to_string();
        let seconds = |counter: &AtomicU64| format!("{:.6}", counter.load(Ordering::Relaxed) as f64 / 1e6);
        let mut text = String::new();
        let mut say = |name: &str, kind: &str, help: &str, values: &[(&str, String)]| {
            // Writing to a string does not fail.
            let _ = write!(text, "# HELP owlet_{name} {help}\n# TYPE owlet_{name} {kind}\n");
            for (labels, value) in values {
                let _ = writeln!(text, "owlet_{name}{labels} {value}");
            }
        };
        let one = |value: String| [("", value)];
        let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"].map(|class| format!("{{class=\"{class}\"}}"));
        let by_status: Vec<_> =
            classes.iter().zip(&self.by_status).map(|(class, n)| (class.as_str(), count(n))).collect();
        say("responses_total", "counter", "Responses by class of status.", &by_status);
        say(
            "busy_total",
            "counter",
            "Requests sent away, since all places were taken.",
            &one(count(&self.busy)),
        );
        say("connections_total", "counter", "Connections accepted.", &one(count(&self.connections)));
        say("answers_total", "counter", "Answers that were finished.", &one(count(&self.answers)));
        say("cancelled_total", "counter", "Answers whose client left.", &one(count(&self.cancelled)));
        say("prompt_tokens_total", "counter", "Positions of prompts.", &one(count(&self.prompt_tokens)));
        say(
            "reused_tokens_total",
            "counter",
            "Positions of prompts that were known.",
            &one(count(&self.reused_tokens)),
        );
        say(
            "copied_tokens_total",
            "counter",
            "Those of them that another slot knew.",
            &one(count(&self.copied_tokens)),
        );
        say("completion_tokens_total", "counter", "Tokens of answers.", &one(count(&self.completion_tokens)));
        say("encode_seconds_total", "counter", "Time in the vision tower.", &one(seconds(&self.encode_us)));
        say(
            "prefill_seconds_total",
            "counter",
            "Time of passes that read prompts.",
            &one(seconds(&self.prefill_us)),
        );
        say(
            "decode_seconds_total",
            "counter",
            "Time of passes that wrote answers.",
            &one(seconds(&self.decode_us)),
        );
        let CacheCounts { from_memory, from_disk, computed, damaged } = now.kept.pictures;
        let pictures = [
            ("{source=\"memory\"}", from_memory.to_string()),
            ("{source=\"disk\"}", from_disk.to_string()),
            ("{source=\"computed\"}", computed.to_string()),
            ("{source=\"damaged\"}", damaged.to_string()),
        ];
        say("pictures_total", "counter", "Pictures by where their embeddings came from.", &pictures);
        say("answering", "gauge", "Requests that have a slot.", &one(now.n_answered.to_string()));
        say("queued", "gauge", "Requests that wait for one.", &one(now.n_queued.to_string()));
        say("ready", "gauge", "Whether requests are taken.", &one(u8::from(now.is_ready).to_string()));
        let is_loaded = matches!(now.kept.condition, Condition::Testing | Condition::Loaded);
        say(
            "model_loaded",
            "gauge",
            "Whether the model is in memory.",
            &one(u8::from(is_loaded).to_string()),
        );
        say("model_loads_total", "counter", "How often it was loaded.", &one(now.kept.n_loads.to_string()));
        if let Some(n_bytes) = resident_bytes() {
            say(
                "resident_bytes",
                "gauge",
                "Memory of the process that is in use.",
                &one(n_bytes.to_string()),
            );
        }
        text
    }
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// What the system says, where it is Linux.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
}
