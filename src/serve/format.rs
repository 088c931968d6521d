//! What an answer has to be where a request says so: JSON of any kind, or of a schema. The dialects differ in words alone; the engine
//! keeps answers to it. A schema is read on the threads that get requests ready, and what it may cost there is limited by the engine.

use super::fault::{Fault, Result};
use super::fields::{Fields, wrong};
use crate::engine::Constraint;
use serde_json::{Value, json};

/// Any JSON object.
pub fn json_object(place: &str) -> Result<Constraint> {
    json_schema(place, &json!({"type": "object"}))
}

/// JSON that `schema` at `place` describes.
///
/// # Errors
/// `Request`, naming the place in it that cannot be kept to.
pub fn json_schema(place: &str, schema: &Value) -> Result<Constraint> {
    Constraint::json_schema(&schema.to_string(), place)
        .map_err(|error| Fault { param: Some(place.into()), ..Fault::of_request(error) })
}

/// Takes the schema that the object `fields` brings as `schema`.
///
/// # Errors
/// `Request` where there is none.
pub fn take_schema(fields: &mut Fields) -> Result<Constraint> {
    let place = fields.place("schema");
    match fields.take("schema") {
        Some(schema @ Value::Object(_)) => json_schema(&place, &schema),
        Some(other) => Err(wrong(&place, "a JSON Schema", &other)),
        None => Err(Fault::of(&place, "expected a JSON Schema, found none")),
    }
}
