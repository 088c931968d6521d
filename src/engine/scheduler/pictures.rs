//! The scheduler's rounds, as far as they are about pictures: whose is looked at next, and what becomes of it.

use super::Scheduler;
use crate::engine::encode::{Encoded, ImageEncoder};
use crate::engine::order::Sight;
use crate::engine::request::{EmbeddingSource, Event};
use crate::engine::slot::Slot;
use crate::engine::turns::NextPicture;
use crate::error::{Error, Result};
use crate::model::Progress;
use std::time::Instant;

/// A picture that is waited for.
struct Waiting {
    picture: NextPicture,
    who: Who,
}

enum Who {
    /// A slot, and which of its pictures.
    Slot(usize, usize),
    Sight(usize),
}

impl Scheduler {
    /// A step of the tower on the next picture; a piece of one where answers would wait. Says whether there was one to make.
    pub(super) fn encode(&mut self, has_answers: bool) -> bool {
        let Some(Waiting { who, .. }) = self.next_picture() else {
            self.encoder.rest();
            return false;
        };
        let max_operations = if has_answers { self.share.operations() } else { u64::MAX };
        let (at, image) = match who {
            Who::Sight(at) => {
                self.look(at, max_operations);
                return true;
            }
            Who::Slot(at, image) => (at, image),
        };
        match self.step_picture(at, image, max_operations) {
            // The next round finishes it.
            Ok(()) | Err(Error::Cancelled) => {}
            Err(error) => self.slots[at].fail(error),
        }
        true
    }

    /// The picture that the tower is at, or else the one that was waited for longest.
    fn next_picture(&self) -> Option<Waiting> {
        let of_slots = self.slots.iter().enumerate().filter_map(|(at, slot)| {
            let image = slot.picture_wanted()?;
            let is_begun = self.encoder.is_at(slot.job()?.keys.get(image)?);
            let picture = NextPicture { since: slot.last_used, is_begun };
            Some(Waiting { picture, who: Who::Slot(at, image) })
        });
        let alone = self.sights.iter().enumerate().map(|(at, sight)| {
            let picture = NextPicture { since: sight.since, is_begun: self.encoder.is_at(&sight.key) };
            Waiting { picture, who: Who::Sight(at) }
        });
        of_slots.chain(alone).min_by_key(|next| (!next.picture.is_begun, next.picture.since))
    }

    /// Whether this round is the tower's, where it shares memory with text layers. Where pictures have to wait, those that need no
    /// tower do not.
    pub(super) fn is_towers_turn(&mut self) -> bool {
        let next = self.next_picture().map(|next| next.picture);
        let has_text = self.slots.iter().any(Slot::is_answering) || self.prompt_in_turn().is_some();
        let is_towers = self.turns.is_towers(next, has_text, self.n_uses, Instant::now());
        if is_towers {
            self.looked_up.clear();
        } else {
            self.encoder.rest();
            self.give_known_pictures();
        }
        is_towers
    }

    /// Gives what was computed before. Each picture is looked up once between two turns of the tower: the disk may be asked.
    fn give_known_pictures(&mut self) {
        for at in 0..self.slots.len() {
            let slot = &mut self.slots[at];
            let Some(image) = slot.picture_wanted() else { continue };
            let Some(key) = slot.job().and_then(|job| job.keys.get(image)) else { continue };
            if self.looked_up.contains(key) {
                continue;
            }
            match self.encoder.known(key) {
                Some((embedding, source)) => slot.give_picture(image, embedding, source),
                None => {
                    self.looked_up.insert(*key);
                }
            }
        }
        let is_known = |encoder: &mut ImageEncoder, sight: &Sight| encoder.pooled(&sight.key).is_some();
        while let Some(at) = self.sights.iter().position(|sight| is_known(&mut self.encoder, sight)) {
            self.look(at, 0);
        }
    }

    /// A step of the tower on the picture of `sights[at]`, or its end where the tower has seen it.
    fn look(&mut self, at: usize, max_operations: u64) {
        let recovered = self.recover();
        let sight = &self.sights[at];
        let ended = match (recovered, self.encoder.pooled(&sight.key)) {
            (Err(error), _) => Err(error),
            (Ok(()), Some(row)) => Ok(row),
            (Ok(()), None) => {
                let started = Instant::now();
                match self.encoder.step((&sight.key, &sight.pixels), max_operations, &sight.cancel) {
                    Ok(Encoded::Partly(Progress { n_operations, .. })) => {
                        return self.share.saw_piece(n_operations, started.elapsed());
                    }
                    // The next round finds it.
                    Ok(Encoded::Ready(..)) | Err(Error::Cancelled) => return,
                    Err(error) => Err(error),
                }
            }
        };
        // Whoever does not wait any more needs no reply.
        let _ = self.sights.swap_remove(at).reply.send(ended);
    }

    /// A step of the tower on the picture `image` of slot `at`, or none where its embedding is still known.
    fn step_picture(&mut self, at: usize, image: usize, max_operations: u64) -> Result<()> {
        let slot = &mut self.slots[at];
        let Some(job) = slot.job() else { return Ok(()) };
        let (Some(key), Some(pixels)) = (job.keys.get(image), job.request.images.get(image)) else {
            return Err(Error::internal(format!("no picture {image}")));
        };
        let started = Instant::now();
        if let Some((embedding, source)) = self.encoder.known(key) {
            slot.encoding_took(started.elapsed());
            slot.give_picture(image, embedding, source);
            return Ok(());
        }
        let encoded = self.encoder.step((key, pixels), max_operations, &job.cancel)?;
        let took = started.elapsed();
        match &encoded {
            Encoded::Partly(Progress { step, n_operations }) => {
                self.share.saw_piece(*n_operations, took);
                job.tell(Event::Encoding { image, done: step.done, total: step.total });
            }
            Encoded::Ready(_, Some(warning)) => job.tell(Event::Warning(warning.clone())),
            Encoded::Ready(_, None) => {}
        }
        slot.encoding_took(took);
        if let Encoded::Ready(embedding, _) = encoded {
            slot.give_picture(image, embedding, EmbeddingSource::Computed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Scope;
    use crate::engine::image_cache::Embedding;
    use crate::engine::order::Order;
    use crate::engine::request::Request;
    use crate::engine::scheduler::by_hand::ByHand;
    use crate::engine::turns::at_work::{about, loaded, n_layer, options, picture, words};
    use ggml::{Cancel, Device};
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    fn see(by_hand: &ByHand, seed: u8) -> Receiver<Result<Embedding>> {
        let (reply, received) = channel();
        let pixels = picture(seed);
        let key = by_hand.engine.keys(Scope::SHARED, std::iter::once(pixels.as_ref())).unwrap()[0];
        let sight = Sight { pixels, key, cancel: Cancel::new(), reply, since: 0 };
        by_hand.orders.send(Order::See(sight)).unwrap();
        received
    }

    /// Whatever was ordered.
    fn finish(by_hand: &mut ByHand) {
        by_hand.scheduler.round();
        by_hand.rounds_until(|all| !all.slots.iter().any(Slot::is_busy) && all.sights.is_empty());
    }

    /// While an answer goes on because the tower had its turn, whoever needs no tower does not wait for the next one.
    #[test]
    fn pictures_that_are_known_do_not_wait_for_the_towers_turn() {
        let device = Device::small_stand_in(1 << 30);
        let mut by_hand = ByHand::new(loaded(&device, n_layer()), &options());
        // No slot holds the first one when all are over.
        for seed in [3, 5, 7] {
            // Whoever does not listen wants no answer.
            let _listening = by_hand.submit(about(seed));
            finish(&mut by_hand);
        }
        let _listening = by_hand.submit(Request { max_tokens: 64, ..words() });
        by_hand.rounds_until(|all| all.slots.iter().any(Slot::is_answering));
        let (now, nobody) = (Instant::now(), NextPicture { since: 0, is_begun: false });
        let turns = &mut by_hand.scheduler.turns;
        assert!(turns.is_towers(Some(nobody), false, 0, now - Duration::from_secs(1000)));
        assert!(!turns.is_towers(None, true, 0, now) && turns.saw_pass(now), "text is owed some time");

        let before = device.stand_in_memory().written;
        let asked = by_hand.submit(about(3));
        let (known, unknown) = (see(&by_hand, 3), see(&by_hand, 9));
        by_hand.scheduler.round();
        let given = asked.try_iter().find(|event| matches!(event, Event::Encoded { .. }));
        assert!(matches!(given, Some(Event::Encoded { source: EmbeddingSource::Reused, .. })), "{given:?}");
        assert!(known.try_recv().is_ok_and(|row| row.is_ok()));
        by_hand.scheduler.round();
        assert!(unknown.try_recv().is_err() && device.stand_in_memory().written == before);
        finish(&mut by_hand);
        assert!(unknown.try_recv().is_ok_and(|row| row.is_ok()));
    }
}
