//! The fields of a JSON object, each taken once by whoever honours it. What is left in the end would change the answer and be ignored,
//! so it is refused by name, unless it says what is so anyway.

use super::fault::{Fault, Result};
use serde_json::{Map, Value};

/// An object of the request, and where it stands there.
pub struct Fields {
    /// Before the names of its fields: nothing, or `messages[0].`.
    place: String,
    fields: Map<String, Value>,
}

/// Fields that nobody here honours, with the values (JSON) under which that makes no difference; any value where there is none.
pub type Neutral<'a> = &'a [(&'a str, &'a [&'a str])];

impl Fields {
    /// The object that the request's body is.
    ///
    /// # Errors
    /// `Request` where it is none.
    pub fn of_body(bytes: &[u8]) -> Result<Fields> {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => Ok(Fields { place: String::new(), fields }),
            Ok(other) => Err(Fault::request(format!("body: expected an object, found {}", kind(&other)))),
            Err(error) => Err(Fault::request(format!("body: expected JSON: {error}"))),
        }
    }

    /// The object that `value` is, which stands at `place`.
    ///
    /// # Errors
    /// `Request` where it is none.
    pub fn of(place: &str, value: Value) -> Result<Fields> {
        match value {
            Value::Object(fields) => Ok(Fields { place: format!("{place}."), fields }),
            other => Err(wrong(place, "an object", &other)),
        }
    }

    /// Where the field `name` stands in the request.
    pub fn place(&self, name: &str) -> String {
        format!("{}{name}", self.place)
    }

    /// A field; `null` is none.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        #[cfg(test)]
        known::note(&self.place(name));
        self.fields.remove(name).filter(|value| !value.is_null())
    }

    pub fn text(&mut self, name: &str) -> Result<Option<String>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(&self.place(name), "text", &other)),
        }
    }

    pub fn flag(&mut self, name: &str) -> Result<bool> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(wrong(&self.place(name), "true or false", &other)),
        }
    }

    pub fn number(&mut self, name: &str) -> Result<Option<f32>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_f64() {
            Some(number) => Ok(Some(number as f32)),
            None => Err(wrong(&self.place(name), "a number", &value)),
        }
    }

    /// A whole number from `min` to `max`.
    pub fn count(&mut self, name: &str, min: u64, max: u64) -> Result<Option<u64>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match whole(&value).filter(|n| (min..=max).contains(n)) {
            Some(n) => Ok(Some(n)),
            None => Err(wrong(&self.place(name), &format!("a whole number from {min} to {max}"), &value)),
        }
    }

    /// Any whole number, as the bits of one without a sign.
    pub fn seed(&mut self, name: &str) -> Result<Option<u64>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match whole(&value).or(value.as_i64().map(|n| n as u64)) {
            Some(seed) => Ok(Some(seed)),
            None => Err(wrong(&self.place(name), "a whole number", &value)),
        }
    }

    /// A list; none where there is no such field.
    pub fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(values)) => Ok(Some(values)),
            Some(other) => Err(wrong(&self.place(name), "a list", &other)),
        }
    }

    /// A text, or a list of them, at most `max`.
    pub fn texts(&mut self, name: &str, max: usize) -> Result<Vec<String>> {
        let place = self.place(name);
        let values = match self.take(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(values)) => values,
            Some(one) => vec![one],
        };
        if values.len() > max {
            return Err(Fault::of(&place, format_args!("expected at most {max}, found {}", values.len())));
        }
        let text = |value| match value {
            Value::String(text) => Ok(text),
            other => Err(wrong(&place, "text", &other)),
        };
        values.into_iter().map(text).collect()
    }

    /// Refuses what nobody took, but for `neutral`.
    ///
    /// # Errors
    /// `Request`, naming the field.
    pub fn finish(self, neutral: Neutral) -> Result<()> {
        #[cfg(test)]
        neutral.iter().for_each(|(name, _)| known::note(&self.place(name)));
        for (name, value) in &self.fields {
            let place = self.place(name);
            let Some((_, values)) = neutral.iter().find(|(known, _)| known == name) else {
                return Err(Fault::of(&place, "this server knows no such field"));
            };
            let is_neutral = |allowed: &&str| {
                let allowed: Option<Value> = serde_json::from_str(allowed).ok();
                allowed.is_some_and(|allowed| same(&allowed, value))
            };
            if !values.is_empty() && !value.is_null() && !values.iter().any(is_neutral) {
                let expected = values.join(" or ");
                return Err(Fault::of(
                    &place,
                    format_args!("expected {expected}: this server can do nothing else"),
                ));
            }
        }
        Ok(())
    }
}

/// Which fields of requests somebody takes, for the test that holds them against what is published about them.
#[cfg(test)]
pub mod known {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    thread_local! {
        static PLACES: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
    }

    /// The number of an item does not count.
    pub fn note(place: &str) {
        let place = place.replace(|c: char| c.is_ascii_digit(), "");
        PLACES.with_borrow_mut(|places| places.insert(place));
    }

    /// Since the last call on this thread.
    pub fn take() -> BTreeSet<String> {
        PLACES.take()
    }
}

/// What is wrong with the value at `place`.
pub fn wrong(place: &str, expected: &str, found: &Value) -> Fault {
    Fault::of(place, format_args!("expected {expected}, found {}", kind(found)))
}

/// 7.0 is a whole number, too.
pub fn whole(value: &Value) -> Option<u64> {
    let of_float =
        |number: f64| (number.fract() == 0.0 && (0.0..1e15).contains(&number)).then_some(number as u64);
    value.as_u64().or_else(|| value.as_f64().and_then(of_float))
}

/// 0 and 0.0 are the same.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

/// What a value is, in words; never all of what a peer sent.
fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(_) => "text".into(),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(body: &str) -> Fields {
        Fields::of_body(body.as_bytes()).unwrap()
    }

    #[test]
    fn fields_are_what_they_should_be() {
        let mut found = fields(
            r#"{"a": "x", "b": true, "c": 1.5, "d": 7, "e": -1, "f": ["x", "y"], "g": null, "h": "z"}"#,
        );
        assert_eq!(found.text("a"), Ok(Some("x".into())));
        assert_eq!(found.flag("b"), Ok(true));
        assert_eq!(found.number("c"), Ok(Some(1.5)));
        assert_eq!(found.count("d", 1, 9), Ok(Some(7)));
        assert_eq!(found.seed("e"), Ok(Some(u64::MAX)));
        assert_eq!(found.texts("f", 2), Ok(vec!["x".into(), "y".into()]));
        assert_eq!((found.text("g"), found.text("a")), (Ok(None), Ok(None)));
        assert_eq!(found.texts("h", 1), Ok(vec!["z".into()]));
        assert_eq!(found.finish(&[]), Ok(()));

        let message = |found: Result<()>| found.err().map(|fault| (fault.message, fault.param));
        let wrong = |body: &str, take: &dyn Fn(&mut Fields) -> Result<()>| {
            message(take(&mut fields(body))).unwrap().0
        };
        assert_eq!(wrong(r#"{"n": "1"}"#, &|f| f.number("n").map(drop)), "n: expected a number, found text");
        assert_eq!(
            wrong(r#"{"n": 0}"#, &|f| f.count("n", 1, 8).map(drop)),
            "n: expected a whole number from 1 to 8, found 0"
        );
        assert_eq!(wrong(r#"{"n": [1]}"#, &|f| f.texts("n", 4).map(drop)), "n: expected text, found 1");
        assert_eq!(
            wrong(r#"{"n": ["", ""]}"#, &|f| f.texts("n", 1).map(drop)),
            "n: expected at most 1, found 2"
        );
        for (body, text) in [("[]", "body: expected an object, found a list"), ("{", "body: expected JSON: ")]
        {
            let fault = Fields::of_body(body.as_bytes()).err().unwrap();
            assert!(fault.message.starts_with(text), "{}", fault.message);
        }
    }

    #[test]
    fn what_is_not_honoured_is_refused_by_name() {
        const NEUTRAL: Neutral =
            &[("user", &[]), ("penalty", &["0"]), ("choice", &[r#""none""#, r#""auto""#])];
        for body in
            ["{}", r#"{"user": {"any": 1}}"#, r#"{"penalty": 0.0, "choice": "auto"}"#, r#"{"penalty": null}"#]
        {
            assert_eq!(fields(body).finish(NEUTRAL), Ok(()), "{body}");
        }
        for (body, message) in [
            (r#"{"penalty": 0.5}"#, "penalty: expected 0: this server can do nothing else"),
            (r#"{"choice": "x"}"#, r#"choice: expected "none" or "auto": this server can do nothing else"#),
            (r#"{"other": 1}"#, "other: this server knows no such field"),
        ] {
            let fault = fields(body).finish(NEUTRAL).unwrap_err();
            assert_eq!(fault.message, message);
            assert!(fault.param.is_some_and(|param| message.starts_with(&param)));
        }
    }
}
