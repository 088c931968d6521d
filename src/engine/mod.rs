//! THE ANSWER, where the network and the question meet.
//!
//! A door opens a model ([`Loaded`]), starts an [`Engine`] on it and submits [`Request`]s; what happens comes back as
//! [`Event`]s until the [`Outcome`]. One thread computes. Nothing is computed twice: the cache of the turn before is
//! reused for whatever the next prompt has in common with it, pictures are kept by what they are, and conversations go
//! to files and come back ([`Engine::save`]). Knows pictures only as pixels, and no terminal or network protocol.

mod builtin;
mod checked;
mod constrain;
mod embed;
mod encode;
mod features;
pub mod image_cache;
mod loaded;
mod loan;
mod logprobs;
mod options;
mod order;
mod part_file;
mod request;
mod rows;
mod sampler;
mod scheduler;
mod scope;
mod session;
mod setup;
mod share;
mod slot;
mod speculate;
mod stop;
mod store;
mod turns;

pub use checked::Checked;
pub use constrain::{Constraint, Guide, Spelling};
pub use embed::Pooling;
pub use features::{FeatureExtractor, FeatureShape};
pub use image_cache::{CacheCounts, CacheOptions};
pub use loaded::{Loaded, open_file};
pub use logprobs::TokenLogprob;
pub use options::Options;
pub use part_file::{PartFile, sweep};
pub use request::{EmbeddingSource, Event, Outcome, Request, Timings};
pub use sampler::{Sampler, Sampling};
pub use scheduler::{PROMPT_ROWS, cached_positions, prompt_rows};
pub use scope::Scope;
pub use setup::{DeviceChoice, Setup, why_no_device};
pub use slot::{Doing, SlotFacts};
pub use speculate::Speculation;
pub use stop::FinishReason;
pub use store::{Conversation, NamedPicture, Restored, Saved};

use crate::error::{Error, Result};
use ggml::Cancel;
use image_cache::ImageCache;
use loan::Loan;
use order::{Order, Orders, Wanted, stopped};
use scheduler::Scheduler;
use slot::Holding;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// A model at work. Requests are answered in the order in which slots become free. Dropping it cancels them, and waits for
/// the thread that computes: a process that ended while a device is still at work would end with an error of its driver.
pub struct Engine {
    loaded: Loaded,
    options: Options,
    orders: Sender<Order>,
    counts: Arc<image_cache::Counts>,
    /// How the vocabulary spells, found out for the first request with a constraint.
    spelling: OnceLock<Spelling>,
    /// Stops all that is under way.
    stop: Cancel,
    thread: Option<JoinHandle<()>>,
}

/// A submitted request. Dropping it cancels the request.
pub struct Ticket {
    events: Receiver<Event>,
    cancel: Cancel,
}

impl Engine {
    /// Starts the thread that computes.
    ///
    /// # Errors
    /// `Request` where there is no slot; `Limit` where the context is longer than the model's; `Backend` where memory or a thread is not to be had.
    pub fn start(loaded: Loaded, options: Options) -> Result<Engine> {
        let n_ctx_train = loaded.text.n_ctx_train;
        if options.n_ctx > n_ctx_train {
            return Err(Error::limit("context", n_ctx_train.into(), options.n_ctx.into()));
        }
        if options.n_ctx == 0 || options.n_slots == 0 {
            return Err(Error::request("expected a context and slots of at least 1, found 0"));
        }
        let counts = Arc::default();
        let cache = ImageCache::new(options.cache.clone(), loaded.embedding_shape(), Arc::clone(&counts));
        let (orders, submitted) = channel();
        let stop = Cancel::new();
        let submitted = Orders { submitted, stop: stop.clone() };
        let scheduler = Scheduler::new(loaded.clone(), options.clone(), cache, submitted)?;
        let thread = Builder::new().name("engine".into()).spawn(move || scheduler.run());
        let thread = thread.map_err(|error| Error::Backend(format!("the engine's thread: {error}")))?;
        Ok(Engine { loaded, options, orders, counts, spelling: OnceLock::new(), stop, thread: Some(thread) })
    }

    pub fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Whether requests can be answered: the thread that computes lives.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// How the slots are, one after the other. Waits for the pass that runs.
    ///
    /// # Errors
    /// `Internal` where the engine has stopped.
    pub fn slots(&self) -> Result<Vec<SlotFacts>> {
        let (reply, facts) = channel();
        self.orders.send(Order::Look(reply)).map_err(|_| stopped())?;
        facts.recv().map_err(|_| stopped())
    }

    /// Has the slot `slot` forget what it knows of those of `scope`; yields how many positions that was. Waits until it has nothing to do.
    ///
    /// # Errors
    /// `Request` where there is no such slot.
    pub fn erase_slot(&self, slot: u32, scope: Scope) -> Result<usize> {
        let (loan, knows) = Loan::new(&self.orders, Wanted::Slot(self.slot(slot)?))?;
        if knows.scope != scope {
            return Ok(0);
        }
        loan.keep(Holding::default());
        Ok(knows.cells.len())
    }

    fn slot(&self, slot: u32) -> Result<usize> {
        let n_slots = self.options.n_slots;
        if slot < n_slots {
            return Ok(slot as usize);
        }
        Err(Error::request(format!("slot: expected less than {n_slots}, found {slot}")))
    }

    /// What became of the pictures so far.
    pub fn cache_counts(&self) -> CacheCounts {
        self.counts.now()
    }

    /// Takes `request` up: checks it, and puts it in the queue.
    ///
    /// # Errors
    /// As [`Engine::check`] and [`Engine::answer`].
    pub fn submit(&self, request: Request) -> Result<Ticket> {
        self.answer(self.check(request)?)
    }

    /// Puts a request that was checked in the queue.
    ///
    /// # Errors
    /// `Limit` where its prompt does not fit the context.
    pub fn answer(&self, checked: Checked) -> Result<Ticket> {
        checked.check_room()?;
        let (events, received) = channel();
        let cancel = self.stop.part();
        let job = checked.job(cancel.clone(), events);
        self.orders.send(Order::Answer(Box::new(job))).map_err(|_| stopped())?;
        Ok(Ticket { events: received, cancel })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop.cancel();
        // The thread ends when nobody can submit any more.
        self.orders = channel().0;
        if let Some(thread) = self.thread.take() {
            // Who waits for a thread that panicked has been told.
            let _ = thread.join();
        }
    }
}

impl Ticket {
    /// The next thing that happens; waits for it. Nothing follows `Done` or `Failed`.
    pub fn next_event(&self) -> Event {
        self.events.recv().unwrap_or_else(|_| Event::Failed(stopped()))
    }

    /// The next thing that happens, or `None` where nothing does within `patience`.
    pub fn next_event_within(&self, patience: Duration) -> Option<Event> {
        match self.events.recv_timeout(patience) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Event::Failed(stopped())),
        }
    }

    /// Shared with the request: raising it ends the answer within a token's or a block's time.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Arithmetic, Kernels, KvType, Model, Placement};
    use crate::prompt::Message;
    use ggml::{Backend, Device, Place};

    /// In the middle of a prompt on a device, and with a ticket that outlives it.
    #[test]
    fn nothing_of_an_engine_outlives_it() {
        let mut loaded = Loaded::open(None, 1).unwrap();
        let file = open_file(None).unwrap();
        let backend = Backend::with_devices(1, &[Device::stand_in()]).unwrap();
        let placement = Placement::new(&loaded.config, Place::Device(0), &[loaded.text.n_layer]);
        loaded.model = Model::load_placed(
            &file,
            &loaded.config,
            &backend,
            Kernels::of_this_machine(Arithmetic::Packed),
            placement,
        )
        .unwrap();
        let n_ctx = loaded.text.n_ctx_train;
        let options = Options {
            n_ctx,
            n_slots: 1,
            kv_type: KvType::F16,
            cache: CacheOptions::default(),
            speculation: Speculation::Off,
            low_memory: false,
        };
        let engine = Engine::start(loaded, options).unwrap();
        let messages = vec![Message::user("7 ".repeat(n_ctx as usize / 3), [])];
        let request = Request { max_tokens: 8, ..Request::new(messages, vec![]) };
        let ticket = engine.submit(request).unwrap();
        let first = ticket.next_event();
        assert!(matches!(first, Event::Prefill { done, total } if done < total), "{first:?}");
        drop(engine);
        assert!(!backend.is_shared(), "somebody still has the device");
        let end = loop {
            match ticket.next_event() {
                Event::Done(outcome) => break outcome.finish_reason,
                Event::Failed(error) => panic!("{error}"),
                _ => {}
            }
        };
        assert_eq!(end, FinishReason::Cancelled);
    }
}
