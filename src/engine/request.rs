//! The words between a door and the scheduler: what is asked, what happens meanwhile, how it ended.

use super::constrain::Constraint;
use super::logprobs::TokenLogprob;
use super::sampler::Sampling;
use super::stop::FinishReason;
use crate::error::Error;
use crate::prompt::{Message, Pixels};
use crate::token::TokenId;
use std::sync::Arc;
use std::time::Duration;

/// A question with the conversation before it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Question, answer, question, …; the last one is to be answered.
    pub messages: Vec<Message>,
    /// The pictures that the messages name by index, as the model sees them.
    pub images: Vec<Arc<Pixels>>,
    /// Stands before the conversation; `None` is what the file says.
    pub system: Option<String>,
    pub sampling: Sampling,
    /// The answer has at most this many tokens; at least 1, or none where a text goes on that is only to be read.
    pub max_tokens: u32,
    /// The answer ends before the first of these.
    pub stop: Vec<String>,
    /// What the answer may be; then it ends where nothing can be added, and `stop` is empty.
    pub constraint: Option<Constraint>,
    /// The one message is a text that goes on: nothing is put around it, and white space stays.
    pub continues: bool,
    /// The tokens of that text, where they are known: none is put before them.
    pub ids: Option<Vec<TokenId>>,
    /// Tell of each token of that text how likely it was, too, as [`logprobs`](Request::logprobs) says. All of it is read then,
    /// whatever is known of it.
    pub scores_prompt: bool,
    /// Tell how likely each token was, and so many others.
    pub logprobs: Option<u32>,
}

impl Request {
    /// The likeliest answer to `messages`, which may bring `images`, of any length.
    pub fn new(messages: Vec<Message>, images: Vec<Arc<Pixels>>) -> Request {
        Request {
            messages,
            images,
            system: None,
            sampling: Sampling::GREEDY,
            max_tokens: u32::MAX,
            stop: Vec::new(),
            constraint: None,
            continues: false,
            ids: None,
            scores_prompt: false,
            logprobs: None,
        }
    }
}

/// What happens to a request, in this order: pictures, prompt, text; then one of the last two, and nothing after it.
#[derive(Debug)]
pub enum Event {
    /// A step of the tower on the request's picture `image`.
    Encoding {
        image: usize,
        done: u32,
        total: u32,
    },
    /// The request's picture `image` is ready, after so much work or none. Pictures that the decoder still knows from
    /// the turn before are not heard of.
    Encoded {
        image: usize,
        source: EmbeddingSource,
    },
    /// Positions of the prompt that the decoder has read, those it still knew included.
    Prefill {
        done: usize,
        total: usize,
    },
    /// A token of the prompt, and how likely it was, where [`Request::scores_prompt`] asks for that; of all in order. Nothing
    /// stands before the first one.
    Read(TokenId, Option<TokenLogprob>),
    /// Something is not as it should be, and the answer is right all the same.
    Warning(String),
    /// The model chose a token which does not end the answer, where [`Request::logprobs`] asks for them. Its text comes behind
    /// it, as soon as it can be shown.
    Chosen(TokenLogprob),
    /// The next piece of the answer. All pieces together are [`Outcome::text`].
    Text(String),
    Done(Outcome),
    Failed(Error),
}

/// Where a picture's embedding came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmbeddingSource {
    /// The tower ran.
    Computed,
    /// The same picture was asked about before.
    Reused,
    /// The same picture was asked about in another process.
    Stored,
}

impl EmbeddingSource {
    /// The tower did not run.
    pub fn is_cached(self) -> bool {
        self != EmbeddingSource::Computed
    }
}

/// A finished answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The answer without its end token or stop string, stripped of white space.
    pub text: String,
    pub finish_reason: FinishReason,
    /// The request has a constraint, and the answer ended before it was met.
    pub broke_off: bool,
    /// Every token that the model chose, the one that ended the answer included.
    pub ids: Vec<TokenId>,
    /// Positions of the prompt, pictures included.
    pub n_prompt: usize,
    /// Positions of the prompt that the decoder still knew from the turn before, or from another slot's.
    pub n_reused: usize,
    /// Those of them that were another slot's.
    pub n_copied: usize,
    /// Tokens that were drafted ahead, and those of them that the model chose as well: each spared a pass.
    pub n_drafted: usize,
    pub n_accepted: usize,
    pub timings: Timings,
}

/// Where the time of an answer went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// In the vision tower and the projector.
    pub encode: Duration,
    /// Reading the prompt.
    pub prefill: Duration,
    /// Writing the answer, from its second token on: the first one falls out of the prefill.
    pub decode: Duration,
}

impl Outcome {
    /// Tokens of the answer a second of decoding; `None` for an answer of one token.
    pub fn tokens_per_second(&self) -> Option<f64> {
        let n_decoded = self.ids.len().saturating_sub(1);
        let seconds = self.timings.decode.as_secs_f64();
        (n_decoded > 0 && seconds > 0.0).then(|| n_decoded as f64 / seconds)
    }
}
