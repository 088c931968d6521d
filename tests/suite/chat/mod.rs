//! `owlet chat`, through a pipe and on a terminal.

mod piped;
mod talks;

#[cfg(unix)]
mod answers;
#[cfg(unix)]
mod keys;
#[cfg(unix)]
mod recorded;
#[cfg(unix)]
mod shown;

use crate::models::{Kind, path};
use crate::program::{Ran, owlet_with};

/// Runs the chat with `lines` as its standard input.
fn chat(kind: Kind, flags: &[&str], lines: &str) -> Ran {
    let model = path(kind);
    let args = [&["chat", "-m", model.to_str().unwrap()], flags].concat();
    owlet_with(&args, lines.as_bytes())
}

#[cfg(unix)]
use on_a_terminal::*;

#[cfg(unix)]
mod on_a_terminal {
    use super::*;
    use crate::program::command;
    use crate::terminal::Terminal;
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    pub const ROWS: u16 = 60;
    pub const COLUMNS: u16 = 100;

    pub fn chat_command(kind: Kind, flags: &[&str]) -> Command {
        let model = path(kind);
        command(&[&["chat", "-m", model.to_str().unwrap()], flags].concat())
    }

    /// What the conversation says, questions and answers in turn, by its own export.
    pub fn said(terminal: &mut Terminal, dir: &Path) -> Vec<String> {
        let file = dir.join("said.json");
        terminal.say(&format!("/export --force {}", file.display()));
        let value: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let messages = value["messages"].as_array().unwrap();
        messages.iter().map(|message| message["text"].as_str().unwrap().to_string()).collect()
    }

    /// The chat on a terminal without colours.
    pub fn terminal(kind: Kind, flags: &[&str]) -> Terminal {
        Terminal::new(chat_command(kind, flags), "xterm", ROWS, COLUMNS)
    }
}
