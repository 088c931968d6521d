//! How likely a model held a token, and which others: for whoever asks for that. It is the log-softmax of the logits as the network
//! yields them, at temperature 1: neither the settings of a request nor its constraint change it. Sums are taken in f64.

use crate::token::TokenId;
use std::cmp::Ordering;

/// A token of an answer, and how likely it was where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    pub id: TokenId,
    /// The natural logarithm of its probability.
    pub logprob: f32,
    /// The likeliest tokens there, with theirs, from the likeliest down; of equal ones the lower id first.
    pub top: Vec<(TokenId, f32)>,
}

impl TokenLogprob {
    /// Of `id`, and the `n_top` likeliest, by `logits` [n_vocab], which are numbers.
    pub fn new(logits: &[f32], id: TokenId, n_top: usize) -> TokenLogprob {
        let highest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - highest).exp()).sum();
        let of = |logit: f32| (f64::from(logit) - highest - sum.ln()) as f32;
        let mut top: Vec<(TokenId, f32)> = Vec::with_capacity(n_top + 1);
        let by_rank = |a: &(TokenId, f32), b: &(TokenId, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        for candidate in (0..).zip(logits.iter().copied()).filter(|(_, logit)| *logit > f32::NEG_INFINITY) {
            if top.len() == n_top
                && top.last().is_none_or(|last| by_rank(&candidate, last) == Ordering::Greater)
            {
                continue;
            }
            let at = top.partition_point(|kept| by_rank(kept, &candidate) == Ordering::Less);
            top.insert(at, candidate);
            top.truncate(n_top);
        }
        let logit = logits.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
        let top = top.into_iter().map(|(id, logit)| (id, of(logit))).collect();
        TokenLogprob { id, logprob: of(logit), top }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_the_log_softmax() {
        // Of probabilities 0.1, 0.4, 0.3, 0.2, whatever is added to all logits.
        let logits = [0.1f32, 0.4, 0.3, 0.2].map(|p| p.ln() + 1000.0);
        let found = TokenLogprob::new(&logits, 3, 2);
        let close = |a: f32, p: f32| (a - p.ln()).abs() < 1e-4;
        assert!(close(found.logprob, 0.2), "{found:?}");
        let [(first, a), (second, b)] = found.top[..] else { panic!("{found:?}") };
        assert!((first, second) == (1, 2) && close(a, 0.4) && close(b, 0.3), "{found:?}");
        let all = TokenLogprob::new(&logits, 0, 9).top;
        let total: f32 = all.iter().map(|(_, logprob)| logprob.exp()).sum();
        assert!(all.len() == 4 && (total - 1.0).abs() < 1e-5, "{all:?}");
        assert_eq!(TokenLogprob::new(&logits, 0, 0).top, []);
    }

    #[test]
    fn equals_by_id_and_what_cannot_come_is_not_there() {
        let logits = [1.0, 2.0, f32::NEG_INFINITY, 2.0, 2.0];
        let ids: Vec<_> = TokenLogprob::new(&logits, 0, 3).top.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [1, 3, 4]);
        assert_eq!(TokenLogprob::new(&logits, 0, 9).top.len(), 4);
    }
}
