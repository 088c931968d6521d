//! The conversation that the README shows is one that was had.

use crate::program::{command, state_dir};
use crate::terminal::Terminal;
use std::fs;
use std::path::Path;

/// What the README shows between `heading` and the end of its first block.
fn shown(heading: &str) -> String {
    let readme = fs::read_to_string("README.md").unwrap();
    let behind = readme.split_once(&format!("\n{heading}\n")).unwrap().1;
    let block = behind.split_once("```console\n").unwrap().1;
    block.split_once("```").unwrap().0.to_string()
}

/// Without what a clock says, or a cache of pictures.
fn timeless(line: &str) -> String {
    let parts: Vec<_> = line.trim_end().split(" | ").collect();
    match parts.as_slice() {
        [model, .., context] if parts.len() > 2 => format!("{model} | {context}"),
        _ => parts.concat(),
    }
}

/// The same lines typed into the same program.
fn had(dir: &Path, session: &str) -> String {
    let mut chat = command(&["chat", "--no-history"]);
    chat.current_dir(dir);
    let mut terminal = Terminal::new(chat, "xterm", 60, 100);
    for line in session.lines().filter_map(|line| line.strip_prefix("> ")) {
        terminal.prompt();
        terminal.line(line);
    }
    if session.lines().last() == Some("> /quit") {
        assert_eq!(terminal.ends(), Some(0));
    } else {
        terminal.prompt();
    }
    let screen = terminal.screen();
    screen.trim_end().trim_end_matches("\n>").to_string()
}

#[test]
fn the_readmes_conversation_is_true() {
    let dir = tempfile::tempdir().unwrap();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for (example, name) in
        [("red-circle.png", "my circle.png"), ("three-blue-triangles.png", "three-blue-triangles.png")]
    {
        fs::copy(examples.join(example), dir.path().join(name)).unwrap();
    }
    fs::create_dir_all(state_dir()).unwrap();
    let block = shown("## A conversation");
    let sessions: Vec<_> = block.split("$ owlet chat\n").skip(1).collect();
    assert_eq!(sessions.len(), 2, "{block}");
    for session in sessions {
        let had = had(dir.path(), session);
        let lines = |text: &str| text.trim_end().lines().map(timeless).collect::<Vec<_>>();
        assert_eq!(lines(&had), lines(session), "{had}");
    }
}
