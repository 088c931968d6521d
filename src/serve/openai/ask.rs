//! A request for a chat completion, read.

use super::reply::Reply;
use super::settings::{MAX_CHOICES, settings, tokens, wants_usage};
use crate::engine::Constraint;
use crate::prompt::Role;
use crate::serve::app::App;
use crate::serve::caller::Caller;
use crate::serve::exchange::Asked;
use crate::serve::fault::{Fault, Result};
use crate::serve::fields::{Fields, Neutral, wrong};
use crate::serve::format::{json_object, take_schema};
use crate::serve::picture::Picture;
use crate::serve::question::{Piece, Question, Settings, Turn};
use crate::serve::spoken::{self, Spoken};
use serde_json::Value;

/// Of what a client calls a schema.
const MAX_NAME_BYTES: usize = 64;

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
    ("modalities", &["[\"text\"]"]),
    ("parallel_tool_calls", &["true", "false"]),
    ("prediction", &["null"]),
    ("presence_penalty", &["0"]),
    ("tool_choice", &["\"none\"", "\"auto\""]),
    ("tools", &["[]"]),
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
    let (system, turns) = messages(&mut fields)?;
    let constraint = response_format(&mut fields)?;
    let logprobs = spoken::asked(&mut fields)?;
    let (newer, older) = (tokens(&mut fields, "max_completion_tokens")?, tokens(&mut fields, "max_tokens")?);
    let settings = Settings { max_tokens: newer.or(older), constraint, logprobs, ..settings(&mut fields)? };
    fields.finish(NEUTRAL)?;
    let id = caller.id.clone();
    Ok(Asked {
        questions: vec![Question::new(system, turns, settings)],
        streams,
        n_choices,
        voice: Box::new(move |tokenizer, prepared| {
            let spoken = logprobs.map(|_| Spoken::new(tokenizer.clone()));
            Box::new(Reply::new(&id, model, wants_usage, spoken, prepared))
        }),
    })
}

/// What the answer has to be.
fn response_format(fields: &mut Fields) -> Result<Option<Constraint>> {
    let place = fields.place("response_format");
    let Some(value) = fields.take("response_format") else { return Ok(None) };
    let mut format = Fields::of(&place, value)?;
    let kind = format.place("type");
    let constraint = match format.text("type")?.as_deref() {
        Some("text") => None,
        Some("json_object") => Some(json_object(&place)?),
        Some("json_schema") => {
            let place = format.place("json_schema");
            let mut described = Fields::of(&place, format.take("json_schema").unwrap_or_default())?;
            let (place, name) = (described.place("name"), described.text("name")?.unwrap_or_default());
            let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
            if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(is_word) {
                let expected = "expected up to 64 letters, digits, _ and -";
                return Err(Fault::of(&place, expected));
            }
            // An answer is what the schema says, whether or not that is asked for strictly.
            described.flag("strict")?;
            let constraint = take_schema(&mut described)?;
            described.finish(&[("description", &[])])?;
            Some(constraint)
        }
        _ => return Err(Fault::of(&kind, "expected text, json_object or json_schema")),
    };
    format.finish(&[])?;
    Ok(constraint)
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
            let value = piece.take("image_url").unwrap_or_else(|| Value::String(String::new()));
            Piece::Picture(Picture::of_image_url(place, value)?)
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
            Piece::Picture(picture) => {
                return Err(Fault::of(&picture.place, "only questions may bring pictures"));
            }
        }
    }
    Ok(all)
}
