//! Requests of Ollama's clients, read.

use super::reply::{Form, Reply};
use crate::prompt::Role;
use crate::serve::app::App;
use crate::serve::caller::Caller;
use crate::serve::exchange::Asked;
use crate::serve::fault::{Fault, Result};
use crate::serve::fields::{Fields, Neutral, wrong};
use crate::serve::format::{json_object, json_schema};
use crate::serve::question::{Piece, Question, Settings, Turn};
use crate::serve::spoken::{self, Spoken};
use serde_json::Value;

const MAX_STOPS: usize = 16;

/// Fields that change no answer here, and under which values; docs/server.md lists them.
const NEUTRAL: Neutral = &[
    ("keep_alive", &[]),
    ("context", &["[]"]),
    ("suffix", &["\"\""]),
    ("template", &["\"\""]),
    ("think", &["false"]),
    ("tools", &["[]"]),
];

/// The same of `options`: what only says how a machine is used changes no answer.
const NEUTRAL_OPTIONS: Neutral = &[
    ("low_vram", &[]),
    ("main_gpu", &[]),
    ("num_batch", &[]),
    ("num_gpu", &[]),
    ("num_thread", &[]),
    ("use_mlock", &[]),
    ("use_mmap", &[]),
    ("frequency_penalty", &["0"]),
    ("mirostat", &["0"]),
    ("num_keep", &["0"]),
    ("presence_penalty", &["0"]),
    // A penalty looks at all of an answer.
    ("repeat_last_n", &["-1"]),
    ("tfs_z", &["1"]),
    ("typical_p", &["1"]),
];

/// Reads `POST /api/chat`.
///
/// # Errors
/// `Request`, naming the field; `NotFound` where it names another model.
pub fn chat(app: &App, _: &Caller, fields: Fields) -> Result<Asked> {
    asked(app, fields, Form::Chat, |fields| {
        let (mut system, mut turns) = (None, Vec::new());
        for (n, message) in fields.list("messages")?.unwrap_or_default().into_iter().enumerate() {
            let place = format!("messages[{n}]");
            let mut message = Fields::of(&place, message)?;
            let role = message.text("role")?.unwrap_or_default();
            let text = message.text("content")?.unwrap_or_default();
            let pictures = pictures(&mut message)?;
            match role.as_str() {
                "system" if n == 0 && pictures.is_empty() => system = Some(text),
                "user" => turns.push(question(text, pictures)),
                "assistant" if pictures.is_empty() => {
                    turns.push(Turn { role: Role::Bot, pieces: vec![Piece::Text(text)] });
                }
                "system" if n > 0 => {
                    return Err(Fault::of(
                        &format!("{place}.role"),
                        "only the first message may be the system's",
                    ));
                }
                "system" | "assistant" => {
                    return Err(Fault::of(&format!("{place}.images"), "only questions may bring pictures"));
                }
                _ => return Err(Fault::of(&format!("{place}.role"), "expected system, user or assistant")),
            }
            message.finish(&[("thinking", &["\"\""]), ("tool_calls", &["[]"]), ("tool_name", &["\"\""])])?;
        }
        Ok(Question::new(system, turns, Settings::default()))
    })
}

/// Reads `POST /api/generate`.
///
/// # Errors
/// As [`chat`].
pub fn generate(app: &App, _: &Caller, fields: Fields) -> Result<Asked> {
    asked(app, fields, Form::Generate, |fields| {
        let text = fields.text("prompt")?.unwrap_or_default();
        let system = fields.text("system")?.filter(|system| !system.is_empty());
        // No template, which is also where a system's text would stand.
        let continues = fields.flag("raw")?;
        if continues && system.is_some() {
            return Err(Fault::of("system", "expected none beside raw"));
        }
        let turns = vec![question(text, pictures(fields)?)];
        Ok(Question { continues, ..Question::new(system, turns, Settings::default()) })
    })
}

/// Reads a request whose question `read` takes, and the rest, which both have.
fn asked(
    app: &App,
    mut fields: Fields,
    form: Form,
    read: impl FnOnce(&mut Fields) -> Result<Question>,
) -> Result<Asked> {
    let model = app.take_model(&mut fields)?;
    let question = read(&mut fields)?;
    let streams = fields.take("stream").is_none_or(|stream| stream != Value::Bool(false));
    let constraint = match fields.take("format") {
        None => None,
        Some(Value::String(text)) if text.is_empty() => None,
        Some(Value::String(text)) if text == "json" => Some(json_object("format")?),
        Some(schema @ Value::Object(_)) => Some(json_schema("format", &schema)?),
        Some(_) => return Err(Fault::of("format", "expected \"json\" or a JSON Schema")),
    };
    let logprobs = spoken::asked(&mut fields)?;
    let settings = match fields.take("options") {
        None => Settings::default(),
        Some(options) => settings(app, Fields::of("options", options)?)?,
    };
    fields.finish(NEUTRAL)?;
    Ok(Asked {
        questions: vec![Question { settings: Settings { constraint, logprobs, ..settings }, ..question }],
        streams,
        n_choices: 1,
        voice: Box::new(move |tokenizer, prepared| {
            let spoken = logprobs.map(|_| Spoken::new(tokenizer.clone()));
            Box::new(Reply::new(model, form, spoken, prepared))
        }),
    })
}

/// Reads `POST /api/show`.
///
/// # Errors
/// As [`chat`].
pub fn show(app: &App, _: &Caller, mut fields: Fields) -> Result<()> {
    // Older clients say `name`.
    let name = fields.text("name")?;
    let name = fields.text("model")?.or(name).unwrap_or_default();
    app.check_model(&name)?;
    fields.finish(&[("verbose", &[]), ("system", &[]), ("template", &[]), ("options", &[])])
}

fn settings(app: &App, mut options: Fields) -> Result<Settings> {
    let max = u64::from(u32::MAX);
    let max_tokens = match options.take("num_predict") {
        None => None,
        // No limit but the context's, and the server's.
        Some(value) if matches!(value.as_i64(), Some(-2 | -1)) => Some(app.limits().max_tokens),
        Some(value) => {
            let n = value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
            let place = options.place("num_predict");
            Some(n.ok_or_else(|| wrong(&place, "a whole number above 0, -1 or -2", &value))?)
        }
    };
    let n_ctx = app.facts().n_ctx.into();
    // The context is the server's; whoever asks for a shorter one loses nothing.
    options.count("num_ctx", 1, n_ctx)?;
    let settings = Settings {
        temperature: options.number("temperature")?,
        top_k: options.count("top_k", 0, max)?.map(|n| n as u32),
        top_p: options.number("top_p")?,
        min_p: options.number("min_p")?,
        repeat_penalty: options.number("repeat_penalty")?,
        seed: options.seed("seed")?,
        max_tokens,
        stop: options.texts("stop", MAX_STOPS)?,
        ..Settings::default()
    };
    options.finish(NEUTRAL_OPTIONS)?;
    Ok(settings)
}

/// Pictures before the text, as Ollama has them and the models were trained.
fn question(text: String, pictures: Vec<Piece>) -> Turn {
    Turn { role: Role::User, pieces: pictures.into_iter().chain([Piece::Text(text)]).collect() }
}

fn pictures(fields: &mut Fields) -> Result<Vec<Piece>> {
    let place = fields.place("images");
    let images = fields.list("images")?.unwrap_or_default();
    let piece = |(n, value): (usize, Value)| {
        let place = format!("{place}[{n}]");
        match value {
            Value::String(base64) => Piece::picture(place, base64),
            other => Err(wrong(&place, "base64", &other)),
        }
    };
    images.into_iter().enumerate().map(piece).collect()
}
