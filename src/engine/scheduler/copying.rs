//! What a slot's prompt has in common with another slot is copied from there, a piece a round, as a prompt is read: beside answers a
//! piece takes about as long as a pass ([`Share`](super::Share)). Piece by piece the slot holds all layers of its next positions, so
//! that it goes on from there by itself where the other one has no more. That slot is kept for it meanwhile.

use super::{PROMPT_ROWS, Scheduler};
use crate::engine::rows;
use crate::model::kv_row_bytes;
use std::time::Instant;

impl Scheduler {
    /// No request has slot `at`, nobody borrowed it, and nothing is being copied from it.
    pub(super) fn is_free(&self, at: usize) -> bool {
        self.slots[at].is_free() && !self.slots.iter().any(|slot| slot.source() == Some(at))
    }

    /// Finds the slot that holds more than slot `at` of its prompt, if there is one.
    pub(super) fn find_source(&mut self, at: usize) {
        let n_own = self.slots[at].n_past();
        let others = (0..self.slots.len()).filter(|&other| other != at);
        let source = others.map(|from| (self.n_to_have(at, from), from)).max();
        self.slots[at].set_source(source.filter(|&(n, _)| n > n_own).map(|(_, from)| from));
    }

    /// Brings to slot `at` a piece of what its source holds of its prompt. Says whether there was one to bring; what cannot be
    /// copied is computed.
    pub(super) fn copy(&mut self, at: usize, has_answers: bool) -> bool {
        let Some(from) = self.slots[at].source() else { return false };
        let (n, here) = (self.n_to_have(at, from), self.slots[at].n_past());
        let most = if has_answers { self.share.copied_rows() } else { PROMPT_ROWS };
        let end = n.min(here + most);
        if end <= here {
            self.slots[at].set_source(None);
            return false;
        }
        let started = Instant::now();
        let (from, to) = (self.slots[from].seq, self.slots[at].seq);
        let row_bytes = kv_row_bytes(&self.loaded.text, self.options.kv_type);
        let pieces = rows::pieces(self.loaded.text.n_layer, here as u32..end as u32, row_bytes);
        if rows::copy(&mut self.decoder, from, (to, end as u32), pieces).is_err() {
            self.decoder.truncate(to, here as u32);
            self.slots[at].set_source(None);
            return true;
        }
        let took = started.elapsed();
        self.share.saw_copy(end - here, took);
        self.slots[at].took_copy(end - here, took);
        if end == n {
            self.slots[at].set_source(None);
        }
        true
    }

    /// How many positions of the prompt of slot `at` slot `from` can spare it.
    fn n_to_have(&self, at: usize, from: usize) -> usize {
        self.slots[at].job().map_or(0, |job| self.slots[from].n_reusable(job.reusable(), job.scope))
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::scheduler::Share;
    use crate::engine::scheduler::by_hand::{ByHand, options};
    use crate::engine::{Constraint, Event, Loaded, Outcome, Request};
    use crate::prompt::Message;
    use std::sync::mpsc::Receiver;

    /// Makes rounds until `events` come to their end.
    fn finish(by_hand: &mut ByHand, events: &Receiver<Event>) -> Outcome {
        let mut outcome = None;
        by_hand.rounds_until(|_| {
            outcome = events.try_iter().find_map(done);
            outcome.is_some()
        });
        outcome.unwrap()
    }

    fn done(event: Event) -> Option<Outcome> {
        match event {
            Event::Done(outcome) => Some(outcome),
            Event::Failed(error) => panic!("{error}"),
            _ => None,
        }
    }

    /// Both begin with the same hundreds of words, and are so different afterwards that they get slots of their own.
    fn long(word: &str) -> Request {
        let question = format!("{} {}", "and what of that? ".repeat(40), format!("{word} ").repeat(200));
        Request { max_tokens: 4, ..Request::new(vec![Message::user(question, [])], vec![]) }
    }

    /// An answer of many tokens.
    fn stream() -> Request {
        let constraint = Some(Constraint::choice(&["one more ".repeat(60)]).unwrap());
        Request { constraint, ..Request::new(vec![Message::user("Go on!", [])], vec![]) }
    }

    #[test]
    fn beside_an_answer_a_copy_goes_on_piece_by_piece() {
        for source_forgets in [false, true] {
            let mut bench = ByHand::new(Loaded::open(None, 1).unwrap(), &options(1024, 3));
            let expected = bench.engine.submit(long("that")).unwrap();
            let expected = std::iter::repeat_with(|| expected.next_event()).find_map(done).unwrap();
            let first = bench.submit(long("this"));
            finish(&mut bench, &first);
            let _stream = bench.submit(stream());
            bench.rounds_until(|scheduler| scheduler.slots[1].is_answering());
            bench.scheduler.share = Share::default();
            let second = bench.submit(long("that"));
            let mut sizes = Vec::new();
            loop {
                let n_answered = bench.scheduler.slots[1].n_past();
                let (n_before, most) =
                    (bench.scheduler.slots[2].n_past(), bench.scheduler.share.copied_rows());
                bench.scheduler.round();
                let n = bench.scheduler.slots[2].n_past() - n_before;
                assert!(n <= most, "{n} positions in a round, {most} have room");
                assert_eq!(bench.scheduler.slots[1].n_past(), n_answered + 1, "the other answer goes on");
                sizes.push(n);
                if bench.scheduler.slots[2].source().is_none() {
                    assert!(sizes.len() > 1 && bench.scheduler.is_free(0), "{sizes:?}");
                    break;
                }
                assert!(!bench.scheduler.is_free(0), "nobody gets the slot meanwhile");
                if source_forgets {
                    bench.scheduler.slots[0].forget_all();
                    break;
                }
            }
            let outcome = finish(&mut bench, &second);
            assert_eq!(outcome.ids, expected.ids);
            assert_eq!(outcome.n_reused, outcome.n_copied);
            match source_forgets {
                false => assert!(outcome.n_copied > 200, "{outcome:?}"),
                true => assert!((1..100).contains(&outcome.n_copied), "{outcome:?}"),
            }
        }
    }
}
