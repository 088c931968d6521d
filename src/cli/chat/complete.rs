//! What Tab offers, and when Enter only begins another line. Commands, their paths, names of settings, and pictures where a
//! word of a question is a path.

use super::commands::{COMMANDS, Takes};
use super::settings;
use crate::cli::mentions;
use rustyline::Context;
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};

pub struct Helper {
    files: FilenameCompleter,
}

impl Helper {
    pub fn new() -> Helper {
        Helper { files: FilenameCompleter::new() }
    }
}

/// What the word before the cursor may become.
#[derive(Debug, PartialEq, Eq)]
enum Wanted<'a> {
    Nothing,
    Command(&'a str),
    Setting(&'a str),
    /// A path that begins at this byte of the line; only pictures and directories?
    Path(usize, bool),
}

impl Completer for Helper {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let line = &line[..pos];
        let of_names = |typed: &str, names: &mut dyn Iterator<Item = String>| {
            let fitting = names.filter(|name| name.starts_with(typed));
            let pairs = fitting.map(|name| Pair { display: name.trim_end().to_string(), replacement: name });
            (pos - typed.len(), pairs.collect())
        };
        Ok(match wanted(line) {
            Wanted::Nothing => (pos, Vec::new()),
            Wanted::Command(typed) => {
                let name = |(name, takes, ..): &(&str, Takes, &str, &str)| {
                    format!("/{name}{}", if *takes == Takes::Nothing { "" } else { " " })
                };
                of_names(typed, &mut COMMANDS.iter().map(name))
            }
            Wanted::Setting(typed) => {
                of_names(typed, &mut settings::NAMES.iter().map(|(name, _)| format!("{name} ")))
            }
            Wanted::Path(start, only_pictures) => {
                let (at, mut pairs) = self.files.complete_path(&line[start..], pos - start)?;
                let is_shown = |pair: &Pair| {
                    pair.replacement.ends_with(std::path::MAIN_SEPARATOR)
                        || mentions::is_bare_name(&pair.display)
                };
                pairs.retain(|pair| !only_pictures || is_shown(pair));
                (start + at, pairs)
            }
        })
    }
}

fn wanted(line: &str) -> Wanted<'_> {
    let Some((command, argument)) = line.strip_prefix('/').and_then(|rest| rest.split_once(' ')) else {
        let is_command = line.starts_with('/') && line[1..].chars().all(char::is_alphabetic);
        return if is_command { Wanted::Command(line) } else { in_question(line) };
    };
    match command {
        "set" if !argument.contains(char::is_whitespace) => Wanted::Setting(argument),
        "image" => Wanted::Path(word_start(line), true),
        "save" | "load" | "export" => Wanted::Path(word_start(line), false),
        _ if COMMANDS.iter().any(|(name, ..)| *name == command) => Wanted::Nothing,
        _ => in_question(line),
    }
}

/// Only where the word is a path already: Tab offers no files for any word.
fn in_question(line: &str) -> Wanted<'_> {
    let start = word_start(line);
    let word = &line[start..];
    let is_path = word.starts_with(['/', '~', '.', '"', '\'']) || word.contains(['/', '\\']);
    if is_path { Wanted::Path(start, true) } else { Wanted::Nothing }
}

/// Where the last word of `line` begins: behind the last space that is neither escaped nor in quotes.
fn word_start(line: &str) -> usize {
    let mut start = 0;
    let mut quote = None;
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            // An apostrophe within a word quotes nothing.
            None if (c == '"' || c == '\'') && before.is_whitespace() => quote = Some(c),
            None if c.is_whitespace() && before != '\\' => start = at + c.len_utf8(),
            None => {}
        }
        before = c;
    }
    start
}

impl Validator for Helper {
    fn validate(&self, context: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        let goes_on = goes_on(context.input());
        Ok(if goes_on { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

impl Hinter for Helper {
    type Hint = String;
}

impl Highlighter for Helper {}

impl rustyline::Helper for Helper {}

/// Whether a line says that it goes on in the next one: one backslash does, two are two.
pub fn goes_on(line: &str) -> bool {
    line.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_word_may_become() {
        for (line, expected) in [
            ("", Wanted::Nothing),
            ("what", Wanted::Nothing),
            ("/", Wanted::Command("/")),
            ("/im", Wanted::Command("/im")),
            ("/set to", Wanted::Setting("to")),
            ("/set top-k 5", Wanted::Nothing),
            ("/clear x", Wanted::Nothing),
            ("/image ca", Wanted::Path(7, true)),
            ("/image my\\ ca", Wanted::Path(7, true)),
            ("/image a.png 'my ca", Wanted::Path(13, true)),
            ("/load ta", Wanted::Path(6, false)),
            ("/tmp/ca", Wanted::Path(0, true)),
            ("what's in ./ca", Wanted::Path(10, true)),
            ("what is \"my ca", Wanted::Path(8, true)),
            ("see ~/圆 ./圆", Wanted::Path("see ~/圆 ".len(), true)),
        ] {
            assert_eq!(wanted(line), expected, "{line:?}");
        }
    }
}
