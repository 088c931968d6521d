//! The lines of JSON that come out, and those of an earlier run.
//!
//! A line is written at once and whole; what a kill left of one is cut off when the file is gone on with. Two runs never
//! write to one file: it is locked. All lines of a file answer the same question by the same model: each names its setup.

use super::super::json;
use super::super::screen::Screen;
use crate::engine::Outcome;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write, stdout};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What every line begins with, so that a half one is known.
const BEGINNING: &[u8] = b"{\"path\":\"";

/// A line: about one picture.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    /// Another path of the file with the same bytes, whose answer this is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    same_as: Option<String>,
    #[serde(flatten)]
    size: Option<Size>,
    #[serde(flatten)]
    answer: Option<Answer>,
    #[serde(default)]
    seconds: f64,
    #[serde(default)]
    model: String,
    setup: String,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Size {
    pub width: usize,
    pub height: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answer {
    text: String,
    /// The text as JSON, where a schema asked for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
    finish_reason: String,
    /// Of an answer with a constraint: it is all that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    complete: Option<bool>,
    tokens: Tokens,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Tokens {
    prompt: usize,
    completion: usize,
}

impl Answer {
    pub fn new(outcome: &Outcome, complete: Option<bool>) -> Answer {
        Answer {
            text: outcome.text.clone(),
            value: None,
            finish_reason: outcome.finish_reason.word().to_string(),
            complete,
            tokens: Tokens { prompt: outcome.n_prompt, completion: outcome.ids.len() },
        }
    }
}

impl Line {
    pub fn answered(path: &Path, sha256: String, size: Size, answer: Answer) -> Line {
        Line { sha256: Some(sha256), size: Some(size), answer: Some(answer), ..Line::about(path) }
    }

    pub fn failed(path: &Path, error: &Error) -> Line {
        Line { error: Some(error.to_string()), ..Line::about(path) }
    }

    fn about(path: &Path) -> Line {
        Line {
            path: path.display().to_string(),
            error: None,
            sha256: None,
            same_as: None,
            size: None,
            answer: None,
            seconds: 0.0,
            model: String::new(),
            setup: String::new(),
        }
    }

    /// Its answer is that of another picture.
    pub fn is_same(&self) -> bool {
        self.same_as.is_some()
    }

    pub fn broke_off(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| answer.complete == Some(false))
    }
}

/// Where lines go.
pub struct Lines {
    /// Standard output where there is none.
    out: Option<(PathBuf, File)>,
    setup: String,
    model: String,
    is_json: bool,
    paths: HashSet<String>,
    /// By the hash of the picture's bytes.
    answers: HashMap<String, Line>,
    /// Bytes of the file's whole lines, which stay.
    n_whole: u64,
    /// Something stands behind them.
    has_half: bool,
}

impl Lines {
    pub fn to_stdout() -> Lines {
        Lines {
            out: None,
            setup: String::new(),
            model: String::new(),
            is_json: false,
            paths: HashSet::new(),
            answers: HashMap::new(),
            n_whole: 0,
            has_half: false,
        }
    }

    /// A new file, or one that is emptied when the first line is near if `is_forced`.
    ///
    /// # Errors
    /// `Request` where something is in it, or another run writes to it; `Io`.
    pub fn create(path: &Path, is_forced: bool) -> Result<Lines> {
        let file = open_locked(path)?;
        let n_bytes = file.metadata().map_err(|cause| Error::io(path, cause))?.len();
        if n_bytes > 0 && !is_forced {
            let problem = "exists; --resume goes on with it, --force replaces it";
            return Err(Error::request(format!("{}: {problem}", path.display())));
        }
        Ok(Lines { out: Some((path.to_path_buf(), file)), ..Lines::to_stdout() })
    }

    /// The file of an earlier run, or a new one.
    ///
    /// # Errors
    /// `Format` where a line is none of this program's; `Request` where another run writes to it; `Io`.
    pub fn resume(path: &Path) -> Result<Lines> {
        let file = open_locked(path)?;
        let mut lines = Lines::to_stdout();
        lines.n_whole = lines.read(&file, path)?;
        let n_bytes = file.metadata().map_err(|cause| Error::io(path, cause))?.len();
        lines.has_half = n_bytes > lines.n_whole;
        lines.out = Some((path.to_path_buf(), file));
        Ok(lines)
    }

    /// Takes in the lines of `file`; yields how many bytes are whole ones.
    fn read(&mut self, file: &File, path: &Path) -> Result<u64> {
        let mut reader = BufReader::new(file);
        let mut n_whole = 0;
        for n in 1.. {
            let mut bytes = Vec::new();
            reader.read_until(b'\n', &mut bytes).map_err(|cause| Error::io(path, cause))?;
            let place = || format!("{}: line {n}", path.display());
            if !bytes.ends_with(b"\n") {
                let n_same = bytes.len().min(BEGINNING.len());
                if bytes[..n_same] != BEGINNING[..n_same] {
                    return Err(Error::format(place(), "expected a line of owlet caption, or its beginning"));
                }
                break;
            }
            let line: Line = serde_json::from_slice(&bytes).map_err(|error| {
                Error::format(place(), format_args!("expected a line of owlet caption: {error}"))
            })?;
            if n > 1 && line.setup != self.setup {
                return Err(Error::format(place(), "its setup is another than that of the lines before"));
            }
            self.setup.clone_from(&line.setup);
            self.remember(line);
            n_whole += bytes.len() as u64;
        }
        Ok(n_whole)
    }

    fn remember(&mut self, line: Line) {
        self.paths.insert(line.path.clone());
        if let (Some(sha256), None) = (&line.sha256, &line.same_as) {
            self.answers.insert(sha256.clone(), line);
        }
    }

    /// From now on lines are of `setup` by the model called `model`. Cuts off what is to go.
    ///
    /// # Errors
    /// `Request` where those of before were of another; `Io`.
    pub fn begin(&mut self, setup: &str, model: &str, is_json: bool) -> Result<()> {
        if let Some((path, file)) = &mut self.out {
            if !self.paths.is_empty() && self.setup != setup {
                return Err(Error::request(format!(
                    "{}: its lines come from another model, prompt or setting; --resume goes on with the same ones",
                    path.display()
                )));
            }
            let failed = |cause| Error::io(&*path, cause);
            file.set_len(self.n_whole)
                .and_then(|()| file.seek(SeekFrom::Start(self.n_whole)))
                .map_err(failed)?;
        }
        (self.setup, self.model, self.is_json) = (setup.to_string(), model.to_string(), is_json);
        Ok(())
    }

    /// What was cut off, for people.
    pub fn repaired(&self) -> Option<&'static str> {
        self.has_half.then_some("the half line at the end of the file is written anew")
    }

    /// There is a line about the picture in `path`.
    pub fn has(&self, path: &Path) -> bool {
        self.paths.contains(&path.display().to_string())
    }

    /// A line about `path` with the answer about a picture of the same bytes.
    pub fn same(&self, sha256: &str, path: &Path) -> Option<Line> {
        let first = self.answers.get(sha256)?;
        Some(Line { path: path.display().to_string(), same_as: Some(first.path.clone()), ..first.clone() })
    }

    /// Writes `line`, which took so long.
    ///
    /// # Errors
    /// `Io`.
    pub fn write(&mut self, mut line: Line, took: Duration) -> Result<()> {
        line.seconds = (took.as_secs_f64() * 1e3).round() / 1e3;
        (line.setup, line.model) = (self.setup.clone(), self.model.clone());
        if let Some(answer) = line.answer.as_mut().filter(|_| self.is_json) {
            answer.value = serde_json::from_str(&answer.text).ok();
        }
        let mut bytes = Vec::new();
        json::write_line(&mut bytes, &line).map_err(Screen::failed)?;
        match &mut self.out {
            Some((path, file)) => file.write_all(&bytes).map_err(|cause| Error::io(&*path, cause))?,
            None => {
                let mut out = stdout().lock();
                out.write_all(&bytes).and_then(|()| out.flush()).map_err(Screen::failed)?;
            }
        }
        self.remember(line);
        Ok(())
    }

    /// Sees to it that what was written outlives a power cut.
    ///
    /// # Errors
    /// `Io`.
    pub fn sync(&self) -> Result<()> {
        match &self.out {
            Some((path, file)) => file.sync_all().map_err(|cause| Error::io(path, cause)),
            None => Ok(()),
        }
    }
}

/// The file at `path`, made where it was not there, for this run alone.
fn open_locked(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).open(path);
    let file = file.map_err(|cause| Error::io(path, cause))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Error::request(format!("{}: another run writes to it", path.display())))
        }
        // A file system that knows no locks.
        Err(TryLockError::Error(_)) => Ok(file),
    }
}
