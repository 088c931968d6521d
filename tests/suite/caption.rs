//! `owlet caption`: folders, bad pictures, the same picture twice, and a run that was killed.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::models::{Kind, path};
use crate::program::{Ran, command, owlet, picture};

/// Pictures of different sizes, two of the same bytes, and what is no picture.
fn folder(n: u32) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..n {
        let made = picture(&format!("caption-{i}.png"), 4 + i, 5, [(i * 90) as u8, (i * 40) as u8, 9, 255]);
        fs::copy(made, dir.path().join(format!("{i:02}.png"))).unwrap();
    }
    fs::copy(dir.path().join("00.png"), dir.path().join("same.PNG")).unwrap();
    fs::write(dir.path().join("bad.jpg"), "no picture").unwrap();
    fs::write(dir.path().join("notes.txt"), "not asked").unwrap();
    fs::create_dir(dir.path().join("below")).unwrap();
    fs::copy(dir.path().join("00.png"), dir.path().join("below/圆 1.png")).unwrap();
    dir
}

fn caption(dir: &Path, more: &[&str]) -> Ran {
    let model = path(Kind::Random);
    let args = ["caption", dir.to_str().unwrap(), "-m", model.to_str().unwrap(), "-p", "What?", "-t", "1"];
    let short = if more.contains(&"-n") { &[][..] } else { &["-n", "6"] };
    owlet(&[&args[..], short, more].concat())
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Without what a clock says.
fn timeless(text: &str) -> Vec<Value> {
    let mut lines = lines(text);
    lines.iter_mut().for_each(|line| line["seconds"] = Value::Null);
    lines
}

fn names(lines: &[Value]) -> Vec<String> {
    let name = |line: &Value| Path::new(line["path"].as_str().unwrap()).file_name().unwrap().to_owned();
    lines.iter().map(|line| name(line).into_string().unwrap()).collect()
}

#[test]
fn a_folder_becomes_lines() {
    let dir = folder(3);
    let ran = caption(dir.path(), &[]);
    assert_eq!(ran.code, Some(3), "one picture is bad: {ran:?}");
    let found = lines(&ran.out);
    assert_eq!(names(&found), ["00.png", "01.png", "02.png", "bad.jpg", "same.PNG"]);
    let first = &found[0];
    assert_eq!(
        (&first["width"], &first["height"], &first["model"]),
        (&json!(4), &json!(5), &json!("random"))
    );
    assert!(first["sha256"].as_str().is_some_and(|sum| sum.len() == 64), "{first}");
    assert_eq!((&first["finish_reason"], &first["tokens"]["completion"]), (&json!("length"), &json!(6)));
    assert_ne!(first["text"], found[1]["text"], "another picture, another answer");
    assert!(found[3]["error"].as_str().unwrap().contains("bad.jpg: "), "{}", found[3]);
    assert_eq!((&found[4]["same_as"], &found[4]["text"]), (&first["path"], &first["text"]));
    let expected = "5 pictures, 1 the same as others, 1 failed, ";
    assert!(ran.err.lines().last().unwrap().starts_with(expected), "{}", ran.err);
    // each is what a question alone gets
    let model = path(Kind::Random);
    let one = first["path"].as_str().unwrap();
    let alone = owlet(&["run", "-q", "-m", model.to_str().unwrap(), "-i", one, "-n", "6", "What?"]).ok();
    assert_eq!(alone.trim_end(), first["text"].as_str().unwrap());

    let deeper = caption(dir.path(), &["-r", "-q"]);
    assert_eq!(names(&lines(&deeper.out)).last().unwrap(), "圆 1.png");
    let pattern = dir.path().join("0[12].*");
    let ran = caption(&pattern, &["-q"]);
    assert_eq!((ran.code, names(&lines(&ran.out))), (Some(0), vec!["01.png".into(), "02.png".into()]));
    assert!(ran.err.is_empty(), "{}", ran.err);
}

#[test]
fn answers_can_be_constrained() {
    let dir = folder(1);
    let schema = dir.path().join("schema.json");
    fs::write(&schema, r#"{"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}"#)
        .unwrap();
    let good = dir.path().join("00.png");
    let ran = caption(&good, &["-q", "--schema", schema.to_str().unwrap(), "-n", "40"]);
    let line = &lines(&ran.ok())[0];
    assert!(line["complete"] == true && [1, 2].map(Value::from).contains(&line["value"]["n"]), "{line}");
    let line = &lines(&caption(&good, &["-q", "--choice", "yes,no"]).ok())[0];
    assert!(["yes", "no"].contains(&line["text"].as_str().unwrap()) && line.get("value").is_none(), "{line}");
    let cut = caption(&good, &["-q", "--choice", "a long text that ends nowhere"]);
    assert_eq!((cut.code, &lines(&cut.out)[0]["complete"]), (Some(3), &json!(false)));
}

#[test]
fn mistakes_are_said_before_the_model_is_opened() {
    let dir = folder(1);
    let dir = dir.path().to_str().unwrap();
    let empty = tempfile::tempdir().unwrap();
    let empty = empty.path().to_str().unwrap();
    let there = format!("{dir}/notes.txt");
    let cases: [(&[&str], i32, String); 8] = [
        (&["nowhere.png"], 1, "owlet: nowhere.png: No such file or directory".into()),
        (&[empty], 1, format!("owlet: {empty}: no picture found (-r looks into directories below)\n")),
        (&["nowhere/*.png"], 1, "owlet: nowhere/*.png: no picture found".into()),
        (
            &[dir, "--jsonl", &there],
            1,
            format!("owlet: {there}: exists; --resume goes on with it, --force replaces it\n"),
        ),
        (
            &[dir, "--jsonl", &there, "--resume"],
            1,
            format!("owlet: {there}: line 1: expected a line of owlet caption, or its beginning\n"),
        ),
        (
            &[dir, "--resume"],
            2,
            "error: the following required arguments were not provided:\n  --jsonl".into(),
        ),
        (&[dir, "--jsonl", &there, "--force"], 1, "owlet: nowhere.gguf: ".into()),
        (&["-"], 2, "error: a picture from standard input is what owlet run takes".into()),
    ];
    for (args, code, text) in cases {
        let ran = owlet(&[&["caption", "-m", "nowhere.gguf", "-p", "Q?"], args].concat());
        assert!(ran.code == Some(code) && ran.err.starts_with(&text), "{args:?}: {ran:?}");
    }
    assert_eq!(fs::read_to_string(there).unwrap(), "not asked", "nothing is lost by a mistake");
}

#[test]
fn what_is_gone_on_with_is_the_same_work() {
    let dir = folder(2);
    let out = dir.path().join("out.jsonl");
    let flags = ["-q", "--jsonl", out.to_str().unwrap()];
    let resume = |more: &[&str]| caption(dir.path(), &[&flags[..], &["--resume"], more].concat());
    assert_eq!(caption(dir.path(), &flags).code, Some(3));
    let whole = fs::read_to_string(&out).unwrap();
    assert_eq!(lines(&whole).len(), 4);
    // nothing left to do; the picture that failed is not tried again
    assert_eq!(resume(&[]).code, Some(0));
    assert_eq!(fs::read_to_string(&out).unwrap(), whole);
    // cut anywhere, it becomes whole again and repeats nothing
    for n_bytes in
        [0, 1, whole.len() / 3, whole.find('\n').unwrap(), whole.find('\n').unwrap() + 1, whole.len() - 1]
    {
        fs::write(&out, &whole.as_bytes()[..n_bytes]).unwrap();
        resume(&[]);
        assert_eq!(timeless(&fs::read_to_string(&out).unwrap()), timeless(&whole), "cut at {n_bytes}");
    }
    // a half line about a picture that is gone is followed by nothing that would cover it
    fs::write(&out, format!("{whole}{{\"path\":\"/a/picture/that/is/gone.png\",\"sha256\":\"0123")).unwrap();
    assert_eq!(resume(&[]).code, Some(0));
    assert_eq!(fs::read_to_string(&out).unwrap(), whole);
    let other = resume(&["--system", "Be brief."]);
    assert_eq!(other.code, Some(1));
    assert!(
        other.err.ends_with("from another model, prompt or setting; --resume goes on with the same ones\n"),
        "{other:?}"
    );
    let forced = caption(dir.path(), &[&flags[..], &["--force"]].concat());
    assert_eq!((forced.code, timeless(&fs::read_to_string(&out).unwrap())), (Some(3), timeless(&whole)));
    fs::write(&out, "{\"path\": 3}\n").unwrap();
    let foreign = resume(&[]);
    assert!(foreign.err.contains("out.jsonl: line 1: expected a line of owlet caption: "), "{foreign:?}");
    assert_eq!(fs::read_to_string(&out).unwrap(), "{\"path\": 3}\n");
}

/// Killed again and again, at whatever moment: in the end each picture has its line, once, with the right answer.
#[cfg(unix)]
#[test]
fn a_kill_loses_nothing() {
    let dir = folder(30);
    let out = dir.path().join("out.jsonl");
    let expected = timeless(&caption(dir.path(), &["-q"]).out);
    let model = path(Kind::Random);
    let args = [
        "caption",
        dir.path().to_str().unwrap(),
        "-m",
        model.to_str().unwrap(),
        "-p",
        "What?",
        "-n",
        "6",
        "-t",
        "1",
        "-q",
        "--resume",
        "--jsonl",
        out.to_str().unwrap(),
    ];
    let n_lines = || fs::read_to_string(&out).unwrap_or_default().lines().count();
    // Whether a run was there to be killed when its moment came.
    let is_killed = |wait_ms: u64| {
        let n_before = n_lines();
        let mut child = command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // at least one more line, unless the first moments are what is tried
        while wait_ms > 100 && n_lines() == n_before && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_millis(wait_ms % 50));
        let is_running = child.try_wait().unwrap().is_none();
        let _ = child.kill();
        child.wait().unwrap();
        is_running
    };
    for wait_ms in [5, 40, 80, 120, 160, 200, 260, 330] {
        // On a busy machine a run may end before this thread sees its first line. It is done again then, on what was there.
        let before = fs::read(&out).unwrap_or_default();
        let is_killed_again = || {
            fs::write(&out, &before).unwrap();
            is_killed(wait_ms)
        };
        let is_killed = is_killed(wait_ms) || (0..50).any(|_| is_killed_again());
        assert!(is_killed, "{wait_ms} ms: each run came to its end before it was killed");
        // Where little is left to do, an earlier kill could have left less.
        let text = fs::read_to_string(&out).unwrap_or_default();
        if text.lines().count() > 20 {
            fs::write(&out, text.split_inclusive('\n').take(10).collect::<String>()).unwrap();
        }
        // what a kill in the middle of a write leaves
        if wait_ms == 200 {
            let mut text = fs::read(&out).unwrap();
            text.extend(b"{\"path\":\"/tmp/ha");
            fs::write(&out, text).unwrap();
        }
    }
    let last = owlet(&args);
    assert!([Some(0), Some(3)].contains(&last.code), "{last:?}");
    assert_eq!(timeless(&fs::read_to_string(&out).unwrap()), expected);
}

/// Two runs on one file would mix their lines.
#[cfg(unix)]
#[test]
fn a_file_belongs_to_one_run() {
    let dir = folder(1);
    let out = dir.path().join("out.jsonl");
    let file = fs::File::create(&out).unwrap();
    file.lock().unwrap();
    let ran = caption(dir.path(), &["--resume", "--jsonl", out.to_str().unwrap()]);
    assert_eq!(
        (ran.code, ran.err),
        (Some(1), format!("owlet: {}: another run writes to it\n", out.display()))
    );
}
