//! One sequence of the decoder's cache, and the request that it works on.
//!
//! The sequence is the prompt and then the answer; whatever of it is not in the cache yet is what the next pass has to
//! run, so reading a prompt and writing an answer are the same act. The scheduler asks what is to be done, does it
//! together with what other slots need, and brings back logits. Must not know the network.

use super::constrain::Guide;
use super::image_cache::{Embedding, ImageKey};
use super::loaded::Loaded;
use super::logprobs::TokenLogprob;
use super::options::Options;
use super::request::{EmbeddingSource, Event, Outcome, Request, Timings};
use super::sampler::Sampler;
use super::scope::Scope;
use super::session::{Cell, n_common};
use super::speculate::{Pace, Speculator};
use super::stop::{Answer, FinishReason};
use super::store::Conversation;
use crate::error::{Error, Result};
use crate::prompt::Detokenizer;
use crate::token::TokenId;
use ggml::Cancel;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// A request on its way to a slot, with what was found out while it was accepted.
pub struct Job {
    pub request: Request,
    /// Never empty, and never longer than the context.
    pub prompt: Vec<Cell>,
    /// One a picture of the request.
    pub keys: Vec<ImageKey>,
    pub scope: Scope,
    pub sampler: Sampler,
    pub guide: Option<Guide>,
    pub cancel: Cancel,
    pub events: Sender<Event>,
}

impl Job {
    /// What of its prompt need not be computed where it is known.
    pub fn reusable(&self) -> &[Cell] {
        if self.request.scores_prompt { &[] } else { &self.prompt }
    }

    /// Tells the door; one that has left wants nothing any more.
    pub fn tell(&self, event: Event) {
        if self.events.send(event).is_err() {
            self.cancel.cancel();
        }
    }
}

/// What a slot knows, and of what.
#[derive(Clone, Default)]
pub struct Holding {
    /// What the decoder's cache holds for this sequence.
    pub cells: Vec<Cell>,
    /// For whom.
    pub scope: Scope,
    /// What was said there last, where that came to an end.
    pub said: Option<Arc<Conversation>>,
}

/// How a slot is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotFacts {
    pub doing: Doing,
    /// Positions in its cache, and pictures among them.
    pub n_held: usize,
    pub n_pictures: usize,
    pub scope: Scope,
    /// There is a conversation to save.
    pub can_be_saved: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    Nothing,
    /// Its rows are on their way to a file, or from one.
    Lent,
    /// A picture is looked at, or waits for that.
    Picture,
    Prompt,
    Answer,
}

pub struct Slot {
    pub seq: u32,
    /// When somebody got this slot last, by the scheduler's count.
    pub last_used: u64,
    knows: Holding,
    is_lent: bool,
    work: Option<Work>,
}

struct Work {
    job: Job,
    n_reused: usize,
    n_copied: usize,
    /// The slot from which more of the prompt is still to be copied.
    source: Option<usize>,
    n_ctx: usize,
    embeddings: HashMap<ImageKey, Embedding>,
    detokenizer: Detokenizer,
    stop_ids: Vec<TokenId>,
    speculator: Speculator,
    answer: Answer,
    text: String,
    ids: Vec<TokenId>,
    timings: Timings,
}

impl Slot {
    pub fn new(seq: u32) -> Slot {
        Slot { seq, last_used: 0, knows: Holding::default(), is_lent: false, work: None }
    }

    pub fn is_busy(&self) -> bool {
        self.work.is_some()
    }

    /// Neither at work nor on loan.
    pub fn is_free(&self) -> bool {
        !self.is_busy() && !self.is_lent
    }

    pub fn knows(&self) -> &Holding {
        &self.knows
    }

    pub fn facts(&self) -> SlotFacts {
        let Holding { cells, scope, said } = &self.knows;
        let begins = |cell: &&Cell| matches!(cell, Cell::Image { row: 0, .. });
        SlotFacts {
            doing: match &self.work {
                None if self.is_lent => Doing::Lent,
                None => Doing::Nothing,
                Some(_) if self.is_answering() => Doing::Answer,
                Some(_) if self.picture_wanted().is_some() => Doing::Picture,
                Some(_) => Doing::Prompt,
            },
            n_held: cells.len(),
            n_pictures: cells.iter().filter(begins).count(),
            scope: *scope,
            can_be_saved: said.is_some(),
        }
    }

    /// How many positions of `prompt`, which somebody of `scope` asks, the cache holds.
    pub fn n_common(&self, prompt: &[Cell], scope: Scope) -> usize {
        if self.knows.scope == scope { n_common(&self.knows.cells, prompt) } else { 0 }
    }

    /// How many of them need no work. The last one always does: its logits are what the answer starts from.
    pub fn n_reusable(&self, prompt: &[Cell], scope: Scope) -> usize {
        self.n_common(prompt, scope).min(prompt.len().saturating_sub(1))
    }

    /// The slot from which more of the prompt is to be copied.
    pub fn source(&self) -> Option<usize> {
        self.work.as_ref()?.source
    }

    /// More of the prompt is to be copied from that slot; from none any more.
    pub fn set_source(&mut self, source: Option<usize>) {
        if let Some(work) = &mut self.work {
            work.source = source;
        }
    }

    /// The next `n` positions of the prompt came from another slot, which `took` so long.
    pub fn took_copy(&mut self, n: usize, took: Duration) {
        let Some(work) = &mut self.work else { return };
        let here = self.knows.cells.len();
        self.knows.cells.extend(work.job.prompt.iter().skip(here).take(n));
        work.n_reused += n;
        work.n_copied += n;
        work.timings.prefill += took;
        work.job.tell(Event::Prefill { done: self.knows.cells.len(), total: work.job.prompt.len() });
    }

    /// No request gets this slot until it [`returns`](Slot::return_with).
    pub fn lend(&mut self) {
        self.is_lent = true;
    }

    /// The loan is over; if there is something, it is what the slot knows now.
    pub fn return_with(&mut self, knows: Option<Holding>) {
        self.is_lent = false;
        if let Some(knows) = knows {
            self.knows = knows;
        }
    }

    /// The cache holds the first `n` positions at most.
    pub fn forget_from(&mut self, n: usize) {
        self.knows.cells.truncate(n);
    }

    /// It knows nothing any more.
    pub fn forget_all(&mut self) {
        self.knows = Holding::default();
    }

    /// Positions in the cache.
    pub fn n_past(&self) -> usize {
        self.knows.cells.len()
    }

    /// Starts on `job`. The cache is to be cut to [`Slot::n_past`].
    pub fn begin(&mut self, job: Job, model: &Loaded, options: &Options) {
        let n_reused = self.n_reusable(job.reusable(), job.scope);
        self.forget_from(n_reused);
        (self.knows.scope, self.knows.said) = (job.scope, None);
        self.work = Some(Work {
            n_reused,
            n_copied: 0,
            source: None,
            n_ctx: options.n_ctx as usize,
            embeddings: HashMap::new(),
            detokenizer: match job.request.continues {
                true => model.tokenizer.detokenizer().within_a_text(),
                false => model.tokenizer.detokenizer(),
            },
            stop_ids: model.prompt.stop_ids.clone(),
            speculator: Speculator::new(options.speculation, &job.prompt),
            answer: match job.request.continues {
                true => Answer::verbatim(job.request.stop.iter().cloned()),
                false => Answer::new(job.request.stop.iter().cloned()),
            },
            text: String::new(),
            ids: Vec::new(),
            timings: Timings::default(),
            job,
        });
    }

    pub fn job(&self) -> Option<&Job> {
        self.work.as_ref().map(|work| &work.job)
    }

    /// The first picture whose rows are still to be read and whose embedding is not here; none while rows are copied.
    pub fn picture_wanted(&self) -> Option<usize> {
        let work = self.work.as_ref().filter(|work| work.source.is_none())?;
        let left = work.job.prompt.get(self.knows.cells.len()..)?;
        let key = left.iter().find_map(|cell| match cell {
            Cell::Image { key, .. } if !work.embeddings.contains_key(key) => Some(key),
            _ => None,
        })?;
        work.job.keys.iter().position(|k| k == key)
    }

    /// A step of the tower was made for this slot.
    pub fn encoding_took(&mut self, took: Duration) {
        if let Some(work) = &mut self.work {
            work.timings.encode += took;
        }
    }

    /// The embedding of the request's picture `image` is there; also that of the same picture further on.
    pub fn give_picture(&mut self, image: usize, embedding: Embedding, source: EmbeddingSource) {
        let Some(work) = &mut self.work else { return };
        let Some(key) = work.job.keys.get(image) else { return };
        work.embeddings.insert(*key, embedding);
        for (at, _) in work.job.keys.iter().enumerate().filter(|(_, same)| *same == key) {
            let source = if at == image { source } else { EmbeddingSource::Reused };
            work.job.tell(Event::Encoded { image: at, source });
        }
    }

    /// Positions that the next pass should run, at most `max`; empty where there is nothing to do or a picture is wanted.
    pub fn positions(&self, max: usize) -> Range<usize> {
        let here = self.knows.cells.len();
        match &self.work {
            Some(work) if self.picture_wanted().is_none() => {
                here..work.n_planned().min(here.saturating_add(max))
            }
            _ => here..here,
        }
    }

    /// Writes an answer: its prompt is read.
    pub fn is_answering(&self) -> bool {
        self.work.as_ref().is_some_and(|work| self.knows.cells.len() >= work.job.prompt.len())
    }

    /// Drafts what the answer may go on with, so that the next pass runs it too.
    pub fn draft(&mut self, pace: &Pace) {
        if let Some(work) = &mut self.work {
            work.draft(pace);
        }
    }

    /// The next pass runs what is known.
    pub fn forget_draft(&mut self) {
        if let Some(work) = &mut self.work {
            work.speculator.forget_draft();
        }
    }

    /// What stands at `position`.
    pub fn cell(&self, position: usize) -> Option<Cell> {
        self.work.as_ref()?.cell(position)
    }

    /// Whether the pass that runs `position` has to bring the logits behind it: nothing that is known for sure comes after.
    pub fn wants_logits(&self, position: usize) -> bool {
        self.work
            .as_ref()
            .is_some_and(|work| work.job.request.scores_prompt || position + 1 >= work.n_known())
    }

    /// Row `row` of a picture, `[n_embd]`.
    pub fn embedding_row(&self, key: &ImageKey, row: u32, n_embd: usize) -> Option<&[f32]> {
        let start = row as usize * n_embd;
        self.work.as_ref()?.embeddings.get(key)?.get(start..start + n_embd)
    }

    /// The next `n_rows` positions are in the cache now, after a pass that `took` so long; `logits` [n_vocab] a position
    /// where they are wanted. What was drafted wrong is no longer held, and to be cut from the cache.
    ///
    /// # Errors
    /// What the sampler says.
    pub fn advance<'a>(
        &mut self,
        n_rows: usize,
        mut logits: impl Iterator<Item = &'a [f32]>,
        took: Duration,
    ) -> Result<()> {
        let Some(work) = &mut self.work else { return Ok(()) };
        let here = self.knows.cells.len();
        self.knows.cells.extend((here..here + n_rows).filter_map(|position| work.cell(position)));
        let n_prompt = work.job.prompt.len();
        if here < n_prompt {
            work.timings.prefill += took;
            work.job.tell(Event::Prefill { done: self.knows.cells.len().min(n_prompt), total: n_prompt });
        } else {
            work.timings.decode += took;
        }
        work.score(here..self.knows.cells.len(), &mut logits);
        if work.job.request.max_tokens == 0 && self.knows.cells.len() >= n_prompt {
            self.finish(FinishReason::Length);
            return Ok(());
        }
        let (n_kept, ended) = work.choose(logits);
        if here >= n_prompt {
            let n_wrong = work.speculator.settle(n_kept, took);
            self.knows.cells.truncate(self.knows.cells.len() - n_wrong);
        }
        if let Some(reason) = ended? {
            self.finish(reason);
        }
        Ok(())
    }

    /// Ends the answer as it is.
    pub fn finish(&mut self, reason: FinishReason) {
        let Some(mut work) = self.work.take() else { return };
        let text = work.detokenizer.flush();
        work.show(|answer| answer.push(&text) + &answer.finish());
        let broke_off = work.job.guide.as_mut().is_some_and(|guide| !guide.is_met());
        let (n_drafted, n_accepted) = work.speculator.counts();
        let outcome = Outcome {
            text: work.text,
            finish_reason: reason,
            broke_off,
            ids: work.ids,
            n_prompt: work.job.prompt.len(),
            n_reused: work.n_reused,
            n_copied: work.n_copied,
            n_drafted,
            n_accepted,
            timings: work.timings,
        };
        self.knows.said = Some(Arc::new(Conversation::of(&work.job.request, &outcome.text)));
        work.job.tell(Event::Done(outcome));
    }

    /// Gives the request up.
    pub fn fail(&mut self, error: Error) {
        if let Some(work) = self.work.take() {
            work.job.tell(Event::Failed(error));
        }
    }
}

impl Work {
    /// Positions whose token is known: the prompt, and the answer so far.
    fn n_known(&self) -> usize {
        self.job.prompt.len() + self.ids.len()
    }

    /// Those, and what is drafted behind them.
    fn n_planned(&self) -> usize {
        self.n_known() + self.speculator.draft().len()
    }

    fn cell(&self, position: usize) -> Option<Cell> {
        let n_prompt = self.job.prompt.len();
        match position.checked_sub(n_prompt) {
            None => self.job.prompt.get(position).copied(),
            Some(at) => self.ids.iter().chain(self.speculator.draft()).nth(at).map(|&id| Cell::Token(id)),
        }
    }

    /// Neither longer than the answer may become nor than the context is.
    fn draft(&mut self, pace: &Pace) {
        let n_left = (self.job.request.max_tokens as usize).saturating_sub(self.ids.len() + 1);
        let n_max = n_left.min(self.n_ctx.saturating_sub(self.n_known()));
        self.speculator.think(n_max, &self.stop_ids, pace);
        if let Some(guide) = &mut self.job.guide {
            let n_possible = guide.n_possible(self.speculator.draft());
            self.speculator.shorten(n_possible);
        }
    }

    /// Tells how likely the prompt's tokens were whose place comes behind one of `positions`, if that was asked for: of each of those
    /// the next of `logits`.
    fn score<'a>(&self, positions: Range<usize>, logits: &mut impl Iterator<Item = &'a [f32]>) {
        let (prompt, request) = (&self.job.prompt, &self.job.request);
        let Some(n_top) = request.logprobs.filter(|_| request.scores_prompt) else { return };
        if let (0, Some(&Cell::Token(first))) = (positions.start, prompt.first()) {
            self.job.tell(Event::Read(first, None));
        }
        for (cell, logits) in positions.filter_map(|position| prompt.get(position + 1)).zip(logits) {
            if let &Cell::Token(id) = cell {
                self.job.tell(Event::Read(id, Some(TokenLogprob::new(logits, id, n_top as usize))));
            }
        }
    }

    /// Chooses a token from each of `logits`, as long as the one before is what was drafted there. Yields how many tokens
    /// of the draft the answer goes on behind, and why it ended if it did.
    fn choose<'a>(
        &mut self,
        logits: impl Iterator<Item = &'a [f32]>,
    ) -> (usize, Result<Option<FinishReason>>) {
        let mut n_kept = 0;
        for logits in logits {
            let id = match self.sample(logits) {
                Ok(id) => id,
                Err(error) => return (n_kept, Err(error)),
            };
            if let Some(n_top) = self.job.request.logprobs.filter(|_| !self.stop_ids.contains(&id)) {
                self.job.tell(Event::Chosen(TokenLogprob::new(logits, id, n_top as usize)));
            }
            let is_drafted = self.speculator.chose(id);
            let ended = match self.take(id) {
                Ok(ended) => ended,
                Err(error) => return (n_kept, Err(error)),
            };
            if ended.is_some() || !is_drafted {
                return (n_kept, Ok(ended));
            }
            n_kept += 1;
        }
        (n_kept, Ok(None))
    }

    fn sample(&mut self, logits: &[f32]) -> Result<TokenId> {
        match &mut self.job.guide {
            None => self.job.sampler.sample(logits),
            Some(guide) => {
                let allowed = guide.allowed()?;
                self.job.sampler.sample_among(logits, |id| allowed.contains(id))
            }
        }
    }

    /// The model has chosen `id`. Says whether the answer ends with it.
    fn take(&mut self, id: TokenId) -> Result<Option<FinishReason>> {
        self.ids.push(id);
        if self.stop_ids.contains(&id) {
            return Ok(Some(FinishReason::Eos));
        }
        let text = self.detokenizer.push(id);
        self.show(|answer| answer.push(&text));
        if let Some(guide) = &mut self.job.guide {
            guide.took(id)?;
            if guide.is_complete() {
                return Ok(Some(FinishReason::Complete));
            }
        }
        Ok(if self.answer.stopped() {
            Some(FinishReason::Stop)
        } else if self.ids.len() >= self.job.request.max_tokens as usize {
            Some(FinishReason::Length)
        } else if self.n_known() > self.n_ctx {
            Some(FinishReason::Context)
        } else {
            None
        })
    }

    fn show(&mut self, part: impl FnOnce(&mut Answer) -> String) {
        let text = part(&mut self.answer);
        if !text.is_empty() {
            self.text.push_str(&text);
            self.job.tell(Event::Text(text));
        }
    }
}
