//! What a schema may ask of the parser of grammars, counted before that sees it. Its own limits hold for grammars that
//! are made; while one is made, properties cost by their square, and patterns that have to match at the same time by a
//! power of their number.

use crate::error::{Error, Result};
use serde_json::Value;

/// Properties of one object, and of all.
const MAX_PROPERTIES: u64 = 400;
const MAX_ALL_PROPERTIES: u64 = 2000;

/// Patterns of a schema whose parts are joined.
const MAX_JOINED_PATTERNS: u64 = 3;

/// Words whose schemas hold beside their neighbours.
const JOINING: [&str; 4] = ["allOf", "anyOf", "oneOf", "$ref"];
const PATTERNS: [&str; 3] = ["pattern", "patternProperties", "format"];

#[derive(Default)]
struct Counts {
    n_properties: u64,
    n_largest: u64,
    n_patterns: u64,
    is_joined: bool,
}

/// # Errors
/// `Limit`, by what there is too much of.
pub fn check(schema: &Value, place: &str) -> Result<()> {
    let mut counts = Counts::default();
    counts.add(schema);
    let n_joined = if counts.is_joined { counts.n_patterns } else { 0 };
    for (what, max, found) in [
        ("properties of an object", MAX_PROPERTIES, counts.n_largest),
        ("properties", MAX_ALL_PROPERTIES, counts.n_properties),
        ("patterns and formats of schemas that are joined", MAX_JOINED_PATTERNS, n_joined),
    ] {
        if found > max {
            return Err(Error::limit(format_args!("{place}: {what}"), max, found));
        }
    }
    Ok(())
}

impl Counts {
    /// `value` is no deeper than the parser of JSON allows.
    fn add(&mut self, value: &Value) {
        match value {
            Value::Object(words) => {
                let has = |names: &[&str]| names.iter().any(|&name| words.contains_key(name));
                self.is_joined |= words.contains_key("allOf") || (has(&JOINING) && has(&PATTERNS));
                for (word, value) in words {
                    if word == "properties" {
                        let n = value.as_object().map_or(0, |properties| properties.len() as u64);
                        self.n_properties += n;
                        self.n_largest = self.n_largest.max(n);
                    } else if PATTERNS.contains(&word.as_str()) {
                        self.n_patterns += value.as_object().map_or(1, |patterns| patterns.len() as u64);
                    }
                    self.add(value);
                }
            }
            Value::Array(values) => values.iter().for_each(|value| self.add(value)),
            _ => {}
        }
    }
}
