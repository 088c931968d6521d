//! A recipe file: types for single tensors, a line each, `regex = type`. The first line whose expression is found in a
//! tensor's name decides.
//!
//! Expressions are ASCII, are looked for anywhere in the name, and can't be slow: the engine has no backtracking, and
//! their size is capped. A line without effect is a mistake and is refused.

use std::fmt;
use std::path::Path;

use ggml::{DType, quantize};
use regex::bytes::{Regex, RegexBuilder};

use crate::checkpoint::file::read_small;
use crate::error::{Error, Result};

const FILE_BYTES_MAX: u64 = 1 << 20;
const N_RULES_MAX: usize = 1000;
/// Of one compiled expression.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// One line.
#[derive(Debug, Clone)]
struct Rule {
    /// Number of the line, from 1 on.
    line: usize,
    pattern: Regex,
    dtype: DType,
}

/// The lines of one file; none where there is no file.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// What messages call the file.
    label: String,
    rules: Vec<Rule>,
}

impl Rules {
    /// # Errors
    /// Where the file can't be read, and for the first line that is no rule.
    pub fn read(path: &Path) -> Result<Rules> {
        Rules::parse(&read_small(path, FILE_BYTES_MAX)?, &path.display().to_string())
    }

    /// As [`Rules::read`], of text in memory.
    pub fn parse(text: &[u8], label: &str) -> Result<Rules> {
        let wrong = |line: usize, what: String| Err(Error::format(format!("{label}: line {line}"), what));
        let mut rules = Vec::new();
        for (line, text) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            let Ok(text) = std::str::from_utf8(text) else {
                return wrong(line, "expected text, found bytes that are none".to_string());
            };
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let Some((pattern, dtype)) = text.rsplit_once('=') else {
                return wrong(line, format!("expected regex = type, found {text}"));
            };
            let (pattern, dtype) = (pattern.trim(), dtype.trim());
            if pattern.is_empty() {
                return wrong(line, "expected a regular expression before =, found none".to_string());
            }
            let compiled = RegexBuilder::new(pattern).unicode(false).size_limit(REGEX_BYTES_MAX).build();
            let pattern = match compiled {
                Ok(pattern) => pattern,
                Err(error) => return wrong(line, reason(&error)),
            };
            let Some(dtype) = target(dtype) else {
                let known: Vec<_> = targets().map(DType::name).collect();
                return wrong(line, format!("expected a type of {}, found {dtype:?}", known.join(" ")));
            };
            if rules.len() == N_RULES_MAX {
                return Err(Error::limit(label, "rules", N_RULES_MAX as u64));
            }
            rules.push(Rule { line, pattern, dtype });
        }
        Ok(Rules { label: label.to_string(), rules })
    }

    /// The type that the first fitting line gives the tensor `name`.
    pub fn dtype(&self, name: &str) -> Option<DType> {
        self.first(name).map(|rule| rule.dtype)
    }

    fn first(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.pattern.is_match(name.as_bytes()))
    }

    /// # Errors
    /// For the first line that decides about none of the tensors `names`.
    pub fn refuse_idle(&self, names: &[&str]) -> Result<()> {
        let used: Vec<usize> =
            names.iter().filter_map(|name| self.first(name)).map(|rule| rule.line).collect();
        match self.rules.iter().find(|rule| !used.contains(&rule.line)) {
            None => Ok(()),
            Some(rule) => {
                let is_late = names.iter().any(|name| rule.pattern.is_match(name.as_bytes()));
                let why = match is_late {
                    true => "lines before decide about every tensor that it matches",
                    false => "matches no tensor whose type can be chosen",
                };
                Err(Error::format(
                    format!("{}: line {}", self.label, rule.line),
                    format!("{}: {why}", rule.pattern),
                ))
            }
        }
    }

    /// The rules as provenance states them, a line each.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.rules.iter().map(|rule| format!("rule {rule}"))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.pattern, self.dtype)
    }
}

/// What a tensor can be written as.
fn targets() -> impl Iterator<Item = DType> {
    DType::all().filter(|dtype| quantize::is_target(*dtype))
}

fn target(name: &str) -> Option<DType> {
    targets().find(|dtype| dtype.name().eq_ignore_ascii_case(name))
}

/// The last line of the regex crate's message, which draws a picture of the others.
fn reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(max) => {
            format!("an expression beyond the limit of {max} bytes when compiled")
        }
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default();
            format!("no regular expression: {}", last.trim_start_matches("error: "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] =
        ["blk.0.attn_v.weight", "blk.1.attn_v.weight", "blk.1.ffn_down.weight", "output.weight"];

    #[test]
    fn the_first_line_that_fits_decides() {
        let text =
            "# more for the first block\n\n  blk\\.0\\.  =  Q8_0\r\nattn_v|ffn_\\w+ = q6_k\n^output=F16";
        let rules = Rules::parse(text.as_bytes(), "recipe").unwrap();
        let found = NAMES.map(|name| rules.dtype(name));
        assert_eq!(found, [DType::Q8_0, DType::Q6_K, DType::Q6_K, DType::F16].map(Some));
        assert_eq!(rules.dtype("v.blk.7.ln1.weight"), None);
        rules.refuse_idle(&NAMES).unwrap();
        let lines: Vec<_> = rules.lines().collect();
        assert_eq!(lines, ["rule blk\\.0\\. = q8_0", "rule attn_v|ffn_\\w+ = q6_k", "rule ^output = f16"]);
    }

    #[test]
    fn a_wrong_line_is_named_by_its_number() {
        let cases: &[(&[u8], &str)] = &[
            (b"\n\nattn_v", "recipe: line 3: expected regex = type, found attn_v"),
            (b"# x\n= q4_k", "recipe: line 2: expected a regular expression before =, found none"),
            (b"a = q4_k\nb = q9", "recipe: line 2: expected a type of f32 f16 q4_0"),
            (b"a = q4_k_m", "found \"q4_k_m\""),
            (b"a = q8_1", "found \"q8_1\""),
            (b"a =", "found \"\""),
            (b"attn_(v = q4_k", "recipe: line 1: no regular expression: unclosed group"),
            (
                b"a{1000}{1000} = q4_k",
                "recipe: line 1: an expression beyond the limit of 1048576 bytes when compiled",
            ),
            (b"a = q4_k\n\xff = q4_k", "recipe: line 2: expected text, found bytes that are none"),
            (b"\x1b[2J", "recipe: line 1: expected regex = type, found \\u{1b}[2J"),
        ];
        for (text, expected) in cases {
            let found = Rules::parse(text, "recipe").unwrap_err().to_string();
            assert!(
                found.contains(expected) && !found.contains('\n'),
                "expected {expected}\n   found {found}"
            );
        }
        let many = "a = f16\n".repeat(N_RULES_MAX + 1);
        let found = Rules::parse(many.as_bytes(), "recipe").unwrap_err().to_string();
        assert_eq!(found, "recipe: rules beyond the limit of 1000");
    }

    #[test]
    fn a_line_without_effect_is_refused() {
        let cases = [
            (
                "attn_v = q6_k\nattn_w = q6_k",
                "recipe: line 2: attn_w: matches no tensor whose type can be chosen",
            ),
            (
                "attn = q6_k\n\nattn_v = f16",
                "recipe: line 3: attn_v: lines before decide about every tensor that it matches",
            ),
        ];
        for (text, expected) in cases {
            let found = Rules::parse(text.as_bytes(), "recipe").unwrap().refuse_idle(&NAMES).unwrap_err();
            assert_eq!(found.to_string(), expected);
        }
    }
}
