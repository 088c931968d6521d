//! An answer as OpenAI's clients read it, whole or in chunks. Beside their fields stands `owlet`: what the model got to see, and where
//! the time went.

use crate::engine::{EmbeddingSource, FinishReason, Outcome};
use crate::serve::dialect::Dialect;
use crate::serve::fault::Fault;
use crate::serve::question::Prepared;
use crate::serve::receipt::Receipt;
use crate::serve::time;
use crate::serve::voice::{self, Voice};
use serde_json::{Value, json};

pub struct Reply {
    id: String,
    model: String,
    created_s: u64,
    wants_usage: bool,
    receipt: Receipt,
    outcomes: Vec<Outcome>,
}

impl Reply {
    pub fn new(id: &str, model: String, wants_usage: bool, prepared: &Prepared) -> Reply {
        Reply {
            id: format!("chatcmpl-{id}"),
            model,
            created_s: time::now_s(),
            wants_usage,
            receipt: Receipt::new(prepared),
            outcomes: Vec::new(),
        }
    }

    fn chunk(&self, choices: Value) -> Value {
        let mut chunk = json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created_s,
            "model": self.model,
            "choices": choices,
        });
        if self.wants_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    fn usage(&self) -> Value {
        let n_prompt = self.outcomes.first().map_or(0, |outcome| outcome.n_prompt);
        let n_reused = self.outcomes.first().map_or(0, |outcome| outcome.n_reused);
        let n_completion: usize = self.outcomes.iter().map(|outcome| outcome.ids.len()).sum();
        json!({
            "prompt_tokens": n_prompt,
            "completion_tokens": n_completion,
            "total_tokens": n_prompt + n_completion,
            "prompt_tokens_details": {"cached_tokens": n_reused},
        })
    }
}

impl Voice for Reply {
    fn content_type(&self) -> &'static str {
        "text/event-stream"
    }

    fn begin(&mut self, n: u32) -> String {
        let delta = json!({"role": "assistant", "content": ""});
        data(&self.chunk(json!([{"index": n, "delta": delta, "logprobs": null, "finish_reason": null}])))
    }

    fn text(&mut self, n: u32, text: &str) -> String {
        let delta = json!({"content": text});
        data(&self.chunk(json!([{"index": n, "delta": delta, "logprobs": null, "finish_reason": null}])))
    }

    fn saw_picture(&mut self, image: usize, source: EmbeddingSource) {
        self.receipt.saw_picture(image, source);
    }

    fn end(&mut self, n: u32, outcome: Outcome) -> String {
        let reason = word(outcome.finish_reason);
        let choice = json!({"index": n, "delta": {}, "logprobs": null, "finish_reason": reason});
        let mut chunk = self.chunk(json!([choice]));
        chunk["owlet"] = self.receipt.of(&outcome);
        self.outcomes.push(outcome);
        data(&chunk)
    }

    fn last(&mut self) -> String {
        let mut text = String::new();
        if self.wants_usage {
            let mut chunk = self.chunk(json!([]));
            chunk["usage"] = self.usage();
            text = data(&chunk);
        }
        text + "data: [DONE]\n\n"
    }

    fn remark(&self, text: &str) -> Option<String> {
        voice::comment(text)
    }

    fn fault(&self, fault: &Fault) -> String {
        data(&Dialect::OpenAi.shape(fault))
    }

    fn whole(&self) -> Value {
        let choice = |(n, outcome): (usize, &Outcome)| {
            json!({
                "index": n,
                "message": {"role": "assistant", "content": outcome.text, "refusal": null},
                "logprobs": null,
                "finish_reason": word(outcome.finish_reason),
            })
        };
        json!({
            "id": self.id,
            "object": "chat.completion",
            "created": self.created_s,
            "model": self.model,
            "choices": self.outcomes.iter().enumerate().map(choice).collect::<Vec<_>>(),
            "usage": self.usage(),
            "owlet": self.outcomes.first().map(|outcome| self.receipt.of(outcome)),
        })
    }
}

fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}

fn word(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Eos | FinishReason::Complete | FinishReason::Stop => "stop",
        FinishReason::Length | FinishReason::Context | FinishReason::Cancelled => "length",
    }
}
