//! The terminal between two lines of a chat: what is typed while an answer is computed is neither shown amid the answer nor
//! touched, and waits for the line editor. Ctrl-C goes on being a signal.
//!
//! Does nothing where there is no terminal of Unix, or where the editor leaves lines to it.

#[cfg(unix)]
pub use unix::*;

/// Terminals that cannot move the cursor: lines are theirs to edit.
pub fn is_dumb() -> bool {
    is_of_dumb(&variable("TERM").unwrap_or_default())
}

/// Whether `TERM` is the name of one.
pub fn is_of_dumb(term: &str) -> bool {
    ["dumb", "cons25", "emacs"].iter().any(|dumb| dumb.eq_ignore_ascii_case(term))
}

/// What the environment says, where it says it in text.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Whether the user's environment lets text be coloured or paled, where it reaches a terminal: <https://no-color.org>, and
/// `CLICOLOR=0` before it.
pub fn may_colour(variable: impl Fn(&str) -> Option<String>) -> bool {
    let is_set = |name| variable(name).is_some_and(|value| !value.is_empty());
    !is_set("NO_COLOR") && variable("CLICOLOR").is_none_or(|value| value != "0")
}

#[cfg(unix)]
mod unix {
    use nix::sys::termios::{
        InputFlags, LocalFlags, SetArg, SpecialCharacterIndices as Key, Termios, tcgetattr, tcsetattr,
    };
    use std::fs::File;
    use std::io::{IsTerminal, stdin};
    use std::os::fd::AsFd;
    use std::sync::{Mutex, PoisonError};

    /// The terminal as it was found.
    static FOUND: Mutex<Option<Termios>> = Mutex::new(None);

    /// As long as this lives, typed keys wait.
    pub struct Hushed(());

    impl Hushed {
        /// `None` where nothing can be or need be done.
        pub fn new() -> Option<Hushed> {
            if super::is_dumb() {
                return None;
            }
            on_terminal(|terminal| {
                let found = tcgetattr(terminal)?;
                let mut hushed = found.clone();
                hushed.local_flags &= !(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::IEXTEN);
                hushed.input_flags &= !InputFlags::ICRNL;
                hushed.control_chars[Key::VMIN as usize] = 1;
                hushed.control_chars[Key::VTIME as usize] = 0;
                tcsetattr(terminal, SetArg::TCSANOW, &hushed)?;
                *FOUND.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
                Ok(Hushed(()))
            })
        }
    }

    impl Drop for Hushed {
        fn drop(&mut self) {
            restore();
        }
    }

    /// Leaves the terminal as it was found. For whoever ends the program from outside of the chat, too.
    pub fn restore() {
        if let Some(found) = FOUND.lock().unwrap_or_else(PoisonError::into_inner).take() {
            on_terminal(|terminal| tcsetattr(terminal, SetArg::TCSANOW, &found));
        }
    }

    fn on_terminal<T>(act: impl FnOnce(std::os::fd::BorrowedFd) -> nix::Result<T>) -> Option<T> {
        if stdin().is_terminal() {
            return act(stdin().as_fd()).ok();
        }
        let terminal = File::open("/dev/tty").ok()?;
        act(terminal.as_fd()).ok()
    }
}

#[cfg(not(unix))]
pub struct Hushed(());

#[cfg(not(unix))]
impl Hushed {
    pub fn new() -> Option<Hushed> {
        None
    }
}

#[cfg(not(unix))]
pub fn restore() {}
