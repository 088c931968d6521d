//! Embeddings of pictures: what `owlet embed` calls pooler_output. Texts have none here.

use crate::prompt::Pixels;
use crate::serve::app::App;
use crate::serve::caller::Caller;
use crate::serve::fault::{Fault, Result};
use crate::serve::fields::{Fields, Neutral, wrong};
use crate::serve::picture::{Picture, Pictures};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use std::sync::Arc;

/// Fields that change nothing here; docs/server.md lists them.
const NEUTRAL: Neutral = &[("user", &[])];

/// What is asked for.
pub struct Asked {
    model: String,
    pictures: Vec<Picture>,
    is_base64: bool,
}

/// Pictures as the model sees them, and how to say what it sees.
pub struct Ready {
    model: String,
    pub pictures: Vec<Arc<Pixels>>,
    is_base64: bool,
}

impl Pictures for Asked {
    fn pictures(&mut self) -> Vec<&mut Picture> {
        self.pictures.iter_mut().collect()
    }
}

/// Reads a request.
///
/// # Errors
/// `Request`, naming the field; `NotFound` where it names another model.
pub fn parse(app: &App, _: &Caller, mut fields: Fields) -> Result<Asked> {
    let model = app.take_model(&mut fields)?;
    let is_base64 = match fields.text("encoding_format")?.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(Fault::of("encoding_format", "expected float or base64")),
    };
    let n_embd = app.facts().config.vision.as_ref().map_or(0, |vision| vision.n_embd.into());
    fields.count("dimensions", n_embd, n_embd)?;
    let pictures = match fields.take("input") {
        None => return Err(Fault::of("input", "expected pictures, found none")),
        Some(Value::Array(values)) if values.is_empty() => {
            return Err(Fault::of("input", "expected pictures, found none"));
        }
        Some(Value::Array(values)) => {
            let one = |(n, value)| picture(format!("input[{n}]"), value);
            values.into_iter().enumerate().map(one).collect::<Result<_>>()?
        }
        Some(value) => vec![picture("input".into(), value)?],
    };
    fields.finish(NEUTRAL)?;
    Ok(Asked { model, pictures, is_base64 })
}

/// A text that is a picture, or an object with one as chats have it.
fn picture(place: String, value: Value) -> Result<Picture> {
    match value {
        Value::String(text) => Picture::new(place.clone(), text).map_err(|fault| no_text(&place, fault)),
        Value::Object(_) => {
            let mut object = Fields::of(&place, value)?;
            let inner = object.place("image_url");
            let picture = match object.take("image_url") {
                Some(value) => Picture::of_image_url(inner, value)?,
                None => return Err(Fault::of(&inner, "expected a picture, found none")),
            };
            object.finish(&[("type", &["\"image_url\""])])?;
            Ok(picture)
        }
        other => Err(wrong(&place, "a picture", &other)),
    }
}

/// Somebody may have thought that texts have embeddings, too.
fn no_text(place: &str, fault: Fault) -> Fault {
    let problem = fault.message.trim_start_matches(place).trim_start_matches(": ");
    Fault::of(place, format_args!("expected a picture, this server has no embeddings of texts ({problem})"))
}

/// Decodes the pictures.
///
/// # Errors
/// `Request`, naming the place.
pub fn prepare(app: &App, _: &Caller, asked: Asked) -> Result<Ready> {
    let see = |picture: Picture| {
        let seen = picture.see(app).map(|(_, pixels)| Arc::new(pixels));
        seen.map_err(|fault| no_text(&picture.place, fault))
    };
    let pictures = asked.pictures.into_iter().map(see).collect::<Result<_>>()?;
    Ok(Ready { model: asked.model, pictures, is_base64: asked.is_base64 })
}

impl Ready {
    /// The response of `rows`, one a picture, each of which takes `n_positions` in a prompt.
    pub fn response(&self, rows: &[Arc<Vec<f32>>], n_positions: usize) -> Value {
        let one = |(n, row): (usize, &Arc<Vec<f32>>)| {
            let embedding = match self.is_base64 {
                true => {
                    let bytes: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
                    json!(BASE64_STANDARD.encode(&bytes))
                }
                false => json!(row.as_slice()),
            };
            json!({"object": "embedding", "index": n, "embedding": embedding})
        };
        let n_tokens = rows.len() * n_positions;
        json!({
            "object": "list",
            "model": self.model,
            "data": rows.iter().enumerate().map(one).collect::<Vec<_>>(),
            "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
        })
    }
}
