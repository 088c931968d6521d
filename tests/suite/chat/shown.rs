//! Pictures on a terminal: drawn where it can, pasted, taken from the pipe.

use super::*;
use crate::models::STORY;
use crate::program::{Ran, picture, run};
use crate::terminal::Terminal;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use vt100::Color;

#[test]
fn a_thumbnail_where_the_terminal_can_draw() {
    let picture = picture("drawn.png", 8, 8, [255, 0, 0, 255]);
    let shows = |term: &str, flags: &[&str], variables: &[(&str, &str)]| {
        let flags = [&["--image", picture.to_str().unwrap()], flags].concat();
        let mut command = chat_command(Kind::Story, &flags);
        command.envs(variables.iter().copied());
        let terminal = Terminal::new(command, term, ROWS, COLUMNS);
        terminal.sees("drawn.png 8x8 -> 112x112, 16 tokens");
        let seen = (terminal.colours("▀"), terminal.sent());
        terminal.leaves();
        seen
    };
    let (index, rgb) = (Some(Color::Idx(196)), Some(Color::Rgb(255, 0, 0)));
    let colours = |term, flags: &[&str], variables: &[(&str, &str)]| {
        let (colours, sent) = shows(term, flags, variables);
        assert!(!sent.contains("\u{1b}_G") && !sent.contains("]1337"), "{sent:?}");
        colours
    };
    assert_eq!(colours("xterm-256color", &[], &[]), index.zip(index));
    assert_eq!(colours("xterm", &[], &[("COLORTERM", "truecolor")]), rgb.zip(rgb));
    assert_eq!(colours("tmux-256color", &[], &[("KITTY_WINDOW_ID", "1")]), index.zip(index));
    for (term, flags, variables) in [
        ("xterm-256color", ["--no-preview"].as_slice(), [].as_slice()),
        ("xterm-256color", &[], &[("NO_COLOR", "1")]),
        ("xterm", &[], &[]),
    ] {
        assert_eq!(colours(term, flags, variables), None, "{term} {flags:?} {variables:?}");
    }
    let (_, sent) = shows("xterm-kitty", &[], &[]);
    assert!(sent.contains("\u{1b}_Ga=T,f=24,s=112,v=112,c=28,r=14,q=2,m=1;/wAA/wAA"), "{sent:?}");
    let (_, sent) = shows("xterm-256color", &[], &[("TERM_PROGRAM", "iTerm.app")]);
    assert!(sent.contains("\u{1b}]1337;File=inline=1;size="), "{sent:?}");
}

#[test]
fn a_picture_from_the_pipe_and_a_chat_on_the_terminal() {
    let picture = File::open(picture("fed.png", 4, 4, [255; 4])).unwrap();
    let command = chat_command(Kind::Story, &["--image", "-", "--no-history"]);
    let mut terminal = Terminal::fed(command, picture, "xterm");
    terminal.sees("Image-1: standard input 4x4 -> 112x112, 16 tokens");
    terminal.say("What is it?");
    terminal.sees(STORY);
    terminal.say("And now?");
    terminal.sees_times(2, STORY);
    terminal.leaves();
}

/// A path that a file manager dropped, with a word that is none.
#[test]
fn a_dragged_picture() {
    let picture = picture("it's my cat (1).png", 4, 4, [255; 4]);
    let place = picture.display().to_string();
    let quoted = format!("'{}'", place.replace('\'', r"'\''"));
    let escaped: String =
        place.chars().flat_map(|c| " ()'".contains(c).then_some('\\').into_iter().chain([c])).collect();
    let url = format!("file://{}", place.replace(' ', "%20"));
    let mut terminal = Terminal::new(chat_command(Kind::Story, &["--no-history"]), "xterm", ROWS, 200);
    for (n, typed) in [quoted, escaped, url].iter().enumerate() {
        terminal.say(&format!("{typed} What is it?"));
        terminal.sees(&format!("Image-{}: {} 4x4 -> 112x112, 16 tokens", n + 1, place));
        terminal.sees_times(n + 1, STORY);
    }
    terminal.say("/drop 1");
    terminal.sees(" 2 left, later ones moved up; what follows it is read anew");
    terminal.say("What is in ./no cat.png?");
    terminal.sees("owlet: ./no cat.png: no such file; ");
    terminal.leaves();
}

/// Names and what they stand for.
type Pairs<'a> = &'a [(&'a str, &'a str)];

/// What `/paste` does where `programs`, shell scripts by name, are all there are.
fn paste(dir: &Path, variables: Pairs, programs: Pairs) -> Ran {
    for (name, script) in programs {
        let path = dir.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = chat_command(Kind::Story, &[]);
    for name in ["DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"] {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied()).env("PATH", dir);
    run(command, b"/paste\n")
}

#[test]
fn the_clipboards_picture() {
    if cfg!(target_os = "macos") {
        println!("not run: macOS has a clipboard of its own");
        return;
    }
    let png = picture("on the clipboard.png", 4, 4, [255; 4]);
    let (png, shell) = (png.display(), "/bin/cat");
    let pasted = "Image-1: clipboard 4x4 -> 112x112, 16 tokens\n".to_string();
    let (wayland, x11) = (("WAYLAND_DISPLAY", "wayland-0"), ("DISPLAY", ":0"));
    let by_wayland = format!(
        "case \"$*\" in --list-types) echo text/html; echo image/png;; '--no-newline --type image/png') {shell} '{png}';; *) exit 1;; esac"
    );
    let by_x11 = format!(
        "case \"$4\" in TARGETS) echo TIMESTAMP; echo image/png;; image/png) {shell} '{png}';; *) exit 1;; esac"
    );
    let of_files = format!(
        "case \"$*\" in --list-types) echo text/uri-list; echo image/png;; *uri-list) echo 'file://{}';; *) exit 1;; esac",
        png.to_string().replace(' ', "%20")
    );
    let none = "owlet: clipboard: no picture on it\n".to_string();
    let cases: &[(Pairs, Pairs, String)] = &[
        (&[], &[], "owlet: clipboard: none here: neither Wayland nor X11 is running; save the picture and give its path\n".into()),
        (&[wayland, x11], &[], "owlet: clipboard: wl-paste is not here: install wl-clipboard\n".into()),
        (&[x11], &[], "owlet: clipboard: xclip is not here: install xclip\n".into()),
        (&[wayland], &[("wl-paste", &by_wayland)], pasted.clone()),
        (&[x11], &[("xclip", &by_x11)], pasted),
        (&[wayland], &[("wl-paste", &of_files)], format!("Image-1: {png} 4x4 -> 112x112, 16 tokens\n")),
        (&[wayland], &[("wl-paste", "echo text/plain")], none.clone()),
        (&[wayland], &[("wl-paste", "echo 'Nothing is copied' >&2; exit 1")], none.clone()),
        (&[("WSL_DISTRO_NAME", "Debian")], &[("powershell.exe", "exit 0")], none),
        (&[x11], &[("xclip", "echo image/png")], "owlet: clipboard: no picture format is known that begins with 69 6d 61 67 65 2f 70 6e; owlet reads JPEG, PNG, WebP, GIF and BMP\n".into()),
    ];
    for (variables, programs, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        let ran = paste(dir.path(), variables, programs);
        assert_eq!(ran.err, *expected, "{variables:?} {programs:?}");
    }
}
