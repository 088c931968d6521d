//! `owlet run`: one question, one answer.

use super::constraint::ConstraintFlags;
use super::flags::{AnswerFlags, ModelFlags};
use super::follow::{Followed, follow};
use super::mentions::{self, Piece};
use super::pictures::{self, Attached};
use super::screen::{Screen, note};
use super::web::UrlFlags;
use super::{IN_PART, INTERRUPTED, json, receipt, wrong_usage};
use crate::engine::{Constraint, EmbeddingSource, Engine, FinishReason, Loaded, Request};
use crate::error::{Error, Result};
use crate::prompt::Message;
use serde::Serialize;
use std::fs::File;
use std::io::{IsTerminal, Read, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

/// Longest question that a file may hold; the context is shorter.
const MAX_QUESTION_BYTES: u64 = 1 << 20;

/// Answer one question, about pictures if there are any
///
/// The answer goes to standard output as it is written, a line about sizes and times to standard error. Ctrl-C ends the answer
/// early; what was said stays, and the exit status is 130. It is 3 where an answer that --choice or --output-schema asked for
/// was ended before it was complete, by -n or the context.
#[derive(clap::Args)]
pub struct Run {
    /// The question, `-` for standard input; a picture's path in it attaches the picture, as in the chat
    #[arg(value_parser = not_blank, required_unless_present = "file", conflicts_with = "file")]
    question: Option<String>,
    /// Words too many, to say what is meant instead
    #[arg(hide = true)]
    more: Vec<String>,
    /// Read the question from a file
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Picture to ask about (JPEG, PNG, WebP, GIF, BMP), `-` for standard input; may be given several times
    #[arg(short, long = "image", value_name = "PATH")]
    images: Vec<PathBuf>,
    #[command(flatten)]
    urls: UrlFlags,
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
    #[command(flatten)]
    constraint: ConstraintFlags,
}

impl Run {
    pub fn run(self) -> Result<ExitCode> {
        self.answer.check("run");
        self.check_words();
        let n_pictures = self.images.iter().filter(|path| path.as_os_str() == "-").count();
        let is_question = self.question_file().is_some_and(|path| path.as_os_str() == "-");
        match n_pictures + usize::from(is_question) {
            0 => {}
            1 if stdin().is_terminal() => wrong_usage("run", "- is standard input, which is a terminal"),
            1 => {}
            _ => wrong_usage("run", "- may be given once: there is one standard input"),
        }
        let question = self.question()?;
        let pieces = match self.question_file() {
            // What a script passes on may be about paths.
            Some(_) => vec![Piece::Text(question)],
            None => mentions::pieces(&question, &pictures::is_there),
        };
        let constraint = self.constraint.constraint()?;
        let is_constrained = constraint.is_some();
        // Pictures come first: a wrong path is said at once, not after a model was opened.
        let given = self.images.iter().map(|path| self.urls.find(path, self.quiet));
        let mentioned = mentions::places(&pieces).map(|place| self.urls.find_at(place, self.quiet));
        let found = given.chain(mentioned).collect::<Result<Vec<_>>>()?;
        let question = self.words(&pieces, found.len())?;
        let started = Instant::now();
        let engine = self.model.start(self.quiet)?;
        let load_s = started.elapsed().as_secs_f64();
        let pictures =
            found.into_iter().map(|found| found.attach(engine.loaded())).collect::<Result<Vec<_>>>()?;
        let request = self.request(&engine, question, &pictures, constraint)?;
        let seed = request.sampling.seed;

        let mut screen = Screen::new();
        let ticket = engine.submit(request)?;
        let is_quiet = self.quiet || self.json;
        let show = |text: &str| if self.json { Ok(()) } else { screen.say(text) };
        let followed = follow(&ticket, pictures.len(), self.quiet, show)?;
        let model = engine.loaded();
        if self.json {
            let mut report = Report::new(model, seed, &pictures, &followed, load_s);
            report.complete = is_constrained.then_some(!followed.outcome.broke_off);
            json::write_line(&mut stdout().lock(), &report).map_err(Screen::failed)?;
        } else {
            screen.say("\n")?;
        }
        if !is_quiet {
            note(&receipt::line(&engine, &pictures, &followed));
        }
        let outcome = &followed.outcome;
        Ok(if outcome.finish_reason == FinishReason::Cancelled {
            ExitCode::from(INTERRUPTED)
        } else if outcome.broke_off {
            note(&format!("owlet: {}", receipt::broke_off(outcome.finish_reason)));
            ExitCode::from(IN_PART)
        } else {
            ExitCode::SUCCESS
        })
    }

    /// Ends the program where there is more than a question: a picture without its flag, most likely, or a question without quotes.
    fn check_words(&self) {
        let Some(more) = self.more.first() else { return };
        let mut words = self.question.iter().chain(&self.more);
        let advice = match words.find(|word| pictures::is_named(word)) {
            Some(picture) => format!("-i {picture} asks about a picture"),
            None => "a question of several words stands in quotes".to_string(),
        };
        wrong_usage("run", format_args!("unexpected argument '{more}' found; {advice}"))
    }

    /// Where the question is, unless it is an argument.
    fn question_file(&self) -> Option<&Path> {
        let is_input = self.question.as_deref() == Some("-");
        self.file.as_deref().or(is_input.then_some(Path::new("-")))
    }

    /// The question; without the line break at the end of a file.
    fn question(&self) -> Result<String> {
        let Some(path) = self.question_file() else {
            return Ok(self.question.clone().unwrap_or_default());
        };
        let mut bytes = Vec::new();
        let (place, read) = if path.as_os_str() == "-" {
            (
                "standard input".to_string(),
                stdin().lock().take(MAX_QUESTION_BYTES + 1).read_to_end(&mut bytes),
            )
        } else {
            let read =
                File::open(path).and_then(|file| file.take(MAX_QUESTION_BYTES + 1).read_to_end(&mut bytes));
            (path.display().to_string(), read)
        };
        read.map_err(|cause| Error::io(&place, cause))?;
        if bytes.len() as u64 > MAX_QUESTION_BYTES {
            let problem = format!("expected a question of at most {MAX_QUESTION_BYTES} bytes, found more");
            return Err(Error::format(place, problem));
        }
        let text = String::from_utf8(bytes)
            .map_err(|_| Error::format(&place, "expected a question in UTF-8, found other bytes"))?;
        not_blank(text.trim_end_matches(['\n', '\r'])).map_err(|problem| Error::format(place, problem))
    }

    /// The question without the paths of its pictures, which are the last of `n_pictures`.
    fn words(&self, pieces: &[Piece], n_pictures: usize) -> Result<String> {
        if let [Piece::Text(text)] = pieces {
            if self.question_file().is_none() && !self.quiet {
                let hint = |name| {
                    note(&format!("{name} is sent as a word; ./{name} or --image attaches the picture"))
                };
                pictures::named_in(text).for_each(hint);
            }
            return Ok(text.clone());
        }
        let numbers: Vec<_> = (self.images.len() + 1..=n_pictures).collect();
        match mentions::words(pieces, &numbers) {
            words if words.is_empty() => {
                Err(Error::request("expected a question about the picture, found its path alone"))
            }
            words => Ok(words),
        }
    }

    fn request(
        &self,
        engine: &Engine,
        question: String,
        pictures: &[Attached],
        constraint: Option<Constraint>,
    ) -> Result<Request> {
        let model = engine.loaded();
        let images = pictures.iter().map(|picture| Arc::clone(&picture.pixels)).collect();
        Ok(Request {
            system: self.answer.system.clone(),
            sampling: self.answer.sampling(model)?,
            max_tokens: self.answer.max_tokens(model),
            stop: self.answer.stop.clone(),
            constraint,
            ..Request::new(vec![Message::user(question, 0..pictures.len())], images)
        })
    }
}

pub fn not_blank(question: &str) -> std::result::Result<String, String> {
    if question.trim().is_empty() { Err("expected a question".to_string()) } else { Ok(question.to_string()) }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    text: &'a str,
    finish_reason: &'static str,
    /// Of an answer with a constraint: it is all that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    complete: Option<bool>,
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
            complete: None,
            tokens: Tokens { prompt: outcome.n_prompt, completion: outcome.ids.len(), ids: &outcome.ids },
            images: pictures.iter().zip(&followed.sources).map(image).collect(),
            timings,
            model: &model.config.name,
            exact: model.model.is_exact(),
            seed,
        }
    }
}
