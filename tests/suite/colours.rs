//! What commands draw and colour on a terminal, and that its user is asked.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::models::{Kind, path};
use crate::program::{command, picture};
use crate::terminal::Terminal;

/// All that `command` sends to a terminal that calls itself `term`, in an environment of `variables`.
fn sent(mut command: Command, term: &str, variables: &[(&str, &str)]) -> String {
    command.envs(variables.iter().copied());
    let mut terminal = Terminal::new(command, term, 60, 100);
    let code = terminal.ends();
    assert_eq!(code, Some(0), "{}", terminal.screen());
    terminal.sent()
}

fn moves_the_cursor(sent: &str) -> bool {
    sent.contains('\u{1b}')
}

/// Whether there is one of the sequences that colour what follows.
fn is_coloured(sent: &str) -> bool {
    let parameters =
        |rest: &str| rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m');
    sent.split("\u{1b}[").skip(1).any(parameters)
}

/// Commands that make their user wait, so that a line of progress is drawn.
#[test]
fn progress_is_drawn_where_a_cursor_can_move_and_never_coloured() {
    let dir = tempfile::tempdir().unwrap();
    let (model, picture) = (path(Kind::Slow), picture("waited for.png", 30, 30, [0, 99, 0, 255]));
    let (model, picture) = (model.to_str().unwrap(), picture.to_str().unwrap());
    let features = dir.path().join("features.npy");
    let run = ["run", "-m", model, "-t", "1", "-n", "3", "-i", picture, "What?"];
    let embed = ["embed", picture, "-m", model, "-t", "1", "-o", features.to_str().unwrap(), "--force"];
    for args in [&run[..], &embed] {
        let plain = sent(command(args), "xterm-256color", &[]);
        assert!(moves_the_cursor(&plain) && !is_coloured(&plain), "{args:?}: {plain:?}");
    }
    for term in ["dumb", "emacs"] {
        let dumb = sent(command(&run), term, &[]);
        assert!(!moves_the_cursor(&dumb) && dumb.lines().count() == 2, "{term}: {dumb:?}");
    }
}

/// What holds for some commands holds for all: there is one place that draws progress, one that colours lines, one that draws
/// pictures.
#[test]
fn nobody_draws_but_who_asks() {
    let mut drawing = Vec::new();
    let mut dirs = vec![PathBuf::from("src")];
    while let Some(dir) = dirs.pop() {
        for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap_or_default();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            if code.contains("indicatif") || code.contains("\\x1b") || code.contains("\\u{1b}") {
                drawing.push(path.display().to_string());
            }
        }
    }
    drawing.sort();
    assert_eq!(drawing, ["src/cli/preview.rs", "src/cli/progress.rs", "src/cli/screen.rs"]);
}

#[test]
fn the_chat_pales_what_is_no_answer_unless_it_is_told_not_to() {
    let model = path(Kind::Story);
    let chat = || command(&["chat", "-m", model.to_str().unwrap(), "--no-history"]);
    for (term, variables, expected) in [
        ("xterm-256color", &[][..], true),
        ("xterm-256color", &[("NO_COLOR", "")], true),
        ("xterm-256color", &[("CLICOLOR", "1")], true),
        ("xterm-256color", &[("NO_COLOR", "1")], false),
        ("xterm-256color", &[("CLICOLOR", "0")], false),
        ("dumb", &[], false),
    ] {
        let mut chat = chat();
        chat.envs(variables.iter().copied());
        let mut terminal = Terminal::new(chat, term, 60, 100);
        terminal.sees("Ctrl-D leaves");
        terminal.keys("/quit\r");
        terminal.ends();
        assert_eq!(is_coloured(&terminal.sent()), expected, "{term} {variables:?}: {:?}", terminal.sent());
    }
}

/// Nor where clap has something to say.
#[test]
fn help_and_wrong_usage_are_plain() {
    for args in [&["run", "--help"][..], &["run", "--no-such-flag"]] {
        let mut terminal = Terminal::new(command(args), "xterm-256color", 60, 100);
        terminal.ends();
        assert!(!moves_the_cursor(&terminal.sent()), "{:?}", terminal.sent());
    }
}
