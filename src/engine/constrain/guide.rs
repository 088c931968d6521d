//! The guide of one answer: which tokens may come next, given those that came.

use super::digits::Digits;
use crate::error::{Error, Result};
use crate::token::TokenId;
use llguidance::Matcher;
use llguidance::toktrie::{SimpleVob, TokEnv};

/// Goes along with one answer.
pub struct Guide {
    matcher: Matcher,
    place: String,
    /// Of an answer in JSON.
    numbers: Option<Numbers>,
}

/// Keeps numbers from growing for ever.
#[derive(Clone)]
pub struct Numbers {
    pub digits: Digits,
    /// Knows what tokens spell.
    pub vocabulary: TokEnv,
}

/// Tokens, by id.
pub struct Allowed(SimpleVob);

impl Allowed {
    pub fn contains(&self, id: TokenId) -> bool {
        (id as usize) < self.0.len() && self.0.is_allowed(id)
    }
}

/// Shares nothing with the first: two answers run in two threads at most.
impl Clone for Guide {
    fn clone(&self) -> Guide {
        Guide { matcher: self.matcher.deep_clone(), place: self.place.clone(), numbers: self.numbers.clone() }
    }
}

impl Guide {
    pub(super) fn new(matcher: Matcher, place: String, numbers: Option<Numbers>) -> Guide {
        Guide { matcher, place, numbers }
    }

    /// The tokens that may come next; those that end the answer are among them where it may end.
    ///
    /// # Errors
    /// `Unsupported` where that is more work than a token is worth, or the vocabulary has no token that fits.
    pub fn allowed(&mut self) -> Result<Allowed> {
        let all = self.mask()?;
        let Some(Numbers { digits, .. }) = &self.numbers else { return Ok(Allowed(all)) };
        let too_long: Vec<(TokenId, usize)> = digits
            .too_long()
            .filter(|(id, _)| all.is_allowed(*id))
            .map(|(id, bytes)| (*id, bytes.len()))
            .collect();
        if too_long.is_empty() {
            return Ok(Allowed(all));
        }
        let mut others = all.clone();
        too_long.iter().for_each(|(id, _)| others.disallow_token(*id));
        if !others.is_zero() {
            return Ok(Allowed(others));
        }
        // The number has to go on; by a digit behind which it may end, if there is one.
        for (id, _) in too_long.iter().filter(|(_, n_bytes)| *n_bytes == 1) {
            if self.may_end_behind(*id) {
                others.allow_token(*id);
            }
        }
        Ok(Allowed(if others.is_zero() { all } else { others }))
    }

    fn mask(&mut self) -> Result<SimpleVob> {
        self.matcher.compute_mask_or_eos().map_err(|error| failed(&self.place, &error))
    }

    /// Whether something else than a further digit may come behind the digit `id`.
    fn may_end_behind(&self, id: TokenId) -> bool {
        let mut ahead = self.clone();
        if ahead.took(id).is_err() {
            return false;
        }
        let Ok(mut mask) = ahead.mask() else { return false };
        let further = ahead.numbers.iter().flat_map(|numbers| numbers.digits.too_long());
        further.for_each(|(id, _)| mask.disallow_token(*id));
        !mask.is_zero()
    }

    /// `id` has come; it ended no answer.
    ///
    /// # Errors
    /// As [`Guide::allowed`].
    pub fn took(&mut self, id: TokenId) -> Result<()> {
        self.matcher.consume_token(id).map_err(|error| failed(&self.place, &error))?;
        if let Some(Numbers { digits, vocabulary }) = &mut self.numbers {
            digits.took(vocabulary.tok_trie().token(id));
        }
        Ok(())
    }

    /// How many of `ids` could come, one behind the other.
    pub fn n_possible(&mut self, ids: &[TokenId]) -> usize {
        self.matcher.validate_tokens(ids).unwrap_or(0)
    }

    /// Nothing can be added to the answer.
    pub fn is_complete(&self) -> bool {
        self.matcher.is_stopped()
    }

    /// The answer may end here.
    pub fn is_met(&mut self) -> bool {
        self.matcher.stop_reason().is_ok()
            && (self.is_complete() || self.matcher.is_accepting().unwrap_or(false))
    }
}

/// What the parser says, as one line.
pub(super) fn failed(place: &str, error: &impl std::fmt::Display) -> Error {
    let text = error.to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with('<'));
    let said: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    let said: String = said.join(", ").chars().take(300).collect();
    Error::unsupported(place, if said.is_empty() { "no token of the vocabulary fits" } else { &said })
}

#[cfg(test)]
mod tests {
    use super::super::{Constraint, Spelling};
    use super::*;

    fn ids(text: &str) -> Vec<TokenId> {
        text.bytes().map(TokenId::from).collect()
    }

    fn guide(choices: &[&str]) -> Guide {
        Spelling::of_bytes().unwrap().guide(&Constraint::choice(choices).unwrap()).unwrap()
    }

    /// What may come, as bytes.
    fn next(guide: &mut Guide) -> String {
        let allowed = guide.allowed().unwrap();
        (0..=u8::MAX).filter(|&byte| allowed.contains(byte.into())).map(char::from).collect()
    }

    #[test]
    fn along_an_answer() {
        let mut guide = guide(&["abc", "abd", "ab"]);
        assert_eq!(next(&mut guide), " a");
        for id in ids("ab") {
            assert!(!guide.is_met());
            guide.took(id).unwrap();
        }
        assert!(guide.is_met() && !guide.is_complete(), "ab is one, and may become another");
        assert_eq!(next(&mut guide), "cd");
        assert!(guide.allowed().unwrap().contains(256), "the end may come, too");
        guide.took(ids("d")[0]).unwrap();
        assert!(guide.is_met() && guide.is_complete());
        assert!(guide.took(ids("d")[0]).is_err(), "nothing comes behind the end");
    }

    /// A draft is cut where it leaves what may come; to ask changes nothing.
    #[test]
    fn how_much_of_a_draft_is_possible() {
        let mut guide = guide(&["abc", "abd"]);
        for (draft, n) in [("abcx", 3), ("abd", 3), (" abd", 4), ("abx", 2), ("xab", 0), ("", 0), ("  a", 1)]
        {
            assert_eq!(guide.n_possible(&ids(draft)), n, "{draft:?}");
        }
        assert_eq!(guide.n_possible(&[256]), 0, "no end before a choice");
        guide.took(ids("a")[0]).unwrap();
        assert_eq!((guide.n_possible(&ids("abc")), guide.n_possible(&ids("bc"))), (0, 2));
        assert_eq!(next(&mut guide), "b");
        ids("bc").into_iter().for_each(|id| guide.took(id).unwrap());
        assert_eq!(guide.n_possible(&ids("abc")), 0, "nothing behind the end");
        assert!(guide.is_met());
    }
}
