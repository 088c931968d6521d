//! A chat at work: questions go to the engine with the conversation before them, and what comes back is shown.

use super::conversation::{Seen, Shown, Talk};
use super::settings::Settings;
use super::totals::Totals;
use crate::cli::flags::AnswerFlags;
use crate::cli::follow::{Followed, Happening, watch};
use crate::cli::mentions::{self, Place};
use crate::cli::pictures::{self, Attached, Found};
use crate::cli::preview::Drawing;
use crate::cli::receipt;
use crate::cli::screen::{Screen, aside, draw, note};
use crate::cli::web::UrlFlags;
use crate::engine::{Checked, EmbeddingSource, Engine, FinishReason, Outcome, Request};
use crate::error::{Error, Result};
use crate::measure::Expected;
use std::sync::Arc;
use std::time::Duration;

/// Shorter waits need no warning.
const MIN_WAIT: Duration = Duration::from_secs(1);

pub struct Session<'a> {
    pub engine: &'a Engine,
    pub talk: Talk,
    pub settings: Settings,
    pub totals: Totals,
    /// Positions of the context that the conversation took when it was last computed.
    pub n_used: usize,
    /// What a picture should take, by benches.
    pub expected: Vec<Expected>,
    /// How pictures are drawn, if at all.
    pub drawing: Option<Drawing>,
    pub n_columns: usize,
    /// Whether addresses may be fetched.
    pub urls: UrlFlags,
    stop: Vec<String>,
    is_quiet: bool,
    screen: Screen,
}

impl Session<'_> {
    /// # Errors
    /// `Request` where a flag would have no effect.
    pub fn new<'a>(engine: &'a Engine, flags: &AnswerFlags, is_quiet: bool) -> Result<Session<'a>> {
        let model = engine.loaded();
        let (sampling, max_tokens) = (flags.sampling(model)?, flags.max_tokens(model));
        Ok(Session {
            engine,
            talk: Talk::new(flags.system.clone()),
            settings: Settings { sampling, max_tokens },
            totals: Totals::default(),
            n_used: 0,
            expected: Vec::new(),
            drawing: None,
            n_columns: 0,
            urls: UrlFlags::default(),
            stop: flags.stop.clone(),
            is_quiet,
            screen: Screen::new(),
        })
    }

    /// Says what is not an answer.
    pub fn tell(&self, text: &str) {
        if !self.is_quiet {
            aside(text);
        }
    }

    pub fn is_quiet(&self) -> bool {
        self.is_quiet
    }

    /// The picture at a place that somebody typed.
    ///
    /// # Errors
    /// As [`UrlFlags::find_at`].
    pub fn find(&self, place: &Place) -> Result<Found> {
        self.urls.find_at(place, self.is_quiet)
    }

    /// Attaches a picture to the next question, and shows it; says its number.
    ///
    /// # Errors
    /// `Unsupported` where the model takes no pictures.
    pub fn attach(&mut self, found: Found) -> Result<usize> {
        let attached = found.attach(self.engine.loaded())?;
        Ok(self.show(attached))
    }

    /// The same for a picture that a question names: one that waits already, since that question was stopped before its answer, is
    /// there once.
    fn attach_once(&mut self, found: Found) -> Result<usize> {
        let attached = found.attach(self.engine.loaded())?;
        match self.talk.waiting_like(&attached.pixels) {
            Some(number) => {
                self.tell(&format!("Image-{number}: {}, which waits already", attached.source));
                Ok(number)
            }
            None => Ok(self.show(attached)),
        }
    }

    fn show(&mut self, attached: Attached) -> usize {
        let receipt = receipt::picture(&attached);
        if let Some(drawing) = self.drawing {
            draw(&drawing.draw(&attached.pixels, self.n_columns));
        }
        let number = self.talk.pictures().len() + 1;
        self.tell(&format!("Image-{number}: {receipt}"));
        let (name, pixels) = (attached.source, attached.pixels);
        self.talk.attach(Shown { name, receipt, pixels, seen: Seen::NotYet });
        number
    }

    /// Asks, with the pictures that the question names; all of them or no question. One that only names pictures attaches them to
    /// the next.
    ///
    /// # Errors
    /// What is wrong with a picture, or what the engine fails with. A question that brought no answer is not kept, its
    /// pictures are.
    pub fn ask(&mut self, question: &str) -> Result<()> {
        let pieces = mentions::pieces(question, &pictures::is_there);
        let found = mentions::places(&pieces).map(|place| self.find(place)).collect::<Result<Vec<_>>>();
        let found = found.map_err(|error| stopped(error, "the question is not sent"))?;
        let numbers = found.into_iter().map(|found| self.attach_once(found)).collect::<Result<Vec<_>>>()?;
        let words = mentions::words(&pieces, &numbers);
        if words.is_empty() {
            return Ok(());
        }
        self.hint_at_names(&words);
        self.talk.ask(&words);
        let replied = self.reply();
        match &replied {
            Ok(outcome) if says_something(outcome) => self.talk.answer(&outcome.text),
            _ => self.talk.take_back(),
        }
        if !says_something(&replied?) {
            note("stopped; the question is not kept, its pictures are");
        }
        Ok(())
    }

    /// Answers the last question anew, from another seed.
    ///
    /// # Errors
    /// `Request` where nothing was answered, and what the engine fails with. The old answer stays where no new one comes.
    pub fn answer_anew(&mut self) -> Result<()> {
        let old = self.talk.unanswer().ok_or_else(|| Error::request("nothing was answered yet"))?;
        self.settings.sampling.seed = self.settings.sampling.seed.wrapping_add(1);
        let replied = self.reply();
        let new = replied.as_ref().ok().filter(|outcome| says_something(outcome));
        let text = new.map_or(&old, |outcome| &outcome.text).clone();
        self.talk.answer(&text);
        if !says_something(&replied?) {
            note("stopped; the old answer is kept");
        } else if text == old && self.settings.sampling.temperature == 0.0 {
            self.tell("the same again, as always at temperature 0; /set temperature 0.7 lets answers differ");
        }
        Ok(())
    }

    /// Has the last message answered on the screen.
    fn reply(&mut self) -> Result<Outcome> {
        let request = self.engine.check(self.request())?;
        let n_pictures = request.request().images.len();
        self.check_room(&request)?;
        let ticket = self.engine.answer(request)?;
        let (screen, talk, expected, is_quiet) =
            (&mut self.screen, &self.talk, &self.expected, self.is_quiet);
        let followed = watch(&ticket, n_pictures, is_quiet, |happening| match happening {
            Happening::Text(text) => screen.say(text),
            Happening::Looking(at) => {
                let name = talk.pictures().get(at).map(|picture| picture.name.as_str());
                if let (Some(wait), Some(name), false) = (wait_in_words(expected), name, is_quiet) {
                    aside(&format!("looking at {name} takes about {wait}"));
                }
                Ok(())
            }
        })?;
        if says_something(&followed.outcome) {
            self.screen.say("\n")?;
        }
        if followed.outcome.text.is_empty() && followed.outcome.finish_reason == FinishReason::Eos {
            self.tell("the model ended its answer without a word");
        }
        self.account(&followed);
        Ok(followed.outcome)
    }

    fn request(&self) -> Request {
        let asked = &self.talk.pictures()[..self.talk.n_asked()];
        let images = asked.iter().map(|picture| Arc::clone(&picture.pixels));
        Request {
            system: self.talk.system.clone(),
            sampling: self.settings.sampling,
            max_tokens: self.settings.max_tokens,
            stop: self.stop.clone(),
            ..Request::new(self.talk.messages().to_vec(), images.collect())
        }
    }

    /// A question must fit with everything before it: nothing is dropped to make room.
    fn check_room(&self, request: &Checked) -> Result<()> {
        let (n_needed, n_ctx) = (request.n_prompt(), self.n_ctx());
        if n_needed <= n_ctx {
            return Ok(());
        }
        let problem =
            format!("the context is full: with this question it needs {n_needed} positions of {n_ctx}");
        Err(Error::request(match self.talk.n_turns() {
            1 if request.request().images.is_empty() => format!("{problem}; ask a shorter one"),
            _ => format!("{problem}; {}", self.ways_out()),
        }))
    }

    /// What makes room.
    fn ways_out(&self) -> String {
        let of_picture = self.engine.loaded().n_image_tokens().filter(|_| !self.talk.pictures().is_empty());
        let drop = of_picture.map(|n| format!("/drop N takes out a picture ({n}), ")).unwrap_or_default();
        format!("{drop}/undo the last turn, /clear everything")
    }

    /// Keeps and tells what an answer took.
    fn account(&mut self, followed: &Followed) {
        let outcome = &followed.outcome;
        for (at, source) in followed.sources.iter().enumerate() {
            let seen = match source {
                Some(EmbeddingSource::Computed) => Seen::Took(followed.looked[at]),
                Some(_)
                    if self.talk.pictures().get(at).is_some_and(|picture| picture.seen == Seen::NotYet) =>
                {
                    Seen::Cached
                }
                _ => continue,
            };
            self.talk.saw(at, seen);
        }
        self.totals.add(followed, receipt::line(self.engine, &[], followed));
        // The last token of an answer that was cut off found no room.
        self.n_used = (outcome.n_prompt + outcome.ids.len()).min(self.n_ctx());
        self.tell(&format!("{} | {}", receipt::status(self.engine, followed), self.context_in_words()));
        match outcome.finish_reason {
            FinishReason::Context => note(&format!(
                "the context is full: the answer stops here, and nothing was dropped; {}",
                self.ways_out()
            )),
            FinishReason::Cancelled if says_something(outcome) => note("stopped; what was said is kept"),
            _ if self.n_used * 10 >= self.n_ctx() * 9 => self.tell(&format!(
                "the context is nearly full: {} of its positions left; {}",
                self.n_ctx().saturating_sub(self.n_used),
                self.ways_out()
            )),
            _ => {}
        }
    }

    /// `context 45 of 2048 (2%)`
    pub fn context_in_words(&self) -> String {
        let (n_used, n_ctx) = (self.n_used, self.n_ctx());
        format!("context {n_used} of {n_ctx} ({}%)", 100 * n_used / n_ctx.max(1))
    }

    fn n_ctx(&self) -> usize {
        self.engine.options().n_ctx as usize
    }

    /// A picture's name without a path is text; somebody may have meant the picture.
    fn hint_at_names(&self, text: &str) {
        for name in pictures::named_in(text) {
            self.tell(&format!("{name} is sent as a word; ./{name} attaches the picture"));
        }
    }
}

/// An answer, even an empty one: what was stopped before its first word is none.
fn says_something(outcome: &Outcome) -> bool {
    !(outcome.text.is_empty() && outcome.finish_reason == FinishReason::Cancelled)
}

/// Ctrl-C while a file or an address is gone through ends that, not the chat.
pub fn stopped(error: Error, what: &str) -> Error {
    match error {
        Error::Cancelled => Error::request(format!("stopped; {what}")),
        error => error,
    }
}

/// `52 s (measured on 2026-11-23)`; nothing for what takes no time worth telling, or where no bench knows.
fn wait_in_words(expected: &[Expected]) -> Option<String> {
    let seconds: f64 = expected.iter().map(|part| part.seconds).sum();
    let wait = Duration::try_from_secs_f64(seconds).ok().filter(|wait| *wait >= MIN_WAIT)?;
    let longest = expected.iter().max_by(|a, b| a.seconds.total_cmp(&b.seconds))?;
    let day = longest.date.split('T').next().unwrap_or_default();
    let source = match longest.is_same_model {
        true => format!("measured on {day}"),
        false => format!("guessed from a bench of {} on {day}", longest.measured_on),
    };
    Some(format!("{} ({source})", receipt::rounded(wait)))
}
