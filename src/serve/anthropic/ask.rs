//! Requests of Anthropic's clients, read.

use super::reply::Reply;
use crate::engine::Constraint;
use crate::prompt::Role;
use crate::serve::app::App;
use crate::serve::caller::Caller;
use crate::serve::exchange::Asked;
use crate::serve::fault::{Fault, Result};
use crate::serve::fields::{Fields, Neutral, wrong};
use crate::serve::format::take_schema;
use crate::serve::picture::Picture;
use crate::serve::question::{Piece, Question, Settings, Turn};
use serde_json::Value;

const MAX_STOPS: usize = 16;

/// Fields that change no answer here, and under which values; docs/server.md lists them.
const NEUTRAL: Neutral = &[
    ("metadata", &[]),
    ("service_tier", &[]),
    ("inference_geo", &[]),
    ("container", &["null"]),
    ("mcp_servers", &["[]"]),
    ("thinking", &["{\"type\":\"disabled\"}"]),
    ("tool_choice", &["{\"type\":\"none\"}", "{\"type\":\"auto\"}"]),
    ("tools", &["[]"]),
];

/// Where a client says what may be kept: all may.
const CACHE_CONTROL: Neutral = &[("cache_control", &[]), ("citations", &["null"])];

/// Reads `POST /v1/messages`.
///
/// # Errors
/// `Request`, naming the field; `NotFound` where it names another model.
pub fn messages(app: &App, caller: &Caller, mut fields: Fields) -> Result<Asked> {
    let model = app.take_model(&mut fields)?;
    let streams = fields.flag("stream")?;
    let max = u64::from(u32::MAX);
    let Some(max_tokens) = fields.count("max_tokens", 1, max)? else {
        return Err(Fault::of("max_tokens", "expected a whole number, found none"));
    };
    let constraint = output(&mut fields)?;
    let settings = Settings {
        constraint,
        temperature: fields.number("temperature")?,
        top_k: fields.count("top_k", 0, max)?.map(|n| n as u32),
        top_p: fields.number("top_p")?,
        max_tokens: Some(max_tokens as u32),
        stop: fields.texts("stop_sequences", MAX_STOPS)?,
        ..Settings::default()
    };
    let stops = settings.stop.clone();
    let (system, turns) = conversation(&mut fields)?;
    fields.finish(NEUTRAL)?;
    let id = caller.id.clone();
    Ok(Asked {
        questions: vec![Question::new(system, turns, settings)],
        streams,
        n_choices: 1,
        voice: Box::new(move |_, prepared| Box::new(Reply::new(&id, model, stops, prepared))),
    })
}

/// Reads `POST /v1/messages/count_tokens`.
///
/// # Errors
/// As [`messages`].
pub fn to_count(app: &App, _: &Caller, mut fields: Fields) -> Result<Question> {
    app.take_model(&mut fields)?;
    // It is no part of the prompt.
    output(&mut fields)?;
    let (system, turns) = conversation(&mut fields)?;
    fields.finish(NEUTRAL)?;
    Ok(Question::new(system, turns, Settings::default()))
}

/// What the answer has to be: as the API says it, or as it did before.
fn output(fields: &mut Fields) -> Result<Option<Constraint>> {
    let before = fields.take("output_format").map(|format| schema("output_format", format)).transpose()?;
    let Some(config) = fields.take("output_config") else { return Ok(before) };
    let mut config = Fields::of("output_config", config)?;
    let place = config.place("format");
    let now = config.take("format").map(|format| schema(&place, format)).transpose()?;
    // What an answer costs is settled by how long it is.
    config.finish(&[("effort", &["\"high\""])])?;
    Ok(now.or(before))
}

fn schema(place: &str, format: Value) -> Result<Constraint> {
    let mut format = Fields::of(place, format)?;
    if format.text("type")?.as_deref() != Some("json_schema") {
        return Err(Fault::of(&format.place("type"), "expected json_schema"));
    }
    let constraint = take_schema(&mut format)?;
    format.finish(&[])?;
    Ok(constraint)
}

fn conversation(fields: &mut Fields) -> Result<(Option<String>, Vec<Turn>)> {
    let system = match fields.take("system") {
        None => None,
        Some(system) => Some(text_of("system", blocks("system", system)?)?),
    };
    let mut turns = Vec::new();
    for (n, message) in fields.list("messages")?.unwrap_or_default().into_iter().enumerate() {
        let place = format!("messages[{n}]");
        let mut message = Fields::of(&place, message)?;
        let role = message.text("role")?.unwrap_or_default();
        let content = message.place("content");
        let pieces = blocks(&content, message.take("content").unwrap_or_default())?;
        turns.push(match role.as_str() {
            "user" => Turn { role: Role::User, pieces },
            "assistant" => Turn { role: Role::Bot, pieces: vec![Piece::Text(text_of(&content, pieces)?)] },
            _ => return Err(Fault::of(&format!("{place}.role"), "expected user or assistant")),
        });
        message.finish(&[])?;
    }
    Ok((system, turns))
}

/// The pieces that `value` is: text, or a list of blocks.
fn blocks(place: &str, value: Value) -> Result<Vec<Piece>> {
    match value {
        Value::String(text) => Ok(vec![Piece::Text(text)]),
        Value::Array(values) => {
            values.into_iter().enumerate().map(|(n, value)| block(&format!("{place}[{n}]"), value)).collect()
        }
        other => Err(wrong(place, "text or a list", &other)),
    }
}

fn block(place: &str, value: Value) -> Result<Piece> {
    let mut block = Fields::of(place, value)?;
    let piece = match block.text("type")?.unwrap_or_default().as_str() {
        "text" => Piece::Text(block.text("text")?.unwrap_or_default()),
        "image" => {
            let place = block.place("source");
            let mut source = Fields::of(&place, block.take("source").unwrap_or_default())?;
            let kind = source.text("type")?.unwrap_or_default();
            let piece = match kind.as_str() {
                // What a picture is stands in its bytes.
                "base64" => Piece::Picture(Picture::of_base64(
                    source.place("data"),
                    source.text("data")?.unwrap_or_default(),
                )),
                "url" => Piece::picture(source.place("url"), source.text("url")?.unwrap_or_default())?,
                _ => return Err(Fault::of(&source.place("type"), "expected base64 or url")),
            };
            source.finish(&[("media_type", &[])])?;
            piece
        }
        _ => return Err(Fault::of(&block.place("type"), "expected text or image")),
    };
    block.finish(CACHE_CONTROL)?;
    Ok(piece)
}

/// All of `pieces`, which are text.
fn text_of(place: &str, pieces: Vec<Piece>) -> Result<String> {
    let text = |piece| match piece {
        Piece::Text(text) => Ok(text),
        Piece::Picture(_) => Err(Fault::of(place, "only questions may bring pictures")),
    };
    pieces.into_iter().map(text).collect()
}
