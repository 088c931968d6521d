//! Completions: texts that go on. A prompt is what it is, behind the token that every text begins with: no template is put around it, and
//! white space at the ends of what is written stays.

use super::reply::{data, usage, word};
use super::settings::{MAX_CHOICES, settings, wants_usage};
use crate::engine::{Outcome, TokenLogprob};
use crate::prompt::{Part, Role, Tokenizer};
use crate::serve::app::App;
use crate::serve::caller::Caller;
use crate::serve::dialect::Dialect;
use crate::serve::exchange::Asked;
use crate::serve::fault::{Fault, Result};
use crate::serve::fields::{Fields, Neutral, whole, wrong};
use crate::serve::question::{Piece, Prepared, Question, Settings, Turn};
use crate::serve::spoken::Spoken;
use crate::serve::time;
use crate::serve::voice::{self, Voice};
use crate::token::TokenId;
use serde_json::{Value, json};
use std::cmp::Ordering;

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
    let prompts = prompts(&mut fields, app.facts().text.n_vocab)?;
    let shared = settings(&mut fields)?;
    // Who wants to know how likely a text is needs no answer.
    let least_tokens = if echoes { 0 } else { 1 };
    let max_tokens = fields.count("max_tokens", least_tokens, u32::MAX.into())?.map(|n| n as u32);
    let max_tokens = Some(max_tokens.unwrap_or(DEFAULT_TOKENS));
    fields.finish(NEUTRAL)?;
    let question = |prompt: Prompt| {
        let settings = Settings { max_tokens, logprobs, ..shared.clone() };
        let (turns, ids) = match prompt {
            Prompt::Text(text) => (vec![Turn { role: Role::User, pieces: vec![Piece::Text(text)] }], None),
            Prompt::Tokens(ids) => (Vec::new(), Some(ids)),
        };
        let scores_prompt = echoes && logprobs.is_some();
        Question { continues: true, ids, scores_prompt, ..Question::new(None, turns, settings) }
    };
    let (id, created_s) = (format!("cmpl-{}", caller.id), time::now_s());
    Ok(Asked {
        questions: prompts.into_iter().map(question).collect(),
        streams,
        n_choices,
        voice: Box::new(move |tokenizer, prepared| {
            Box::new(Reply {
                id,
                created_s,
                model,
                wants_usage,
                n_choices,
                echoes: if echoes {
                    prepared.iter().map(|one| Echo::of(one, tokenizer)).collect()
                } else {
                    Vec::new()
                },
                spoken: logprobs.map(|_| Spoken::new(tokenizer.clone())),
                n_read: 0,
                owes_echo: false,
                n_before: 0,
                choices: Vec::new(),
            })
        }),
    })
}

/// What is to go on.
enum Prompt {
    Text(String),
    Tokens(Vec<TokenId>),
}

/// A text or a list of tokens, which are below `n_vocab`, or a list of such.
fn prompts(fields: &mut Fields, n_vocab: u32) -> Result<Vec<Prompt>> {
    let place = fields.place("prompt");
    let values = match fields.take("prompt") {
        None => Vec::new(),
        Some(Value::Array(values)) if values.first().is_some_and(Value::is_number) => {
            return Ok(vec![Prompt::Tokens(tokens(&place, values, n_vocab)?)]);
        }
        Some(Value::Array(values)) => values,
        Some(one) => vec![one],
    };
    if values.len() > MAX_PROMPTS {
        return Err(Fault::of(
            &place,
            format_args!("expected at most {MAX_PROMPTS}, found {}", values.len()),
        ));
    }
    if values.is_empty() {
        return Ok(vec![Prompt::Text(String::new())]);
    }
    let prompt = |(n, value)| match value {
        Value::String(text) => Ok(Prompt::Text(text)),
        Value::Array(values) => tokens(&format!("{place}[{n}]"), values, n_vocab).map(Prompt::Tokens),
        other => Err(wrong(&place, "text or tokens", &other)),
    };
    values.into_iter().enumerate().map(prompt).collect()
}

fn tokens(place: &str, values: Vec<Value>, n_vocab: u32) -> Result<Vec<TokenId>> {
    let id = |(n, value): (usize, Value)| match whole(&value).filter(|&id| id < n_vocab.into()) {
        Some(id) => Ok(id as TokenId),
        None => Err(wrong(&format!("{place}[{n}]"), &format!("a token below {n_vocab}"), &value)),
    };
    values.into_iter().enumerate().map(id).collect()
}

/// A prompt, said before what goes on from it.
struct Echo {
    text: String,
    /// Tokens before the first one of the text: the one that every text begins with.
    n_before: usize,
    /// The first one has a space before it that is none of the text's.
    is_spaced: bool,
}

impl Echo {
    fn of(prepared: &Prepared, tokenizer: &Tokenizer) -> Echo {
        let request = prepared.request.request();
        let parts = request.messages.iter().flat_map(|message| &message.parts);
        let text =
            parts.filter_map(|part| if let Part::Text(text) = part { Some(text.as_str()) } else { None });
        let is_text = request.ids.is_none();
        Echo {
            text: text.collect(),
            n_before: usize::from(is_text && tokenizer.bos_id().is_some()),
            is_spaced: is_text && tokenizer.begins_with_space(),
        }
    }
}

struct Reply {
    id: String,
    created_s: u64,
    model: String,
    wants_usage: bool,
    /// Of each prompt.
    n_choices: u32,
    /// Of each prompt; none where that is not asked for.
    echoes: Vec<Echo>,
    /// Of the choice that is written, where that was asked for.
    spoken: Option<Spoken>,
    /// Tokens of its prompt that were told.
    n_read: usize,
    /// Its prompt is still to be said, with how likely it was.
    owes_echo: bool,
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

    fn echo(&self, n: u32) -> Option<&Echo> {
        self.echoes.get((n / self.n_choices) as usize)
    }

    fn echoed(&self, n: u32) -> &str {
        self.echo(n).map_or("", |echo| echo.text.as_str())
    }

    /// Choice `n` goes on with `text`.
    fn piece(&mut self, n: u32, text: &str, reason: Option<&str>) -> (Value, Value) {
        let owed = if std::mem::take(&mut self.owes_echo) { self.echoed(n) } else { "" };
        let text = format!("{owed}{text}");
        let logprobs = self.logprobs();
        (json!({"index": n, "text": text, "logprobs": logprobs, "finish_reason": reason}), logprobs)
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
        // How likely a prompt was is known when it is read.
        self.owes_echo = self.spoken.is_some();
        match self.echoed(n) {
            "" => String::new(),
            _ if self.owes_echo => String::new(),
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

    fn read(&mut self, n: u32, id: TokenId, logprob: Option<TokenLogprob>) {
        let (n_before, is_spaced) = self.echo(n).map_or((0, false), |echo| (echo.n_before, echo.is_spaced));
        if let Some(spoken) = &mut self.spoken {
            match (self.n_read.cmp(&n_before), logprob) {
                (Ordering::Less, _) => {}
                (Ordering::Greater, Some(token)) => spoken.push(token),
                (Ordering::Equal | Ordering::Greater, _) => spoken.push_first(id, is_spaced),
            }
        }
        self.n_read += 1;
    }

    fn text(&mut self, n: u32, text: &str) -> String {
        let (choice, _) = self.piece(n, text, None);
        self.chunk(json!([choice]), Value::Null)
    }

    fn end(&mut self, n: u32, outcome: Outcome) -> String {
        let (choice, logprobs) = self.piece(n, "", Some(word(outcome.finish_reason)));
        (self.n_before, self.n_read) = (0, 0);
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
                "text": format!("{}{}", self.echoed(n), outcome.text),
                "logprobs": logprobs,
                "finish_reason": word(outcome.finish_reason),
            })
        };
        let mut whole = self.completion((0..).zip(&self.choices).map(choice).collect());
        whole["usage"] = self.usage();
        whole
    }
}
