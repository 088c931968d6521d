//! The runs that are timed. Each test runs once to warm up, then so many times for the clock.
//!
//! Comes in: a loaded [`Subject`]. Goes out: [`Timing`]s, raw seconds beside the work that they took. The network is run as
//! the engine runs it, prompts in the same pieces, but without a request around it, so that only one thing is timed.

use std::time::Instant;

use owlet_format::{ImageConfig, Part, TextConfig, VisionConfig};

use super::options::Options;
use super::photo;
use super::subject::Subject;
use super::test::Test;
use super::timing::Timing;
use super::watch::Watch;
use super::work::{Typed, Work};
use crate::engine::{self, Engine, Loaded};
use crate::error::Result;
use crate::model::{Decoder, Input, Logits, Row, VisionEncoder};
use crate::prompt::{Limits, decode, preprocess};

/// What became of a test.
pub(super) enum Outcome {
    Ran(Vec<Timing>),
    Skipped(String),
}

/// Tokens that a repetition of the decode tests writes.
const N_DECODED: u32 = 16;

/// Positions in front of those of [`Test::Decode2048`].
const N_BEFORE: u32 = 2048;

pub(super) struct Runs<'a, 'w> {
    pub subject: &'a Subject<'a>,
    pub options: &'a Options,
    pub watch: &'a mut Watch<'w>,
}

impl Runs<'_, '_> {
    /// Runs `test`. The tower's two tests are one run: either brings the timings of both.
    ///
    /// # Errors
    /// `Cancelled`; what the model, the memory or the file says.
    pub fn run(&mut self, test: Test) -> Result<Outcome> {
        let subject = self.subject;
        let lacks = |half: &str| Ok(Outcome::Skipped(format!("this model has no {half} half")));
        let (vision, image, text) = (&subject.config.vision, &subject.config.image, &subject.config.text);
        match (test, vision, image, text) {
            (Test::Picture, ..) => self.picture(),
            (Test::Preprocess, _, Some(image), _) => self.preprocess(image),
            (Test::Projector, Some(_), ..) if subject.config.projector.is_none() => {
                Ok(Outcome::Skipped("this model has no projector".into()))
            }
            (Test::Vision | Test::Projector, Some(vision), ..) => self.vision(vision),
            (Test::Prefill256, .., Some(text)) => self.prefill(test, text, 256),
            (Test::Prefill512, .., Some(text)) => self.prefill(test, text, 512),
            (Test::Decode, .., Some(text)) => self.decode(test, text, 0),
            (Test::Decode2048, .., Some(text)) => self.decode(test, text, N_BEFORE),
            (Test::Startup, .., Some(_)) => self.startup(),
            (Test::Preprocess | Test::Vision | Test::Projector, ..) => lacks("vision"),
            _ => lacks("text"),
        }
    }

    /// What an answer about a picture takes, once and by no clock: for the memory that it needs.
    pub fn answer_once(&mut self) -> Result<()> {
        let options = Options { repetitions: 0, ..self.options.clone() };
        let mut once = Runs { subject: self.subject, options: &options, watch: &mut *self.watch };
        for test in [Test::Vision, Test::Prefill256, Test::Decode] {
            once.run(test)?;
        }
        Ok(())
    }

    fn picture(&mut self) -> Result<Outcome> {
        let bytes = photo::photo()?;
        let seconds = self.repeat(Test::Picture, || {
            let started = Instant::now();
            decode(&bytes, "photo", &Limits::default())?;
            Ok(started.elapsed().as_secs_f64())
        })?;
        Ok(megapixels(Test::Picture, Some("jpeg".into()), seconds))
    }

    fn preprocess(&mut self, config: &ImageConfig) -> Result<Outcome> {
        let picture = decode(&photo::photo()?, "photo", &Limits::default())?;
        let seconds = self.repeat(Test::Preprocess, || {
            let started = Instant::now();
            preprocess(&picture, config)?;
            Ok(started.elapsed().as_secs_f64())
        })?;
        Ok(megapixels(Test::Preprocess, None, seconds))
    }

    fn vision(&mut self, config: &VisionConfig) -> Result<Outcome> {
        let n_px = config.image_px as usize;
        let pixels: Vec<f32> =
            (0..n_px * n_px * 3).map(|at| ((at * 37 % 101) as f32 - 50.0) / 25.0).collect();
        let mut encoder = VisionEncoder::new(&self.subject.model)?;
        let n_of_tower = 1 + config.n_layer;
        let (mut tower, mut projector) = (Vec::new(), Vec::new());
        let n_runs = u64::from(self.options.repetitions) + 1;
        for run in 0..n_runs {
            let mut started = Instant::now();
            let mut step = encoder.start(&pixels)?;
            while !step.is_last() {
                let total = u64::from(step.total);
                self.watch.tell("vision", run * total + u64::from(step.done), n_runs * total)?;
                step = encoder.step(self.watch.cancel)?;
                let is_warm = run > 0;
                if is_warm && step.done == n_of_tower {
                    tower.push(started.elapsed().as_secs_f64());
                    started = Instant::now();
                } else if is_warm && step.is_last() {
                    projector.push(started.elapsed().as_secs_f64());
                }
            }
        }
        let timing = |test, part, seconds, work: &dyn Fn(&VisionConfig, &[Typed]) -> Option<Work>| Timing {
            test,
            dtype: Some(self.subject.types(part)),
            seconds,
            n_units: 1.0,
            unit: "pictures/s",
            work: work(config, &self.subject.tensors),
            full: self.subject.full().and_then(|full| work(full.config().vision.as_ref()?, full.tensors())),
        };
        let mut timings = vec![timing(Test::Vision, Part::Vision, tower, &|config, tensors| {
            Some(Work::vision(config, tensors))
        })];
        if let Some(of_projector) = &self.subject.config.projector {
            let work = |config: &VisionConfig, tensors: &[Typed]| {
                Some(Work::projector(config, of_projector, tensors))
            };
            timings.push(timing(Test::Projector, Part::Projector, projector, &work));
        }
        Ok(Outcome::Ran(timings))
    }

    fn prefill(&mut self, test: Test, config: &TextConfig, n: u32) -> Result<Outcome> {
        if let Some(why) = too_short(config, n) {
            return Ok(Outcome::Skipped(why));
        }
        let mut decoder = Decoder::new(&self.subject.model, n, 1, self.options.setup.kv_type)?;
        let mut seconds = Vec::new();
        let n_runs = u64::from(self.options.repetitions) + 1;
        for run in 0..n_runs {
            decoder.truncate(0, 0);
            let started = Instant::now();
            self.read(&mut decoder, config, n, |done| {
                (test.name(), run * u64::from(n) + done, n_runs * u64::from(n))
            })?;
            if run > 0 {
                seconds.push(started.elapsed().as_secs_f64());
            }
        }
        Ok(self.tokens(test, config, seconds, [0, n]))
    }

    /// Reads a prompt of `n` tokens into an empty context, in the engine's pieces; the last one's logits are wanted. `at`
    /// says what to tell when so many tokens are read.
    fn read(
        &mut self,
        decoder: &mut Decoder,
        config: &TextConfig,
        n: u32,
        at: impl Fn(u64) -> (&'static str, u64, u64),
    ) -> Result<()> {
        let rows: Vec<Row> = (0..n).map(|pos| token(config, pos, pos + 1 == n)).collect();
        let mut done = 0;
        for piece in rows.chunks(engine::prompt_rows(&self.subject.model)) {
            let (what, now, of) = at(done);
            self.watch.tell(what, now, of)?;
            decoder.forward(piece, &[], self.watch.cancel)?;
            done += piece.len() as u64;
        }
        Ok(())
    }

    fn decode(&mut self, test: Test, config: &TextConfig, n_past: u32) -> Result<Outcome> {
        let n_ctx = n_past + N_DECODED;
        if let Some(why) = too_short(config, n_ctx) {
            return Ok(Outcome::Skipped(why));
        }
        let mut decoder = Decoder::new(&self.subject.model, n_ctx, 1, self.options.setup.kv_type)?;
        self.read(&mut decoder, config, n_past, |done| ("reading 2048 tokens", done, n_past.into()))?;
        let (mut seconds, mut logits) = (Vec::new(), Logits::default());
        let n_runs = u64::from(self.options.repetitions) + 1;
        for run in 0..n_runs {
            decoder.truncate(0, n_past);
            let started = Instant::now();
            for (done, pos) in (0..).zip(n_past..n_ctx) {
                self.watch.tell(
                    test.name(),
                    run * u64::from(N_DECODED) + done,
                    n_runs * u64::from(N_DECODED),
                )?;
                let row = token(config, pos, true);
                decoder.forward_into(&[row], &[], self.watch.cancel, &mut logits)?;
            }
            if run > 0 {
                seconds.push(started.elapsed().as_secs_f64() / f64::from(N_DECODED));
            }
        }
        // The middle one stands for all of them.
        Ok(self.tokens(test, config, seconds, [n_past + N_DECODED / 2, 1]))
    }

    fn startup(&mut self) -> Result<Outcome> {
        let setup = self.options.setup.clone();
        let kv_type = self.options.setup.kv_type;
        let subject = self.subject;
        let seconds = self.repeat(Test::Startup, || {
            let started = Instant::now();
            let loaded = Loaded::from_file(&subject.reopen()?, &setup)?;
            let n_ctx = loaded.text.n_ctx_train;
            let cache = engine::CacheOptions::default();
            let engine = Engine::start(
                loaded,
                engine::Options {
                    n_ctx,
                    n_slots: 1,
                    kv_type,
                    cache,
                    speculation: engine::Speculation::Auto,
                    low_memory: false,
                },
            )?;
            let seconds = started.elapsed().as_secs_f64();
            drop(engine);
            Ok(seconds)
        })?;
        let timing = Timing {
            test: Test::Startup,
            dtype: None,
            seconds,
            n_units: 1.0,
            unit: "starts/s",
            work: None,
            full: None,
        };
        Ok(Outcome::Ran(vec![timing]))
    }

    /// The timing of `n_rows` positions of the text half behind `n_past`.
    fn tokens(
        &self,
        test: Test,
        config: &TextConfig,
        seconds: Vec<f64>,
        [n_past, n_rows]: [u32; 2],
    ) -> Outcome {
        let full = self
            .subject
            .full()
            .and_then(|full| Some(Work::text(full.config().text.as_ref()?, full.tensors(), n_past, n_rows)));
        Outcome::Ran(vec![Timing {
            test,
            dtype: Some(self.subject.types(Part::Text)),
            seconds,
            n_units: n_rows.into(),
            unit: "tokens/s",
            work: Some(Work::text(config, &self.subject.tensors, n_past, n_rows)),
            full,
        }])
    }

    /// The seconds that `once` says, without the first ones.
    fn repeat(&mut self, test: Test, mut once: impl FnMut() -> Result<f64>) -> Result<Vec<f64>> {
        let n_runs = self.options.repetitions + 1;
        let mut seconds = Vec::new();
        for run in 0..n_runs {
            self.watch.tell(test.name(), run.into(), n_runs.into())?;
            let took = once()?;
            if run > 0 {
                seconds.push(took);
            }
        }
        Ok(seconds)
    }
}

fn megapixels(test: Test, dtype: Option<String>, seconds: Vec<f64>) -> Outcome {
    let n_units = (photo::WIDTH * photo::HEIGHT) as f64 / 1e6;
    Outcome::Ran(vec![Timing { test, dtype, seconds, n_units, unit: "megapixels/s", work: None, full: None }])
}

fn too_short(config: &TextConfig, n_ctx: u32) -> Option<String> {
    (config.n_ctx_train < n_ctx)
        .then(|| format!("needs a context of {n_ctx}, this model has one of {}", config.n_ctx_train))
}

/// Some token or other at `pos`.
fn token(config: &TextConfig, pos: u32, want_logits: bool) -> Row {
    // Knuth's multiplier: neighbours are far apart in the table of embeddings.
    let id = (u64::from(pos) * 2_654_435_761 % u64::from(config.n_vocab)) as u32;
    Row { input: Input::Token(id), seq: 0, pos, want_logits }
}
