//! How answers are followed, stopped and accounted for, on a terminal.

use super::*;
use crate::models::STORY;
use crate::program::{command, picture, run};
use crate::terminal::Terminal;
use std::fs;
use std::process::Command;
use std::time::Duration;

/// The song is in the next prompt, and the cache still has it.
#[test]
fn ctrl_c_stops_an_answer_and_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut terminal = terminal(Kind::Endless, &["-n", "100000"]);
    terminal.sees("/help lists commands, Ctrl-D leaves");
    terminal.prompt();
    terminal.line("Sing!");
    terminal.sees("la li lo la li lo");
    terminal.keys("\u{3}");
    terminal.sees("stopped; what was said is kept");
    terminal.prompt();
    terminal.line("More!");
    terminal.sends_behind("what was said is kept", "la li lo la li lo");
    terminal.keys("\u{3}");
    let said = said(&mut terminal, dir.path());
    assert_eq!((said.len(), said[0].as_str(), said[2].as_str()), (4, "Sing!", "More!"));
    assert!(said[1].starts_with("la li lo la li lo") && said[3].starts_with("la li lo la li lo"), "{said:?}");
    terminal.say("/stats");
    terminal.sees(" reused) ");
    terminal.prompt();
    assert!(terminal.sent().matches("stopped; what was said is kept").count() == 2, "{}", terminal.screen());
    terminal.keys("\u{3}");
    terminal.sees("Ctrl-D or /quit leaves");
    terminal.leaves();
}

/// However long a word takes.
#[test]
fn no_progress_is_drawn_amid_an_answer() {
    let mut terminal = terminal(Kind::Endless, &["-n", "100000"]);
    terminal.prompt();
    terminal.line("Sing!");
    terminal.sees("la li lo la li lo");
    for _ in 0..5 {
        terminal.pause(Duration::from_millis(1300));
        std::thread::sleep(Duration::from_millis(50));
    }
    terminal.keys("\u{3}");
    terminal.sees("stopped; what was said is kept");
    let sent = terminal.sent();
    let answer = sent.split_once("la li lo").unwrap().1;
    assert!(!answer.contains("reading the question"), "{answer:?}");
    terminal.leaves();
}

#[test]
fn ctrl_c_stops_the_work_on_a_picture() {
    let picture = picture("slow.png", 30, 30, [0, 99, 0, 255]);
    let question = format!("What is it? {}", picture.display());
    let stopped = "stopped; the question is not kept, its pictures are";
    let mut terminal = terminal(Kind::Slow, &["-n", "6", "-t", "1"]);
    terminal.prompt();
    terminal.line(&question);
    terminal.sees("-> 896x896, 1024 tokens");
    terminal.sees("looking at the picture");
    terminal.keys("\u{3}");
    terminal.sees(stopped);
    // The same question again brings the picture once.
    terminal.prompt();
    terminal.line(&question);
    terminal.sends_behind("which waits already", "la li lo la li lo");
    terminal.say("/images");
    assert!(!terminal.screen().contains("Image-2"), "{}", terminal.screen());
    terminal.prompt();
    terminal.line("/clear");
    terminal.sees("the conversation is forgotten");
    terminal.prompt();
    terminal.line("Sing!");
    terminal.sees_times(2, "la li lo la li lo");
    terminal.leaves();
}

#[test]
fn ctrl_c_stops_the_reading_of_a_prompt() {
    let system = "word ".repeat(24_000);
    let mut terminal = terminal(Kind::Endless, &["-n", "6", "--system", &system]);
    terminal.prompt();
    terminal.line("Sing!");
    terminal.sees("reading the question");
    terminal.keys("\u{3}");
    terminal.sees("stopped; the question is not kept, its pictures are");
    terminal.say("/system Sing.");
    terminal.prompt();
    terminal.line("Sing!");
    terminal.sees("la li lo la li lo");
    terminal.leaves();
}

/// Before the tower begins it says how long it will take, if that was measured.
#[test]
fn a_long_look_is_announced() {
    let state = tempfile::tempdir().unwrap();
    let of_state = |mut command: Command| {
        command.env("XDG_STATE_HOME", state.path());
        command
    };
    let model = path(Kind::Random);
    let bench = ["bench", "-m", model.to_str().unwrap(), "--test", "vision", "-r", "1", "--no-limits"];
    run(of_state(command(&bench)), b"").ok();
    // The same bench, so slow that it is worth a word.
    let file = state.path().join("owlet").join("bench.json");
    let mut reports: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    reports[0]["results"][0]["seconds"] = 170.0.into();
    fs::write(&file, reports.to_string()).unwrap();

    let picture = picture("announced.png", 4, 4, [0, 99, 0, 255]);
    let flags = ["-n", "6", "--image", picture.to_str().unwrap()];
    let mut terminal = Terminal::new(of_state(chat_command(Kind::Random, &flags)), "xterm", ROWS, 200);
    terminal.say("What is it?");
    let day = reports[0]["date"].as_str().unwrap().split('T').next().unwrap();
    terminal.sees(&format!("looking at {} takes about 3 min (measured on {day})", picture.display()));
    // Once is enough: it is not looked at again.
    terminal.say("And now?");
    terminal.sees_times(2, "random | ");
    terminal.sees_times(1, "looking at ");
    terminal.leaves();
}

#[test]
fn a_line_of_status_behind_each_answer() {
    let mut terminal = terminal(Kind::Story, &[]);
    terminal.say("One?");
    let screen = terminal.screen();
    let status = screen.lines().find(|line| line.starts_with("story | ")).unwrap();
    assert!(status.contains(" tokens/s | context ") && status.contains(" of 2048 ("), "{status}");
    terminal.say("/undo");
    terminal.sees("the last question and its answer are taken back");
    terminal.say("/regen");
    terminal.sees("owlet: nothing was answered yet");
    terminal.say("Two?");
    terminal.sees_times(2, STORY);
    terminal.leaves();
}
