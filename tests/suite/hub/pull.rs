//! `owlet pull` and `owlet models`: a shelf of models, and the one that answers where none is named.

use std::fs;
use std::process::Command;

use super::{Setting, text};
use crate::hub::server::{Act, NAME};
use crate::program::{Ran, command, run};

impl Setting {
    fn owlet(&self, args: &[&str]) -> Ran {
        run(self.shelved(command(args)), b"")
    }

    fn shelved(&self, command: Command) -> Command {
        let mut command = self.with_environment(command);
        command.env("XDG_DATA_HOME", self.home.path().join("data"));
        command
    }

    /// Who answers, by the report and by the receipt.
    fn assert_answers(&self, name: &str) {
        let report: serde_json::Value =
            serde_json::from_str(&self.owlet(&["run", "Who?", "-n", "1", "--json"]).ok()).unwrap();
        assert_eq!(report["model"], name);
        let ran = self.owlet(&["run", "Who?", "-n", "1"]);
        assert!(ran.code == Some(0) && ran.err.starts_with(&format!("{name} | ")), "{ran:?}");
    }
}

#[test]
fn models_are_pulled_listed_chosen_and_removed() {
    let setting = Setting::small();
    let listed = || setting.owlet(&["models"]).ok();
    assert_eq!(listed(), "* built-in    part of the program\n");
    setting.assert_answers("owlet-demo");

    let ran = setting.owlet(&["pull", NAME]);
    let lines: Vec<&str> = ran.err.lines().collect();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(lines[1], "Open/tiny-chat at 0123456789ab: 5.10 MB in 3 files, licence: mit");
    assert_eq!(lines.last(), Some(&"tiny-chat is the default model now: it answers where -m names no file"));
    let shelf = setting.home.path().join("data/owlet/models");
    let out = setting.out();
    let same = setting.owlet(&["convert", NAME, "--stream", "-o", text(&out), "--quiet"]);
    assert_eq!(same.code, Some(0), "{same:?}");
    assert!(
        fs::read(shelf.join("tiny-chat.gguf")).unwrap() == fs::read(&out).unwrap(),
        "other than what convert makes"
    );
    setting.assert_answers(NAME);
    // a file that is named wins
    let named = setting.owlet(&["run", "Who?", "-n", "1", "-m", "demo/owlet-demo.gguf", "--json"]);
    assert!(named.code == Some(1) && named.err.contains("demo/owlet-demo.gguf"), "{named:?}");

    let again = setting.owlet(&["pull", NAME]);
    let what =
        "owlet: tiny-chat: there already; `owlet models rm tiny-chat` makes room, --as gives another name\n";
    assert_eq!((again.code, again.err.as_str()), (Some(1), what));
    let ran = setting.owlet(&["pull", NAME, "--as", "two", "--quiet"]);
    assert!(ran.code == Some(0) && ran.err.is_empty(), "{ran:?}");
    fs::write(shelf.join("broken.gguf"), "GGUF").unwrap();
    fs::write(shelf.join("notes.txt"), "mine").unwrap();
    let rows = listed();
    let rows: Vec<Vec<&str>> = rows.lines().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..1], ["built-in"]);
    assert_eq!(rows[1][..4], ["broken", "4", "B", "unreadable:"]);
    assert_eq!(
        (rows[2][..2].to_vec(), rows[2].last()),
        (vec!["*", "tiny-chat"], Some(&"internvl-chat-v1-1"))
    );
    assert_eq!(
        (rows[3][..1].to_vec(), rows[3].last(), rows.len()),
        (vec!["two"], Some(&"internvl-chat-v1-1"), 4)
    );

    assert_eq!(setting.owlet(&["models", "use", "two"]).err, "two is the default model now\n");
    setting.assert_answers(NAME);
    let removed = setting.owlet(&["models", "rm", "two"]);
    assert_eq!(removed.err, "two: removed\nit was the default: built-in is that now\n");
    setting.assert_answers("owlet-demo");
    assert_eq!(setting.owlet(&["models", "use", "tiny-chat"]).code, Some(0));
    assert_eq!(setting.owlet(&["models", "rm", "broken"]).err, "broken: removed\n");
    assert_eq!(setting.owlet(&["models", "use", "built-in"]).err, "built-in is the default model now\n");
    setting.assert_answers("owlet-demo");

    // what somebody took away by hand
    assert_eq!(setting.owlet(&["models", "use", "tiny-chat"]).code, Some(0));
    fs::remove_file(shelf.join("tiny-chat.gguf")).unwrap();
    for args in
        [&["run", "Who?"][..], &["chat"], &["bench", "--test", "decode"], &["embed", "a.png", "-o", "a.npy"]]
    {
        let Ran { code, err, .. } = setting.owlet(args);
        assert!(
            code == Some(1) && err.contains("tiny-chat.gguf: the default model is not there any more; "),
            "{args:?}: {err}"
        );
    }
    assert_eq!(fs::read_to_string(shelf.join("notes.txt")).unwrap(), "mine");
}

#[test]
fn names_are_those_of_models() {
    let setting = Setting::small();
    let outside = setting.home.path().join("data/precious.gguf");
    fs::create_dir_all(outside.parent().unwrap()).unwrap();
    fs::write(&outside, "mine").unwrap();
    for name in ["../../precious", "..", "a/b", ".hidden", ""] {
        for action in ["use", "rm"] {
            let Ran { code, err, .. } = setting.owlet(&["models", action, name]);
            assert_eq!(
                (code, err),
                (
                    Some(1),
                    format!("owlet: {name}: expected the name of a model, as `owlet models` lists them\n")
                )
            );
        }
        let ran = setting.owlet(&["pull", NAME, "--as", name]);
        assert!(ran.code == Some(1) && ran.err.contains("expected the name of a model"), "{ran:?}");
    }
    let absent = setting.owlet(&["models", "rm", "absent"]);
    assert_eq!(absent.err, "owlet: absent: no such model; `owlet models` lists what there is\n");
    assert_eq!(setting.owlet(&["models", "rm", "built-in"]).code, Some(1));
    let usage = setting.owlet(&["pull", "tiny-chat"]);
    assert!(
        usage.code == Some(2)
            && usage.err.contains("expected a model's name at the hub, ORG/NAME, found tiny-chat"),
        "{usage:?}"
    );
    assert_eq!(fs::read_to_string(outside).unwrap(), "mine");
}

/// What a pull that was cut leaves is no model, and the same command goes on with it.
#[test]
fn a_pull_that_was_cut_goes_on() {
    let setting = Setting::small();
    setting.hub.act(|asked| {
        match asked.is_long() && asked.file() == Some("model-00003-of-00003.safetensors") {
            true => Act::Refuse(503, ""),
            false => Act::Serve,
        }
    });
    let ran = setting.owlet(&["pull", NAME]);
    assert!(
        ran.code == Some(1) && ran.err.contains("answers 503; the same command goes on where it was\n"),
        "{ran:?}"
    );
    assert_eq!(setting.owlet(&["models"]).ok(), "* built-in    part of the program\n");
    setting.hub.act(|_| Act::Serve);
    let ran = setting.owlet(&["pull", NAME]);
    assert!(ran.code == Some(0) && ran.err.contains("going on with it"), "{ran:?}");
    assert_eq!(setting.long_ones(), ["model-00003-of-00003.safetensors"]);
}
