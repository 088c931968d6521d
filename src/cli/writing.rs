//! Commands that write a file: the flags that they share, and how such work is carried out.

use super::bar::Bar;
use super::interrupt::Interruptible;
use super::screen::note;
use crate::error::{Error, Result};
use clap::value_parser;
use ggml::Cancel;
use owlet_convert::Report;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct WriteFlags {
    /// Replace the output file if there is one
    #[arg(long)]
    pub force: bool,
    /// Threads that compute [default: one per core]
    #[arg(short, long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    pub threads: Option<u32>,
    /// Print errors and nothing else
    #[arg(short, long)]
    pub quiet: bool,
}

impl WriteFlags {
    /// # Errors
    /// For the first of `files` that is there, unless it may be replaced.
    pub fn refuse_existing<'a>(&self, files: impl IntoIterator<Item = &'a PathBuf>) -> Result<()> {
        if self.force { Ok(()) } else { files.into_iter().try_for_each(|file| refuse_existing(file)) }
    }

    /// Threads of the converter; one per core without a number.
    pub fn n_threads(&self) -> Option<usize> {
        self.threads.map(|n| n as usize)
    }
}

/// # Errors
/// Where `file` is there.
pub fn refuse_existing(file: &Path) -> Result<()> {
    match file.exists() {
        false => Ok(()),
        true => Err(Error::request(format!("{}: exists; --force replaces it", file.display()))),
    }
}

/// Does what `run` does behind a bar, until it is done or Ctrl-C raises `cancel`, and says what was done.
///
/// # Errors
/// Those of `run`.
pub fn carry_out(
    cancel: &Cancel,
    quiet: bool,
    run: impl FnOnce(&mut Bar, &Cancel) -> owlet_convert::Result<Report>,
) -> Result<ExitCode> {
    let _interruptible = Interruptible::by(cancel);
    let mut bar = Bar::new(quiet);
    let report = run(&mut bar, cancel)?;
    bar.clear();
    if !quiet {
        note(report.to_string().trim_end());
    }
    Ok(ExitCode::SUCCESS)
}
