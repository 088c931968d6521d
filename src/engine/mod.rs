//! THE ANSWER, where the network and the question meet.
//!
//! A door opens a model ([`Loaded`]), starts an [`Engine`] on it and submits [`Request`]s; what happens comes back as
//! [`Event`]s until the [`Outcome`]. One thread computes; the cache of the turn before is reused for whatever the next
//! prompt has in common with it. Knows pictures only as pixels, and no terminal, JSON or network protocol.

mod builtin;
mod encode;
mod loaded;
mod request;
mod sampler;
mod scheduler;
mod session;
mod slot;
mod stop;

pub use loaded::{Loaded, open_file};
pub use request::{EmbeddingSource, Event, Outcome, Request, Timings};
pub use sampler::Sampling;
pub use scheduler::PROMPT_ROWS;
pub use stop::FinishReason;

use crate::error::{Error, Result};
use crate::model::KvType;
use crate::prompt::{chunks, render};
use encode::ImageKey;
use ggml::Cancel;
use sampler::Sampler;
use scheduler::Scheduler;
use slot::Job;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// How an engine is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Positions that a prompt and its answer share; at most what the model was trained for.
    pub n_ctx: u32,
    /// Requests that are worked on at the same time.
    pub n_slots: u32,
    pub kv_type: KvType,
}

/// A model at work. Requests are answered in the order in which slots become free.
pub struct Engine {
    loaded: Loaded,
    options: Options,
    jobs: Sender<Job>,
}

/// A submitted request. Dropping it cancels the request.
pub struct Ticket {
    events: Receiver<Event>,
    cancel: Cancel,
}

impl Engine {
    /// Starts the thread that computes. It ends when the engine is dropped and all work is done.
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
        let (jobs, submitted) = channel();
        let scheduler = Scheduler::new(loaded.clone(), options, submitted)?;
        let thread = std::thread::Builder::new().name("engine".into()).spawn(move || scheduler.run());
        thread.map_err(|error| Error::Backend(format!("the engine's thread: {error}")))?;
        Ok(Engine { loaded, options, jobs })
    }

    pub fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    pub fn options(&self) -> Options {
        self.options
    }

    /// Takes `request` up: renders and tokenizes it, and puts it in the queue.
    ///
    /// # Errors
    /// `Request` where it makes no sense, `Limit` where its prompt does not fit the context, `Unsupported` where it brings pictures
    /// and the model has no vision half.
    pub fn submit(&self, request: Request) -> Result<Ticket> {
        let sampler = Sampler::new(request.sampling)?;
        if request.max_tokens == 0 {
            return Err(Error::request("max tokens: expected at least 1, found 0"));
        }
        let loaded = &self.loaded;
        let n_image_tokens = match loaded.n_image_tokens() {
            Some(n_image_tokens) => n_image_tokens,
            None if request.images.is_empty() => 0,
            None => return Err(Error::unsupported("picture", "this model has no vision half")),
        };
        let system = request.system.as_deref().unwrap_or(&loaded.prompt.system);
        let segments = render(&loaded.prompt.template, loaded.eos_id, system, &request.messages)?;
        let chunks = chunks(&segments, &loaded.tokenizer, n_image_tokens)?;
        let keys: Vec<_> = request.images.iter().map(|image| ImageKey::new(image, &loaded.digest)).collect();
        let prompt = session::cells(&chunks, &keys)?;
        if prompt.len() > self.options.n_ctx as usize {
            return Err(Error::limit(
                "prompt: tokens in this context",
                self.options.n_ctx.into(),
                prompt.len() as u64,
            ));
        }
        if prompt.is_empty() {
            return Err(Error::request("expected a prompt, found nothing"));
        }
        let (events, received) = channel();
        let cancel = Cancel::new();
        let job = Job { request, prompt, keys, sampler, cancel: cancel.clone(), events };
        self.jobs.send(job).map_err(|_| stopped())?;
        Ok(Ticket { events: received, cancel })
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

fn stopped() -> Error {
    Error::internal("the engine has stopped")
}
