//! Where the chat's lines come from: an editor with history on a terminal, plain lines from a pipe.

use super::screen::note;
use super::state::state_dir;
use crate::error::{Error, Result};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, Editor};
use std::io::{BufRead, IsTerminal, Read, Stdin, stdin, stdout};
use std::path::{Path, PathBuf};

const PROMPT: &str = "> ";

/// Longest line that a pipe may send.
const MAX_LINE_BYTES: u64 = 1 << 20;

pub enum Lines {
    Terminal { editor: Box<Editor<(), FileHistory>>, history: Option<PathBuf> },
    Pipe(Stdin),
}

/// What was there instead of an end.
pub enum Input {
    Line(String),
    /// Ctrl-C at the prompt.
    Interrupted,
    /// A line that cannot be taken; why.
    Unreadable(String),
}

impl Lines {
    /// From standard input: edited where that and standard output are terminals. `keeps_history` says whether typed lines go to a file.
    ///
    /// # Errors
    /// `Io` where the terminal cannot be set up.
    pub fn open(keeps_history: bool) -> Result<Lines> {
        if !stdin().is_terminal() || !stdout().is_terminal() {
            return Ok(Lines::Pipe(stdin()));
        }
        let mut editor = Editor::with_config(Config::default()).map_err(terminal_error)?;
        let dir = if keeps_history { state_dir() } else { None };
        let history = dir.map(|dir| dir.join("history"));
        if let Some(path) = &history {
            // No history is no reason not to chat.
            let _ = editor.load_history(path);
        }
        Ok(Lines::Terminal { editor: Box::new(editor), history })
    }

    /// A person at a terminal, who sees what a line did before typing the next one.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Lines::Terminal { .. })
    }

    /// The next line; `None` at the end of input, or Ctrl-D.
    ///
    /// # Errors
    /// `Io` where reading fails.
    pub fn next_line(&mut self) -> Result<Option<Input>> {
        match self {
            Lines::Pipe(input) => piped(&mut input.lock()),
            Lines::Terminal { editor, history } => match editor.readline(PROMPT) {
                Ok(line) => {
                    remember(editor, history.as_deref(), &line);
                    Ok(Some(Input::Line(line)))
                }
                Err(ReadlineError::Interrupted) => Ok(Some(Input::Interrupted)),
                Err(ReadlineError::Eof) => Ok(None),
                Err(error) => Err(terminal_error(error)),
            },
        }
    }
}

/// The next line of a pipe, never more of it than a line may have.
fn piped(input: &mut impl BufRead) -> Result<Option<Input>> {
    let failed = |cause| Error::io("standard input", cause);
    let mut line = Vec::new();
    let n_bytes = input.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line).map_err(failed)?;
    if n_bytes == 0 {
        return Ok(None);
    }
    if n_bytes as u64 == MAX_LINE_BYTES && !line.ends_with(b"\n") {
        input.skip_until(b'\n').map_err(failed)?;
        return Ok(Some(Input::Unreadable(format!(
            "line: expected at most {MAX_LINE_BYTES} bytes, found more"
        ))));
    }
    Ok(Some(match String::from_utf8(line) {
        Ok(line) => Input::Line(line),
        Err(_) => Input::Unreadable("line: expected UTF-8, found other bytes".to_string()),
    }))
}

fn remember(editor: &mut Editor<(), FileHistory>, history: Option<&Path>, line: &str) {
    if matches!(editor.add_history_entry(line), Ok(true))
        && let Some(path) = history
        && let Err(error) = editor.append_history(path)
    {
        note(&format!("owlet: {}: {error}", path.display()));
    }
}

fn terminal_error(error: ReadlineError) -> Error {
    Error::io("terminal", std::io::Error::other(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_sends_lines() {
        let mut text = b"one\r\ntwo\n\xff\n".to_vec();
        text.extend(vec![b'x'; MAX_LINE_BYTES as usize + 10]);
        text.extend(b"\nlast");
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
        assert_eq!(seen, ["one\r\n", "two\n", "line: expected UTF-8, found other bytes", too_long, "last"]);
    }
}
