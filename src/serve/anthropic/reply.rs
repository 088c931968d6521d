//! An answer as Anthropic's clients read it: a message of one block of text, whole or as events.

use crate::engine::{EmbeddingSource, FinishReason, Outcome};
use crate::serve::dialect::Dialect;
use crate::serve::fault::Fault;
use crate::serve::question::Prepared;
use crate::serve::receipt::Receipt;
use crate::serve::voice::{self, Voice};
use serde_json::{Value, json};

pub struct Reply {
    id: String,
    model: String,
    stops: Vec<String>,
    receipt: Receipt,
    outcome: Option<Outcome>,
}

impl Reply {
    pub fn new(id: &str, model: String, stops: Vec<String>, prepared: &[Prepared]) -> Reply {
        let (id, receipt) = (format!("msg_{id}"), Receipt::new(prepared));
        Reply { id, model, stops, receipt, outcome: None }
    }

    /// A message with `content`, as far as it is known how it ends.
    fn message(&self, content: Value) -> Value {
        let (reason, sequence) = self.ending();
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": reason,
            "stop_sequence": sequence,
            "usage": self.usage(),
        })
    }

    /// Why, and before which text where only one was to end it.
    fn ending(&self) -> (Option<&'static str>, Option<&str>) {
        match self.outcome.as_ref().map(|outcome| outcome.finish_reason) {
            None => (None, None),
            Some(FinishReason::Eos | FinishReason::Complete) => (Some("end_turn"), None),
            Some(FinishReason::Stop) => {
                let only = if let [stop] = self.stops.as_slice() { Some(stop.as_str()) } else { None };
                (Some("stop_sequence"), only)
            }
            Some(FinishReason::Length | FinishReason::Context | FinishReason::Cancelled) => {
                (Some("max_tokens"), None)
            }
        }
    }

    fn usage(&self) -> Value {
        let Some(outcome) = &self.outcome else { return json!({"input_tokens": 0, "output_tokens": 0}) };
        json!({
            "input_tokens": outcome.n_prompt - outcome.n_reused,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": outcome.n_reused,
            "output_tokens": outcome.ids.len(),
        })
    }
}

impl Voice for Reply {
    fn content_type(&self) -> &'static str {
        "text/event-stream"
    }

    fn begin(&mut self, _: u32) -> String {
        let block = json!({"type": "text", "text": ""});
        event("message_start", json!({"message": self.message(json!([]))}))
            + &event("content_block_start", json!({"index": 0, "content_block": block}))
    }

    fn text(&mut self, _: u32, text: &str) -> String {
        event("content_block_delta", json!({"index": 0, "delta": {"type": "text_delta", "text": text}}))
    }

    fn saw_picture(&mut self, image: usize, source: EmbeddingSource) {
        self.receipt.saw_picture(image, source);
    }

    fn end(&mut self, _: u32, outcome: Outcome) -> String {
        let receipt = self.receipt.of(&outcome);
        self.outcome = Some(outcome);
        let (reason, sequence) = self.ending();
        let delta = json!({"stop_reason": reason, "stop_sequence": sequence});
        event("content_block_stop", json!({"index": 0}))
            + &event("message_delta", json!({"delta": delta, "usage": self.usage(), "owlet": receipt}))
    }

    fn last(&mut self) -> String {
        event("message_stop", json!({}))
    }

    fn remark(&self, text: &str) -> Option<String> {
        voice::comment(text)
    }

    fn fault(&self, fault: &Fault) -> String {
        format!("event: error\ndata: {}\n\n", Dialect::Anthropic.shape(fault))
    }

    fn whole(&self) -> Value {
        let text = self.outcome.as_ref().map_or("", |outcome| &outcome.text);
        let mut message = self.message(json!([{"type": "text", "text": text}]));
        message["owlet"] = self.outcome.as_ref().map(|outcome| self.receipt.of(outcome)).unwrap_or_default();
        message
    }
}

fn event(kind: &str, mut facts: Value) -> String {
    facts["type"] = json!(kind);
    format!("event: {kind}\ndata: {facts}\n\n")
}
