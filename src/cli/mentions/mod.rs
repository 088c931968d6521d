//! Pictures that a question names: paths and addresses among its words, as people type them and as terminals write a
//! dragged file.
//!
//! In: a question, and who knows which files are there. Out: its pieces, text and places of pictures in order. A place is
//! quoted and ends like a picture's name, or is bare and also has a separator, `~`, a drive or `file://`. A backslash before
//! it makes it text. Words that are glued to a path are parted from it where that opens and the whole does not; a place that
//! does not open stays one, and is an error of the caller's, never text.

mod path;
#[cfg(test)]
mod tests;

use path::{bare_word, escaped, is_end_of_sentence, of_word, place_behind_words, quoted, starts_word};

pub use path::{is_bare_name, is_url};

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
    /// A path that may begin with words, none of whose ends opens.
    Glued(String),
    /// `http://` or `https://`
    Url(String),
}

/// Takes `question` apart; `opens` says of a path whether there is such a file.
pub fn pieces(question: &str, opens: &dyn Fn(&str) -> bool) -> Vec<Piece> {
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
            if let Some((n_glued, place, n_bytes)) = place_behind_words(rest, opens) {
                text.push_str(&rest[..n_glued]);
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                }
                pieces.push(Piece::Picture(place));
                rest = &rest[n_glued + n_bytes..];
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
