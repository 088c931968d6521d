//! What an answer may be, where the caller says so: one of some texts, or JSON that a schema describes.
//!
//! In: texts, or a schema. Out: a grammar over bytes, which [`Spelling`] turns into a [`Guide`] over the tokens of a
//! vocabulary, one an answer; the scheduler asks it before each token which ones may come. The parser of grammars is the
//! crate llguidance. Schemas may come from anybody: their bytes are limited, and so is the work that a grammar may cause,
//! when it is made and at each token. Must not know the network.

mod digits;
mod guide;
mod limits;
mod part;
mod spelling;

pub use guide::Guide;
pub use spelling::Spelling;

use crate::error::{Error, Result};
use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// Longest schema, and the most that all choices may have.
const MAX_BYTES: usize = 128 << 10;
const MAX_CHOICES: usize = 1000;

/// What an answer may be. Checked when it is made, so that a wrong one is known before any model is.
#[derive(Clone, Debug)]
pub struct Constraint {
    grammar: TopLevelGrammar,
    /// What has to be spelled.
    choices: Vec<String>,
    /// What errors call it.
    place: String,
}

impl Constraint {
    /// One of `choices`, to the letter; white space around them does not count.
    ///
    /// # Errors
    /// `Request` where there is none, or one is blank or there twice; `Limit` where they are too many or too long.
    pub fn choice<S: AsRef<str>>(choices: &[S]) -> Result<Constraint> {
        let choices: Vec<String> = choices.iter().map(|choice| choice.as_ref().trim().to_string()).collect();
        if choices.is_empty() {
            return Err(Error::request("choice: expected at least one, found none"));
        }
        if choices.len() > MAX_CHOICES {
            return Err(Error::limit("choices", MAX_CHOICES as u64, choices.len() as u64));
        }
        let n_bytes: usize = choices.iter().map(String::len).sum();
        if n_bytes > MAX_BYTES {
            return Err(Error::limit("choices: bytes", MAX_BYTES as u64, n_bytes as u64));
        }
        let mut seen = HashSet::new();
        for (at, choice) in choices.iter().enumerate() {
            if choice.is_empty() {
                return Err(Error::request(format!("choice {}: expected a text, found none", at + 1)));
            }
            if !seen.insert(choice) {
                return Err(Error::request(format!("choice {}: {choice:?} is there twice", at + 1)));
            }
        }
        // A string of Lark is one of JSON.
        let quoted = choices.iter().map(|choice| Value::from(choice.as_str()).to_string());
        let lark = format!("start: \" \"? ({})", quoted.collect::<Vec<_>>().join(" | "));
        let grammar = TopLevelGrammar::from_lark(lark);
        Constraint { grammar, choices, place: "choice".to_string() }.checked()
    }

    /// JSON on one line that the JSON Schema `text` describes; `place` is what errors call it. Properties come in the
    /// order of the schema.
    ///
    /// # Errors
    /// `Format` where `text` is no schema, `Unsupported` where it uses what cannot be kept to while an answer is written,
    /// `Limit` where it is too large.
    pub fn json_schema(text: &str, place: &str) -> Result<Constraint> {
        if text.len() > MAX_BYTES {
            return Err(Error::limit(
                format_args!("{place}: bytes of a schema"),
                MAX_BYTES as u64,
                text.len() as u64,
            ));
        }
        let schema: Value = serde_json::from_str(text).map_err(|error| Error::format(place, error))?;
        limits::check(&schema, place)?;
        let of_part = |part: &Value, place: &str| {
            let Value::Object(words) = part.clone() else {
                return Err(Error::format(place, "expected a JSON Schema, which is an object"));
            };
            Constraint::of_schema(words, place)
        };
        of_part(&schema, place).map_err(|error| {
            let Error::Unsupported { problem, .. } = &error else { return error };
            let refuse = |part: &Value| match of_part(part, "") {
                Err(Error::Unsupported { problem, .. }) => Some(problem),
                _ => None,
            };
            match part::find(&schema, problem, refuse).as_str() {
                "" => error,
                pointer => Error::unsupported(format_args!("{place}#{pointer:.200}"), problem),
            }
        })
    }

    fn of_schema(mut schema: Map<String, Value>, place: &str) -> Result<Constraint> {
        // White space of any length would be a way to never come to an end.
        let layout = json!({ "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": " });
        schema.insert("x-guidance".to_string(), layout);
        let start = GrammarWithLexer::from_lark("start: \" \"? @schema".to_string());
        let body = GrammarWithLexer {
            name: Some("schema".to_string()),
            ..GrammarWithLexer::from_json_schema(schema.into())
        };
        let grammar = TopLevelGrammar { grammars: vec![start, body], max_tokens: None };
        Constraint { grammar, choices: Vec::new(), place: place.to_string() }.checked()
    }

    fn is_json(&self) -> bool {
        self.choices.is_empty()
    }

    /// Tries it with a vocabulary of bytes.
    fn checked(self) -> Result<Constraint> {
        let first = Spelling::of_bytes()?.guide(&self)?.allowed()?;
        // The space before an answer can always come.
        if !(0..=u32::from(u8::MAX)).any(|id| id != u32::from(b' ') && first.contains(id)) {
            return Err(Error::unsupported(&self.place, "no answer that has an end is what it says"));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_that_make_no_sense() {
        let cases: [(&[&str], &str); 3] = [
            (&[], "choice: expected at least one, found none"),
            (&["red", " "], "choice 2: expected a text, found none"),
            (&["red", "green", " red"], "choice 3: \"red\" is there twice"),
        ];
        for (choices, text) in cases {
            let error = Constraint::choice(choices).err().map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(error, text, "{choices:?}");
        }
        let many: Vec<String> = (0..=MAX_CHOICES).map(|n| n.to_string()).collect();
        assert_eq!(Constraint::choice(&many).unwrap_err().to_string(), "choices: at most 1000, found 1001");
        Constraint::choice(&many[1..]).unwrap();
        let long = "x".repeat(MAX_BYTES + 1);
        let error = Constraint::choice(&[long]).unwrap_err().to_string();
        assert_eq!(error, "choices: bytes: at most 131072, found 131073");
    }

    #[test]
    fn schemas_that_cannot_be_kept_to() {
        for (schema, text) in [
            ("", "s.json: EOF while parsing a value at line 1 column 0"),
            ("{\"type\": \"object\",}", "s.json: trailing comma at line 1 column 19"),
            ("[1]", "s.json: expected a JSON Schema, which is an object"),
            (r#"{"type": "objekt"}"#, "s.json: Invalid type: objekt"),
            (r#"{"not": {"type": "string"}}"#, "s.json: Unimplemented keys: [\"not\"]"),
            (r#"{"type": "string", "pattern": "("}"#, "s.json: "),
            (r#"{"type": "string", "format": "zodiac"}"#, "s.json: Unknown format: zodiac"),
            (
                r##"{"$ref": "#/$defs/none"}"##,
                "s.json: Reference segment '$defs' not found in '#/$defs/none'.",
            ),
            (r##"{"$ref": "#"}"##, "s.json: no answer that has an end is what it says"),
            (
                r#"{"$ref": "https://example.org/s.json"}"#,
                "s.json: Only absolute $ref's (#/...) are supported",
            ),
            (r#"{"enum": []}"#, "s.json: "),
            (r#"{"type": "integer", "minimum": 5, "maximum": 4}"#, "s.json: "),
            (r#"{"required": 3}"#, "s.json: "),
        ] {
            let error = Constraint::json_schema(schema, "s.json").err().map(|error| error.to_string());
            let error = error.unwrap_or_else(|| panic!("{schema} is taken"));
            println!("{schema}\n  {error}");
            assert!(error.starts_with(text) && error.lines().count() == 1, "{schema}: {error:?}");
        }
    }

    #[test]
    fn the_part_that_cannot_be_kept_to_is_named() {
        for (schema, place) in [
            (r#"{"not": {}}"#, "s: "),
            (
                r#"{"properties": {"a": {"type": "string"}, "b/c": {"type": "objekt"}}}"#,
                "s#/properties/b~1c: Invalid type",
            ),
            (
                r#"{"items": {"anyOf": [{"type": "null"}, {"properties": {"x": {"format": "zodiac", "type": "string"}}}]}}"#,
                "s#/items/anyOf/1/properties/x: Unknown format: zodiac",
            ),
            (
                r##"{"$ref": "#/$defs/a", "$defs": {"a": {"items": {"if": {}}}}}"##,
                "s#/$defs/a/items: Unimplemented keys",
            ),
            (r##"{"items": {"$ref": "#/$defs/a"}, "$defs": {"b": {}}}"##, "s#/items: Reference segment 'a'"),
            // Neither alone is wrong.
            (r#"{"allOf": [{"type": "integer", "minimum": 5}, {"maximum": 4}]}"#, "s: "),
        ] {
            let error = Constraint::json_schema(schema, "s").unwrap_err().to_string();
            assert!(error.starts_with(place), "{schema}: {error}");
        }
    }

    /// Schemas that mean harm: each is taken or refused within the time that a request may take before it runs, and so is
    /// each token.
    #[test]
    fn hostile_schemas_take_no_time() {
        let nested = |open: &str, close: &str, n| format!("{}true{}", open.repeat(n), close.repeat(n));
        let many = |n: usize, of: &dyn Fn(usize) -> String| (0..n).map(of).collect::<Vec<_>>().join(",");
        let properties = |n: usize| {
            format!(r#"{{"properties":{{{}}}}}"#, many(n, &|n| format!("\"p{n}\":{{\"type\":\"integer\"}}")))
        };
        let schemas = [
            nested(r#"{"items":"#, "}", 120),
            nested(r#"{"items":"#, "}", 10_000),
            nested(r#"{"allOf":[{"type":"object"},"#, "]}", 60),
            format!(r#"{{"enum":[{}]}}"#, many(10_000, &|n| format!("\"{n:x}\""))),
            properties(4000),
            properties(400),
            format!(r#"{{"items":{{"anyOf":[{}]}}}}"#, many(5, &|_| properties(400))),
            format!(r#"{{"items":{{"anyOf":[{}]}}}}"#, many(6, &|_| properties(400))),
            format!(
                r#"{{"anyOf":[{}]}}"#,
                many(3000, &|n| format!("{{\"type\":\"string\",\"pattern\":\"a{n}.*\"}}"))
            ),
            format!(
                r#"{{"oneOf":[{}]}}"#,
                many(1500, &|n| format!("{{\"type\":\"string\",\"minLength\":{n}}}"))
            ),
            format!(
                r#"{{"allOf":[{}]}}"#,
                many(800, &|n| format!("{{\"type\":\"string\",\"pattern\":\".*a{n}.*\"}}"))
            ),
            format!(r#"{{"patternProperties":{{{}}}}}"#, many(500, &|n| format!("\"^a{n}.*b\":true"))),
            r#"{"type":"string","pattern":"((((a{100}){100}){100}){100}){100}"}"#.to_string(),
            r#"{"type":"string","pattern":"(a|aa|aaa)*b(a|aa)*c(.*x.*){50}"}"#.to_string(),
            r#"{"type":"string","pattern":"(.*a.{20})(.*b.{20})(.*c.{20})"}"#.to_string(),
            r#"{"type":"string","minLength":1000000000,"maxLength":4000000000}"#.to_string(),
            r#"{"type":"array","minItems":100000000,"items":{"type":"integer"}}"#.to_string(),
            r#"{"type":"number","multipleOf":1e-300}"#.to_string(),
            r#"{"type":"integer","multipleOf":999999999999989}"#.to_string(),
            r#"{"type":"integer","minimum":-1e308,"maximum":1e308}"#.to_string(),
            r##"{"$ref":"#"}"##.to_string(),
            r##"{"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"}"##
                .to_string(),
            r##"{"allOf":[{"$ref":"#"},{"$ref":"#"}]}"##.to_string(),
            r##"{"anyOf":[{"$ref":"#"},{"$ref":"#"},{"type":"string"}]}"##.to_string(),
            r##"{"properties":{"a":{"$ref":"#"},"b":{"$ref":"#"}},"required":["a","b"]}"##.to_string(),
        ];
        let spelling = Spelling::of_bytes().unwrap();
        for schema in &schemas {
            let started = std::time::Instant::now();
            let shown: String = schema.chars().take(60).collect();
            let made = Constraint::json_schema(schema, "s");
            let took = started.elapsed();
            let mut slowest = std::time::Duration::ZERO;
            let end = match &made {
                Err(error) => error.to_string(),
                Ok(constraint) => {
                    let mut guide = spelling.guide(constraint).unwrap();
                    let mut n = 0;
                    loop {
                        let started = std::time::Instant::now();
                        let allowed = guide.allowed();
                        slowest = slowest.max(started.elapsed());
                        let allowed = match allowed {
                            Ok(allowed) => allowed,
                            Err(error) => break format!("{n} tokens, {error}"),
                        };
                        // the later ones open what is deeper
                        let Some(id) = (0..256).rev().find(|&id| allowed.contains(id)) else {
                            break format!("{n} tokens, its end");
                        };
                        if n == 200 {
                            break format!("{n} tokens");
                        }
                        if let Err(error) = guide.took(id) {
                            break format!("{n} tokens, {error}");
                        }
                        n += 1;
                    }
                }
            };
            println!("{took:?}, {slowest:?} a token: {shown}: {end}");
            assert!(end.lines().count() == 1, "{shown}: {end:?}");
            assert!(took.as_secs() < 5 && slowest.as_secs() < 2, "{shown}: {took:?}, {slowest:?} a token");
        }
    }
}
