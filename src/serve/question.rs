//! A question as every dialect has it, and what the engine makes of it: pictures are decoded, settings checked, turns put in order.

use super::app::App;
use super::caller::Caller;
use super::fault::{Fault, Result};
use super::picture::{Picture, Pictures, Seen};
use crate::engine::{Checked, Constraint, Request, Sampling};
use crate::prompt::{Message, Part, Role};
use crate::token::TokenId;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

/// What somebody asks.
#[derive(Debug)]
pub struct Question {
    pub system: Option<String>,
    pub turns: Vec<Turn>,
    /// The one turn is a text that goes on, and no question.
    pub continues: bool,
    /// The tokens of that text, which then stands in no turn.
    pub ids: Option<Vec<TokenId>>,
    /// Tell how likely the text's tokens were, too.
    pub scores_prompt: bool,
    pub settings: Settings,
}

/// What one side says.
#[derive(Debug)]
pub struct Turn {
    pub role: Role,
    /// In the order in which they were given.
    pub pieces: Vec<Piece>,
}

#[derive(Debug)]
pub enum Piece {
    Text(String),
    Picture(Picture),
}

/// How to answer; what is not said is as the model's file says.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub temperature: Option<f32>,
    pub top_k: Option<u32>,
    pub top_p: Option<f32>,
    pub min_p: Option<f32>,
    pub repeat_penalty: Option<f32>,
    pub seed: Option<u64>,
    pub max_tokens: Option<u32>,
    pub stop: Vec<String>,
    /// What the answer has to be.
    pub constraint: Option<Constraint>,
    /// Tell how likely each token was, and so many others.
    pub logprobs: Option<u32>,
}

/// A question that the engine can take.
pub struct Prepared {
    pub request: Checked,
    pub pictures: Vec<Seen>,
}

impl Piece {
    /// The picture that `url` in the field `place` is or names.
    ///
    /// # Errors
    /// As [`Picture::new`].
    pub fn picture(place: String, url: String) -> Result<Piece> {
        Picture::new(place, url).map(Piece::Picture)
    }
}

impl Pictures for Question {
    fn pictures(&mut self) -> Vec<&mut Picture> {
        let pieces = self.turns.iter_mut().flat_map(|turn| &mut turn.pieces);
        pieces
            .filter_map(|piece| if let Piece::Picture(picture) = piece { Some(picture) } else { None })
            .collect()
    }
}

impl Question {
    /// About `turns`.
    pub fn new(system: Option<String>, turns: Vec<Turn>, settings: Settings) -> Question {
        Question { system, turns, continues: false, ids: None, scores_prompt: false, settings }
    }

    /// Makes all of it ready. Takes as long as its pictures take to decode.
    ///
    /// # Errors
    /// `Request`, naming what is wrong.
    pub fn prepare(self, app: &App, caller: &Caller) -> Result<Prepared> {
        let (mut images, mut pictures, mut messages) = (Vec::new(), Vec::new(), Vec::new());
        for Turn { role, pieces } in self.turns {
            let mut parts = Vec::new();
            for piece in pieces {
                parts.push(match piece {
                    Piece::Text(text) => Part::Text(text),
                    Piece::Picture(picture) => {
                        let (seen, pixels) = picture.see(app)?;
                        pictures.push(seen);
                        images.push(Arc::new(pixels));
                        Part::Image(images.len() - 1)
                    }
                });
            }
            messages.push(Message { role, parts });
        }
        if let Some(ids) = &self.ids {
            let text = app.engine()?.loaded().tokenizer.decode_within(ids);
            messages = vec![Message { role: Role::User, parts: vec![Part::Text(text)] }];
        }
        let max_tokens = self.settings.max_tokens(app)?;
        let sampling = self.settings.sampling(app)?;
        let Settings { stop, constraint, logprobs, .. } = self.settings;
        let request = Request {
            system: self.system,
            sampling,
            max_tokens,
            stop,
            constraint,
            continues: self.continues,
            ids: self.ids,
            scores_prompt: self.scores_prompt,
            logprobs,
            ..Request::new(messages, images)
        };
        // Whoever streams has to hear of it before the response begins.
        let request = app.engine()?.check_in(app.scope(caller), request).map_err(Fault::of_request)?;
        request.check_room().map_err(Fault::of_request)?;
        Ok(Prepared { request, pictures })
    }
}

impl Settings {
    fn max_tokens(&self, app: &App) -> Result<u32> {
        let max = app.limits().max_tokens;
        match self.max_tokens {
            Some(n) if n > max => Err(Fault::of("max_tokens", format_args!("at most {max}, found {n}"))),
            Some(n) => Ok(n),
            None => Ok(app.facts().generation.max_tokens.min(max)),
        }
    }

    fn sampling(&self, app: &App) -> Result<Sampling> {
        let sampling = Sampling {
            temperature: self.temperature.unwrap_or(app.facts().generation.temperature),
            top_k: self.top_k.unwrap_or(0),
            top_p: self.top_p.unwrap_or(1.0),
            min_p: self.min_p.unwrap_or(0.0),
            repeat_penalty: self.repeat_penalty.unwrap_or(1.0),
            // The hasher's keys are the system's random numbers, which is all that a seed needs.
            seed: self.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish()),
        };
        sampling.check().map_err(Fault::of_request)?;
        Ok(sampling)
    }
}
