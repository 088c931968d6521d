//! `owlet run` as a person or a script meets it.

use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::models::{Kind, STORY, path};
use crate::program::{Ran, command, owlet, owlet_with, picture};

/// `owlet run` on a model, with the question `Q?` and more arguments.
fn run(kind: Kind, more: &[&str]) -> Ran {
    let model = path(kind);
    let args = [&["run", "-m", model.to_str().unwrap(), "Q?"], more].concat();
    owlet(&args)
}

fn report(ran: Ran) -> Value {
    serde_json::from_str(&ran.ok()).unwrap()
}

#[test]
fn the_answer_is_all_of_standard_output() {
    let ran = run(Kind::Story, &[]);
    assert_eq!((ran.code, ran.out), (Some(0), format!("{STORY}\n")));
    let receipt = ran.err;
    assert!(receipt.starts_with("story | prefill ") && receipt.ends_with(" tokens/s\n"), "{receipt}");
    assert_eq!(receipt.lines().count(), 1, "{receipt}");

    let quiet = run(Kind::Story, &["-q"]);
    assert_eq!((quiet.out, quiet.err), (format!("{STORY}\n"), String::new()));
}

#[test]
fn the_receipt_says_what_became_of_each_picture() {
    let opaque = picture("a white wall.png", 40, 30, [255; 4]);
    let clear = picture("clear.png", 7, 9, [0, 0, 0, 100]);
    let ran = run(Kind::Story, &["--image", opaque.to_str().unwrap(), "--image", clear.to_str().unwrap()]);
    assert_eq!(ran.out, format!("{STORY}\n"));
    let first = format!("{} 40x30 -> 112x112, 16 tokens | ", opaque.display());
    let second = format!("{} 7x9 (alpha over white) -> 112x112, 16 tokens | encode ", clear.display());
    assert!(ran.err.contains(&(first + &second)), "{}", ran.err);
}

#[test]
fn json_has_everything() {
    let path = picture("json.png", 40, 30, [9, 9, 9, 255]);
    let path = path.to_str().unwrap();
    let ran = run(Kind::Story, &["--image", path, "--json", "--seed", "7"]);
    assert!(ran.err.is_empty(), "{}", ran.err);
    let mut report = report(ran);
    let timings = report["timings"].take();
    for name in ["load_s", "encode_s", "prefill_s", "decode_s", "tokens_per_second"] {
        assert!(timings[name].as_f64().is_some_and(|x| x > 0.0), "{name} in {timings}");
    }
    assert_eq!((&timings["drafted"], &timings["accepted"]), (&json!(0), &json!(0)), "{timings}");
    assert_eq!(timings.as_object().unwrap().len(), 7, "{timings}");
    let ids = report["tokens"]["ids"].take();
    let ids: Vec<u64> = ids.as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
    assert_eq!(ids.len(), 9);
    assert_eq!(ids.last(), Some(&2), "the end token counts: {ids:?}");
    let expected = json!({
        "text": STORY,
        "finish_reason": "eos",
        // BOS, two spaces, human, `: `, img, 16 rows, /img, space, newline, `Q? `, bot, `:`
        "tokens": {"prompt": 31, "completion": 9, "ids": null},
        "images": [{
            "source": path, "format": "PNG", "width": 40, "height": 30, "orientation": 1, "alpha": false,
            "size_px": 112, "n_tokens": 16, "cached": false,
        }],
        "timings": null,
        "model": "story",
        "exact": false,
        "seed": 7,
    });
    assert_eq!(report, expected, "{report:#}\n{expected:#}");
}

#[test]
fn a_picture_from_standard_input() {
    let bytes = std::fs::read(picture("stdin.png", 5, 4, [0, 0, 0, 255])).unwrap();
    let model = path(Kind::Story);
    let args = ["run", "-m", model.to_str().unwrap(), "--image", "-", "--json", "Q?"];
    let images = &report(owlet_with(&args, &bytes))["images"];
    assert_eq!((&images[0]["source"], &images[0]["width"]), (&json!("standard input"), &json!(5)));
    let empty = owlet_with(&args, b"");
    assert_eq!(empty.code, Some(1));
    assert!(empty.err.starts_with("owlet: standard input: "), "{}", empty.err);
}

#[test]
fn a_question_from_a_pipe_or_a_file() {
    let model = path(Kind::Random);
    let model = model.to_str().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("question.txt");
    std::fs::write(&file, "Who?\n").unwrap();
    let file = file.to_str().unwrap();
    let run =
        |more: &[&str], input: &[u8]| owlet_with(&[&["run", "-m", model, "-n", "9"], more].concat(), input);
    let ids =
        |more: &[&str], input: &[u8]| report(run(&[more, &["--json"]].concat(), input))["tokens"].clone();
    let asked = ids(&["Who?"], b"");
    assert_ne!(asked, ids(&["Why?"], b""));
    for (more, input) in [(["-f", file], "ignored"), (["-f", "-"], "Who?\n"), (["-q", "-"], "Who?\r\n")] {
        assert_eq!(ids(&more, input.as_bytes()), asked, "{more:?}");
    }
    // both are welcome where each has an input of its own
    let bytes = std::fs::read(picture("both.png", 5, 4, [0, 0, 0, 255])).unwrap();
    assert_ne!(ids(&["-f", file, "-i", "-"], &bytes), asked);

    let cases: [(&[&str], &[u8], i32, &str); 6] = [
        (&["-"], b" \n", 1, "owlet: standard input: expected a question\n"),
        (&["-"], b"\xff", 1, "owlet: standard input: expected a question in UTF-8, found other bytes\n"),
        (
            &["-"],
            &vec![b'x'; (1 << 20) + 1],
            1,
            "owlet: standard input: expected a question of at most 1048576 bytes",
        ),
        (&["-f", "nowhere.txt"], b"", 1, "owlet: nowhere.txt: No such file or directory"),
        (&["-", "-i", "-"], b"", 2, "error: - may be given once: there is one standard input"),
        (
            &["-f", file, "Who?"],
            b"",
            2,
            "error: the argument '--file <FILE>' cannot be used with '[QUESTION]'",
        ),
    ];
    for (more, input, code, text) in cases {
        let ran = run(more, input);
        assert!(ran.code == Some(code) && ran.err.starts_with(text), "{more:?}: {ran:?}");
    }
}

/// Where no terminal listens there is nothing but text: no colour, no line that is redrawn.
#[test]
fn pipes_get_plain_text() {
    for args in
        [&["run", "--help"][..], &["run", "Q?", "--nothing"], &["run", "-i", "examples/red-circle.png", "Q?"]]
    {
        let ran = owlet(args);
        let control = |text: &str| text.chars().find(|&c| c.is_control() && c != '\n');
        assert_eq!((control(&ran.out), control(&ran.err)), (None, None), "{ran:?}");
    }
}

/// Everything that ends an answer, and what of it is shown then.
#[test]
fn answers_end_where_they_should() {
    let n_prompt = report(run(Kind::Story, &["--json"]))["tokens"]["prompt"].as_u64().unwrap();
    let context = (n_prompt + 2).to_string();
    let cases: [(Kind, &[&str], &str, &str); 10] = [
        (Kind::Story, &[], STORY, "eos"),
        (Kind::Story, &["-n", "2"], "A red", "length"),
        (Kind::Story, &["-n", "9"], STORY, "eos"),
        (Kind::Story, &["--max-tokens", "5"], "A red circle,\u{fffd}", "length"),
        (Kind::Story, &["--stop", "圆"], "A red circle,", "stop"),
        (Kind::Story, &["--stop", "red circle"], "A", "stop"),
        (Kind::Story, &["--stop", "blue", "--stop", "circle,"], "A red", "stop"),
        (Kind::Story, &["--stop", "red square"], STORY, "eos"),
        (Kind::Story, &["-c", &context], "A red circle", "context"),
        (Kind::Endless, &["-n", "4"], "la li lo la", "length"),
    ];
    for (kind, flags, text, reason) in cases {
        let report = report(run(kind, &[flags, &["--json"]].concat()));
        assert_eq!((&report["text"], &report["finish_reason"]), (&json!(text), &json!(reason)), "{flags:?}");
    }
    let ran = run(Kind::Story, &["-n", "2"]);
    assert!(ran.err.ends_with(" | ended by the token limit (-n)\n"), "{}", ran.err);
}

#[test]
fn a_seed_makes_a_draw_repeatable() {
    let draw = |seed: &str| run(Kind::Endless, &["-q", "--temp", "1", "-n", "24", "--seed", seed]).ok();
    let greedy = run(Kind::Endless, &["-q", "-n", "24"]).ok();
    assert_eq!(draw("1"), draw("1"));
    assert_ne!(draw("1"), draw("2"));
    assert_ne!(draw("1"), greedy);
    let any = || run(Kind::Endless, &["--json", "--temp", "1", "-n", "24"]);
    let (first, second) = (report(any()), report(any()));
    assert_ne!(first["seed"], second["seed"], "without --seed each run draws anew");
    let again = draw(&first["seed"].to_string());
    assert_eq!(
        again.trim_end(),
        first["text"].as_str().unwrap(),
        "the seed that was reported repeats the run"
    );
    let nearly_greedy = run(Kind::Endless, &["-q", "--temp", "1", "--top-k", "1", "-n", "24"]).ok();
    assert_eq!(nearly_greedy, greedy);
}

#[test]
fn the_picture_and_the_system_text_reach_the_model() {
    let black = picture("black.png", 8, 8, [0, 0, 0, 255]);
    let white = picture("white.png", 8, 8, [255; 4]);
    let ids = |flags: &[&str]| {
        report(run(Kind::Random, &[&["--json", "-n", "12"], flags].concat()))["tokens"].clone()
    };
    let of_black = ids(&["--image", black.to_str().unwrap()]);
    let of_white = ids(&["--image", white.to_str().unwrap()]);
    assert_eq!(of_black["prompt"], of_white["prompt"]);
    assert_ne!(of_black["ids"], of_white["ids"]);
    assert_eq!(of_black, ids(&["--image", black.to_str().unwrap()]), "greedy runs repeat");
    assert_eq!(of_black, ids(&["--image", black.to_str().unwrap(), "-t", "1"]), "on any number of threads");
    assert_ne!(ids(&[]), ids(&["--system", "Be brief."]));
}

/// What goes wrong in a first hour, and what is said about it.
#[test]
fn first_mistakes() {
    let model = path(Kind::Story);
    let model = model.to_str().unwrap();
    let picture = picture("fine.png", 4, 4, [0, 0, 0, 255]);
    let picture = picture.to_str().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let text_file = dir.path().join("notes.txt");
    std::fs::write(&text_file, "no picture at all").unwrap();
    let text_file = text_file.to_str().unwrap();
    let long = "word ".repeat(600);
    let cases: [(&[&str], i32, String); 19] = [
        (&["run"], 2, "error: the following required arguments were not provided:".into()),
        (&["run", "-m", model, ""], 2, "error: invalid value '' for '[QUESTION]': expected a question".into()),
        (&["run", "-m", model, " \n"], 2, "error: invalid value ' \n' for '[QUESTION]': expected a question".into()),
        (&["run", "-m", model, "Q?", "--tmep", "1"], 2, "error: unexpected argument '--tmep' found".into()),
        (&["run", "-m", model, "What is it?", "a.png"], 2, "error: unexpected argument 'a.png' found; -i a.png asks about a picture\n".into()),
        (&["run", "-m", model, "my pics/a.JPG", "What is it?"], 2, "error: unexpected argument 'What is it?' found; -i my pics/a.JPG asks about a picture\n".into()),
        (&["run", "-m", model, "What", "is", "it?"], 2, "error: unexpected argument 'is' found; a question of several words stands in quotes\n".into()),
        (&["run", "-m", model, "Q?", "--temp", "-1"], 2, "error: temperature: expected a finite number of at least 0, found -1".into()),
        (&["run", "-m", model, "Q?", "--top-p", "1.5"], 2, "error: top-p: expected above 0 and at most 1, found 1.5".into()),
        (&["run", "-m", model, "Q?", "-n", "0"], 2, "error: invalid value '0' for '--max-tokens <N>': 0 is not in 1..".into()),
        (&["run", "-m", model, "Q?", "--kv-type", "q4_0"], 2, "error: invalid value 'q4_0' for '--kv-type <TYPE>': kv type: expected f16, f32 or q8_0, found q4_0".into()),
        (&["run", "-m", model, "Q?", "--top-k", "5"], 1, "owlet: --top-k has no effect at temperature 0; give --temp as well".into()),
        (&["run", "-m", "nowhere.gguf", "Q?"], 1, "owlet: nowhere.gguf: cannot open: No such file or directory (os error 2)".into()),
        (&["run", "-m", picture, "Q?"], 1, format!("owlet: {picture}: header: expected the letters GGUF, found ")),
        (&["run", "-m", "nowhere.gguf", "--image", "no cat.png", "Q?"], 1, "owlet: no cat.png: No such file or directory (os error 2)".into()),
        (&["run", "-m", model, "--image", text_file, "Q?"], 1, format!("owlet: {text_file}: ")),
        (&["run", "-m", model, "Q?", "-c", "5"], 1, "owlet: prompt: tokens in this context: at most 5, found ".into()),
        (&["run", "-m", model, "Q?", "-c", "4096"], 1, "owlet: context: at most 2048, found 4096".into()),
        (&["run", "-m", model, &long], 1, "owlet: prompt: tokens in this context: at most 2048, found ".into()),
    ];
    for (args, code, text) in cases {
        let ran = owlet(args);
        assert!(
            ran.code == Some(code) && ran.out.is_empty() && ran.err.starts_with(&text),
            "{args:?}\n{ran:?}"
        );
        assert!(code == 2 || ran.err.lines().count() == 1, "more than a line: {}", ran.err);
    }
}

/// Starts an answer that never ends, and waits until it has begun.
fn endless(flags: &[&str]) -> std::process::Child {
    let model = path(Kind::Endless);
    let args = [&["run", "-m", model.to_str().unwrap(), "Q?", "-n", "100000"], flags].concat();
    let mut child = command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    if !flags.contains(&"--json") {
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).unwrap();
    }
    child
}

fn wait(child: &mut std::process::Child) -> Option<i32> {
    let patience = Instant::now() + Duration::from_secs(60);
    while Instant::now() < patience {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    panic!("still running");
}

#[test]
fn a_reader_that_has_had_enough_is_no_error() {
    let mut child = endless(&[]);
    drop(child.stdout.take());
    assert_eq!(wait(&mut child), Some(0));
    let mut err = String::new();
    child.stderr.unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(err, "");
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_was_said() {
    let interrupt = |child: &std::process::Child| {
        let status = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        assert!(status.unwrap().success());
    };
    let mut child = endless(&[]);
    interrupt(&child);
    // Everything that was said, and the line behind it.
    let mut rest = String::new();
    child.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
    assert_eq!(wait(&mut child), Some(130));
    assert!(rest.ends_with('\n'), "{rest:?}");
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert!(err.ends_with(" | ended by ctrl-c\n"), "{err}");

    let mut child = endless(&["--json"]);
    // Nothing tells from outside that it has begun.
    std::thread::sleep(Duration::from_secs(3));
    interrupt(&child);
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!(wait(&mut child), Some(130));
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["finish_reason"], "cancelled");
    assert!(report["text"].as_str().unwrap().starts_with("la li lo"), "{report}");
}

/// A path that is typed into the question is a picture, or an error; never words about a picture that the model did not get.
#[test]
fn pictures_named_in_the_question() {
    let white = picture("named in a question.png", 40, 30, [255; 4]);
    let black = picture("named-too.png", 20, 10, [0, 0, 0, 255]);
    let (white, black) = (white.to_str().unwrap(), black.to_str().unwrap());
    let model = path(Kind::Random);
    let ask = |question: &str, more: &[&str]| {
        owlet(&[&["run", "-m", model.to_str().unwrap(), "-n", "8", "--json", question], more].concat())
    };
    let sources = |report: &Value| {
        let images = report["images"].as_array().unwrap();
        images.iter().map(|image| image["source"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    let told = |question: &str, more: &[&str]| {
        let report = report(ask(question, more));
        (sources(&report), report["text"].clone())
    };
    let (images, by_flag) = told("What is in Image-1?", &["-i", black]);
    assert_eq!((images, told("What is in Image-1?", &[]).0), (vec![black.to_string()], vec![]));
    assert_eq!(told(&format!("What is in {black}?"), &[]), (vec![black.to_string()], by_flag.clone()));
    assert_eq!(told(&format!("{black} What is in Image-1?"), &[]).1, by_flag);
    // flags come first
    let (images, both) = told(&format!("Is '{white}' larger?"), &["-i", black]);
    assert_eq!(images, [black, white]);
    assert_eq!(told("Is Image-2 larger?", &["-i", black, "-i", white]).1, both);
    // as text
    assert_eq!(told(&format!("What is in \\{black}?"), &[]).0, Vec::<String>::new());
    let file = picture("a file of words.png", 1, 1, [0; 4]).with_extension("txt");
    std::fs::write(&file, format!("What is in {black}?")).unwrap();
    let file = file.to_str().unwrap();
    let args = ["run", "-m", model.to_str().unwrap(), "-n", "8", "--json", "-f", file];
    assert_eq!(sources(&report(owlet(&args))), Vec::<String>::new());

    let text = "a backslash before it makes it text";
    for (question, problem) in [
        ("What is in ./no-such.png?", format!("./no-such.png: no such file; {text}")),
        (black, "expected a question about the picture, found its path alone".to_string()),
        ("https://owlet.example/a.png?", "https://owlet.example/a.png: not fetched from the network; start owlet with --allow-url, or save the picture and give its path".to_string()),
    ] {
        let ran = ask(question, &[]);
        assert_eq!((ran.code, ran.out.as_str(), ran.err), (Some(1), "", format!("owlet: {problem}\n")));
    }
    // A name alone is a word, but somebody may have meant the picture.
    let dir = std::path::Path::new(black).parent().unwrap();
    let mut named = command(&["run", "-m", model.to_str().unwrap(), "-n", "8", "What is in named-too.png?"]);
    named.current_dir(dir);
    let ran = crate::program::run(named, b"");
    let hint = "named-too.png is sent as a word; ./named-too.png or --image attaches the picture\n";
    assert!(ran.code == Some(0) && ran.err.starts_with(hint), "{ran:?}");
}
