//! Flags that say what an answer may be.

use crate::engine::Constraint;
use crate::error::{Error, Result};
use clap::Args;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Longest file that is read for a schema; the engine allows less.
const MAX_FILE_BYTES: u64 = 1 << 20;

#[derive(Args)]
#[command(next_help_heading = "Answer")]
pub struct ConstraintFlags {
    /// Answer with one of these texts, nothing else; a comma inside of one is written `\,`
    #[arg(long, value_name = "A,B,C", value_parser = choices, conflicts_with_all = ["output_schema", "stop"])]
    choice: Option<Choices>,
    /// Answer with JSON on one line that this JSON Schema describes
    #[arg(long, visible_alias = "schema", value_name = "FILE", conflicts_with = "stop")]
    output_schema: Option<PathBuf>,
}

/// Where the commas are is known when the flag is read.
#[derive(Clone)]
struct Choices {
    text: String,
    constraint: Constraint,
}

impl ConstraintFlags {
    /// What the answer may be, if anything was said.
    ///
    /// # Errors
    /// `Io` where the schema cannot be read; what is wrong with it.
    pub fn constraint(&self) -> Result<Option<Constraint>> {
        match (&self.choice, &self.output_schema) {
            (Some(choices), _) => Ok(Some(choices.constraint.clone())),
            (None, Some(path)) => {
                Constraint::json_schema(&schema(path)?, &path.display().to_string()).map(Some)
            }
            (None, None) => Ok(None),
        }
    }

    /// The answer is JSON.
    pub fn is_json(&self) -> bool {
        self.output_schema.is_some()
    }

    /// What was said, word by word.
    ///
    /// # Errors
    /// `Io` where the schema cannot be read.
    pub fn words(&self) -> Result<String> {
        match (&self.choice, &self.output_schema) {
            (Some(choices), _) => Ok(choices.text.clone()),
            (None, Some(path)) => schema(path),
            (None, None) => Ok(String::new()),
        }
    }
}

fn schema(path: &Path) -> Result<String> {
    let failed = |cause| Error::io(path, cause);
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    String::from_utf8(bytes).map_err(|_| Error::format(path.display(), "expected UTF-8, found other bytes"))
}

fn choices(text: &str) -> std::result::Result<Choices, String> {
    let constraint = Constraint::choice(&split(text)).map_err(|error| error.to_string())?;
    Ok(Choices { text: text.to_string(), constraint })
}

/// `text` at its commas; behind a backslash a comma or a backslash is text.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let last = parts.len() - 1;
        match c {
            ',' => parts.push(String::new()),
            '\\' => parts[last].push(chars.next_if(|next| [',', '\\'].contains(next)).unwrap_or(c)),
            c => parts[last].push(c),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas() {
        for (text, parts) in [
            ("red", vec!["red"]),
            ("red,green", vec!["red", "green"]),
            ("圆形, 方形", vec!["圆形", " 方形"]),
            (r"yes\, it is,no", vec!["yes, it is", "no"]),
            (r"C:\x\\,b", vec![r"C:\x\", "b"]),
            (r"a\", vec![r"a\"]),
            (",", vec!["", ""]),
        ] {
            assert_eq!(split(text), parts, "{text}");
        }
    }
}
