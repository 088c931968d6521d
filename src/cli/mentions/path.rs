//! What a path or an address looks like at the beginning of some text: quoted, escaped, bare, with a drive or a scheme.

use super::Place;

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

/// Whether a word is a picture's name without anything that says so: `cat.png`.
pub fn is_bare_name(word: &str) -> bool {
    has_ending(word) && !word.contains(['/', '\\', '"', '\''])
}

/// What may stand directly before a place: all but what a name may have there, whose part the place would be.
pub fn starts_word(before: char) -> bool {
    is_unspaced(before) || !(before.is_alphanumeric() || "._-~/\\".contains(before))
}

/// Letters of scripts that put no spaces between words: Thai and Lao, Burmese, Khmer, Japanese, Chinese.
fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3005}'..='\u{3007}'
        | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{ff66}'..='\u{ff9f}'
        | '\u{20000}'..='\u{3ffff}')
}

pub fn is_end_of_sentence(c: char) -> bool {
    ".?!:;。？！：；…".contains(c)
}

/// A word that a backslash makes text; the backslash is not in it. At the start of a question it may also be no place: `\/x`.
pub fn escaped(rest: &str, is_start: bool) -> Option<&str> {
    if is_unc(rest) {
        return None;
    }
    let word = rest.strip_prefix('\\')?;
    match place(word) {
        Some((_, n_bytes)) => Some(&word[..n_bytes]),
        None => (is_start && word.starts_with('/')).then_some("/"),
    }
}

/// The place that `rest` begins with, perhaps behind words that are glued to it: how long those are, the place, and how long it
/// is. Of the readings whose file `opens` the longest is meant.
pub fn place_behind_words(rest: &str, opens: &dyn Fn(&str) -> bool) -> Option<(usize, Place, usize)> {
    let (whole, end) = place(rest)?;
    let path = match &whole {
        Place::File(path) if !is_absolute(rest) && quoted(rest).is_none() && !opens(path) => path.clone(),
        _ => return Some((0, whole, end)),
    };
    let is_joint =
        |before: char, behind: &str| starts_word(before) || (!before.is_ascii() && is_absolute(behind));
    let chars = rest[..end].chars().zip(rest[..end].char_indices().skip(1));
    let joints = chars.filter(|(before, (at, _))| is_joint(*before, &rest[*at..])).map(|(_, (at, _))| at);
    let mut is_glued = false;
    for at in joints {
        let Some((part, n_bytes)) = place(&rest[at..]).filter(|(_, n_bytes)| at + n_bytes == end) else {
            continue;
        };
        is_glued = true;
        if !matches!(&part, Place::File(path) if !opens(path)) {
            return Some((at, part, n_bytes));
        }
    }
    Some((0, if is_glued { Place::Glued(path) } else { whole }, end))
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
pub fn of_word(word: String) -> Place {
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
pub fn quoted(rest: &str) -> Option<(String, usize)> {
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
pub fn bare_word(rest: &str) -> (String, usize) {
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
    // A slash between spaces is one of words.
    let names =
        |start: &&str| rest.strip_prefix(*start).is_some_and(|name| !name.starts_with(char::is_whitespace));
    let begins = ["/", "./", "../", ".\\", "..\\"].iter().any(names);
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

pub fn is_url(rest: &str) -> bool {
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
