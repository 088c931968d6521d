//! A request for a chat completion, read.

use super::reply::Reply;
use crate::prompt::Role;
use crate::serve::app::App;
use crate::serve::entry::Caller;
use crate::serve::exchange::Asked;
use crate::serve::fault::{Fault, Result};
use crate::serve::fields::{Fields, Neutral, wrong};
use crate::serve::question::{Piece, Question, Settings, Turn};
use serde_json::Value;

/// Answers to one question.
const MAX_CHOICES: u64 = 8;
const MAX_STOPS: usize = 16;

/// Fields that change no answer here, and under which values; docs/server.md lists them.
const NEUTRAL: Neutral = &[
    ("metadata", &[]),
    ("prompt_cache_key", &[]),
    ("prompt_cache_retention", &[]),
    ("safety_identifier", &[]),
    ("service_tier", &[]),
    ("store", &[]),
    ("user", &[]),
    ("audio", &["null"]),
    ("frequency_penalty", &["0"]),
    ("function_call", &["\"none\"", "\"auto\""]),
    ("functions", &["[]"]),
    ("logit_bias", &["{}"]),
    ("logprobs", &["false"]),
    ("modalities", &["[\"text\"]"]),
    ("parallel_tool_calls", &["true", "false"]),
    ("prediction", &["null"]),
    ("presence_penalty", &["0"]),
    ("response_format", &["{\"type\":\"text\"}"]),
    ("tool_choice", &["\"none\"", "\"auto\""]),
    ("tools", &["[]"]),
    ("top_logprobs", &["0"]),
];

/// Reads a request.
///
/// # Errors
/// `Request`, naming the field; `NotFound` where it names another model.
pub fn parse(app: &App, caller: &Caller, mut fields: Fields) -> Result<Asked> {
    let model = app.take_model(&mut fields)?;
    let streams = fields.flag("stream")?;
    let wants_usage = stream_options(&mut fields)?;
    let n_choices = fields.count("n", 1, MAX_CHOICES)?.unwrap_or(1) as u32;
    let (system, turns) = messages(&mut fields)?;
    let settings = settings(&mut fields)?;
    fields.finish(NEUTRAL)?;
    let id = caller.id.clone();
    Ok(Asked {
        question: Question { system, turns, settings },
        streams,
        n_choices,
        voice: Box::new(move |prepared| Box::new(Reply::new(&id, model, wants_usage, prepared))),
    })
}

fn settings(fields: &mut Fields) -> Result<Settings> {
    let max = u64::from(u32::MAX);
    let newer = fields.count("max_completion_tokens", 1, max)?;
    let older = fields.count("max_tokens", 1, max)?;
    Ok(Settings {
        temperature: fields.number("temperature")?,
        top_k: fields.count("top_k", 0, max)?.map(|n| n as u32),
        top_p: fields.number("top_p")?,
        min_p: fields.number("min_p")?,
        repeat_penalty: fields.number("repetition_penalty")?,
        seed: fields.seed("seed")?,
        max_tokens: newer.or(older).map(|n| n as u32),
        stop: fields.texts("stop", MAX_STOPS)?,
    })
}

fn stream_options(fields: &mut Fields) -> Result<bool> {
    let Some(options) = fields.take("stream_options") else { return Ok(false) };
    let mut options = Fields::of("stream_options", options)?;
    let wants_usage = options.flag("include_usage")?;
    options.finish(&[("include_obfuscation", &[])])?;
    Ok(wants_usage)
}

/// System text, if there is some, and turns.
fn messages(fields: &mut Fields) -> Result<(Option<String>, Vec<Turn>)> {
    let Some(messages) = fields.list("messages")? else {
        return Err(Fault::of("messages", "expected a list, found none"));
    };
    let (mut system, mut turns) = (None, Vec::new());
    for (n, message) in messages.into_iter().enumerate() {
        let place = format!("messages[{n}]");
        let mut message = Fields::of(&place, message)?;
        let role = message.text("role")?.unwrap_or_default();
        match role.as_str() {
            "system" | "developer" if n == 0 => system = Some(text(&mut message)?),
            "system" | "developer" => {
                return Err(Fault::of(
                    &format!("{place}.role"),
                    "only the first message may be the system's",
                ));
            }
            "user" => turns.push(Turn { role: Role::User, pieces: content(&mut message)? }),
            "assistant" => {
                turns.push(Turn { role: Role::Bot, pieces: vec![Piece::Text(text(&mut message)?)] })
            }
            _ => {
                let expected = "expected system, developer, user or assistant";
                return Err(Fault::of(&format!("{place}.role"), expected));
            }
        }
        message.finish(&[
            ("name", &[]),
            ("refusal", &["null"]),
            ("audio", &["null"]),
            ("annotations", &[]),
            ("tool_calls", &["[]"]),
        ])?;
    }
    Ok((system, turns))
}

/// The pieces of a message, in order.
fn content(message: &mut Fields) -> Result<Vec<Piece>> {
    let place = message.place("content");
    match message.take("content") {
        Some(Value::String(text)) => Ok(vec![Piece::Text(text)]),
        Some(Value::Array(pieces)) => {
            pieces.into_iter().enumerate().map(|(n, value)| piece(&format!("{place}[{n}]"), value)).collect()
        }
        Some(other) => Err(wrong(&place, "text or a list", &other)),
        None => Err(Fault::of(&place, "expected text or a list, found none")),
    }
}

fn piece(place: &str, value: Value) -> Result<Piece> {
    let mut piece = Fields::of(place, value)?;
    let kind = piece.text("type")?.unwrap_or_default();
    let read = match kind.as_str() {
        "text" => Piece::Text(piece.text("text")?.unwrap_or_default()),
        "image_url" => {
            let place = piece.place("image_url");
            let url = match piece.take("image_url") {
                Some(Value::String(url)) => url,
                Some(value) => {
                    let mut image = Fields::of(&place, value)?;
                    let url = image.text("url")?;
                    // The model sees one square of one size.
                    image.finish(&[("detail", &[])])?;
                    url.unwrap_or_default()
                }
                None => String::new(),
            };
            Piece::picture(place, url)?
        }
        _ => return Err(Fault::of(&format!("{place}.type"), "expected text or image_url")),
    };
    piece.finish(&[])?;
    Ok(read)
}

/// A message that is text alone.
fn text(message: &mut Fields) -> Result<String> {
    let place = message.place("content");
    let Some(value) = message.take("content") else { return Ok(String::new()) };
    let Value::Array(pieces) = value else {
        return value.as_str().map(String::from).ok_or_else(|| wrong(&place, "text or a list", &value));
    };
    let mut all = String::new();
    for (n, value) in pieces.into_iter().enumerate() {
        match piece(&format!("{place}[{n}]"), value)? {
            Piece::Text(text) => all += &text,
            Piece::Picture { place, .. } => {
                return Err(Fault::of(&place, "only questions may bring pictures"));
            }
        }
    }
    Ok(all)
}
