//! Which part of a schema it is that cannot be kept to. The parser of grammars says what is wrong, and not where: so parts are tried
//! alone, and the innermost one that is refused in the same words is the place.

use serde_json::{Map, Value};
use std::time::{Duration, Instant};

/// For all parts that are tried: a schema that is wrong is not worth more.
const PATIENCE: Duration = Duration::from_millis(200);

/// Words that have a schema, a list of schemas or schemas by name.
const WITH_SCHEMAS: [&str; 14] = [
    "items",
    "additionalProperties",
    "contains",
    "propertyNames",
    "if",
    "then",
    "else",
    "not",
    "allOf",
    "anyOf",
    "oneOf",
    "prefixItems",
    "properties",
    "patternProperties",
];

/// Words for what references name.
const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];

/// The JSON Pointer of the innermost part of `schema` of which `refuse` says `problem`, as it does of all of it; nothing where that is
/// the whole.
pub fn find(schema: &Value, problem: &str, refuse: impl Fn(&Value) -> Option<String>) -> String {
    let started = Instant::now();
    let Some(root) = schema.as_object() else { return String::new() };
    let (mut pointer, mut part) = (String::new(), schema);
    loop {
        let is_it = |(_, part): &(String, &Value)| {
            started.elapsed() < PATIENCE && refuse(&alone(part, root)).is_some_and(|said| said == problem)
        };
        let Some((step, inner)) = parts(part).into_iter().find(is_it) else { return pointer };
        pointer += &step;
        part = inner;
    }
}

/// The schemas right inside of one, by their pointers from there.
fn parts(schema: &Value) -> Vec<(String, &Value)> {
    let Some(words) = schema.as_object() else { return Vec::new() };
    let known = words
        .iter()
        .filter(|(word, _)| WITH_SCHEMAS.contains(&word.as_str()) || DEFINITIONS.contains(&word.as_str()));
    let mut parts = Vec::new();
    for (word, value) in known {
        let is_by_name = word.ends_with("roperties") && word != "additionalProperties";
        match value {
            Value::Object(named) if is_by_name || DEFINITIONS.contains(&word.as_str()) => {
                parts.extend(named.iter().map(|(name, part)| (format!("/{word}/{}", escaped(name)), part)));
            }
            Value::Array(listed) => {
                parts.extend(listed.iter().enumerate().map(|(n, part)| (format!("/{word}/{n}"), part)));
            }
            part => parts.push((format!("/{word}"), part)),
        }
    }
    parts
}

/// `part`, with what it may name of `root`.
fn alone(part: &Value, root: &Map<String, Value>) -> Value {
    let mut part = part.clone();
    if let Some(words) = part.as_object_mut() {
        for word in DEFINITIONS {
            if let Some(definitions) = root.get(word) {
                words.entry(word).or_insert_with(|| definitions.clone());
            }
        }
    }
    part
}

/// As RFC 6901 has it.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
