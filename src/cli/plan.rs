//! `owlet inspect --plan`: what a model will need, as a table or as JSON.

use std::fmt::Write as _;

use owlet_format::{Gguf, ModelConfig};
use serde::Serialize;

use super::figures::significant;
use super::state::state_dir;
use crate::engine::Setup;
use crate::error::Result;
use crate::measure::{self, Expected, History, Plan, Test, bytes_in_words};

/// The plan, and the seconds to expect.
#[derive(Serialize)]
pub struct Outlook {
    file: String,
    #[serde(flatten)]
    plan: Plan,
    expected: Vec<Expected>,
}

impl Outlook {
    /// For the model in `file`.
    ///
    /// # Errors
    /// What is wrong with the file, or with the context that is asked for.
    pub fn new(file: &Gguf, setup: &Setup) -> Result<Outlook> {
        let config = ModelConfig::read(file)?;
        let plan = Plan::new(file, &config, setup)?;
        let history = state_dir().map(|dir| History::open(&dir));
        let expected = history.map(|history| measure::expect(file, &config, &history)).unwrap_or_default();
        Ok(Outlook { file: file.label().to_string(), plan, expected })
    }

    /// The table that people get.
    pub fn in_words(&self) -> String {
        let mut out = String::new();
        let mut line = |text: std::fmt::Arguments| {
            let _ = writeln!(out, "{text}");
        };
        let Plan {
            n_ctx,
            kv_type,
            parts,
            fixed_bytes,
            total_bytes,
            low_memory_bytes,
            first_question: first,
            available_bytes,
            devices,
            ..
        } = &self.plan;
        line(format_args!(
            "{}: what it needs with a context of {n_ctx} and {kv_type} keys and values\n",
            self.file
        ));
        for part in parts {
            let kind = if part.is_mapped { "mapped" } else { "" };
            line(format_args!("  {:<18} {:>12}  {kind}", part.what, bytes_in_words(part.n_bytes)));
        }
        line(format_args!("\n  {:<18} {:>14} {:>14}", "", "first question", "full context"));
        for (what, first, full) in [
            ("total", first.total_bytes, *total_bytes),
            ("with --low-memory", first.low_memory_bytes, *low_memory_bytes),
            ("without mapped", first.fixed_bytes, *fixed_bytes),
        ] {
            line(format_args!("  {what:<18} {:>14} {:>14}", bytes_in_words(first), bytes_in_words(full)));
        }
        line(format_args!(
            "\nA first question has one picture and a cache of {} positions, which grows to the whole context.",
            first.n_positions
        ));
        if let Some(available) = *available_bytes {
            let verdict = if *fixed_bytes > available {
                "too little: a shorter context (-c) or smaller keys and values (--kv-type q8_0) need less"
            } else if first.low_memory_bytes > available {
                "will do, but not all weights stay in memory: they are read from disk again and again"
            } else if first.total_bytes > available {
                "enough, if the vision half's weights leave memory after each picture (--low-memory, by itself)"
            } else if *total_bytes > available {
                "enough; a full context pushes weights out of memory, which come back for the next picture"
            } else {
                "enough"
            };
            line(format_args!("Available: {}: {verdict}\n", bytes_in_words(available)));
        }
        for device in devices {
            line(format_args!("On {} ({}), not counted above\n", device.name, device.description));
            let (n_bytes, free) = (bytes_in_words(device.n_bytes), bytes_in_words(device.free_bytes));
            line(format_args!("  {:<18} {:>12}  {}", "in all", n_bytes, device.what));
            if device.exchanged_bytes > 0 {
                let n_bytes = bytes_in_words(device.exchanged_bytes);
                let what = "of weights copied there for a picture and the text behind it";
                line(format_args!("  {:<18} {:>12}  {what}", "each picture", n_bytes));
            }
            line(format_args!("  {:<18} {:>12}\n", "free", free));
        }
        match self.expected.as_slice() {
            [] => line(format_args!(
                "Seconds to expect: not known on this machine; `owlet bench` measures them."
            )),
            expected => {
                line(format_args!("Seconds to expect\n"));
                for expected in expected {
                    line(format_args!("  {}", in_words(expected)));
                }
            }
        }
        out
    }
}

/// `a picture through the tower  52.1 s  measured on 2026-11-23`
fn in_words(expected: &Expected) -> String {
    let what = match expected.test {
        Test::Startup => "from start to ready",
        Test::Vision => "a picture: tower",
        Test::Projector => "a picture: projector",
        Test::Prefill256 => "256 tokens of a prompt",
        Test::Decode => "a token of the answer",
        Test::Decode2048 => "the same behind 2,048",
        other => other.name(),
    };
    let day = expected.date.split('T').next().unwrap_or_default();
    let source = match expected.is_same_model {
        true => format!("measured on {day}"),
        false => format!("guessed from {}, measured on {day}", expected.measured_on),
    };
    format!("{what:<24} {:>9} s  {source}", significant(expected.seconds))
}
