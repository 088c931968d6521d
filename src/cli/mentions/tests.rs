use super::*;

/// Where no file is.
fn pieces(question: &str) -> Vec<Piece> {
    super::pieces(question, &|_| false)
}

fn text(text: &str) -> Piece {
    Piece::Text(text.to_string())
}

fn file(path: &str) -> Piece {
    Piece::Picture(Place::File(path.to_string()))
}

fn loose(path: &str) -> Piece {
    Piece::Picture(Place::Loose(path.to_string()))
}

fn glued(path: &str) -> Piece {
    Piece::Picture(Place::Glued(path.to_string()))
}

fn url(url: &str) -> Piece {
    Piece::Picture(Place::Url(url.to_string()))
}

/// What must not be taken for a picture.
const WORDS: &[&str] = &[
    "What is this?",
    "",
    "cat.png what is it",
    "Is a jpg better than a png?",
    "and/or",
    "Either /tmp or /etc?",
    "cats / dogs.png",
    "C: is a drive, 50% of it",
    "~5 cats in a row",
    "What's in the picture, isn't it a cat's?",
    "'tis a \"quoted\" word, 'and' another",
    "the .png ending, /.png and ./ too",
    "see docs/notes.txt or a/b.png.zip",
    "a.b.c, 3.5/7.pngs",
    "https://owlet.example/about",
    "file:/ and file",
    "\\n is what?",
    "\"an unfinished quote.png",
    "图里有什么？",
];

#[test]
fn words_stay_words() {
    for words in WORDS {
        let expected: Vec<_> = if words.is_empty() { vec![] } else { vec![text(words)] };
        assert_eq!(pieces(words), expected, "{words:?}");
    }
}

#[test]
fn a_backslash_makes_text() {
    for (question, sent) in [
        (r"\/tmp/cat.png is a path?", "/tmp/cat.png is a path?"),
        (r"Is \./cat.png a path?", "Is ./cat.png a path?"),
        (r"\/help is what?", "/help is what?"),
        (r"Is \/help a command?", r"Is \/help a command?"),
        (r#"\"my cat.png" is quoted"#, r#""my cat.png" is quoted"#),
        (r"\'/a/it'\''s.png' too", r"'/a/it'\''s.png' too"),
        (r"\~/cat.png", "~/cat.png"),
        (r"\C:\cat.png", r"C:\cat.png"),
        (r"\\\nas\cat.png", r"\\nas\cat.png"),
        (r"\file:///a%20b.png", "file:///a%20b.png"),
        (r"\https://a.example/b.png", "https://a.example/b.png"),
        (r"\/tmp/my cat.png", "/tmp/my cat.png"),
    ] {
        assert_eq!(pieces(question), [text(sent)], "{question:?}");
    }
}

#[test]
fn places_as_people_and_terminals_write_them() {
    let cases: &[(&str, &[Piece])] = &[
        // Bare.
        ("/tmp/cat.png", &[file("/tmp/cat.png")]),
        ("/tmp/cat.png ", &[file("/tmp/cat.png"), text(" ")]),
        ("./cat.JPEG what?", &[file("./cat.JPEG"), text(" what?")]),
        ("what? ../a/cat.webp", &[text("what? "), file("../a/cat.webp")]),
        ("in pics/cat.gif?", &[text("in "), file("pics/cat.gif"), text("?")]),
        ("(see ~/cat.bmp).", &[text("(see "), file("~/cat.bmp"), text(").")]),
        ("~ann/cat.png, and", &[file("~ann/cat.png"), text(", and")]),
        ("/a.png /b.png", &[file("/a.png"), text(" "), file("/b.png")]),
        ("/a/b.png.jpg", &[file("/a/b.png.jpg")]),
        ("/a/b.png. Next", &[file("/a/b.png"), text(". Next")]),
        ("/photo.heic is?", &[file("/photo.heic"), text(" is?")]),
        ("/a/report.pdf", &[file("/a/report.pdf")]),
        ("/a/it's.png", &[file("/a/it's.png")]),
        // Escaped, as macOS and many terminals drag.
        (r"/a/my\ cat\ \(1\).png what", &[file("/a/my cat (1).png"), text(" what")]),
        (r"/a/it\'s\ \[x\]\&y.png", &[file("/a/it's [x]&y.png")]),
        (r"~/my\ cat.png", &[file("~/my cat.png")]),
        // Quoted, as GNOME and Windows drag.
        ("'/a/my cat.png' what", &[file("/a/my cat.png"), text(" what")]),
        (r"'/a/it'\''s a cat.png'", &[file("/a/it's a cat.png")]),
        ("\"/a/my cat.png\" what", &[file("/a/my cat.png"), text(" what")]),
        (r#""/a/\"so\" \$5.png""#, &[file(r#"/a/"so" $5.png"#)]),
        ("\"cat.png\" is?", &[file("cat.png"), text(" is?")]),
        ("“/a/my cat.png”是什么", &[file("/a/my cat.png"), text("是什么")]),
        ("in '/a b.png'?", &[text("in "), file("/a b.png"), text("?")]),
        // Windows.
        (r"C:\Users\me\cat.png what", &[file(r"C:\Users\me\cat.png"), text(" what")]),
        ("c:/pics/cat.png", &[file("c:/pics/cat.png")]),
        (r#""C:\my pics\(1) cat.png""#, &[file(r"C:\my pics\(1) cat.png")]),
        (r"\\nas\share\cat.png", &[file(r"\\nas\share\cat.png")]),
        (r"pics\cat.png ..\cat.png", &[file(r"pics\cat.png"), text(" "), file(r"..\cat.png")]),
        // file://
        ("file:///a/my%20cat.png what", &[file("/a/my cat.png"), text(" what")]),
        ("file://localhost/a.png", &[file("/a.png")]),
        ("FILE:///C:/my%20cat.png", &[file("C:/my cat.png")]),
        ("file:///%E5%9B%BE.png", &[file("/图.png")]),
        ("file:///a/100%.png", &[file("/a/100%.png")]),
        ("file:///a/%ff.png", &[file("/a/%ff.png")]),
        ("file:///a/photo?", &[file("/a/photo"), text("?")]),
        ("'file:///a b.png'", &[file("/a b.png")]),
        // Not ASCII.
        ("/图/圆 1.png", &[loose("/图/圆 1.png")]),
        ("~/图片/圆.png里有什么？", &[file("~/图片/圆.png"), text("里有什么？")]),
        ("比较 /a.png和/b.png。", &[text("比较 "), file("/a.png"), text("和"), file("/b.png"), text("。")]),
        ("看看~/圆.png吧", &[text("看看"), file("~/圆.png"), text("吧")]),
        ("看看C:\\圆.png", &[text("看看"), file("C:\\圆.png")]),
        ("图：/a.png", &[text("图："), file("/a.png")]),
        ("/Bilder/Müller.jpg", &[file("/Bilder/Müller.jpg")]),
        // Spaces that nothing holds together.
        ("/a/my cat.png what?", &[loose("/a/my cat.png"), text(" what?")]),
        ("what? ~/my cat 2.png", &[text("what? "), loose("~/my cat 2.png")]),
        (r"C:\my pics\cat.png", &[loose(r"C:\my pics\cat.png")]),
        ("/tmp /a.png", &[text("/tmp "), file("/a.png")]),
        ("/tmp\n/a.png", &[text("/tmp\n"), file("/a.png")]),
        // The network.
        ("https://a.example/b.png what", &[url("https://a.example/b.png"), text(" what")]),
        (
            "(HTTP://a.example/b.jpg?w=5&h=6).",
            &[text("("), url("HTTP://a.example/b.jpg?w=5&h=6"), text(").")],
        ),
        ("'https://a.example/b c'", &[url("https://a.example/b c")]),
    ];
    for (question, expected) in cases {
        assert_eq!(pieces(question), *expected, "{question:?}");
    }
}

/// Of the readings of a word whose script has no spaces, the longest that opens is meant; where none does, it is one place.
#[test]
fn words_glued_to_a_path() {
    type Case = (&'static str, &'static [&'static str], Vec<Piece>);
    let is = text("是什么？");
    let cases: Vec<Case> = vec![
        (
            "这张图/home/me/猫.png是什么？",
            &["/home/me/猫.png"],
            vec![text("这张图"), file("/home/me/猫.png"), is.clone()],
        ),
        ("这张图/home/me/猫.png是什么？", &[], vec![glued("这张图/home/me/猫.png"), is.clone()]),
        // a directory that is there comes first
        ("这张图/猫.png", &["这张图/猫.png", "/猫.png", "图/猫.png"], vec![file("这张图/猫.png")]),
        ("看这张图/猫.png", &["这张图/猫.png", "/猫.png"], vec![text("看"), file("这张图/猫.png")]),
        ("看图片/圆.png吧", &["图片/圆.png"], vec![text("看"), file("图片/圆.png"), text("吧")]),
        ("看pics/圆.png", &["pics/圆.png"], vec![text("看"), file("pics/圆.png")]),
        ("图/家/猫.png", &["/家/猫.png", "/猫.png"], vec![text("图"), file("/家/猫.png")]),
        ("图/家/猫.png", &["/猫.png"], vec![text("图/家"), file("/猫.png")]),
        ("看图C:\\圆.png", &[], vec![text("看图"), file("C:\\圆.png")]),
        ("看https://a.example/b.png", &[], vec![text("看"), url("https://a.example/b.png")]),
        (
            "看图片/a.png和图片/b.png",
            &["图片/a.png", "图片/b.png"],
            vec![text("看"), file("图片/a.png"), text("和"), file("图片/b.png")],
        ),
        // other scripts
        ("ดูรูป/home/cat.png", &["/home/cat.png"], vec![text("ดูรูป"), file("/home/cat.png")]),
        ("この写真/家/ネコ.png", &["/家/ネコ.png"], vec![text("この写真"), file("/家/ネコ.png")]),
        ("사진/home/cat.png", &["/home/cat.png"], vec![text("사진"), file("/home/cat.png")]),
        ("Café/home/cat.png", &["/home/cat.png"], vec![text("Café"), file("/home/cat.png")]),
        ("Café/home/cat.png", &["Café/home/cat.png", "/home/cat.png"], vec![file("Café/home/cat.png")]),
        // a name of one script goes on in letters of its own
        ("Müller/a.png", &["ller/a.png"], vec![file("Müller/a.png")]),
        ("pics/a.png", &["s/a.png", "/a.png"], vec![file("pics/a.png")]),
        ("src=/home/cat.png", &["/home/cat.png"], vec![text("src="), file("/home/cat.png")]),
        ("src=/home/cat.png", &[], vec![glued("src=/home/cat.png")]),
        // quoted, it is one
        ("'图/猫.png'", &["/猫.png"], vec![file("图/猫.png")]),
    ];
    for (question, files, expected) in cases {
        let found = super::pieces(question, &|path| files.contains(&path));
        assert_eq!(found, expected, "{question:?} where {files:?} are");
    }
}

/// A sign before a path makes no words of it.
#[test]
fn signs_before_a_path() {
    for sign in [
        "🐱", "`", "*", "**", "=", "#", "@", "|", "+", "&", ",", ";", "!", "?", ")", "]", ">", "’", "\"",
        "'", "—",
    ] {
        for path in ["/home/cat.png", "pics/cat.png", "~/cat.png"] {
            let expected = [text(sign), file(path)];
            assert_eq!(pieces(&format!("{sign}{path}")), expected, "{sign:?} {path:?}");
        }
    }
    assert_eq!(pieces("/a.png,/b.png"), [file("/a.png"), text(","), file("/b.png")]);
}

#[test]
fn places_behind_a_command() {
    let file = |path: &str| Place::File(path.to_string());
    for (argument, expected) in [
        ("", vec![]),
        ("cat.png", vec![file("cat.png")]),
        ("  a.png  b.png ", vec![file("a.png"), file("b.png")]),
        (r"my\ cat.png 'a b' x", vec![file("my cat.png"), file("a b"), file("x")]),
        ("*.png", vec![file("*.png")]),
        (r"C:\a\b.png", vec![file(r"C:\a\b.png")]),
        ("file:///a%20b https://x", vec![file("/a b"), Place::Url("https://x".into())]),
        ("'", vec![file("'")]),
    ] {
        assert_eq!(arguments(argument), expected, "{argument:?}");
    }
}

#[test]
fn what_is_sent() {
    let cases: &[(&str, &[usize], &str)] = &[
        ("What is this?", &[], "What is this?"),
        ("/a.png What is this?", &[1], "What is this?"),
        ("/a.png /b.png which is larger?", &[4, 5], "which is larger?"),
        ("What is this? /a.png", &[1], "What is this?"),
        ("What is this?\n/a.png /b.png\n", &[1, 2], "What is this?"),
        ("图里有什么？/a.png", &[1], "图里有什么？"),
        ("/a.png", &[1], ""),
        // A sentence that needs the word.
        ("Describe /a.png", &[1], "Describe Image-1"),
        ("What is in /a.png?", &[3], "What is in Image-3?"),
        ("Is /a.png larger than /b.png?", &[2, 3], "Is Image-2 larger than Image-3?"),
        ("/a.png is larger than /b.png?", &[1, 2], "Image-1 is larger than Image-2?"),
        ("Is /a.png as large as /a.png?", &[1, 1], "Is Image-1 as large as Image-1?"),
    ];
    for (question, numbers, expected) in cases {
        let pieces = pieces(question);
        assert_eq!(places(&pieces).count(), numbers.len(), "{question:?}");
        assert_eq!(words(&pieces, numbers), *expected, "{question:?}");
    }
}

#[test]
fn names_alone() {
    for (word, expected) in [("cat.png", true), ("cat", false), ("./cat.png", false), (".png", false)] {
        assert_eq!(is_bare_name(word), expected, "{word:?}");
    }
}

/// Work grows with the length, not with its square.
#[test]
fn long_lines_take_no_longer_than_they_must() {
    for unit in ["x", "/ ", "~ ", "“ ", "' ", "\\ ", "图", "/a ", "http://", "图/", "图/a.png", "é"] {
        let long = unit.repeat(200_000 / unit.len());
        let started = std::time::Instant::now();
        assert!(!pieces(&long).is_empty());
        let took = started.elapsed();
        assert!(took < std::time::Duration::from_secs(12), "{unit:?}: {took:?}");
    }
}
