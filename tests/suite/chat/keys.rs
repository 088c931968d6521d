//! What the line editor does with keys, on a terminal.

use super::*;
use crate::models::STORY;
use crate::program::{picture, state_dir};
use crate::terminal::Terminal;
use std::fs;
use std::path::Path;

/// The questions of the conversation.
fn questions(terminal: &mut Terminal, dir: &Path) -> Vec<String> {
    said(terminal, dir).into_iter().step_by(2).collect()
}

#[test]
fn typed_lines_come_back_the_next_time() {
    let mut first = terminal(Kind::Story, &["-q"]);
    first.say("An unforgettable question?");
    first.say(" With a space before it?");
    first.leaves();
    let history = || fs::read_to_string(state_dir().join("owlet").join("history")).unwrap();
    assert!(history().contains("An unforgettable question?"), "{}", history());
    assert!(!history().contains("With a space"), "{}", history());
    #[cfg(unix)]
    {
        let place = fs::metadata(state_dir().join("owlet").join("history")).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&place) & 0o077, 0, "others may not read it");
    }

    let mut silent = terminal(Kind::Story, &["-q", "--no-history"]);
    silent.say("A secret question?");
    silent.prompt();
    silent.keys("\u{1b}[A");
    silent.sees("> A secret question?");
    silent.keys("\u{15}\r");
    silent.leaves();
    assert!(!history().contains("A secret question?"), "{}", history());

    let mut second = terminal(Kind::Story, &["-q"]);
    second.prompt();
    // Ctrl-R searches; what it finds is taken by Enter.
    second.keys("\u{12}forgett");
    second.sees("An unforgettable question?");
    second.keys("\r");
    second.sees(STORY);
    second.prompt();
    second.keys("\u{1b}[A");
    second.sees_times(2, "An unforgettable question?");
    second.keys("\u{3}");
    second.sees("Ctrl-D or /quit leaves");
    second.leaves();
}

#[test]
fn several_lines_are_one_question() {
    let dir = tempfile::tempdir().unwrap();
    let mut terminal = terminal(Kind::Story, &["-q", "--no-history"]);
    terminal.prompt();
    terminal.keys("\u{1b}[200~one\r\ntwo\nthree\u{1b}[201~");
    terminal.sees("three");
    assert!(!terminal.screen().contains(STORY), "nothing is sent before Enter: {}", terminal.screen());
    terminal.keys("\r");
    terminal.sees(STORY);
    terminal.prompt();
    terminal.line("first\\");
    terminal.line("second \\\\");
    terminal.sees_times(2, STORY);
    let asked = questions(&mut terminal, dir.path());
    assert_eq!(asked, ["one\ntwo\nthree", "first\nsecond \\\\"]);
    terminal.leaves();
}

/// Typed all at once, while the model is still loaded.
#[test]
fn lines_typed_ahead_are_answered_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut terminal = terminal(Kind::Story, &["-q", "--no-history"]);
    for line in ["One?", "Two?", "Thre\u{7f}ee?", "Four?"] {
        terminal.line(line);
    }
    (0..4).for_each(|_| terminal.prompt());
    let asked = questions(&mut terminal, dir.path());
    assert_eq!(asked, ["One?", "Two?", "Three?", "Four?"]);
    terminal.leaves();
}

#[test]
fn keys_wait_unseen_while_an_answer_is_computed() {
    let dir = tempfile::tempdir().unwrap();
    let mut busy = terminal(Kind::Endless, &["-n", "1000", "--no-history"]);
    busy.prompt();
    busy.line("Sing!");
    busy.sees("la li lo la li lo");
    busy.keys("More!\rAnd m\u{1b}[Dmore!\u{5}\r/qu");
    (0..2).for_each(|_| busy.prompt());
    // What was typed is shown where it belongs, and nowhere in the answer.
    busy.sees("> /qu");
    let sent = busy.sent();
    let song = sent.split("ended by").next().unwrap();
    assert!(!song.contains("More!"), "{song}");
    busy.keys("\u{8}\u{8}\u{8}");
    let asked = questions(&mut busy, dir.path());
    assert_eq!(asked, ["Sing!", "More!", "And more!m"]);
    busy.leaves();
}

#[test]
fn a_window_that_changes_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let mut terminal = terminal(Kind::Story, &["-q", "--no-history"]);
    let words = "These are the words of a long question that needs more than a line in a narrow window?";
    terminal.prompt();
    terminal.keys(words);
    terminal.sees(words);
    // The screen cuts its rows off: what is seen again was drawn again.
    terminal.resize(ROWS, 40);
    terminal.sees("narrow window?");
    terminal.keys("\u{1}\u{5}!");
    terminal.sees("narrow window?!");
    terminal.resize(ROWS, 120);
    terminal.keys("!");
    terminal.sees("window?!!");
    terminal.keys("\r");
    terminal.sees(STORY);
    let asked = questions(&mut terminal, dir.path());
    assert_eq!(asked, [format!("{words}!!")]);
    terminal.leaves();
}

#[test]
fn wide_characters_take_two_columns() {
    let dir = tempfile::tempdir().unwrap();
    let mut terminal = terminal(Kind::Story, &["-q", "--no-history"]);
    terminal.prompt();
    terminal.keys("图里有什么e\u{301}");
    terminal.sees("> 图里有什么e\u{301}");
    assert_eq!(terminal.cursor().1, 2 + 5 * 2 + 1);
    // Left over the accented letter and 么, which goes with Backspace's neighbour 什.
    terminal.keys("\u{1b}[D\u{1b}[D\u{7f}");
    terminal.sees("> 图里有么e\u{301}");
    assert_eq!(terminal.cursor().1, 2 + 3 * 2);
    terminal.keys("\u{5}？\r");
    terminal.sees(STORY);
    let asked = questions(&mut terminal, dir.path());
    assert_eq!(asked, ["图里有么e\u{301}？"]);
    terminal.leaves();
}

#[test]
fn tab_completes_commands_and_paths() {
    let place = picture("tab completes.png", 4, 4, [255; 4]);
    let other = place.with_file_name("tab completes.txt");
    fs::write(other, "no picture").unwrap();
    let mut terminal = terminal(Kind::Story, &["--no-history"]);
    terminal.prompt();
    terminal.keys("/sta\t");
    terminal.sees("> /stats");
    terminal.keys("\u{15}/set temp\t");
    terminal.sees("> /set temperature ");
    let typed = place.with_file_name("tab");
    terminal.keys(&format!("\u{15}/image {}\t", typed.display()));
    terminal.sees("completes.png");
    terminal.keys("\r");
    terminal.sees("tab completes.png 4x4 -> 112x112, 16 tokens");
    terminal.prompt();
    // In a question, too, but not for any word.
    terminal.keys(&format!("ta\tWhat's in {}\t?", typed.display()));
    terminal.sees("completes.png?");
    terminal.keys("\r");
    terminal.sees("tab completes.png, which waits already");
    terminal.sees(STORY);
    terminal.leaves();
}

/// No keys but the terminal's own, no colours, nothing that moves the cursor.
#[test]
fn a_dumb_terminal() {
    let picture = picture("dumb.png", 4, 4, [255; 4]);
    let mut terminal = Terminal::new(chat_command(Kind::Story, &["--no-history"]), "dumb", ROWS, COLUMNS);
    terminal.sees("/help lists commands, Ctrl-D leaves");
    terminal.sees_times(1, "> ");
    terminal.keys(&format!("/image {}\n", picture.display()));
    terminal.sees("-> 112x112, 16 tokens");
    terminal.keys("One?\nTwo \\\nlines?\n");
    terminal.sees_times(2, "story | ");
    terminal.keys("\u{4}");
    assert_eq!(terminal.ends(), Some(0));
    let sent = terminal.sent();
    assert!(!sent.contains('\u{1b}') && sent.matches(STORY).count() == 2, "{sent:?}");
    assert!(terminal.is_cooked());
}
