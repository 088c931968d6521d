//! SentencePiece's byte-pair merge.
//!
//! Comes in: text whose spaces are already `▁`. Goes out: token ids. The text starts as a chain of characters and
//! user-defined pieces; again and again the neighbours that form the piece of the highest score are joined, the leftmost
//! of equal ones first, until no neighbours form a piece (Kudo and Richardson, 2018, `bpe_model.cc`). A queue of
//! candidates keeps this at O(n log n); a candidate whose parts have changed since is dropped when it comes up.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use owlet_format::TokenKind;

use super::vocab::Vocab;
use crate::token::TokenId;

const NONE: u32 = u32::MAX;

/// Appends the tokens of `text` to `ids`. `text` is shorter than 4 GiB.
pub(super) fn merge(vocab: &Vocab, text: &str, ids: &mut Vec<TokenId>) {
    let mut chain = Chain::new(vocab, text);
    chain.join();
    chain.emit(ids);
}

/// A run of the text. An empty one has been joined to its left neighbour.
#[derive(Clone, Copy)]
struct Symbol {
    start: u32,
    n_bytes: u32,
    prev: u32,
    next: u32,
    /// A user-defined piece: never joined with anything.
    frozen: bool,
}

/// Two neighbours that form a piece.
struct Candidate {
    score: f32,
    left: u32,
    right: u32,
    n_bytes: u32,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

struct Chain<'a> {
    vocab: &'a Vocab,
    text: &'a str,
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Candidate>,
    /// For each unused piece that could form, the length of its left part: what it is taken apart into at the end.
    unused: HashMap<&'a str, usize>,
}

impl<'a> Chain<'a> {
    fn new(vocab: &'a Vocab, text: &'a str) -> Chain<'a> {
        let mut symbols = Vec::with_capacity(text.len());
        let mut start = 0;
        while let Some(c) = text[start..].chars().next() {
            let user_defined = vocab.user_defined_prefix(&text[start..]);
            let n_bytes = user_defined.unwrap_or(c.len_utf8());
            let index = symbols.len() as u32;
            symbols.push(Symbol {
                start: start as u32,
                n_bytes: n_bytes as u32,
                prev: index.checked_sub(1).unwrap_or(NONE),
                next: index + 1,
                frozen: user_defined.is_some(),
            });
            start += n_bytes;
        }
        if let Some(last) = symbols.last_mut() {
            last.next = NONE;
        }
        Chain { vocab, text, symbols, queue: BinaryHeap::new(), unused: HashMap::new() }
    }

    fn join(&mut self) {
        for right in 1..self.symbols.len() as u32 {
            self.propose(right - 1, right);
        }
        while let Some(Candidate { left, right, n_bytes, .. }) = self.queue.pop() {
            let (l, r) = (self.symbols[left as usize], self.symbols[right as usize]);
            // Symbols only grow or vanish, so equal lengths mean that both are as they were proposed.
            if l.n_bytes == 0 || r.n_bytes == 0 || l.n_bytes + r.n_bytes != n_bytes {
                continue;
            }
            self.symbols[left as usize].n_bytes = n_bytes;
            self.symbols[left as usize].next = r.next;
            self.symbols[right as usize].n_bytes = 0;
            if r.next != NONE {
                self.symbols[r.next as usize].prev = left;
            }
            self.propose(l.prev, left);
            self.propose(left, r.next);
        }
    }

    /// Queues the neighbours `left` and `right` if they form a piece.
    fn propose(&mut self, left: u32, right: u32) {
        if left == NONE || right == NONE {
            return;
        }
        let (l, r) = (self.symbols[left as usize], self.symbols[right as usize]);
        if l.frozen || r.frozen {
            return;
        }
        let n_bytes = l.n_bytes + r.n_bytes;
        let piece = &self.text[l.start as usize..(l.start + n_bytes) as usize];
        let Some(id) = self.vocab.id(piece) else { return };
        self.queue.push(Candidate { score: self.vocab.score(id), left, right, n_bytes });
        if self.vocab.kind(id) == Some(TokenKind::Unused) {
            self.unused.insert(piece, l.n_bytes as usize);
        }
    }

    fn emit(&self, ids: &mut Vec<TokenId>) {
        let mut after_unknown = false;
        let mut stack = Vec::new();
        for symbol in self.symbols.iter().filter(|s| s.n_bytes > 0) {
            stack.push(&self.text[symbol.start as usize..(symbol.start + symbol.n_bytes) as usize]);
            while let Some(piece) = stack.pop() {
                let id = self.vocab.id(piece);
                let is_unused = id.and_then(|id| self.vocab.kind(id)) == Some(TokenKind::Unused);
                if let Some(&n_left) = self.unused.get(piece).filter(|_| is_unused) {
                    stack.push(&piece[n_left..]);
                    stack.push(&piece[..n_left]);
                    continue;
                }
                match (id, self.vocab.byte_ids()) {
                    (Some(id), _) => ids.push(id),
                    (None, Some(byte_ids)) => ids.extend(piece.bytes().map(|b| byte_ids[usize::from(b)])),
                    // A run of unknown characters is one unknown token.
                    (None, None) if after_unknown => {}
                    (None, None) => ids.push(self.vocab.unk_id),
                }
                after_unknown = id.is_none();
            }
        }
    }
}
