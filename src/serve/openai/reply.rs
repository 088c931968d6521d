//! An answer as OpenAI's clients read it, whole or in chunks. Beside their fields stands `owlet`: what the model got to see, and where
//! the time went.

use crate::engine::{EmbeddingSource, FinishReason, Outcome, TokenLogprob};
use crate::serve::dialect::Dialect;
use crate::serve::fault::Fault;
use crate::serve::question::Prepared;
use crate::serve::receipt::Receipt;
use crate::serve::spoken::Spoken;
use crate::serve::time;
use crate::serve::voice::{self, Voice};
use serde_json::{Value, json};

pub struct Reply {
    id: String,
    model: String,
    created_s: u64,
    wants_usage: bool,
    receipt: Receipt,
    /// Of the choice that is written, where that was asked for.
    spoken: Option<Spoken>,
    /// Those that are done.
    choices: Vec<(Outcome, Value)>,
}

impl Reply {
    pub fn new(
        id: &str,
        model: String,
        wants_usage: bool,
        spoken: Option<Spoken>,
        prepared: &[Prepared],
    ) -> Reply {
        Reply {
            id: format!("chatcmpl-{id}"),
            model,
            created_s: time::now_s(),
            wants_usage,
            receipt: Receipt::new(prepared),
            spoken,
            choices: Vec::new(),
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
        let outcomes: Vec<_> = self.choices.iter().map(|(outcome, _)| outcome).collect();
        usage(&outcomes, outcomes.len())
    }

    /// The tokens that were not told yet.
    fn logprobs(&mut self) -> Value {
        match self.spoken.as_mut().map(Spoken::take) {
            Some(spoken) => json!({"content": spoken.list(), "refusal": null}),
            None => Value::Null,
        }
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
        let choice = json!({"index": n, "delta": delta, "logprobs": self.logprobs(), "finish_reason": null});
        data(&self.chunk(json!([choice])))
    }

    fn chose(&mut self, _: u32, token: TokenLogprob) {
        if let Some(spoken) = &mut self.spoken {
            spoken.push(token);
        }
    }

    fn saw_picture(&mut self, image: usize, source: EmbeddingSource) {
        self.receipt.saw_picture(image, source);
    }

    fn end(&mut self, n: u32, outcome: Outcome) -> String {
        let (reason, logprobs) = (word(outcome.finish_reason), self.logprobs());
        let choice = json!({"index": n, "delta": {}, "logprobs": logprobs, "finish_reason": reason});
        let mut chunk = self.chunk(json!([choice]));
        chunk["owlet"] = self.receipt.of(&outcome);
        self.choices.push((outcome, logprobs));
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
        let choice = |(n, (outcome, logprobs)): (usize, &(Outcome, Value))| {
            json!({
                "index": n,
                "message": {"role": "assistant", "content": outcome.text, "refusal": null},
                "logprobs": logprobs,
                "finish_reason": word(outcome.finish_reason),
            })
        };
        json!({
            "id": self.id,
            "object": "chat.completion",
            "created": self.created_s,
            "model": self.model,
            "choices": self.choices.iter().enumerate().map(choice).collect::<Vec<_>>(),
            "usage": self.usage(),
            "owlet": self.choices.first().map(|(outcome, _)| self.receipt.of(outcome)),
        })
    }
}

/// What all `outcomes` took, of which `n_choices` have a prompt in common.
pub fn usage(outcomes: &[&Outcome], n_choices: usize) -> Value {
    let firsts = || outcomes.iter().step_by(n_choices.max(1));
    let n_prompt: usize = firsts().map(|outcome| outcome.n_prompt).sum();
    let n_reused: usize = firsts().map(|outcome| outcome.n_reused).sum();
    let n_completion: usize = outcomes.iter().map(|outcome| outcome.ids.len()).sum();
    json!({
        "prompt_tokens": n_prompt,
        "completion_tokens": n_completion,
        "total_tokens": n_prompt + n_completion,
        "prompt_tokens_details": {"cached_tokens": n_reused},
    })
}

pub fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}

pub fn word(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Eos | FinishReason::Complete | FinishReason::Stop => "stop",
        FinishReason::Length | FinishReason::Context | FinishReason::Cancelled => "length",
    }
}
