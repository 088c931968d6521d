//! Where an answer ends, and what of it may be shown already.
//!
//! In: text as the detokenizer yields it, in pieces that break anywhere. Out: the answer, stripped of white space at both
//! ends unless it goes on with a text, and cut before the first stop string, in pieces that never have to be taken back: what could still become a
//! stop string, or white space at the end, waits.

use std::fmt;

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model said a token that ends answers.
    Eos,
    /// A stop string of the request appeared.
    Stop,
    /// The request's constraint leaves nothing to add.
    Complete,
    /// The request's number of tokens is reached.
    Length,
    /// The context is full.
    Context,
    /// The caller cancelled.
    Cancelled,
}

impl FinishReason {
    /// The word in receipts and JSON.
    pub fn word(self) -> &'static str {
        match self {
            FinishReason::Eos => "eos",
            FinishReason::Stop => "stop",
            FinishReason::Complete => "complete",
            FinishReason::Length => "length",
            FinishReason::Context => "context",
            FinishReason::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for FinishReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The visible text of one answer, as it grows.
pub struct Answer {
    stops: Vec<String>,
    /// Not shown yet.
    pending: String,
    /// Something other than white space has been shown.
    begun: bool,
    /// White space at its ends is part of it.
    is_verbatim: bool,
    stopped: bool,
}

impl Answer {
    /// An answer that ends before the first of `stops`; empty strings among them mean nothing.
    pub fn new(stops: impl IntoIterator<Item = String>) -> Answer {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        Answer { stops, pending: String::new(), begun: false, is_verbatim: false, stopped: false }
    }

    /// The same, which keeps white space at its ends.
    pub fn verbatim(stops: impl IntoIterator<Item = String>) -> Answer {
        Answer { begun: true, is_verbatim: true, ..Answer::new(stops) }
    }

    /// A stop string has appeared: nothing more will be shown.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Takes more text, yields what may be shown now.
    pub fn push(&mut self, text: &str) -> String {
        if self.stopped {
            return String::new();
        }
        self.pending.push_str(text);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.pending.find(stop.as_str())).min() {
            self.pending.truncate(at);
            self.stopped = true;
            return self.finish();
        }
        let n_free = self.pending.len() - self.n_held();
        self.release(n_free)
    }

    /// The answer is over: yields what waited in vain, without white space at its end.
    pub fn finish(&mut self) -> String {
        let n_free = if self.is_verbatim { self.pending.len() } else { self.pending.trim_end().len() };
        let text = self.release(n_free);
        self.pending.clear();
        text
    }

    /// Length of the tail that may be the beginning of a stop string.
    fn n_held(&self) -> usize {
        let begins_a_stop = |tail: &str| self.stops.iter().any(|stop| stop.starts_with(tail));
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let from = self.pending.len().saturating_sub(longest);
        let mut starts = self.pending.char_indices().map(|(at, _)| at).skip_while(|at| *at < from);
        starts.find(|at| begins_a_stop(&self.pending[*at..])).map_or(0, |at| self.pending.len() - at)
    }

    /// Takes the first `n_free` bytes out of `pending`, but for white space at either end of the answer.
    fn release(&mut self, n_free: usize) -> String {
        if !self.begun {
            let n_blank = self.pending.len() - self.pending.trim_start().len();
            if n_blank >= n_free {
                return String::new();
            }
            self.pending.drain(..n_blank);
            self.begun = true;
            return self.release(n_free - n_blank);
        }
        let n_shown = if self.is_verbatim { n_free } else { self.pending[..n_free].trim_end().len() };
        self.pending.drain(..n_shown).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pushes `pieces`; yields what each push showed, what the end showed, and whether a stop string was met.
    fn shown(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let mut answer = Answer::new(stops.iter().map(|s| s.to_string()));
        let mut shown: Vec<_> = pieces.iter().map(|piece| answer.push(piece)).collect();
        shown.push(answer.finish());
        (shown, answer.stopped())
    }

    #[test]
    fn pieces_are_shown_as_soon_as_they_are_safe() {
        type Case<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str], bool);
        let cases: &[Case] = &[
            (&[], &["a ", "circle"], &["a", " circle", ""], false),
            (&[], &[" \n a", "", "b", "\n"], &["a", "", "b", "", ""], false),
            (&[], &["  ", "\n"], &["", "", ""], false),
            (&["END"], &["one E", "ND two"], &["one", "", ""], true),
            (&["END"], &["one E", "Nd two"], &["one", " ENd two", ""], false),
            (&["END"], &["one E", "N"], &["one", "", " EN"], false),
            (&["aab"], &["xaa", "ab"], &["x", "a", ""], true),
            (&["b", "ab"], &["xab"], &["x", ""], true),
            (&["\n"], &["one", "\ntwo"], &["one", "", ""], true),
            (&["\n\n"], &["one\n", "two"], &["one", "\ntwo", ""], false),
            (&["球"], &["红", "色球"], &["红", "色", ""], true),
            (&["色球"], &["红色", "方"], &["红", "色方", ""], false),
            (&[""], &["a"], &["a", ""], false),
            (&["a"], &["a", "b"], &["", "", ""], true),
        ];
        for (stops, pieces, expected, stopped) in cases {
            assert_eq!(
                shown(stops, pieces),
                (expected.iter().map(|s| s.to_string()).collect(), *stopped),
                "{stops:?} {pieces:?}"
            );
        }
    }

    #[test]
    fn what_goes_on_with_a_text_keeps_its_white_space() {
        for (stops, pieces, expected) in [
            (&[][..], &[" a ", " \n"][..], &[" a ", " \n", ""][..]),
            (&["b"], &["  ", "a b", "c"], &["  ", "a ", "", ""]),
            (&["\n\n"], &[" a\n", "\nb"], &[" a", "", ""]),
        ] {
            let mut answer = Answer::verbatim(stops.iter().map(|s| s.to_string()));
            let mut shown: Vec<_> = pieces.iter().map(|piece| answer.push(piece)).collect();
            shown.push(answer.finish());
            assert_eq!(shown, expected, "{stops:?} {pieces:?}");
        }
    }

    /// However the text is broken, the whole shown is the same: cut before the first stop string, stripped.
    #[test]
    fn the_breaks_change_nothing() {
        let text = "  the red 圆 is\n\nleft of 三 STOP stop ";
        let stops = ["stop", "\n\nright", "圆圆"];
        let whole = "the red 圆 is\n\nleft of 三 STOP";
        let chars: Vec<String> = text.chars().map(String::from).collect();
        for size in 1..=chars.len() {
            let pieces: Vec<String> = chars.chunks(size).map(|chunk| chunk.concat()).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let (shown, stopped) = shown(&stops, &pieces);
            assert_eq!((shown.concat().as_str(), stopped), (whole, true), "pieces of {size}");
        }
    }
}
