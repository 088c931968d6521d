//! JSON that may go to a terminal: every control character in it is escaped, not only those that JSON forbids.

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use std::io::{Error, Result, Write};

/// Writes `value` as one line.
///
/// # Errors
/// What `out` says.
pub fn write_line(out: &mut impl Write, value: &impl Serialize) -> Result<()> {
    value.serialize(&mut Serializer::with_formatter(&mut *out, Harmless)).map_err(Error::from)?;
    out.write_all(b"\n")
}

/// Compact, with DEL and the C1 controls spelled out.
struct Harmless;

impl Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| c.is_control()) {
            out.write_all(&rest.as_bytes()[..at])?;
            write!(out, "\\u{:04x}", u32::from(c))?;
            rest = &rest[at + c.len_utf8()..];
        }
        out.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        let mut out = Vec::new();
        let text = "a\n\u{1b}\u{7f}\u{9b}31m 圆\"";
        write_line(&mut out, &text).unwrap();
        let written = String::from_utf8(out).unwrap();
        assert_eq!(written, "\"a\\n\\u001b\\u007f\\u009b31m 圆\\\"\"\n");
        assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
    }
}
