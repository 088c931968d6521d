//! The log: a JSON object a line on standard error. Never what was asked or answered, and no picture.

use serde_json::{Value, json};
use std::io::{Write, stderr};
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes `event` with the fields of `facts`, an object, behind the time in seconds.
pub fn write(event: &str, facts: Value) {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let mut line = json!({"time": (time * 1e3).round() / 1e3, "event": event});
    if let (Some(line), Value::Object(facts)) = (line.as_object_mut(), facts) {
        line.extend(facts);
    }
    // Nobody is left to tell where even that is closed.
    let _ = writeln!(stderr().lock(), "{line}");
}
