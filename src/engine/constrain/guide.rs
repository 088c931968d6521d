//! The guide of one answer: which tokens may come next, given those that came.

use super::spelling::failed;
use crate::error::Result;
use crate::token::TokenId;
use llguidance::Matcher;
use llguidance::toktrie::SimpleVob;

/// Goes along with one answer.
pub struct Guide {
    matcher: Matcher,
    place: String,
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
        Guide { matcher: self.matcher.deep_clone(), place: self.place.clone() }
    }
}

impl Guide {
    pub(super) fn new(matcher: Matcher, place: String) -> Guide {
        Guide { matcher, place }
    }

    /// The tokens that may come next; those that end the answer are among them where it may end.
    ///
    /// # Errors
    /// `Unsupported` where that is more work than a token is worth, or the vocabulary has no token that fits.
    pub fn allowed(&mut self) -> Result<Allowed> {
        self.matcher.compute_mask_or_eos().map(Allowed).map_err(|error| failed(&self.place, &error))
    }

    /// `id` has come; it ended no answer.
    ///
    /// # Errors
    /// As [`Guide::allowed`].
    pub fn took(&mut self, id: TokenId) -> Result<()> {
        self.matcher.consume_token(id).map_err(|error| failed(&self.place, &error))
    }

    /// How many of `ids` could come, one behind the other.
    pub fn n_possible(&mut self, ids: &[TokenId]) -> usize {
        if self.is_complete() { 0 } else { self.matcher.validate_tokens(ids).unwrap_or(0) }
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
