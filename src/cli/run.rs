//! `owlet run`: one question, one answer.

use super::flags::{AnswerFlags, ModelFlags};
use super::follow::{Followed, follow};
use super::pictures::Attached;
use super::screen::{Screen, note};
use super::{INTERRUPTED, json, receipt, web, wrong_usage};
use crate::engine::{EmbeddingSource, Engine, FinishReason, Loaded, Request};
use crate::error::Result;
use crate::prompt::Message;
use serde::Serialize;
use std::io::{IsTerminal, stdin, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

/// Answer one question, about pictures if there are any
///
/// The answer goes to standard output as it is written, a line about sizes and times to standard error. Ctrl-C ends the answer
/// early; what was said stays, and the exit status is 130.
#[derive(clap::Args)]
pub struct Run {
    /// The question
    #[arg(value_parser = not_blank)]
    question: String,
    /// Picture to ask about (JPEG, PNG, WebP, GIF, BMP), `-` for standard input; may be given several times
    #[arg(short, long = "image", value_name = "PATH")]
    images: Vec<PathBuf>,
    /// Take https addresses as pictures, too: of public servers, up to 10 MB, within 10 seconds
    #[arg(long)]
    allow_url: bool,
    /// Print one JSON object instead: text, tokens, finish_reason, images, timings
    #[arg(long)]
    json: bool,
    /// Print the answer and nothing else
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    model: ModelFlags,
    #[command(flatten)]
    answer: AnswerFlags,
}

impl Run {
    pub fn run(self) -> Result<ExitCode> {
        self.answer.check("run");
        match self.images.iter().filter(|path| path.as_os_str() == "-").count() {
            0 => {}
            1 if stdin().is_terminal() => {
                wrong_usage("run", "--image - reads a picture from standard input, which is a terminal")
            }
            1 => {}
            _ => wrong_usage("run", "--image - may be given once: there is one standard input"),
        }
        // Pictures come first: a wrong path is said at once, not after a model was opened.
        let found =
            self.images.iter().map(|path| web::find(path, self.allow_url)).collect::<Result<Vec<_>>>()?;
        let started = Instant::now();
        let engine = self.model.start(self.quiet)?;
        let load_s = started.elapsed().as_secs_f64();
        let pictures =
            found.into_iter().map(|found| found.attach(engine.loaded())).collect::<Result<Vec<_>>>()?;
        let request = self.request(&engine, &pictures)?;
        let seed = request.sampling.seed;

        let mut screen = Screen::new();
        let ticket = engine.submit(request)?;
        let is_quiet = self.quiet || self.json;
        let show = |text: &str| if self.json { Ok(()) } else { screen.say(text) };
        let followed = follow(&ticket, pictures.len(), self.quiet, show)?;
        let model = engine.loaded();
        if self.json {
            let report = Report::new(model, seed, &pictures, &followed, load_s);
            json::write_line(&mut stdout().lock(), &report).map_err(Screen::failed)?;
        } else {
            screen.say("\n")?;
        }
        if !is_quiet {
            note(&receipt::line(&engine, &pictures, &followed));
        }
        let is_cancelled = followed.outcome.finish_reason == FinishReason::Cancelled;
        Ok(if is_cancelled { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
    }

    fn request(&self, engine: &Engine, pictures: &[Attached]) -> Result<Request> {
        let model = engine.loaded();
        Ok(Request {
            messages: vec![Message::user(&self.question, 0..pictures.len())],
            images: pictures.iter().map(|picture| Arc::clone(&picture.pixels)).collect(),
            system: self.answer.system.clone(),
            sampling: self.answer.sampling(model)?,
            max_tokens: self.answer.max_tokens(model),
            stop: self.answer.stop.clone(),
        })
    }
}

fn not_blank(question: &str) -> std::result::Result<String, String> {
    if question.trim().is_empty() { Err("expected a question".to_string()) } else { Ok(question.to_string()) }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    text: &'a str,
    finish_reason: &'static str,
    tokens: Tokens<'a>,
    images: Vec<Image<'a>>,
    timings: Timings,
    model: &'a str,
    /// Activations were not rounded to 8 bits.
    exact: bool,
    seed: u64,
}

#[derive(Serialize)]
struct Tokens<'a> {
    prompt: usize,
    completion: usize,
    ids: &'a [u32],
}

#[derive(Serialize)]
struct Image<'a> {
    source: &'a str,
    format: &'a str,
    width: usize,
    height: usize,
    orientation: u8,
    alpha: bool,
    size_px: usize,
    n_tokens: usize,
    /// The tower did not run for it.
    cached: bool,
}

#[derive(Serialize)]
struct Timings {
    load_s: f64,
    encode_s: f64,
    prefill_s: f64,
    decode_s: f64,
    tokens_per_second: Option<f64>,
    /// Tokens that were drafted ahead where that seemed to pay, and those of them that the model chose as well.
    drafted: usize,
    accepted: usize,
}

impl<'a> Report<'a> {
    fn new(
        model: &'a Loaded,
        seed: u64,
        pictures: &'a [Attached],
        followed: &'a Followed,
        load_s: f64,
    ) -> Report<'a> {
        let outcome = &followed.outcome;
        let image = |(picture, source): (&'a Attached, &Option<EmbeddingSource>)| Image {
            source: &picture.source,
            format: &picture.format,
            width: picture.width,
            height: picture.height,
            orientation: picture.orientation,
            alpha: picture.alpha,
            size_px: picture.pixels.size_px,
            n_tokens: picture.n_tokens,
            cached: source.is_some_and(EmbeddingSource::is_cached),
        };
        let timings = Timings {
            load_s,
            encode_s: outcome.timings.encode.as_secs_f64(),
            prefill_s: outcome.timings.prefill.as_secs_f64(),
            decode_s: outcome.timings.decode.as_secs_f64(),
            tokens_per_second: outcome.tokens_per_second(),
            drafted: outcome.n_drafted,
            accepted: outcome.n_accepted,
        };
        Report {
            text: &outcome.text,
            finish_reason: outcome.finish_reason.word(),
            tokens: Tokens { prompt: outcome.n_prompt, completion: outcome.ids.len(), ids: &outcome.ids },
            images: pictures.iter().zip(&followed.sources).map(image).collect(),
            timings,
            model: &model.config.name,
            exact: model.model.is_exact(),
            seed,
        }
    }
}
