//! An answer as Ollama's clients read it: a JSON object, or one a line.

use crate::engine::{EmbeddingSource, FinishReason, Outcome, TokenLogprob};
use crate::serve::dialect::Dialect;
use crate::serve::fault::Fault;
use crate::serve::question::Prepared;
use crate::serve::receipt::Receipt;
use crate::serve::spoken::Spoken;
use crate::serve::time;
use crate::serve::voice::Voice;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Where the text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// In a message.
    Chat,
    /// In `response`.
    Generate,
}

pub struct Reply {
    model: String,
    form: Form,
    started: Instant,
    receipt: Receipt,
    /// Tokens that were not told yet, where they were asked for.
    spoken: Option<Spoken>,
    outcome: Option<Outcome>,
}

impl Reply {
    pub fn new(model: String, form: Form, spoken: Option<Spoken>, prepared: &[Prepared]) -> Reply {
        let receipt = Receipt::new(prepared);
        Reply { model, form, started: Instant::now(), receipt, spoken, outcome: None }
    }

    fn piece(&self, text: &str, is_done: bool) -> Value {
        let mut piece =
            json!({"model": self.model, "created_at": time::rfc3339(time::now_s()), "done": is_done});
        match self.form {
            Form::Chat => piece["message"] = json!({"role": "assistant", "content": text}),
            Form::Generate => piece["response"] = json!(text),
        }
        if let Some(spoken) = self.spoken.as_ref().filter(|spoken| !spoken.is_empty()) {
            piece["logprobs"] = json!(spoken.list());
        }
        piece
    }

    /// The piece that ends the answer, with `text`.
    fn end_with(&self, text: &str) -> Value {
        let mut piece = self.piece(text, true);
        let Some(outcome) = &self.outcome else { return piece };
        let ns = |time: Duration| json!(time.as_nanos() as u64);
        let timings = &outcome.timings;
        piece["done_reason"] = json!(match outcome.finish_reason {
            FinishReason::Eos | FinishReason::Complete | FinishReason::Stop => "stop",
            FinishReason::Length | FinishReason::Context | FinishReason::Cancelled => "length",
        });
        piece["total_duration"] = ns(self.started.elapsed());
        piece["load_duration"] = json!(0);
        piece["prompt_eval_count"] = json!(outcome.n_prompt);
        piece["prompt_eval_duration"] = ns(timings.encode + timings.prefill);
        piece["eval_count"] = json!(outcome.ids.len());
        piece["eval_duration"] = ns(timings.decode);
        piece["owlet"] = self.receipt.of(outcome);
        piece
    }
}

impl Voice for Reply {
    fn content_type(&self) -> &'static str {
        "application/x-ndjson"
    }

    fn begin(&mut self, _: u32) -> String {
        String::new()
    }

    fn text(&mut self, _: u32, text: &str) -> String {
        let piece = self.piece(text, false);
        self.spoken.as_mut().map(Spoken::take);
        line(&piece)
    }

    fn chose(&mut self, _: u32, token: TokenLogprob) {
        if let Some(spoken) = &mut self.spoken {
            spoken.push(token);
        }
    }

    fn saw_picture(&mut self, image: usize, source: EmbeddingSource) {
        self.receipt.saw_picture(image, source);
    }

    fn end(&mut self, _: u32, outcome: Outcome) -> String {
        self.outcome = Some(outcome);
        line(&self.end_with(""))
    }

    fn last(&mut self) -> String {
        String::new()
    }

    /// A line that clients of this dialect would skip does not exist.
    fn remark(&self, _: &str) -> Option<String> {
        None
    }

    fn fault(&self, fault: &Fault) -> String {
        line(&Dialect::Ollama.shape(fault))
    }

    fn whole(&self) -> Value {
        self.end_with(self.outcome.as_ref().map_or("", |outcome| &outcome.text))
    }
}

fn line(value: &Value) -> String {
    format!("{value}\n")
}
