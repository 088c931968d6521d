//! The scheduler's rounds, as far as they are about pictures: whose is looked at next, and what becomes of it.

use super::Scheduler;
use crate::engine::encode::Encoded;
use crate::engine::request::{EmbeddingSource, Event};
use crate::error::{Error, Result};
use crate::model::Progress;
use std::time::Instant;

impl Scheduler {
    /// A step of the tower, for the slot whose picture it is at, or else for the one that has waited longest; a piece of one
    /// where answers would wait. Says whether there was one to make.
    pub(super) fn encode(&mut self, has_answers: bool) -> bool {
        let of_slots = self.slots.iter().enumerate().filter_map(|(at, slot)| {
            let image = slot.picture_wanted()?;
            let is_current = self.encoder.is_at(slot.job()?.keys.get(image)?);
            Some((!is_current, slot.last_used, at, Some(image)))
        });
        let alone = self.sights.iter().enumerate();
        let alone = alone.map(|(at, sight)| (!self.encoder.is_at(&sight.key), sight.since, at, None));
        let Some((.., at, image)) = of_slots.chain(alone).min() else {
            self.encoder.rest();
            return false;
        };
        let max_operations = if has_answers { self.share.operations() } else { u64::MAX };
        let Some(image) = image else {
            self.look(at, max_operations);
            return true;
        };
        match self.step_picture(at, image, max_operations) {
            // The next round finishes it.
            Ok(()) | Err(Error::Cancelled) => {}
            Err(error) => self.slots[at].fail(error),
        }
        true
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
