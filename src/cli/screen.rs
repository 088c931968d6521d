//! What reaches the terminal.
//!
//! Text that a model or a file made up must not steer the terminal: control characters are taken out of everything that
//! is shown on one. Through a pipe an answer passes as it is.

use super::terminal;
use crate::error::{Error, Result};
use std::borrow::Cow;
use std::io::{ErrorKind, IsTerminal, Stdout, Write, stderr, stdout};

/// What errors call standard output.
const OUTPUT: &str = "standard output";

/// Standard output.
pub struct Screen {
    out: Stdout,
    is_terminal: bool,
}

impl Screen {
    pub fn new() -> Screen {
        let out = stdout();
        let is_terminal = out.is_terminal();
        Screen { out, is_terminal }
    }

    /// Shows `text` at once.
    ///
    /// # Errors
    /// `Io`; see [`is_closed_output`].
    pub fn say(&mut self, text: &str) -> Result<()> {
        let text = if self.is_terminal { harmless(text) } else { Cow::Borrowed(text) };
        let mut out = self.out.lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Screen::failed)
    }

    /// The error for what [`Write`] yields.
    pub fn failed(cause: std::io::Error) -> Error {
        Error::io(OUTPUT, cause)
    }
}

/// A line on standard error. Nobody is left to tell where even that is closed.
pub fn note(text: &str) {
    let _ = writeln!(stderr(), "{}", harmless(text));
}

/// A line on standard error that is neither answer nor error: paler where the terminal can.
pub fn aside(text: &str) {
    let has_styles =
        stderr().is_terminal() && !terminal::is_dumb() && terminal::may_colour(terminal::variable);
    match has_styles {
        true => {
            let _ = writeln!(stderr(), "\x1b[2m{}\x1b[0m", harmless(text));
        }
        false => note(text),
    }
}

/// Characters that draw, on standard error as they are: of our making, never of a model's or a file's.
pub fn draw(characters: &str) {
    let _ = stderr().write_all(characters.as_bytes());
}

/// The reader of our output has gone, as `head` does.
pub fn is_closed_output(error: &Error) -> bool {
    matches!(error, Error::Io { path, cause } if path.as_os_str() == OUTPUT && cause.kind() == ErrorKind::BrokenPipe)
}

/// `text` without control characters but newline and tab.
fn harmless(text: &str) -> Cow<'_, str> {
    let is_harmful = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.contains(is_harmful) { Cow::Owned(text.replace(is_harmful, "")) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        for (text, shown) in [
            ("a\tb\nc 圆", "a\tb\nc 圆"),
            ("\u{1b}[2Jgone\u{7}", "[2Jgone"),
            ("\u{9b}31mred\r\n", "31mred\n"),
            ("\u{0}\u{7f}", ""),
        ] {
            assert_eq!(harmless(text), shown, "{text:?}");
        }
    }
}
