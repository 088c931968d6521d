//! THE loop over tokens. Every door submits here; nothing else runs the network for an answer.
//!
//! One thread owns decoder, tower and slots. A round takes in what was submitted, runs a step of the tower for the slot
//! that has waited longest for a picture, and a pass of the decoder: the next token of every answer, and a piece of the prompt that
//! has waited longest. While answers are written, either piece is small enough that they don't falter ([`Share`]), and where
//! both a picture and a prompt wait they take turns. `run` and `chat` use one slot; more slots share passes, and since a row's
//! bits do not depend on its neighbours, each answer is what it would be alone. Where tower and text share a device's memory, a round is
//! the one's or the other's ([`Turns`]). Must not print.

#[cfg(test)]
pub mod by_hand;
mod copying;
mod pictures;
mod room;

use super::encode::ImageEncoder;
use super::image_cache::{ImageCache, ImageKey};
use super::loaded::Loaded;
use super::options::Options;
use super::order::{Lent, LoanOrder, Order, Orders, Sight, Wanted};
use super::scope::Scope;
use super::session::Cell;
use super::share::Share;
use super::slot::{Holding, Job, Slot};
use super::speculate::Pace;
use super::stop::FinishReason;
use super::turns::Turns;
use crate::error::{Error, Result};
use crate::model::{Decoder, Input, Logits, Row};
use room::positions_of;
use std::cmp::Reverse;
use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::sync::mpsc::Sender;
use std::time::Instant;

pub use room::{PROMPT_ROWS, cached_positions, prompt_rows};

pub struct Scheduler {
    loaded: Loaded,
    options: Options,
    decoder: Decoder,
    encoder: ImageEncoder,
    slots: Vec<Slot>,
    /// What passes of single answers take.
    pace: Pace,
    /// The last pass and its logits, whose memory the next ones use.
    pass: Pass,
    logits: Logits,
    share: Share,
    /// The last round saw to a picture.
    saw_picture: bool,
    turns: Turns,
    /// Pictures that nobody has computed since the tower's last turn.
    looked_up: HashSet<ImageKey>,
    /// How often a slot was given to somebody.
    n_uses: u64,
    queue: VecDeque<Job>,
    /// Pictures that nobody asks about.
    sights: Vec<Sight>,
    /// Whoever waits for a free slot to borrow.
    borrowers: VecDeque<(Wanted, Sender<Result<Lent>>)>,
    orders: Orders,
}

impl Scheduler {
    /// # Errors
    /// `Backend` where there is no memory for run states, `Limit` and `Unsupported` by what of `options` the model cannot have.
    pub fn new(loaded: Loaded, options: Options, cache: ImageCache, orders: Orders) -> Result<Scheduler> {
        let mut encoder = ImageEncoder::new(&loaded.model, loaded.config.vision.is_some(), cache)?;
        if options.low_memory {
            encoder = encoder.releasing(loaded.vision_pages.clone());
        }
        let n_ctx = positions_of(&loaded.model, 0, options.n_ctx);
        let decoder = Decoder::new(&loaded.model, n_ctx, options.n_slots, options.kv_type)?;
        let slots = (0..options.n_slots).map(Slot::new).collect();
        let (pace, share, turns, pass, logits) = Default::default();
        let (queue, sights, borrowers, looked_up) = Default::default();
        Ok(Scheduler {
            loaded,
            options,
            decoder,
            encoder,
            slots,
            pace,
            pass,
            logits,
            share,
            saw_picture: false,
            turns,
            looked_up,
            n_uses: 0,
            queue,
            sights,
            borrowers,
            orders,
        })
    }

    /// Works until nobody can submit any more and nothing is left to do.
    pub fn run(mut self) {
        loop {
            // A slot that has just become free may be what a borrower waits for, with nothing else to come.
            self.lend();
            if !self.has_work() {
                match self.orders.submitted.recv() {
                    Ok(order) => self.take_in(order),
                    Err(_) => return,
                }
            }
            self.round();
        }
    }

    fn round(&mut self) {
        while let Ok(order) = self.orders.submitted.try_recv() {
            self.take_in(order);
        }
        self.lend();
        self.admit();
        self.finish_cancelled();
        self.work();
    }

    /// Something can be done before anybody says more. A request that waits while all slots are on loan is no work yet.
    fn has_work(&self) -> bool {
        let can_admit = !self.queue.is_empty() && (0..self.slots.len()).any(|at| self.is_free(at));
        can_admit || !self.sights.is_empty() || self.slots.iter().any(Slot::is_busy)
    }

    fn take_in(&mut self, order: Order) {
        match order {
            Order::Answer(job) => self.queue.push_back(*job),
            Order::See(sight) => {
                let since = self.next_use();
                self.sights.push(Sight { since, ..sight });
            }
            Order::Loan(LoanOrder::Lend { wanted, reply }) => self.borrowers.push_back((wanted, reply)),
            // Whoever does not wait for the reply any more has given up.
            Order::Loan(LoanOrder::Read { slot, rows, reply }) => {
                let _ = reply.send(self.decoder.read_rows(self.slots[slot].seq, rows));
            }
            Order::Loan(LoanOrder::Write { slot, rows, bytes, reply }) => {
                let _ = reply.send(self.decoder.write_rows(self.slots[slot].seq, rows, &bytes));
            }
            Order::Loan(LoanOrder::Return { slot, knows }) => {
                self.slots[slot].return_with(knows);
                self.cut_cache(slot);
            }
            Order::Look(reply) => {
                let _ = reply.send(self.slots.iter().map(Slot::facts).collect());
            }
        }
    }

    /// Lends free slots, first come, first served.
    fn lend(&mut self) {
        while let Some((wanted, _)) = self.borrowers.front() {
            let found = match wanted {
                Wanted::Holding(prompt, scope) => self.best_free_slot(prompt, *scope),
                Wanted::Room(None, _) => self.best_free_slot(&[], Scope::SHARED),
                Wanted::Room(Some(at), _) | Wanted::Slot(at) => Some(*at).filter(|&at| self.is_free(at)),
            };
            let Some(at) = found else { return };
            let Some((wanted, reply)) = self.borrowers.pop_front() else { return };
            self.slots[at].last_used = self.next_use();
            self.slots[at].lend();
            let lent = self.prepare(at, &wanted).map(|knows| Lent { slot: at, knows });
            let is_lent = lent.is_ok();
            if reply.send(lent).is_err() || !is_lent {
                self.slots[at].return_with(None);
                self.cut_cache(at);
            }
        }
    }

    /// Makes slot `at` what a borrower wanted; yields what may be read.
    fn prepare(&mut self, at: usize, wanted: &Wanted) -> Result<Holding> {
        match wanted {
            Wanted::Holding(prompt, scope) => {
                let mut knows = self.slots[at].knows().clone();
                let n = self.slots[at].n_common(prompt, *scope);
                if n == 0 || n < prompt.len() {
                    knows.cells.truncate(n);
                }
                Ok(knows)
            }
            Wanted::Slot(_) => Ok(self.slots[at].knows().clone()),
            Wanted::Room(_, n_positions) => {
                self.slots[at].forget_all();
                self.cut_cache(at);
                self.make_room(*n_positions)?;
                self.decoder.assume(self.slots[at].seq, *n_positions)?;
                Ok(Holding::default())
            }
        }
    }

    /// Gives queued requests to free slots, first come, first served.
    fn admit(&mut self) {
        while let Some(job) = self.queue.front() {
            let Some(at) = self.best_free_slot(job.reusable(), job.scope) else { return };
            let Some(job) = self.queue.pop_front() else { return };
            self.slots[at].last_used = self.next_use();
            let recovered = self.recover();
            self.slots[at].begin(job, &self.loaded, &self.options);
            self.cut_cache(at);
            match recovered {
                Ok(()) => self.find_source(at),
                Err(error) => self.slots[at].fail(error),
            }
        }
    }

    /// Begins anew on the devices that there are now, if one was lost. No slot holds anything then.
    fn recover(&mut self) -> Result<()> {
        if !self.loaded.model.is_lost() {
            return Ok(());
        }
        self.decoder.release();
        let model = self.loaded.model.again()?;
        let n_ctx = positions_of(&model, 0, self.options.n_ctx);
        self.decoder = Decoder::new(&model, n_ctx, self.options.n_slots, self.options.kv_type)?;
        self.encoder.go_on_with(&model)?;
        self.loaded.model = model;
        (0..self.slots.len()).for_each(|at| self.cut_cache(at));
        Ok(())
    }

    /// The slot that knows most of `prompt`, if that is half of it at least; else the one that was used before all
    /// others, since a few words that every prompt begins with are not worth a conversation.
    fn best_free_slot(&self, prompt: &[Cell], scope: Scope) -> Option<usize> {
        let free = (0..self.slots.len()).filter(|&at| self.is_free(at));
        free.max_by_key(|&at| {
            let slot = &self.slots[at];
            let n_common = slot.n_common(prompt, scope);
            (if 2 * n_common >= prompt.len() { n_common } else { 0 }, Reverse(slot.last_used), Reverse(at))
        })
    }

    fn next_use(&mut self) -> u64 {
        self.n_uses += 1;
        self.n_uses
    }

    /// Slot and decoder forget what not both of them hold.
    fn cut_cache(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        slot.forget_from(self.decoder.n_past(slot.seq) as usize);
        self.decoder.truncate(slot.seq, slot.n_past() as u32);
    }

    fn finish_cancelled(&mut self) {
        let is_cancelled = |job: &Job| job.cancel.is_cancelled();
        for slot in self.slots.iter_mut().filter(|slot| slot.job().is_some_and(is_cancelled)) {
            slot.finish(FinishReason::Cancelled);
        }
        for sight in self.sights.extract_if(.., |sight| sight.cancel.is_cancelled()) {
            // Whoever raised it may be gone.
            let _ = sight.reply.send(Err(Error::Cancelled));
        }
    }

    /// Both halves of a round, or one of them where they share memory. Beside answers, only one of them does work of others.
    fn work(&mut self) {
        let has_answers = self.slots.iter().any(Slot::is_answering);
        if self.loaded.model.placement().shares() {
            if self.is_towers_turn() {
                self.encode(false);
            } else {
                self.say(self.prompt_in_turn(), has_answers);
            }
            return;
        }
        let is_prompts_turn = has_answers && self.saw_picture && self.prompt_in_turn().is_some();
        self.saw_picture = !is_prompts_turn && self.encode(has_answers);
        // A picture that has just been seen to may be all that its prompt waited for.
        let prompt = self.prompt_in_turn().filter(|_| !(has_answers && self.saw_picture));
        self.say(prompt, has_answers);
    }

    /// The text's half of a round: a pass with a piece of that slot's prompt, or without where the piece could be copied.
    fn say(&mut self, prompt: Option<usize>, has_answers: bool) {
        match prompt {
            Some(at) if self.copy(at, has_answers) => {
                if has_answers {
                    self.decode(None);
                }
            }
            prompt => self.decode(prompt),
        }
    }

    /// The slot that has waited longest to have its prompt read, and waits for nothing else.
    fn prompt_in_turn(&self) -> Option<usize> {
        let has_rows = |at: &usize| {
            let slot = &self.slots[*at];
            !slot.is_answering() && !slot.positions(1).is_empty()
        };
        (0..self.slots.len()).filter(has_rows).min_by_key(|&at| self.slots[at].last_used)
    }

    /// Drafts ahead where one slot alone has an answer to write and no prompt is read beside it. A pass that several share is
    /// full of their rows.
    ///
    /// Says whether the next pass is such a one.
    fn draft(&mut self, reads_prompt: bool) -> bool {
        self.slots.iter_mut().for_each(Slot::forget_draft);
        let mut at_work = self.slots.iter_mut().filter(|slot| slot.is_answering());
        match (at_work.next(), at_work.next()) {
            (Some(slot), None) if !reads_prompt => {
                slot.draft(&self.pace);
                true
            }
            _ => false,
        }
    }

    /// One pass of the decoder over all answers and a piece of the prompt of slot `prompt`.
    fn decode(&mut self, prompt: Option<usize>) {
        let is_single_answer = self.draft(prompt.is_some());
        let most = prompt_rows(&self.loaded.model);
        let has_answers = self.slots.iter().any(Slot::is_answering);
        let max_rows = if has_answers { self.share.prompt_rows().min(most) } else { most };
        let mut pass = std::mem::take(&mut self.pass);
        pass.gather(&self.slots, prompt.map(|at| (at, max_rows)), self.loaded.text.n_embd as usize);
        let mut logits = std::mem::take(&mut self.logits);
        if pass.rows.is_empty() {
            self.fail_stuck();
        } else {
            self.run_pass(&pass, &mut logits, is_single_answer);
        }
        (self.pass, self.logits) = (pass, logits);
    }

    fn run_pass(&mut self, pass: &Pass, logits: &mut Logits, is_single_answer: bool) {
        let n_answers = self.slots.iter().filter(|slot| slot.is_answering()).count();
        // A pass that several requests share is not broken off for one of them: it ends within two tokens' time.
        let cancel = match pass.parts.as_slice() {
            [(at, _)] => self.slots[*at].job().map(|job| job.cancel.clone()).unwrap_or_default(),
            _ => self.orders.stop.clone(),
        };
        let started = Instant::now();
        let n_needed = pass.rows.iter().map(|row| row.pos + 1).max().unwrap_or(0);
        if let Err(error) = self.make_room(n_needed) {
            return self.give_up(pass, error);
        }
        if let Err(error) = self.decoder.forward_into(&pass.rows, &pass.embd, &cancel, logits) {
            return self.give_up(pass, error);
        }
        let took = started.elapsed();
        // Weights may have come with it.
        let is_usual = !self.turns.saw_pass(Instant::now());
        if is_single_answer && is_usual {
            self.pace.saw(pass.rows.len(), took);
        } else {
            self.pace.saw_other();
        }
        let of_prompts = |(at, range): &(usize, Range<usize>)| match self.slots[*at].is_answering() {
            true => 0,
            false => range.len(),
        };
        let n_prompt = pass.parts.iter().map(of_prompts).sum();
        // A draft makes a pass longer that no other waits for.
        if is_usual && n_answers > 0 && pass.rows.len() == n_answers + n_prompt {
            self.share.saw_pass(n_prompt, took);
        }
        let mut n_before = 0;
        for (at, range) in &pass.parts {
            let slot = &mut self.slots[*at];
            let n_wanted = range.clone().filter(|&position| slot.wants_logits(position)).count();
            let rows = logits.rows().skip(n_before).take(n_wanted);
            n_before += n_wanted;
            if let Err(error) = slot.advance(range.len(), rows, took) {
                slot.fail(error);
            }
            self.cut_cache(*at);
        }
    }

    /// A request that has nothing to compute and waits for no picture would wait for ever: that is our mistake, and is said.
    fn fail_stuck(&mut self) {
        for slot in &mut self.slots {
            if slot.is_busy() && slot.picture_wanted().is_none() {
                slot.fail(Error::internal("a request that has not ended has nothing left to compute"));
            }
        }
    }

    /// Sees to a cache of `n_needed` positions a sequence; at most what was asked for.
    fn make_room(&mut self, n_needed: u32) -> Result<()> {
        if n_needed > self.options.n_ctx {
            return Err(Error::limit(
                "positions in this context",
                self.options.n_ctx.into(),
                n_needed.into(),
            ));
        }
        let n_ctx = positions_of(&self.loaded.model, n_needed, self.options.n_ctx);
        if n_ctx > self.decoder.n_ctx() { self.decoder.grow(n_ctx) } else { Ok(()) }
    }

    /// After a pass that did not happen: the cache holds no more than before, and unless it was only broken off its requests
    /// have failed.
    fn give_up(&mut self, pass: &Pass, error: Error) {
        let text = error.to_string();
        let is_cancelled = matches!(error, Error::Cancelled);
        let mut error = Some(error);
        for (at, _) in &pass.parts {
            self.cut_cache(*at);
            if !is_cancelled {
                self.slots[*at].fail(error.take().unwrap_or_else(|| Error::Backend(text.clone())));
            }
        }
    }
}

/// The rows of one call of the decoder.
#[derive(Default)]
struct Pass {
    rows: Vec<Row>,
    /// `[n_embd, n]`: the rows of pictures among them.
    embd: Vec<f32>,
    /// Slots in row order, with their positions.
    parts: Vec<(usize, Range<usize>)>,
}

impl Pass {
    /// Becomes the next positions of all answers, and of the slot `prompt` as many as are said beside it.
    fn gather(&mut self, slots: &[Slot], prompt: Option<(usize, usize)>, n_embd: usize) {
        let Pass { rows, embd, parts } = self;
        rows.clear();
        embd.clear();
        parts.clear();
        for (at, slot) in slots.iter().enumerate() {
            let max_rows = match prompt {
                Some((reading, max_rows)) if reading == at => max_rows,
                _ if slot.is_answering() => usize::MAX,
                _ => continue,
            };
            let range = slot.positions(max_rows);
            rows.extend(range.clone().filter_map(|position| {
                let input = match slot.cell(position)? {
                    Cell::Token(id) => Input::Token(id),
                    Cell::Image { key, row } => {
                        embd.extend_from_slice(slot.embedding_row(&key, row, n_embd)?);
                        Input::Embd(embd.len() / n_embd - 1)
                    }
                };
                let want_logits = slot.wants_logits(position);
                Some(Row { input, seq: slot.seq, pos: position as u32, want_logits })
            }));
            if !range.is_empty() {
                parts.push((at, range));
            }
        }
    }
}
