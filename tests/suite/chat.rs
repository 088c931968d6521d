//! `owlet chat`, through a pipe and on a terminal.

use crate::models::{Kind, STORY, path};
use crate::program::{Ran, owlet_with, picture};

fn chat(kind: Kind, flags: &[&str], lines: &str) -> Ran {
    let model = path(kind);
    let args = [&["chat", "-m", model.to_str().unwrap()], flags].concat();
    owlet_with(&args, lines.as_bytes())
}

#[test]
fn a_pipe_asks_in_turns() {
    let ran = chat(Kind::Story, &[], "One?\n\nTwo?\n/quit\nNever asked?\n");
    assert_eq!((ran.code, ran.out), (Some(0), format!("{STORY}\n{STORY}\n")));
    let receipts: Vec<_> = ran.err.lines().collect();
    assert_eq!(receipts.len(), 2, "{receipts:?}");
    // What was said and heard in turn one is still there in turn two.
    assert!(!receipts[0].contains("reused") && receipts[1].contains(" reused) "), "{receipts:?}");

    let quiet = chat(Kind::Story, &["-q"], "One?");
    assert_eq!((quiet.code, quiet.out, quiet.err), (Some(0), format!("{STORY}\n"), String::new()));
}

#[test]
fn pictures_stay_until_the_conversation_is_cleared() {
    let (a, b) = (picture("chat a.png", 4, 4, [255; 4]), picture("chat b.png", 4, 4, [0, 0, 0, 255]));
    let lines = format!("/image {}\nOne?\n/image \"{}\"\nTwo?\n/clear\nThree?\n", a.display(), b.display());
    let ran = chat(Kind::Story, &[], &lines);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let said: Vec<_> = ran.err.lines().collect();
    let starts = [
        format!("{} 4x4 -> 112x112, 16 tokens", a.display()),
        "story | encode ".to_string(),
        format!("{} 4x4 -> 112x112, 16 tokens", b.display()),
        "story | encode ".to_string(),
        "the conversation is forgotten".to_string(),
        "story | prefill ".to_string(),
    ];
    assert_eq!(said.len(), starts.len(), "{said:#?}");
    for (said, start) in said.iter().zip(&starts) {
        assert!(said.starts_with(start), "{said:?} does not start with {start:?}");
    }
}

/// The second answer depends on everything before it, and a conversation of one process is that of another.
#[test]
fn turns_build_on_each_other() {
    let (a, b) = (picture("turn a.png", 4, 4, [255; 4]), picture("turn b.png", 4, 4, [0, 0, 0, 255]));
    let second = |lines: String| {
        let ran = chat(Kind::Random, &["-q", "-n", "8"], &lines);
        assert_eq!(ran.err, "");
        ran.out.lines().last().map(str::to_string)
    };
    let of_a = second(format!("/image {}\nOne?\nTwo?\n", a.display()));
    assert_eq!(of_a, second(format!("/image {}\nOne?\nTwo?\n", a.display())));
    assert_ne!(
        of_a,
        second(format!("/image {}\nOne?\nTwo?\n", b.display())),
        "turn two still sees the picture"
    );
    assert_ne!(of_a, second(format!("/image {}\nWho?\nTwo?\n", a.display())), "and the question of turn one");
    let first = |lines: &str| chat(Kind::Random, &["-q", "-n", "8"], lines).out;
    assert_eq!(
        first("One?\n/clear\nTwo?\n").lines().last(),
        first("Two?\n").lines().last(),
        "/clear leaves nothing"
    );
}

#[test]
fn a_failing_line_is_said_and_the_rest_goes_on() {
    let lines = "/imgae x.png\n/image\n/image no cat.png\nWhat is on it?\nAnd you?\n/quit\n";
    let ran = chat(Kind::Story, &["-q"], lines);
    assert_eq!((ran.code, ran.out), (Some(1), format!("{STORY}\n")));
    let expected = "\
owlet: /imgae: no such command; /help lists them, and a question that begins with / is written \\/
owlet: /image: expected a path
owlet: no cat.png: No such file or directory (os error 2)
owlet: not asked: the picture before this question could not be read
";
    assert_eq!(ran.err, expected);

    let long = format!("{}\nShort?\n", "word ".repeat(600));
    let ran = chat(Kind::Story, &["-q"], &long);
    assert_eq!((ran.code, ran.out), (Some(1), format!("{STORY}\n")));
    assert!(
        ran.err.starts_with("owlet: prompt: tokens in this context: at most 2048, found "),
        "{}",
        ran.err
    );
}

#[test]
fn a_full_context_is_said() {
    // Room for the second question and half of its answer.
    let ran = chat(Kind::Story, &["-q", "-c", "44"], "One?\nTwo?\n/clear\nThree?\n");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.err, "the context is full; /clear starts anew\n");
    let answers: Vec<_> = ran.out.lines().collect();
    assert!(answers[0] == STORY && STORY.starts_with(answers[1]) && answers[2] == STORY, "{answers:?}");
}

#[cfg(unix)]
mod on_a_terminal {
    use super::*;
    use crate::program::{command, state_dir};
    use rexpect::session::{PtySession, spawn_command};

    const PATIENCE_MS: u64 = 120_000;

    fn terminal(kind: Kind, flags: &[&str]) -> PtySession {
        let model = path(kind);
        let mut command = command(&[&["chat", "-m", model.to_str().unwrap()], flags].concat());
        command.env("TERM", "xterm");
        let mut terminal = spawn_command(command, Some(PATIENCE_MS)).unwrap();
        if !flags.contains(&"-q") {
            terminal.exp_string("/help lists commands, Ctrl-D leaves").unwrap();
        }
        terminal
    }

    /// The editor is ready for keys: what is typed before that is the terminal's own business.
    fn prompts(terminal: &mut PtySession) {
        terminal.exp_string("\u{1b}[?2004h").unwrap();
    }

    fn leaves(mut terminal: PtySession) {
        prompts(&mut terminal);
        terminal.send_control('d').unwrap();
        terminal.exp_eof().unwrap();
        let status = format!("{:?}", terminal.process().wait().unwrap());
        assert!(status.starts_with("Exited(") && status.ends_with(", 0)"), "{status}");
    }

    #[test]
    fn ctrl_c_stops_an_answer_and_keeps_it() {
        let mut terminal = terminal(Kind::Endless, &["-n", "100000"]);
        terminal.send_line("Sing!").unwrap();
        terminal.exp_string("la li lo la li lo").unwrap();
        terminal.send_control('c').unwrap();
        terminal.exp_string("ended by ctrl-c").unwrap();
        terminal.exp_string("stopped; what was said is kept").unwrap();
        // The song is in the next prompt, and the cache still has it.
        terminal.send_line("More!").unwrap();
        terminal.exp_string("la li lo la li lo").unwrap();
        terminal.send_control('c').unwrap();
        terminal.exp_string(" reused) ").unwrap();
        terminal.exp_string("stopped; what was said is kept").unwrap();
        prompts(&mut terminal);
        terminal.send_control('c').unwrap();
        terminal.exp_string("Ctrl-D or /quit leaves").unwrap();
        leaves(terminal);
    }

    #[test]
    fn ctrl_c_stops_the_work_on_a_picture() {
        let picture = picture("slow.png", 30, 30, [0, 99, 0, 255]);
        let mut terminal = terminal(Kind::Slow, &["-n", "6"]);
        terminal.send_line(&format!("/image {}", picture.display())).unwrap();
        terminal.exp_string("-> 896x896, 1024 tokens").unwrap();
        terminal.send_line("What is it?").unwrap();
        terminal.exp_string("looking at the picture").unwrap();
        terminal.send_control('c').unwrap();
        terminal.exp_string("stopped; the question is not kept, its pictures are").unwrap();
        terminal.send_line("/clear").unwrap();
        terminal.exp_string("the conversation is forgotten").unwrap();
        terminal.send_line("Sing!").unwrap();
        terminal.exp_string("la li lo la li lo").unwrap();
        leaves(terminal);
    }

    #[test]
    fn typed_lines_come_back_the_next_time() {
        let mut first = terminal(Kind::Story, &["-q"]);
        first.send_line("An unforgettable question?").unwrap();
        first.exp_string("A red circle,").unwrap();
        leaves(first);
        let history = std::fs::read_to_string(state_dir().join("owlet").join("history")).unwrap();
        assert!(history.contains("An unforgettable question?"), "{history}");

        let mut silent = terminal(Kind::Story, &["-q", "--no-history"]);
        silent.send_line("A secret question?").unwrap();
        silent.exp_string("A red circle,").unwrap();
        leaves(silent);
        let history = std::fs::read_to_string(state_dir().join("owlet").join("history")).unwrap();
        assert!(!history.contains("A secret question?"), "{history}");
    }
}
