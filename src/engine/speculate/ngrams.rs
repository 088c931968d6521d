//! A sequence of tokens, searched for where its end has stood before. Must not know who guesses.

use crate::token::TokenId;
use std::collections::HashMap;

/// A match of more tokens is not looked at further.
const MAX_MATCHED: usize = 32;

/// Places that are looked at, from the end backwards.
const MAX_TRIED: usize = 64;

/// No place.
const NOWHERE: u32 = u32::MAX;

/// A place where the last tokens of the sequence stand as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// How many tokens, 2 at least.
    pub n_matched: usize,
    /// The place behind them.
    pub next: usize,
}

/// The sequence.
#[derive(Default)]
pub struct Ngrams {
    /// `None` is what is no token, and equals nothing.
    tokens: Vec<Option<TokenId>>,
    /// Where a pair of neighbours stood last: the place of its second one.
    pairs: HashMap<[TokenId; 2], u32>,
    /// Of each place, where the pair that ends there stood before.
    before: Vec<u32>,
}

impl Ngrams {
    pub fn push(&mut self, token: Option<TokenId>) {
        let here = self.tokens.len() as u32;
        let pair = self.tokens.last().copied().flatten().zip(token);
        let before = pair.and_then(|(first, second)| self.pairs.insert([first, second], here));
        self.before.push(before.unwrap_or(NOWHERE));
        self.tokens.push(token);
    }

    /// The longest match of the sequence's end further in front, the last one among equals.
    pub fn longest_match(&self) -> Option<Match> {
        let mut longest = None::<Match>;
        let mut at = *self.before.last()?;
        for _ in 0..MAX_TRIED {
            if at == NOWHERE {
                break;
            }
            let next = at as usize + 1;
            let n_matched = self.n_matched(next);
            if longest.is_none_or(|longest| n_matched > longest.n_matched) {
                longest = Some(Match { n_matched, next });
            }
            if n_matched == MAX_MATCHED {
                break;
            }
            at = self.before[at as usize];
        }
        longest
    }

    /// How many tokens in front of `next` are those at the sequence's end.
    fn n_matched(&self, next: usize) -> usize {
        let behind = self.tokens[..next].iter().rev();
        let same = behind.zip(self.tokens.iter().rev()).take(MAX_MATCHED);
        same.take_while(|(there, here)| there.is_some() && there == here).count()
    }

    /// Adds up to `n` tokens to `into`: what stands behind the match, and where the sequence ends there, what was added
    /// goes on.
    pub fn continuation(&self, found: Match, n: usize, into: &mut Vec<TokenId>) {
        for place in found.next..found.next + n {
            let token = match place.checked_sub(self.tokens.len()) {
                None => self.tokens[place],
                Some(added) => into.get(added).copied(),
            };
            let Some(token) = token else { return };
            into.push(token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The match of the end of `text`, and what comes next; a letter is a token, a dot is none.
    fn found(text: &str, n: usize) -> Option<(usize, String)> {
        let mut ngrams = Ngrams::default();
        text.chars().for_each(|c| ngrams.push((c != '.').then_some(c as TokenId)));
        let found = ngrams.longest_match()?;
        let mut tokens = Vec::new();
        ngrams.continuation(found, n, &mut tokens);
        Some((found.n_matched, tokens.iter().filter_map(|&c| char::from_u32(c)).collect()))
    }

    #[test]
    fn the_longest_match_goes_on() {
        let cases: [(&str, Option<(usize, &str)>); 13] = [
            ("", None),
            ("a", None),
            ("abcb", None),
            ("abcab", Some((2, "cabc"))),
            ("abcdab", Some((2, "cdab"))),
            // the last one among equals
            ("abxabyab", Some((2, "yaby"))),
            // a longer one further in front
            ("qabxzabyqab", Some((3, "xzab"))),
            // what repeats, repeats on
            ("lalala", Some((4, "lala"))),
            ("aaa", Some((2, "aaaa"))),
            // no token equals no token, and nothing goes on over one
            ("a.ba.b", None),
            ("x.abc.ab", Some((2, "c"))),
            ("ab.ab", Some((2, ""))),
            (".abab", Some((2, "abab"))),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|(n, next)| (n, next.to_string()));
            assert_eq!(found(text, 4), expected, "{text}");
        }
        assert_eq!(found("abcab", 0), Some((2, String::new())));
    }

    #[test]
    fn a_match_has_a_longest_length() {
        let text = "0123456789abcdefghijklmnopqrstuvwxyz_".repeat(2);
        assert_eq!(found(&text, 2), Some((MAX_MATCHED, "01".into())));
    }

    /// However often a pair stands there, only the last places are looked at.
    #[test]
    fn a_search_has_an_end() {
        let text = |n_between: usize| format!("QabX{}Qab", "ab.".repeat(n_between));
        assert_eq!(found(&text(MAX_TRIED - 2), 1), Some((3, "X".into())));
        assert_eq!(found(&text(MAX_TRIED + 2), 1), Some((2, String::new())));
    }
}
