//! How long a number of JSON may become. Grammars set it no end: digit upon digit may follow, and a model that has begun to repeat
//! itself writes them for ever. So a part of a number that has as many digits as numbers have goes on only where it must.

use crate::token::TokenId;
use std::sync::Arc;

/// Before the point and behind it: as many as the largest integer of 64 bits has.
const MAX_DIGITS: usize = 20;

/// As many as the exponents of floats of 64 bits have.
const MAX_EXPONENT_DIGITS: usize = 3;

/// Where an answer is, as far as numbers go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Between,
    Text,
    /// In a text, behind a backslash.
    Escape,
    /// In a part of a number that has so many digits.
    Whole(usize),
    Fraction(usize),
    Exponent(usize),
}

impl Place {
    fn behind(self, byte: u8) -> Place {
        match (self, byte) {
            (Place::Text, b'\\') => Place::Escape,
            (Place::Text, b'"') => Place::Between,
            (Place::Text | Place::Escape, _) => Place::Text,
            (_, b'"') => Place::Text,
            (Place::Whole(n), b'0'..=b'9') => Place::Whole(n + 1),
            (Place::Fraction(n), b'0'..=b'9') => Place::Fraction(n + 1),
            (Place::Exponent(n), b'0'..=b'9') => Place::Exponent(n + 1),
            (Place::Between, b'0'..=b'9') => Place::Whole(1),
            (Place::Whole(_), b'.') => Place::Fraction(0),
            (Place::Whole(_) | Place::Fraction(_), b'e' | b'E') => Place::Exponent(0),
            (Place::Exponent(0), b'+' | b'-') => Place::Exponent(0),
            _ => Place::Between,
        }
    }

    fn is_too_long(self) -> bool {
        match self {
            Place::Whole(n) | Place::Fraction(n) => n > MAX_DIGITS,
            Place::Exponent(n) => n > MAX_EXPONENT_DIGITS,
            Place::Between | Place::Text | Place::Escape => false,
        }
    }
}

/// Tokens with digits in them, and what they spell.
pub type WithDigits = Arc<[(TokenId, Vec<u8>)]>;

/// Goes along with an answer in JSON.
#[derive(Clone)]
pub struct Digits {
    place: Place,
    tokens: WithDigits,
}

impl Digits {
    pub fn new(tokens: WithDigits) -> Digits {
        Digits { place: Place::Between, tokens }
    }

    /// The answer goes on with `bytes`.
    pub fn took(&mut self, bytes: &[u8]) {
        self.place = bytes.iter().fold(self.place, |place, &byte| place.behind(byte));
    }

    /// The tokens that would make a part of a number longer than it may become, those of one digit first.
    pub fn too_long(&self) -> impl Iterator<Item = &(TokenId, Vec<u8>)> {
        self.tokens.iter().filter(|(_, bytes)| {
            let mut place = self.place;
            bytes.iter().any(|&byte| {
                place = place.behind(byte);
                place.is_too_long()
            })
        })
    }
}

/// Those of `words`, by id, that have digits; shorter ones first.
pub fn with_digits(words: &[Vec<u8>]) -> WithDigits {
    let of_digits = (0..).zip(words).filter(|(_, word)| word.iter().any(u8::is_ascii_digit));
    let mut tokens: Vec<_> = of_digits.map(|(id, word)| (id, word.clone())).collect();
    tokens.sort_by_key(|(_, word)| word.len());
    tokens.into()
}

#[cfg(test)]
mod tests {
    use super::super::{Constraint, Spelling};
    use super::*;

    /// What a model writes that likes nothing better than the first of `likes`, then the second, and so on; at most 200 bytes.
    fn written(schema: &str, likes: &str) -> String {
        let constraint = Constraint::json_schema(schema, "s").unwrap();
        let mut guide = Spelling::of_bytes().unwrap().guide(&constraint).unwrap();
        let mut text = String::new();
        while text.len() < 200 && !guide.is_complete() {
            let allowed = guide.allowed().unwrap();
            let any = (b'!'..=b'~').chain([b' ']).map(char::from);
            let Some(next) = likes.chars().chain(any).find(|&c| allowed.contains(c.into())) else { break };
            if allowed.contains(256) && !likes.contains(next) {
                break;
            }
            guide.took(next.into()).unwrap();
            text.push(next);
        }
        assert!(guide.is_met() || text.len() == 200, "{text}");
        text
    }

    #[test]
    fn numbers_come_to_an_end() {
        let ones = "1".repeat(20);
        let zeros = "0".repeat(20);
        for (schema, likes, expected) in [
            (r#"{"type":"integer"}"#, "1", ones.clone()),
            (r#"{"type":"integer"}"#, "-1", format!("-{ones}")),
            (r#"{"type":"integer","minimum":5}"#, "1", ones.clone()),
            (r#"{"type":"integer","maximum":50}"#, "1", "11".into()),
            (r#"{"type":"number"}"#, "1.e", format!("{ones}.{ones}e111")),
            (r#"{"type":"number"}"#, "-1e", format!("-{ones}e-111")),
            (r#"{"type":["integer","string"]}"#, "1", ones.clone()),
            ("{}", "[1", "[".repeat(200)),
            (r#"{"type":"array","maxItems":1}"#, "1]", format!("[{ones}]")),
            (
                r#"{"type":"array","items":{"type":"integer"},"minItems":2,"maxItems":2}"#,
                "1",
                format!("[{ones}, {ones}]"),
            ),
            (
                r#"{"type":"object","properties":{"n1":{"type":"integer"}},"required":["n1"],"additionalProperties":false}"#,
                "1",
                format!(r#"{{"n1": {ones}}}"#),
            ),
            // More where less would be wrong: and then the digit that lets it end.
            (r#"{"type":"number","exclusiveMinimum":0,"maximum":1}"#, "0.", format!("0.{zeros}1")),
            (r#"{"type":"integer","multipleOf":7}"#, "1", format!("{ones}2")),
            // A schema may want what is longer; texts are as long as they like.
            (r#"{"enum":["x1"]}"#, "1", r#""x1""#.into()),
            (r#"{"type":"string"}"#, "\"1", r#""""#.into()),
            (r#"{"type":"string","minLength":300}"#, "1", format!("\"{}", "1".repeat(199))),
            (r#"{"type":"string","pattern":"^\\\\[0-9]{40}$"}"#, "1", format!(r#""\\{ones}{ones}""#)),
        ] {
            assert_eq!(written(schema, likes), expected, "{schema}, {likes}");
        }
    }

    #[test]
    fn what_is_a_part_of_a_number() {
        let digits = |text: &str| {
            let mut digits = Digits::new(Arc::new([]));
            digits.took(text.as_bytes());
            digits.place
        };
        for (text, place) in [
            ("", Place::Between),
            (" -12", Place::Whole(2)),
            ("[1, 23", Place::Whole(2)),
            ("1.", Place::Fraction(0)),
            ("1.50", Place::Fraction(2)),
            ("1e", Place::Exponent(0)),
            ("1.5E-07", Place::Exponent(2)),
            ("12]", Place::Between),
            ("\"12", Place::Text),
            ("\"\\\"12", Place::Text),
            ("\"\\", Place::Escape),
            ("\"1\": 7", Place::Whole(1)),
        ] {
            assert_eq!(digits(text), place, "{text}");
        }
    }
}
