//! The file of settings: TOML, a setting a line.

use super::known::names;
use crate::error::{Error, Result};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

const MAX_BYTES: u64 = 1 << 20;

/// A line of the file.
pub struct Entry {
    pub name: String,
    /// As it would stand behind the flag.
    pub value: String,
    line: usize,
}

impl Entry {
    /// Where it stands, for people.
    pub fn place(&self, file: &Path) -> String {
        format!("{}: line {}", file.display(), self.line)
    }
}

/// The entries of the file at `path`; none where it is not there, unless it `must_be`.
///
/// # Errors
/// `Io`; `Format`, naming the line, where it is no TOML, or names what is no setting.
pub fn read(path: &Path, must_be: bool) -> Result<Vec<Entry>> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    match read {
        Err(cause) if cause.kind() == ErrorKind::NotFound && !must_be => return Ok(Vec::new()),
        Err(cause) => return Err(Error::io(path, cause)),
        Ok(n_bytes) if n_bytes as u64 > MAX_BYTES => {
            return Err(Error::limit(format_args!("{}: bytes", path.display()), MAX_BYTES, n_bytes as u64));
        }
        Ok(_) => {}
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| Error::format(path.display(), "expected UTF-8, found other bytes"))?;
    parse(&text)
        .map_err(|(line, problem)| Error::format(format_args!("{}: line {line}", path.display()), problem))
}

/// The entries of `text`, or the line of what is wrong, and what.
fn parse(text: &str) -> std::result::Result<Vec<Entry>, (usize, String)> {
    let line_at = |at: usize| 1 + text.bytes().take(at).filter(|&byte| byte == b'\n').count();
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        (line_at(at), error.message().lines().collect::<Vec<_>>().join(", "))
    })?;
    let mut entries = Vec::new();
    for (name, value) in table.get_ref().iter() {
        let line = line_at(name.span().start);
        let name = name.get_ref().to_string();
        if !names().any(|known| known == name) {
            let known = names().collect::<Vec<_>>().join(", ");
            return Err((line, format!("{name}: no such setting; expected one of {known}")));
        }
        let value = in_words(value).map_err(|problem| (line, format!("{name}: {problem}")))?;
        entries.push(Entry { name, value, line });
    }
    Ok(entries)
}

fn in_words(value: &Spanned<DeValue>) -> std::result::Result<String, String> {
    match value.get_ref() {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Boolean(value) => Ok(value.to_string()),
        DeValue::Float(number) => Ok(number.as_str().to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(|number| number.to_string())
            .map_err(|_| format!("{} is too large", number.as_str())),
        other => Err(format!("expected a text, a number, true or false, found {}", other.type_str())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_files_say() {
        let text = "# mine\nmodel = \"圆.gguf\"\n\nthreads = 0x10\ntemp = 0.5\nmax-tokens = 1_000\nlow-memory = true\n";
        let entries = parse(text).unwrap_or_else(|(line, problem)| panic!("line {line}: {problem}"));
        let mut found: Vec<_> =
            entries.iter().map(|entry| (entry.line, entry.name.as_str(), entry.value.as_str())).collect();
        found.sort();
        assert_eq!(
            found,
            [
                (2, "model", "圆.gguf"),
                (4, "threads", "16"),
                (5, "temp", "0.5"),
                (6, "max-tokens", "1000"),
                (7, "low-memory", "true")
            ]
        );
        assert!(parse("").unwrap_or_default().is_empty());
    }

    #[test]
    fn what_is_wrong_has_a_line() {
        let cases = [
            ("temp = 1\n\nthraeds = 2", 3, "thraeds: no such setting; expected one of model, ctx, threads, "),
            ("kv_type = \"f16\"", 1, "kv_type: no such setting; expected one of "),
            ("\n\ntemp = [1]", 3, "temp: expected a text, a number, true or false, found array"),
            ("[run]\ntemp = 1", 1, "run: no such setting"),
            ("temp = 1\ntemp = 2", 2, "duplicate key"),
            ("temp = 1\nctx = ", 2, ""),
            ("temp =", 1, ""),
            ("ctx = 99999999999999999999", 1, "ctx: 99999999999999999999 is too large"),
            ("system = \"open", 1, ""),
        ];
        for (text, line, problem) in cases {
            let (found, why) = parse(text).err().unwrap_or_else(|| panic!("{text:?} is taken"));
            println!("{text:?}: line {found}: {why}");
            assert!(
                found == line && why.starts_with(problem) && why.lines().count() == 1,
                "{text:?}: line {found}: {why}"
            );
        }
    }
}
