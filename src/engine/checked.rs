//! From a request to what can be taken up: rendered, tokenized, its pictures known by their keys, its constraint a guide. Done
//! once a request, in the thread of whoever asks. Computes nothing of the network.

use super::Engine;
use super::constrain::{Constraint, Guide, Spelling};
use super::image_cache::ImageKey;
use super::request::{Event, Request};
use super::sampler::Sampler;
use super::scope::Scope;
use super::session::{self, Cell};
use super::slot::Job;
use crate::error::{Error, Result};
use crate::prompt::{Message, Part, Pixels, Segment, chunks, render};
use ggml::Cancel;
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// A request that can be taken up, as often as wanted. A clone is the same request once more.
#[derive(Clone)]
pub struct Checked {
    request: Request,
    sampler: Sampler,
    guide: Option<Guide>,
    keys: Vec<ImageKey>,
    prompt: Vec<Cell>,
    scope: Scope,
    n_ctx: u32,
}

impl Checked {
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Positions of the prompt, pictures included.
    pub fn n_prompt(&self) -> usize {
        self.prompt.len()
    }

    /// # Errors
    /// `Limit` where the prompt does not fit the context.
    pub fn check_room(&self) -> Result<()> {
        if self.prompt.len() <= self.n_ctx as usize {
            return Ok(());
        }
        let what = "prompt: tokens in this context";
        Err(Error::limit(what, self.n_ctx.into(), self.prompt.len() as u64))
    }

    /// The same request, answered with other random numbers.
    ///
    /// # Errors
    /// What [`Engine::check`] would have said of its sampling.
    pub fn with_seed(mut self, seed: u64) -> Result<Checked> {
        self.request.sampling.seed = seed;
        self.sampler = Sampler::new(self.request.sampling)?;
        Ok(self)
    }

    pub(super) fn job(self, cancel: Cancel, events: Sender<Event>) -> Job {
        let Checked { request, sampler, guide, keys, prompt, scope, n_ctx: _ } = self;
        Job { request, prompt, keys, scope, sampler, guide, cancel, events }
    }
}

impl Engine {
    /// Makes `request` ready to be taken up by [`Engine::answer`]. Its prompt may be longer than the context; what is said of its
    /// length tells whoever wants to make room.
    ///
    /// # Errors
    /// `Request` where it makes no sense, `Unsupported` where it brings pictures and the model has no vision half, or a constraint
    /// that the vocabulary cannot spell.
    pub fn check(&self, request: Request) -> Result<Checked> {
        self.check_in(Scope::SHARED, request)
    }

    /// The same for a request that shares what was computed with those of `scope` alone.
    ///
    /// # Errors
    /// As [`Engine::check`].
    pub fn check_in(&self, scope: Scope, request: Request) -> Result<Checked> {
        let sampler = Sampler::new(request.sampling)?;
        if request.max_tokens == 0 && !request.continues {
            return Err(Error::request("max tokens: expected at least 1, found 0"));
        }
        let keys = self.keys(scope, request.images.iter().map(Arc::as_ref))?;
        let prompt = self.positions(&request, &keys)?;
        if prompt.is_empty() {
            return Err(Error::request("expected a prompt, found nothing"));
        }
        let guide =
            request.constraint.as_ref().map(|constraint| self.guide(constraint, &request)).transpose()?;
        Ok(Checked { request, sampler, guide, keys, prompt, scope, n_ctx: self.options.n_ctx })
    }

    fn guide(&self, constraint: &Constraint, request: &Request) -> Result<Guide> {
        if !request.stop.is_empty() {
            return Err(Error::request("stop texts have no effect on an answer with a constraint"));
        }
        let spelling = match self.spelling.get() {
            Some(spelling) => spelling,
            None => {
                let spelling = Spelling::new(&self.loaded.tokenizer, &self.loaded.prompt.stop_ids)?;
                self.spelling.get_or_init(|| spelling)
            }
        };
        spelling.guide(constraint)
    }

    pub(super) fn keys<'a>(
        &self,
        scope: Scope,
        images: impl Iterator<Item = &'a Pixels>,
    ) -> Result<Vec<ImageKey>> {
        let key = |image| ImageKey::new(image, &self.loaded.encoder_digest).within(scope);
        let keys: Vec<_> = images.map(key).collect();
        if self.loaded.n_image_tokens().is_none() && !keys.is_empty() {
            return Err(Error::unsupported("picture", "this model has no vision half"));
        }
        Ok(keys)
    }

    /// The positions of the prompt of `request`, whose pictures have the keys `keys`.
    fn positions(&self, request: &Request, keys: &[ImageKey]) -> Result<Vec<Cell>> {
        if !request.continues {
            return self.prompt(request.system.as_deref(), &request.messages, keys);
        }
        let [Message { parts, .. }] = request.messages.as_slice() else {
            return Err(Error::request("expected one text to go on with"));
        };
        let [Part::Text(text)] = parts.as_slice() else {
            return Err(Error::request("expected a text to go on with, without pictures"));
        };
        if let Some(ids) = &request.ids {
            let n_vocab = self.loaded.text.n_vocab;
            if let Some((at, id)) = ids.iter().enumerate().find(|(_, id)| **id >= n_vocab) {
                return Err(Error::request(format!(
                    "prompt[{at}]: expected a token below {n_vocab}, found {id}"
                )));
            }
            return Ok(ids.iter().map(|&id| Cell::Token(id)).collect());
        }
        session::cells(&chunks(&[Segment::Text(text.clone())], &self.loaded.tokenizer, 0)?, &[])
    }

    /// The positions of the prompt that asks for the answer to `messages`, whose pictures have the keys `keys`.
    pub(super) fn prompt(
        &self,
        system: Option<&str>,
        messages: &[Message],
        keys: &[ImageKey],
    ) -> Result<Vec<Cell>> {
        let loaded = &self.loaded;
        let system = system.unwrap_or(&loaded.prompt.system);
        let segments = render(&loaded.prompt.template, loaded.eos_id, system, messages)?;
        let chunks = chunks(&segments, &loaded.tokenizer, loaded.n_image_tokens().unwrap_or(0))?;
        session::cells(&chunks, keys)
    }
}
