//! The log: a JSON object a line on standard error. Never what was asked or answered unless the operator wants that
//! ([`transcript`](super::transcript)), and no picture in any case.

use serde_json::{Value, json};
use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{Write as _, stderr};
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes `event` with the fields of `facts`, an object, behind the time in seconds.
pub fn write(event: &str, facts: Value) {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let mut line = json!({"time": (time * 1e3).round() / 1e3, "event": event});
    if let (Some(line), Value::Object(facts)) = (line.as_object_mut(), facts) {
        line.extend(facts);
    }
    // Nobody is left to tell where even that is closed.
    let _ = writeln!(stderr().lock(), "{}", harmless(&line.to_string()));
}

/// `json` without control characters: JSON may hold some that steer a terminal, where somebody reads the log.
fn harmless(json: &str) -> Cow<'_, str> {
    if !json.contains(char::is_control) {
        return Cow::Borrowed(json);
    }
    let mut plain = String::with_capacity(json.len());
    for character in json.chars() {
        match character.is_control() {
            true => {
                let _ = write!(plain, "\\u{:04x}", u32::from(character));
            }
            false => plain.push(character),
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_steers_no_terminal() {
        let text = "a\u{9b}2J\u{7f}\u{1b}[2J\n\u{85}é红";
        let line = json!({ "text": text }).to_string();
        let shown = harmless(&line);
        assert!(!shown.contains(char::is_control), "{shown:?}");
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["text"], text);
        assert_eq!(harmless("{\"a\":\"é\"}"), "{\"a\":\"é\"}");
    }
}
