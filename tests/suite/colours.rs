//! What commands draw and colour on a terminal, and that its user is asked.

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
    let (lines, features) = (dir.path().join("lines.jsonl"), dir.path().join("features.npy"));
    let (lines, features) = (lines.to_str().unwrap(), features.to_str().unwrap());
    let commands: [&[&str]; 4] = [
        &["run", "-m", model, "-t", "1", "-n", "3", "-i", picture, "What?"],
        &["caption", picture, "-m", model, "-t", "1", "-n", "3", "-p", "What?", "--jsonl", lines, "--force"],
        &["embed", picture, "-m", model, "-t", "1", "-o", features, "--force"],
        &["bench", "-m", model, "-t", "1", "-r", "1", "--test", "vision", "--no-limits"],
    ];
    for args in commands {
        let plain = sent(command(args), "xterm-256color", &[]);
        assert!(moves_the_cursor(&plain) && !is_coloured(&plain), "{args:?}: {plain:?}");
        let dumb = sent(command(args), "dumb", &[]);
        assert!(!moves_the_cursor(&dumb) && dumb.lines().count() < 20, "{args:?}: {dumb:?}");
    }
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
