//! Completions: texts that go on. A prompt is what it is, behind the token that every text begins with: no template is put around it, and
//! white space at the ends of what is written stays.

use super::reply::{data, usage, word};
use super::settings::{MAX_CHOICES, settings, tokens, wants_usage};
use crate::engine::{Outcome, TokenLogprob};
use crate::prompt::Role;
use crate::serve::app::App;
use crate::serve::dialect::Dialect;
use crate::serve::entry::Caller;
use crate::serve::exchange::Asked;
use crate::serve::fault::{Fault, Result};
use crate::serve::fields::{Fields, Neutral};
use crate::serve::question::{Piece, Question, Settings, Turn};
use crate::serve::spoken::Spoken;
use crate::serve::time;
use crate::serve::voice::{self, Voice};
use serde_json::{Value, json};

const MAX_PROMPTS: usize = 16;

/// Likeliest tokens that a client may ask about beside each.
const MAX_TOP: u64 = 5;

/// What the API says where a request does not.
const DEFAULT_TOKENS: u32 = 16;

/// Fields that change nothing here, and under which values; docs/server.md lists them.
const NEUTRAL: Neutral = &[
    ("user", &[]),
    ("best_of", &["1"]),
    ("frequency_penalty", &["0"]),
    ("logit_bias", &["{}"]),
    ("presence_penalty", &["0"]),
    ("suffix", &["\"\""]),
];

/// Reads a request.
///
/// # Errors
/// `Request`, naming the field; `NotFound` where it names another model.
pub fn parse(app: &App, caller: &Caller, mut fields: Fields) -> Result<Asked> {
    let model = app.take_model(&mut fields)?;
    let streams = fields.flag("stream")?;
    let wants_usage = wants_usage(&mut fields)?;
    let n_choices = fields.count("n", 1, MAX_CHOICES)?.unwrap_or(1) as u32;
    let logprobs = fields.count("logprobs", 0, MAX_TOP)?.map(|n| n as u32);
    let echoes = fields.flag("echo")?;
    if echoes && logprobs.is_some() {
        return Err(Fault::of("echo", "expected false beside logprobs: a prompt's own are not computed"));
    }
    let mut prompts = fields.texts("prompt", MAX_PROMPTS)?;
    if prompts.is_empty() {
        prompts.push(String::new());
    }
    let shared = settings(&mut fields)?;
    let max_tokens = Some(tokens(&mut fields, "max_tokens")?.unwrap_or(DEFAULT_TOKENS));
    fields.finish(NEUTRAL)?;
    let question = |prompt: &String| Question {
        system: None,
        turns: vec![Turn { role: Role::User, pieces: vec![Piece::Text(prompt.clone())] }],
        continues: true,
        settings: Settings { max_tokens, logprobs, ..shared.clone() },
    };
    let (id, created_s) = (format!("cmpl-{}", caller.id), time::now_s());
    Ok(Asked {
        questions: prompts.iter().map(question).collect(),
        streams,
        n_choices,
        voice: Box::new(move |tokenizer, _| {
            let spoken = logprobs.map(|_| Spoken::new(tokenizer.clone()));
            let prompts = if echoes { prompts } else { Vec::new() };
            let (n_before, choices) = (0, Vec::new());
            Box::new(Reply {
                id,
                created_s,
                model,
                wants_usage,
                n_choices,
                prompts,
                spoken,
                n_before,
                choices,
            })
        }),
    })
}

struct Reply {
    id: String,
    created_s: u64,
    model: String,
    wants_usage: bool,
    /// Of each prompt.
    n_choices: u32,
    /// What is said before what goes on from it; none where it is not.
    prompts: Vec<String>,
    /// Of the choice that is written, where that was asked for.
    spoken: Option<Spoken>,
    /// Characters of it that stand before those tokens.
    n_before: usize,
    /// Those that are done.
    choices: Vec<(Outcome, Value)>,
}

impl Reply {
    fn completion(&self, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created_s,
            "model": self.model,
            "choices": choices,
        })
    }

    fn chunk(&self, choices: Value, usage: Value) -> String {
        let mut chunk = self.completion(choices);
        if self.wants_usage {
            chunk["usage"] = usage;
        }
        data(&chunk)
    }

    fn echo(&self, n: u32) -> &str {
        self.prompts.get((n / self.n_choices) as usize).map_or("", String::as_str)
    }

    /// The tokens that were not told yet.
    fn logprobs(&mut self) -> Value {
        let Some(spoken) = self.spoken.as_mut().map(Spoken::take) else { return Value::Null };
        let columns = spoken.columns(self.n_before);
        self.n_before += spoken.n_characters();
        columns
    }

    fn usage(&self) -> Value {
        let outcomes: Vec<_> = self.choices.iter().map(|(outcome, _)| outcome).collect();
        usage(&outcomes, self.n_choices as usize)
    }
}

impl Voice for Reply {
    fn content_type(&self) -> &'static str {
        "text/event-stream"
    }

    fn begin(&mut self, n: u32) -> String {
        match self.echo(n) {
            "" => String::new(),
            text => {
                let choice = json!({"index": n, "text": text, "logprobs": null, "finish_reason": null});
                self.chunk(json!([choice]), Value::Null)
            }
        }
    }

    fn chose(&mut self, _: u32, token: TokenLogprob) {
        if let Some(spoken) = &mut self.spoken {
            spoken.push(token);
        }
    }

    fn text(&mut self, n: u32, text: &str) -> String {
        let choice = json!({"index": n, "text": text, "logprobs": self.logprobs(), "finish_reason": null});
        self.chunk(json!([choice]), Value::Null)
    }

    fn end(&mut self, n: u32, outcome: Outcome) -> String {
        let (reason, logprobs) = (word(outcome.finish_reason), self.logprobs());
        self.n_before = 0;
        let choice = json!({"index": n, "text": "", "logprobs": logprobs, "finish_reason": reason});
        self.choices.push((outcome, logprobs));
        self.chunk(json!([choice]), Value::Null)
    }

    fn last(&mut self) -> String {
        let usage = if self.wants_usage { self.chunk(json!([]), self.usage()) } else { String::new() };
        usage + "data: [DONE]\n\n"
    }

    fn remark(&self, text: &str) -> Option<String> {
        voice::comment(text)
    }

    fn fault(&self, fault: &Fault) -> String {
        data(&Dialect::OpenAi.shape(fault))
    }

    fn whole(&self) -> Value {
        let choice = |(n, (outcome, logprobs)): (u32, &(Outcome, Value))| {
            json!({
                "index": n,
                "text": format!("{}{}", self.echo(n), outcome.text),
                "logprobs": logprobs,
                "finish_reason": word(outcome.finish_reason),
            })
        };
        let mut whole = self.completion((0..).zip(&self.choices).map(choice).collect());
        whole["usage"] = self.usage();
        whole
    }
}
