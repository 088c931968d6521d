//! Where the chat's lines come from: an editor with history and completion on a terminal, plain lines from a pipe.

use super::complete::{Helper, goes_on};
use crate::cli::screen::note;
use crate::cli::state::state_dir;
use crate::cli::terminal::{self, Hushed};
use crate::error::{Error, Result};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Behavior, CompletionType, Config, Editor};
use std::io::{BufRead, ErrorKind, IsTerminal, Read, Stdin, stdin, stdout};
use std::path::{Path, PathBuf};

const PROMPT: &str = "> ";

/// Longest line that a pipe may send.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// Lines that are remembered.
const MAX_HISTORY: usize = 1000;

pub enum Lines {
    Terminal {
        editor: Box<Editor<Helper, FileHistory>>,
        history: Option<PathBuf>,
        /// Keys that are typed meanwhile wait.
        _hushed: Option<Hushed>,
    },
    Pipe(Stdin),
}

/// Where lines are to come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    StandardInput,
    /// Standard input was a picture.
    Terminal,
}

/// What was there instead of an end.
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    Line(String),
    /// Ctrl-C at the prompt.
    Interrupted,
    /// A line that cannot be taken; why.
    Unreadable(String),
}

impl Lines {
    /// Edited where both ends are a terminal. `keeps_history` says whether typed lines go to a file.
    ///
    /// # Errors
    /// `Io` where the terminal cannot be set up.
    pub fn open(from: From, keeps_history: bool) -> Result<Lines> {
        let is_terminal = stdout().is_terminal() && (from == From::Terminal || stdin().is_terminal());
        if !is_terminal {
            return Ok(Lines::Pipe(stdin()));
        }
        let behavior = if from == From::Terminal { Behavior::PreferTerm } else { Behavior::Stdio };
        let config = Config::builder()
            .behavior(behavior)
            .completion_type(CompletionType::List)
            .history_ignore_space(true)
            .max_history_size(MAX_HISTORY)
            .map_err(terminal_error)?
            .build();
        let mut editor = Editor::with_config(config).map_err(terminal_error)?;
        editor.set_helper(Some(Helper::new()));
        let dir = if keeps_history { state_dir() } else { None };
        let history = dir.map(|dir| dir.join("history"));
        if let Some(path) = &history {
            // No history is no reason not to chat.
            let _ = editor.load_history(path);
        }
        Ok(Lines::Terminal { editor: Box::new(editor), history, _hushed: Hushed::new() })
    }

    /// A person at a terminal, who sees what a line did before typing the next one.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Lines::Terminal { .. })
    }

    /// Width of the terminal.
    pub fn n_columns(&mut self) -> Option<usize> {
        match self {
            Lines::Terminal { editor, .. } => editor.dimensions().map(|(columns, _)| columns.into()),
            Lines::Pipe(_) => None,
        }
    }

    /// The next line, with those that it says go on: a backslash ends all but its last. `None` at the end of input, or
    /// Ctrl-D.
    ///
    /// # Errors
    /// `Io` where reading fails.
    pub fn next_line(&mut self) -> Result<Option<Input>> {
        match self {
            Lines::Pipe(input) => piped(&mut input.lock()),
            Lines::Terminal { editor, history, .. } => match editor.readline(PROMPT) {
                Ok(line) => {
                    remember(editor, history.as_deref(), &line);
                    Ok(Some(Input::Line(joined(&line))))
                }
                Err(ReadlineError::Interrupted) => Ok(Some(Input::Interrupted)),
                Err(ReadlineError::Eof) => Ok(None),
                Err(ReadlineError::Io(error)) if error.kind() == ErrorKind::InvalidData => {
                    Ok(Some(not_utf8()))
                }
                Err(error) => Err(terminal_error(error)),
            },
        }
    }
}

/// Without the backslashes that say that a line goes on.
fn joined(lines: &str) -> String {
    let mut out = String::with_capacity(lines.len());
    let mut rest = lines.split('\n').peekable();
    while let Some(line) = rest.next() {
        let is_last = rest.peek().is_none();
        out.push_str(if !is_last && goes_on(line) { &line[..line.len() - 1] } else { line });
        if !is_last {
            out.push('\n');
        }
    }
    out
}

/// The next line of a pipe, never more of it than a line may have.
fn piped(input: &mut impl BufRead) -> Result<Option<Input>> {
    let failed = |cause| Error::io("standard input", cause);
    let mut line = Vec::new();
    loop {
        let n_left = MAX_LINE_BYTES - line.len() as u64;
        let n_bytes = input.by_ref().take(n_left).read_until(b'\n', &mut line).map_err(failed)?;
        if line.is_empty() {
            return Ok(None);
        }
        if line.len() as u64 == MAX_LINE_BYTES && !line.ends_with(b"\n") {
            input.skip_until(b'\n').map_err(failed)?;
            return Ok(Some(Input::Unreadable(format!(
                "line: expected at most {MAX_LINE_BYTES} bytes, found more"
            ))));
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        match std::str::from_utf8(text) {
            Ok(text) if n_bytes > 0 && goes_on(text) => {
                let n = text.len();
                line.truncate(n);
                line.push(b'\n');
            }
            Ok(text) => return Ok(Some(Input::Line(joined(text)))),
            Err(_) => return Ok(Some(not_utf8())),
        }
    }
}

fn not_utf8() -> Input {
    Input::Unreadable("line: expected UTF-8, found other bytes".to_string())
}

fn remember(editor: &mut Editor<Helper, FileHistory>, history: Option<&Path>, line: &str) {
    if matches!(editor.add_history_entry(line), Ok(true))
        && let Some(path) = history
        && let Err(error) = editor.append_history(path)
    {
        note(&format!("owlet: {}: {error}", path.display()));
    }
}

fn terminal_error(error: ReadlineError) -> Error {
    terminal::restore();
    Error::io("terminal", std::io::Error::other(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_sends_lines() {
        let mut text = b"one\r\ntwo\n\xff\nfirst\\\nsecond\\\\\nlast\\\r\n\n".to_vec();
        text.extend(vec![b'x'; MAX_LINE_BYTES as usize + 10]);
        text.extend(b"\nend\\");
        let mut input = text.as_slice();
        let mut seen = Vec::new();
        while let Some(line) = piped(&mut input).unwrap() {
            seen.push(match line {
                Input::Line(line) => line,
                Input::Interrupted => "interrupted".to_string(),
                Input::Unreadable(why) => why,
            });
        }
        let too_long = "line: expected at most 1048576 bytes, found more";
        let not_utf8 = "line: expected UTF-8, found other bytes";
        assert_eq!(seen, ["one", "two", not_utf8, "first\nsecond\\\\", "last\n", too_long, "end\\"]);
    }

    #[test]
    fn lines_that_go_on() {
        for (line, expected) in [("", false), ("a", false), ("a\\", true), ("a\\\\", false), ("\\\\\\", true)]
        {
            assert_eq!(goes_on(line), expected, "{line:?}");
        }
        assert_eq!(joined("a\\\nb\nc\\\\\nd\\"), "a\nb\nc\\\\\nd\\");
    }
}
