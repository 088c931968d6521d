//! Lines from a pipe.

use super::chat;
use crate::models::{Kind, STORY};
use crate::program::{owlet_with, picture};

#[test]
fn a_pipe_asks_in_turns() {
    let ran = chat(Kind::Story, &[], "One?\n\nTwo?\n/stats\n/quit\nNever asked?\n");
    assert_eq!((ran.code, ran.out), (Some(0), format!("{STORY}\n{STORY}\n")));
    let said: Vec<_> = ran.err.lines().collect();
    let is_status = |line: &&str| {
        line.starts_with("story | ") && line.contains(" tokens/s | context ") && line.contains(" of 2048 (")
    };
    assert!(said[..2].iter().all(is_status) && said[2].starts_with("model "), "{said:?}");
    // What was said and heard in turn one is still there in turn two.
    let last = said.last().unwrap();
    assert!(last.starts_with("last answer   story | prefill ") && last.contains(" reused) "), "{said:?}");

    let quiet = chat(Kind::Story, &["-q"], "One?");
    assert_eq!((quiet.code, quiet.out, quiet.err), (Some(0), format!("{STORY}\n"), String::new()));
}

#[test]
fn pictures_stay_until_the_conversation_is_cleared() {
    let (a, b) = (picture("chat a.png", 4, 4, [255; 4]), picture("chat b.png", 4, 4, [0, 0, 0, 255]));
    let lines = format!("/image {}\nOne?\n\"{}\" Two?\n/images\n/clear\nThree?\n", a.display(), b.display());
    let ran = chat(Kind::Story, &[], &lines);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let said: Vec<_> = ran.err.lines().collect();
    let (first, second) = (
        format!("Image-1: {} 4x4 -> 112x112, 16 tokens", a.display()),
        format!("Image-2: {} 4x4 -> 112x112, 16 tokens", b.display()),
    );
    let starts = [
        first.clone(),
        "story | encode ".to_string(),
        second.clone(),
        "story | encode ".to_string(),
        format!("{first}, looked at in "),
        format!("{second}, looked at in "),
        "the conversation is forgotten".to_string(),
        "story | ".to_string(),
    ];
    assert_eq!(said.len(), starts.len(), "{said:#?}");
    for (said, start) in said.iter().zip(&starts) {
        assert!(said.starts_with(start), "{said:?} does not start with {start:?}");
    }
    assert!(said[4].ends_with("; question 1") && said[5].ends_with("; question 2"), "{said:#?}");
}

/// The second answer depends on everything before it, and a conversation of one process is that of another.
#[test]
fn turns_build_on_each_other() {
    let (a, b) = (picture("turn a.png", 4, 4, [255; 4]), picture("turn b.png", 4, 4, [0, 0, 0, 255]));
    let all = |lines: &str| {
        let ran = chat(Kind::Random, &["-q", "-n", "8"], lines);
        assert_eq!((ran.err, ran.code), (String::new(), Some(0)));
        ran.out
    };
    let second = |lines: String| all(&lines).lines().last().map(str::to_string);
    let of_a = second(format!("/image {}\nOne?\nTwo?\n", a.display()));
    assert_eq!(of_a, second(format!("/image {}\nOne?\nTwo?\n", a.display())));
    // However the picture was brought.
    assert_eq!(of_a, second(format!("'{}' One?\nTwo?\n", a.display())));
    assert_eq!(of_a, second(format!("'{}'\nOne?\nTwo?\n", a.display())));
    assert_eq!(of_a, second(format!("One?\\\n'{}'\nTwo?\n", a.display())));
    assert_ne!(
        of_a,
        second(format!("/image {}\nOne?\nTwo?\n", b.display())),
        "turn two still sees the picture"
    );
    assert_ne!(of_a, second(format!("/image {}\nWho?\nTwo?\n", a.display())), "and the question of turn one");
    let last = |lines: &str| all(lines).lines().last().map(str::to_string);
    assert_eq!(last("One?\n/clear\nTwo?\n"), last("Two?\n"), "/clear leaves nothing");
    assert_eq!(last("One?\n/undo\nTwo?\n"), last("Two?\n"), "/undo leaves nothing");
    // A dropped picture was never there.
    let dropped = last(
        &format!("/image {} {}\n/drop 1\nTwo?\n", b.display(), a.display())
            .replace("chat ", "chat\\ ")
            .replace("turn ", "turn\\ "),
    );
    assert_eq!(dropped, last(&format!("'{}' Two?\n", a.display())));
    assert_ne!(dropped, last(&format!("'{}' Two?\n", b.display())));
}

#[test]
fn a_failing_line_is_said_and_the_rest_goes_on() {
    let lines = "/imgae x.png\n/image\n/image no cat.png\nWhat is on it?\nAnd you?\n/quit\n";
    let ran = chat(Kind::Story, &["-q"], lines);
    assert_eq!((ran.code, ran.out), (Some(1), format!("{STORY}\n")));
    let expected = "\
owlet: /imgae: no such command; did you mean /image?
owlet: /image: expected a path
owlet: no: no such file; a backslash before it makes it text
owlet: not asked: the picture before this question could not be read
";
    assert_eq!(ran.err, expected);

    let long = format!("{}\nShort?\n", "word ".repeat(600));
    let ran = chat(Kind::Story, &["-q"], &long);
    assert_eq!((ran.code, ran.out), (Some(1), format!("{STORY}\n")));
    let start = "owlet: the context is full: with this question it needs ";
    assert!(
        ran.err.starts_with(start) && ran.err.ends_with(" positions of 2048; ask a shorter one\n"),
        "{}",
        ran.err
    );
}

/// What a path does not bring is never sent as words.
#[test]
fn errors_of_the_first_hour() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().display();
    for name in ["not a picture.png", "photo.heic", "cut.jpg", "notes.txt"] {
        let bytes: &[u8] = match name {
            "photo.heic" => b"\0\0\0\x18ftypheic\0\0\0\0",
            "cut.jpg" => b"\xff\xd8\xff\xe0",
            _ => b"hello, world",
        };
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    let reads = "owlet reads JPEG, PNG, WebP, GIF and BMP";
    let text = "a backslash before it makes it text";
    let cases = [
        (format!("What is in {place}/cat.png?"), format!("{place}/cat.png: no such file; {text}")),
        (format!("{place}/my cat.png what?"), format!("{place}/my cat.png: no such file; a path with spaces is put in quotes, and {text}")),
        (format!("'{place}/not a picture.png'"), format!("{place}/not a picture.png: no picture format is known that begins with 68 65 6c 6c 6f 2c 20 77; {reads}")),
        (format!("{place}/photo.heic?"), format!("{place}/photo.heic: this is a HEIC picture; {reads}")),
        ("https://owlet.example/a.png what?".into(), "https://owlet.example/a.png: not fetched from the network; start owlet with --allow-url, or save the picture and give its path".into()),
        ("~/no such owlet.png".into(), format!("~/no such owlet.png: no such file; a path with spaces is put in quotes, and {text}")),
        ("这张图/no/猫.png是什么？".into(), format!("这张图/no/猫.png: no such file; a space parts a path from words before it, and {text}")),
        ("C:\\cat.png?".into(), format!("C:\\cat.png: no such file; {text}")),
        (format!("/image {place}"), format!("{place}: a directory; /image {place}/*.jpg takes the JPEGs in it")),
        (format!("/image {place}/*.bmp"), format!("{place}/*.bmp: no file fits")),
        (format!("/image {place}/[.png"), format!("{place}/[.png: invalid range pattern")),
        ("/image -".into(), "/image -: standard input is where questions come from".into()),
        ("/drop 1".into(), "no picture 1: the conversation has none".into()),
        ("/undo".into(), "nothing was asked yet".into()),
        ("/regen".into(), "nothing was answered yet".into()),
        ("/export talk.txt".into(), "talk.txt: expected a name that ends with .md or .json".into()),
        (format!("/load {place}/notes.txt"), format!("{place}/notes.txt: cut off after 12 bytes")),
        (format!("/load {place}/none"), format!("{place}/none: No such file or directory (os error 2)")),
        (format!("/save {place}/notes.txt"), format!("{place}/notes.txt: exists and is no saved conversation")),
        ("/set heat 5".into(), "setting heat: expected one of temperature, top-k, top-p, min-p, repeat-penalty, seed, max-tokens".into()),
        ("/set top-p 5".into(), "top-p: expected above 0 and at most 1, found 5".into()),
        ("/drop".into(), "/drop: expected a picture's number as /images lists it, found nothing".into()),
        ("/clear all".into(), "/clear: expected nothing behind it, found all".into()),
    ];
    let lines: String = cases.iter().map(|(line, _)| format!("{line}\n")).collect();
    let ran = chat(Kind::Story, &["-q"], &lines);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{}", ran.err);
    let said: Vec<_> = ran.err.lines().collect();
    assert_eq!(said.len(), cases.len(), "{said:#?}");
    for ((line, expected), said) in cases.iter().zip(said) {
        assert_eq!(said, format!("owlet: {expected}"), "{line}");
    }
    let cut = chat(Kind::Story, &["-q"], &format!("{place}/cut.jpg?\n"));
    assert!(cut.err.starts_with(&format!("owlet: {place}/cut.jpg: broken JPEG: ")), "{}", cut.err);
}

#[test]
fn a_backslash_passes_a_path_as_text() {
    let lines = "\\/tmp/no owlet.png\n\\/help is what?\nIs \\./no.png a path?\n";
    let ran = chat(Kind::Story, &["-q"], lines);
    assert_eq!((ran.code, ran.out, ran.err), (Some(0), format!("{STORY}\n").repeat(3), String::new()));
}

#[test]
fn a_full_context_is_said() {
    // Room for the second question and half of its answer.
    let ran = chat(Kind::Story, &["-q", "-c", "44"], "One?\nTwo?\nMore?\n/clear\nThree?\n");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let said: Vec<_> = ran.err.lines().collect();
    let ways_out = "/undo the last turn, /clear everything";
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!(
        said[0],
        format!("the context is full: the answer stops here, and nothing was dropped; {ways_out}")
    );
    let start = "owlet: the context is full: with this question it needs ";
    assert!(
        said[1].starts_with(start) && said[1].ends_with(&format!(" positions of 44; {ways_out}")),
        "{said:?}"
    );
    let answers: Vec<_> = ran.out.lines().collect();
    assert!(answers[0] == STORY && STORY.starts_with(answers[1]) && answers[2] == STORY, "{answers:?}");

    let status = |n_ctx: usize| {
        let ran = chat(Kind::Story, &["-c", &n_ctx.to_string()], "One?\n");
        ran.err.lines().map(str::to_string).collect::<Vec<_>>()
    };
    let n_used =
        status(2048)[0].split("context ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    let said = status(n_used.unwrap_or(0) + 1);
    assert_eq!(said[1..], [format!("the context is nearly full: 1 of its positions left; {ways_out}")]);
    assert_eq!(status(n_used.unwrap_or(0) * 10 / 9 + 1).len(), 1, "a tenth is left");

    // A picture can be taken out.
    let picture = picture("full.png", 4, 4, [255; 4]);
    let lines = format!("{} One?\nTwo?\n/drop 1\nTwo?\n", picture.display());
    let ran = chat(Kind::Story, &["-c", "50"], &lines);
    assert!(
        ran.err.contains("; /drop N takes out a picture (16), /undo the last turn, /clear everything"),
        "{}",
        ran.err
    );
    assert_eq!(ran.out.lines().last(), Some(STORY), "{ran:?}");
}

#[test]
fn a_picture_through_the_pipe_leaves_nothing_to_chat_with() {
    let bytes = std::fs::read(picture("piped.png", 4, 4, [255; 4])).unwrap();
    let ran = owlet_with(&["chat", "--image", "-"], &bytes);
    let expected = "owlet: --image - took standard input, and there is no terminal to chat on\n";
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(1), "", expected));
    let ran = owlet_with(&["chat", "--image", "-", "--image", "-"], &bytes);
    assert!(ran.code == Some(2) && ran.err.contains("--image - may be given once"), "{ran:?}");
}

#[test]
fn settings_and_figures() {
    let lines = "/set\n/set temp 0.5\n/set seed 7\n/system\n/system Be brief.\n/system\nOne?\n/system -\n/stats\n/images\n/help\n";
    let ran = chat(Kind::Story, &[], lines);
    assert_eq!((ran.code, ran.out), (Some(0), format!("{STORY}\n")));
    for text in [
        "temperature     0 ",
        "top-k           0                     draw from the N likeliest; 0 is all\n",
        "\ntop-k, top-p, min-p, seed have no effect at temperature 0\n",
        "temperature is 0.5\nseed is 7\n",
        "Be brief.\n",
        "from the next question on; the conversation is read anew with it\n",
        "\nmodel         story\ncontext       ",
        "\nconversation  1 question, 0 pictures\nanswers       1\n",
        "\nlooked at     0 pictures in 0.00 s, 0 cached\n",
        "\nread          ",
        "\nwritten       ",
        "no pictures; /image PATH attaches one, and so does its path in a question\n",
        "/image PATH|GLOB        attach pictures to the next question\n",
    ] {
        assert!(ran.err.contains(text), "{text:?} is missing from\n{}", ran.err);
    }
}
