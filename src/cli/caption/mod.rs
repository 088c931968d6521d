//! `owlet caption`: one question about each of many pictures, a line of JSON for each answer.

mod gather;
mod lines;

use super::constraint::ConstraintFlags;
use super::flags::{AnswerFlags, ModelFlags};
use super::interrupt::Interruptible;
use super::progress::{Progress, Unit};
use super::quantity::span;
use super::receipt;
use super::screen::note;
use super::{IN_PART, wrong_usage};
use crate::engine::{Engine, Event, FinishReason, Outcome, Request};
use crate::error::{Error, Result};
use crate::prompt::{Limits, Message, decode, preprocess, read_limited};
use ggml::Cancel;
use lines::{Answer, Line, Lines, Size};
use owlet_format::hex;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often is looked for Ctrl-C while a picture takes its time.
const TICK: Duration = Duration::from_millis(200);

/// Ask one question about each of many pictures
///
/// The model is loaded once. Each picture becomes a line of JSON, in the order of the arguments and, within a directory, of names:
/// path, sha256, text and more (docs/caption.md). A picture that cannot be read is a line with `error`, and the next one follows;
/// the exit status is 3 then. Files with the same bytes are looked at once. After Ctrl-C, a kill or a power cut the same command
/// with --resume goes on behind the last line.
#[derive(clap::Args)]
pub struct Caption {
    /// Pictures, directories of pictures, patterns such as 'photos/*.jpg'
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// What is asked about each picture
    #[arg(short, long, value_name = "TEXT", value_parser = super::run::not_blank)]
    prompt: String,
    /// File to write instead of standard output
    #[arg(long, value_name = "OUT")]
    jsonl: Option<PathBuf>,
    /// Go on with OUT where an earlier run of the same command ended
    #[arg(long, requires = "jsonl")]
    resume: bool,
    /// Replace OUT if it is there
    #[arg(long, requires = "jsonl", conflicts_with = "resume")]
    force: bool,
    /// Also take the pictures in directories below
    #[arg(short, long)]
    recursive: bool,
    /// Print errors and nothing else to standard error
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    model: ModelFlags,
    #[command(flatten)]
    answer: AnswerFlags,
    #[command(flatten)]
    constraint: ConstraintFlags,
}

/// How it went.
#[derive(Default)]
struct Count {
    n_answered: usize,
    n_same: usize,
    n_failed: usize,
    n_broke_off: usize,
}

impl Caption {
    pub fn run(self) -> Result<ExitCode> {
        self.answer.check("caption");
        if self.paths.iter().any(|path| path.as_os_str() == "-") {
            wrong_usage("caption", "a picture from standard input is what owlet run takes");
        }
        let paths = gather::pictures(&self.paths, self.recursive)?;
        let mut lines = match &self.jsonl {
            None => Lines::to_stdout(),
            Some(path) if self.resume => Lines::resume(path)?,
            Some(path) => Lines::create(path, self.force)?,
        };
        // A wrong schema is said before a model is opened.
        let constraint = self.constraint.constraint()?;
        let engine = self.model.start(self.quiet)?;
        let loaded = engine.loaded();
        let Some(_) = &loaded.config.image else {
            return Err(Error::unsupported(&loaded.config.name, "this model has no vision half"));
        };
        let request = Request {
            system: self.answer.system.clone(),
            sampling: self.answer.sampling(loaded)?,
            max_tokens: self.answer.max_tokens(loaded),
            stop: self.answer.stop.clone(),
            constraint,
            ..Request::new(vec![Message::user(&self.prompt, [0])], Vec::new())
        };
        let setup = self.setup(&engine, &request)?;
        lines.begin(&setup, &loaded.config.name, self.constraint.is_json())?;
        if !self.quiet {
            lines.repaired().into_iter().for_each(note);
        }
        let todo: Vec<_> = paths.iter().filter(|path| !lines.has(path)).collect();
        let n_done_before = paths.len() - todo.len();
        let mut count = Count::default();
        let mut work = Work { engine, request, cancel: Cancel::new(), lines, is_quiet: self.quiet };
        let started = Instant::now();
        let ended = work.all(&todo, &mut count);
        work.lines.sync()?;
        if !self.quiet {
            note(&count.line(n_done_before, started.elapsed()));
        }
        ended?;
        let is_whole = count.n_failed == 0 && count.n_broke_off == 0;
        Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::from(IN_PART) })
    }

    /// What all answers of a file depend on besides their pictures, as one word.
    fn setup(&self, engine: &Engine, request: &Request) -> Result<String> {
        let sampling = crate::engine::Sampling { seed: 0, ..request.sampling };
        let model = engine.loaded();
        let parts = format!(
            "{:?}",
            (
                (model.digest, model.model.is_exact(), engine.options().kv_type),
                (&self.prompt, &self.answer.system, &self.answer.stop, request.max_tokens),
                (sampling, self.answer.seed().filter(|_| sampling.temperature > 0.0)),
                self.constraint.words()?,
            )
        );
        Ok(hex(&Sha256::digest(parts)[..8]))
    }
}

/// The loop over pictures, and what it needs.
struct Work {
    engine: Engine,
    request: Request,
    cancel: Cancel,
    lines: Lines,
    is_quiet: bool,
}

impl Work {
    /// A line for each of `paths`.
    ///
    /// # Errors
    /// What ends all of it: `Cancelled`, `Io` of the output, `Backend`, `Internal`.
    fn all(&mut self, paths: &[&PathBuf], count: &mut Count) -> Result<()> {
        let cancel = self.cancel.clone();
        let _interruptible = Interruptible::by(&cancel);
        let mut progress = Progress::new(Unit::Steps, self.is_quiet);
        let started = Instant::now();
        let mut n_computed = 0;
        for (at, path) in paths.iter().enumerate() {
            let each = (n_computed > 0).then(|| started.elapsed().as_secs_f64() / at as f64);
            let left = each.map(|each| {
                let left = Duration::from_secs_f64(each * (paths.len() - at) as f64);
                format!(", {each:.1} s a picture, {} left", span(left))
            });
            let what = format!("{}{}", path.display(), left.unwrap_or_default());
            let shown = |progress: &mut Progress| progress.show(&what, at as u64, paths.len() as u64);
            shown(&mut progress);
            let picture_began = Instant::now();
            let made = self.one(path, &mut || shown(&mut progress));
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            match made {
                Ok(line) => {
                    count.n_same += usize::from(line.is_same());
                    n_computed += usize::from(!line.is_same());
                    count.n_answered += 1;
                    if line.broke_off() {
                        count.n_broke_off += 1;
                    }
                    self.lines.write(line, picture_began.elapsed())?;
                }
                Err(error @ (Error::Cancelled | Error::Backend(_) | Error::Internal(_))) => {
                    return Err(error);
                }
                Err(error) => {
                    count.n_failed += 1;
                    progress.clear();
                    note(&format!("owlet: {error}"));
                    self.lines.write(Line::failed(path, &error), picture_began.elapsed())?;
                }
            }
        }
        Ok(())
    }

    /// The answer about the picture in `path`.
    fn one(&mut self, path: &Path, on_tick: &mut dyn FnMut()) -> Result<Line> {
        let limits = Limits::default();
        let source = path.display().to_string();
        let file = File::open(path).map_err(|cause| Error::io(path, cause))?;
        let bytes = read_limited(file, &source, &limits)?;
        let sha256 = hex(&Sha256::digest(&bytes));
        if let Some(line) = self.lines.same(&sha256, path) {
            return Ok(line);
        }
        let picture = decode(&bytes, &source, &limits)?;
        drop(bytes);
        let size = Size { width: picture.width, height: picture.height };
        let Some(config) = &self.engine.loaded().config.image else {
            return Err(Error::internal("a model without a vision half"));
        };
        let pixels = Arc::new(preprocess(&picture, config)?);
        let request = Request { images: vec![pixels], ..self.request.clone() };
        let is_constrained = request.constraint.is_some();
        let outcome = self.wait(request, on_tick)?;
        if outcome.broke_off && outcome.finish_reason != FinishReason::Cancelled {
            note(&format!("owlet: {source}: {}", receipt::broke_off(outcome.finish_reason)));
        }
        let complete = is_constrained.then_some(!outcome.broke_off);
        Ok(Line::answered(path, sha256, size, Answer::new(&outcome, complete)))
    }

    fn wait(&self, request: Request, on_tick: &mut dyn FnMut()) -> Result<Outcome> {
        let ticket = self.engine.submit(request)?;
        loop {
            let event = ticket.next_event_within(TICK);
            if self.cancel.is_cancelled() {
                ticket.cancel().cancel();
            }
            match event {
                Some(Event::Done(outcome)) => return Ok(outcome),
                Some(Event::Failed(error)) => return Err(error),
                Some(Event::Warning(text)) if !self.is_quiet => note(&format!("owlet: {text}")),
                _ => on_tick(),
            }
        }
    }
}

impl Count {
    fn line(&self, n_before: usize, took: Duration) -> String {
        let n = self.n_answered + self.n_failed;
        let pictures = if n == 1 { "picture" } else { "pictures" };
        let mut parts = vec![format!("{n} {pictures}")];
        let each = took.as_secs_f64() / n.max(1) as f64;
        for (n, what) in [
            (n_before, "done before"),
            (self.n_same, "the same as others"),
            (self.n_failed, "failed"),
            (self.n_broke_off, "not answered to the end"),
        ] {
            if n > 0 {
                parts.push(format!("{n} {what}"));
            }
        }
        if n > 0 {
            parts.push(format!("{each:.2} s each"));
        }
        parts.join(", ")
    }
}
