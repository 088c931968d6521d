//! Pictures that a question names: paths and addresses among its words, as people type them and as terminals write a
//! dragged file.
//!
//! In: a question. Out: its pieces, text and places of pictures in order. A place is quoted and ends like a picture's name,
//! or is bare and also has a separator, `~`, a drive or `file://`. A backslash before it makes it text. Pure: whether
//! there is such a file is the caller's to find out, and one that is not there is an error, never text.

/// A piece of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Text(String),
    Picture(Place),
}

/// Where a picture is said to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A path; `~` is not expanded yet.
    File(String),
    /// A path with spaces that nothing holds together: perhaps words.
    Loose(String),
    /// `http://` or `https://`
    Url(String),
}

/// How names of pictures end, those included that are no pictures owlet reads: to hear so is better than an answer about
/// nothing.
const ENDINGS: &[&str] = &[
    "jpg", "jpeg", "jpe", "jfif", "png", "apng", "webp", "gif", "bmp", "dib", "heic", "heif", "avif", "tif",
    "tiff", "svg", "jxl", "jp2", "psd", "ico", "tga", "ppm", "pgm", "pbm", "qoi", "exr", "hdr", "dng", "cr2",
    "cr3", "nef", "arw", "pdf", "mp4", "mov",
];

const LONGEST_ENDING: usize = 4;

/// What ends words and sentences in Chinese and Japanese.
const WIDE_PUNCTUATION: &str = "，、。；：！？…（）【】「」『』《》“”";

/// Longer ones are words.
const MAX_PLACE_BYTES: usize = 1024;

/// Takes `question` apart.
pub fn pieces(question: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = question;
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        if starts_word(before) {
            if let Some(word) = escaped(rest, pieces.is_empty() && text.is_empty()) {
                text.push_str(word);
                rest = &rest[1 + word.len()..];
                before = 'x';
                continue;
            }
            if let Some((place, n_bytes)) = place(rest) {
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                }
                pieces.push(Piece::Picture(place));
                rest = &rest[n_bytes..];
                before = 'x';
                continue;
            }
        }
        text.push(c);
        before = c;
        rest = &rest[c.len_utf8()..];
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    pieces
}

/// The places among `pieces`, in order.
pub fn places(pieces: &[Piece]) -> impl Iterator<Item = &Place> {
    pieces.iter().filter_map(|piece| match piece {
        Piece::Picture(place) => Some(place),
        Piece::Text(_) => None,
    })
}

/// The words of a question whose pictures stand before it in the prompt, under `numbers` in the order of their places: a
/// place at its end or its start goes, one amid words leaves the label that the prompt gives its picture.
pub fn words(pieces: &[Piece], numbers: &[usize]) -> String {
    let is_words = |piece: &Piece| matches!(piece, Piece::Text(text) if !text.trim().is_empty());
    let first_words = pieces.iter().position(is_words).unwrap_or(pieces.len());
    let last_words = pieces.iter().rposition(is_words).unwrap_or(0);
    let all_lead = pieces.iter().skip(first_words).all(|piece| matches!(piece, Piece::Text(_)));
    let is_closed = match pieces.get(last_words) {
        Some(Piece::Text(text)) => text.ends_with('\n') || text.trim_end().ends_with(is_end_of_sentence),
        _ => true,
    };
    let mut words = String::new();
    let mut numbers = numbers.iter();
    for (at, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Text(text) => words.push_str(text),
            Piece::Picture(_) => {
                let number = numbers.next();
                let stands_apart = (at < first_words && all_lead) || (at > last_words && is_closed);
                if let (Some(number), false) = (number, stands_apart) {
                    words.push_str(&format!("Image-{number}"));
                }
            }
        }
    }
    words.trim().to_string()
}

/// The places behind a command: separated by spaces, quoted or escaped where they have some.
pub fn arguments(text: &str) -> Vec<Place> {
    let mut places = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (word, n_bytes) = quoted(rest).unwrap_or_else(|| bare_word(rest));
        places.push(of_word(word));
        rest = rest[n_bytes..].trim_start();
    }
    places
}

/// Whether a word is a picture's name without anything that says so: `cat.png`.
pub fn is_bare_name(word: &str) -> bool {
    has_ending(word) && !word.contains(['/', '\\', '"', '\''])
}

/// What may stand directly before a place.
fn starts_word(before: char) -> bool {
    before.is_whitespace()
        || "([{<:".contains(before)
        || WIDE_PUNCTUATION.contains(before)
        || is_unspaced(before)
}

/// Letters of scripts that put no spaces between words.
fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

fn is_end_of_sentence(c: char) -> bool {
    ".?!:;。？！：；…".contains(c)
}

/// A word that a backslash makes text; the backslash is not in it. At the start of a question it may also be no place: `\/x`.
fn escaped(rest: &str, is_start: bool) -> Option<&str> {
    if is_unc(rest) {
        return None;
    }
    let word = rest.strip_prefix('\\')?;
    match place(word) {
        Some((_, n_bytes)) => Some(&word[..n_bytes]),
        None => (is_start && word.starts_with('/')).then_some("/"),
    }
}

/// The place that `rest` begins with, and its length.
fn place(rest: &str) -> Option<(Place, usize)> {
    if let Some((word, n_bytes)) = quoted(rest) {
        let word = word.trim().to_string();
        let is_place = is_url(&word) || is_file_url(&word) || has_ending(&word);
        return is_place.then(|| (of_word(word), n_bytes));
    }
    if is_url(rest) {
        let url = without_punctuation(rest.split(ends_url).next().unwrap_or(rest));
        let path = url.split(['?', '#']).next().unwrap_or(url);
        return has_ending(path).then(|| (Place::Url(url.to_string()), url.len()));
    }
    if let Some(found) = bare(rest) {
        return Some(found);
    }
    // Whatever it is called, it was dragged here.
    is_file_url(rest).then(|| {
        let word = without_punctuation(rest.split(char::is_whitespace).next().unwrap_or(rest));
        (of_word(word.to_string()), word.len())
    })
}

/// What a whole word names.
fn of_word(word: String) -> Place {
    if is_url(&word) {
        Place::Url(word)
    } else if is_file_url(&word) {
        Place::File(path_of_url(&word))
    } else {
        Place::File(word)
    }
}

/// A bare path: up to the first ending of a picture's name, over spaces only where it clearly began as a path.
fn bare(rest: &str) -> Option<(Place, usize)> {
    let is_anchored = is_absolute(rest);
    if !is_anchored && !rest.starts_with(|c: char| c.is_alphanumeric() || "._-".contains(c)) {
        return None;
    }
    let mut path = String::new();
    let mut has_space = false;
    let mut at = 0;
    while let Some((c, n_bytes)) = next_char(rest, at).filter(|_| at <= MAX_PLACE_BYTES) {
        let is_escape = n_bytes > c.len_utf8();
        // Behind a script without spaces only what is nothing but a path begins one.
        let begins = c.is_ascii() && c != '/' && path.ends_with(is_unspaced) && is_absolute(&rest[at..]);
        if !is_anchored && (begins || WIDE_PUNCTUATION.contains(c)) {
            return None;
        }
        if c.is_whitespace() && !is_escape {
            let goes_on = is_anchored && c != '\n' && !is_file_url(rest);
            if !goes_on || place_begins(rest[at + n_bytes..].trim_start()) {
                return None;
            }
            has_space = true;
        }
        path.push(c);
        at += n_bytes;
        if has_ending(&path) && !goes_on_as_name(&rest[at..]) {
            let has_separator = path.contains(['/', '\\']);
            if !is_anchored && !has_separator {
                return None;
            }
            let place = match of_word(path) {
                Place::File(path) if has_space => Place::Loose(path),
                place => place,
            };
            return Some((place, at));
        }
    }
    None
}

/// The character at `at` of a bare path, and how many bytes spell it: two characters where it is escaped as shells do.
fn next_char(rest: &str, at: usize) -> Option<(char, usize)> {
    let c = rest[at..].chars().next()?;
    if c != '\\' || is_drive(rest) || is_unc(rest) {
        return Some((c, c.len_utf8()));
    }
    // Before a letter, a digit or a dot a backslash is a separator.
    match rest[at + 1..].chars().next() {
        Some(next) if next.is_whitespace() || (next.is_ascii_punctuation() && !"._-/".contains(next)) => {
            Some((next, 1 + next.len_utf8()))
        }
        _ => Some((c, 1)),
    }
}

/// The word in quotes that `rest` begins with, as shells quote, and its length.
fn quoted(rest: &str) -> Option<(String, usize)> {
    let open = rest.chars().next()?;
    let close = match open {
        '"' | '\'' => open,
        '“' => '”',
        '‘' => '’',
        _ => return None,
    };
    let mut word = String::new();
    let mut at = open.len_utf8();
    while word.len() <= MAX_PLACE_BYTES {
        let c = rest[at..].chars().next()?;
        let behind = &rest[at + c.len_utf8()..];
        if c == close {
            // 'it'\''s' is how shells write it's.
            if let Some(tail) = behind.strip_prefix(r"\''").filter(|_| c == '\'') {
                word.push('\'');
                at = rest.len() - tail.len();
                continue;
            }
            let is_end = !behind.starts_with(|next: char| next.is_ascii_alphanumeric());
            return is_end.then_some((word, at + c.len_utf8()));
        }
        let c = match behind.chars().next() {
            Some(next @ ('"' | '$' | '`')) if open == '"' && c == '\\' => {
                at += 1;
                next
            }
            _ => c,
        };
        word.push(c);
        at += c.len_utf8();
    }
    None
}

/// The word up to the next space that is not escaped, and its length.
fn bare_word(rest: &str) -> (String, usize) {
    let mut word = String::new();
    let mut at = 0;
    while let Some((c, n_bytes)) = next_char(rest, at) {
        if c.is_whitespace() && n_bytes == c.len_utf8() {
            break;
        }
        word.push(c);
        at += n_bytes;
    }
    (word, at)
}

/// Whether behind `.png` the name goes on: `.png.zip`, `.pngs`.
fn goes_on_as_name(rest: &str) -> bool {
    let mut chars = rest.chars();
    match chars.next() {
        Some('.') => chars.next().is_some_and(|c| c.is_ascii_alphanumeric()),
        Some(c) => c.is_ascii_alphanumeric() || "_-/\\".contains(c),
        None => false,
    }
}

fn place_begins(rest: &str) -> bool {
    is_absolute(rest) || is_url(rest) || rest.starts_with(['"', '\''])
}

/// Nothing but a path begins so.
fn is_absolute(rest: &str) -> bool {
    let is_of_user = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let behind_home = rest.strip_prefix('~').map(|rest| rest.trim_start_matches(is_of_user));
    let begins = ["/", "./", "../", ".\\", "..\\"].iter().any(|start| rest.starts_with(start));
    begins
        || behind_home.is_some_and(|rest| rest.starts_with(['/', '\\']))
        || is_drive(rest)
        || is_unc(rest)
        || is_file_url(rest)
}

/// `C:\` or `C:/`
fn is_drive(rest: &str) -> bool {
    matches!(rest.as_bytes(), [letter, b':', b'/' | b'\\', ..] if letter.is_ascii_alphabetic())
}

/// `\\server`
fn is_unc(rest: &str) -> bool {
    rest.strip_prefix(r"\\").is_some_and(|rest| rest.starts_with(char::is_alphanumeric))
}

fn is_url(rest: &str) -> bool {
    has_scheme(rest, "https://") || has_scheme(rest, "http://")
}

fn is_file_url(rest: &str) -> bool {
    has_scheme(rest, "file://")
}

fn has_scheme(rest: &str, scheme: &str) -> bool {
    rest.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}

fn ends_url(c: char) -> bool {
    c.is_whitespace() || is_unspaced(c) || "<>\"".contains(c) || WIDE_PUNCTUATION.contains(c)
}

fn without_punctuation(word: &str) -> &str {
    word.trim_end_matches(|c: char| ".,;:!?)]}'\"".contains(c) || WIDE_PUNCTUATION.contains(c))
}

/// Ends like a picture's name, with something before the dot.
fn has_ending(path: &str) -> bool {
    // The last dot is near, or this is none.
    let tail = path.len().saturating_sub(LONGEST_ENDING + 1);
    let Some(dot) = path.as_bytes()[tail..].iter().rposition(|byte| *byte == b'.') else { return false };
    let (stem, ending) = path.split_at(tail + dot);
    let is_named = !stem.is_empty() && !stem.ends_with(['/', '\\']);
    is_named && ENDINGS.iter().any(|known| ending[1..].eq_ignore_ascii_case(known))
}

/// `file:///home/a%20b.png` is `/home/a b.png`, `file:///C:/a.png` is `C:/a.png`.
fn path_of_url(url: &str) -> String {
    let rest = &url["file://".len()..];
    let path = rest.strip_prefix("localhost").filter(|path| path.starts_with('/')).unwrap_or(rest);
    let path = path.strip_prefix('/').filter(|path| is_drive(path)).unwrap_or(path);
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |at: usize| tail.get(at).and_then(|byte| (*byte as char).to_digit(16));
        match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| path.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_string())
    }

    fn file(path: &str) -> Piece {
        Piece::Picture(Place::File(path.to_string()))
    }

    fn loose(path: &str) -> Piece {
        Piece::Picture(Place::Loose(path.to_string()))
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
            ("图片/圆.png里有什么？", &[file("图片/圆.png"), text("里有什么？")]),
            (
                "比较 /a.png和/b.png。",
                &[text("比较 "), file("/a.png"), text("和"), file("/b.png"), text("。")],
            ),
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
        for unit in ["x", "/ ", "~ ", "“ ", "' ", "\\ ", "图", "/a ", "http://"] {
            let long = unit.repeat(200_000 / unit.len());
            let started = std::time::Instant::now();
            assert!(!pieces(&long).is_empty());
            let took = started.elapsed();
            assert!(took < std::time::Duration::from_secs(12), "{unit:?}: {took:?}");
        }
    }
}
