//! `owlet verify`: whether a model file is what it should be, by itself and beside its checkpoint.

use super::bar::Bar;
use super::flags::n_threads;
use super::interrupt::Interruptible;
use super::json;
use super::progress::{Progress, Unit};
use super::screen::Screen;
use crate::engine::Setup;
use crate::error::Result;
use crate::measure::{SelfTestVerdict, Watch, bytes_in_words, check_self_test, record_self_test};
use clap::value_parser;
use ggml::Cancel;
use owlet_convert::{Comparison, Deviation, NotFinite, SourceDirs, Verdict};
use std::fmt::Write as _;
use std::io::stdout;
use std::path::PathBuf;
use std::process::ExitCode;

/// Check a model file: structure, checksums, finite numbers, its self-test, and how near it is to its checkpoint
///
/// Reads every byte. Where the file has a self-test recorded, the model is run as well: what it computes from a generated
/// picture and a question is compared with what it computed when --record was given. Exit status 0: all is as it should be;
/// 1: something is not.
#[derive(clap::Args)]
pub struct Verify {
    /// Model file
    file: PathBuf,
    /// Checkpoint directory that the file was made of: compare every tensor with it
    #[arg(long, value_name = "DIR")]
    against: Option<PathBuf>,
    /// Directory of its vision tower, where the checkpoint only names it: what --vision-tower of `owlet convert` was
    #[arg(long, value_name = "DIR", requires = "against")]
    vision_tower: Option<PathBuf>,
    /// Run the model and record in the file what it computes, if all else is right. The model itself stays as it is
    #[arg(long, conflicts_with = "no_self_test")]
    record: bool,
    /// Do not run the model
    #[arg(long)]
    no_self_test: bool,
    /// Print one JSON object instead
    #[arg(long)]
    json: bool,
    /// Threads that check [default: one per core]
    #[arg(short, long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    threads: Option<u32>,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

/// Tensors that a list of the worst has, and those that are listed as wrong.
const N_WORST: usize = 5;
const N_LISTED: usize = 20;

impl Verify {
    pub fn run(self) -> Result<ExitCode> {
        let cancel = Cancel::new();
        let _interruptible = Interruptible::by(&cancel);
        let mut bar = Bar::new(self.quiet);
        let vision_tower = self.vision_tower.as_deref();
        let source = self.against.as_deref().map(|dir| SourceDirs { dir, vision_tower });
        let threads = self.threads.map(|n| n as usize);
        let verdict = owlet_convert::verify(&self.file, source, threads, &mut bar, &cancel)?;
        bar.clear();
        let self_test = self.self_test(&verdict, &cancel)?;
        let is_right = verdict.is_right() && self_test.as_ref().is_none_or(SelfTestVerdict::is_right);
        if self.json {
            let shown = Json { ok: is_right, verdict: &verdict, self_test };
            json::write_line(&mut stdout().lock(), &shown).map_err(Screen::failed)?;
        } else {
            let last = if is_right { "all is right" } else { "not all is right" };
            let self_test = self_test.map_or_else(String::new, |found| format!("self-test  {found}\n"));
            Screen::new().say(&format!("{}{self_test}{last}\n", in_words(&verdict)))?;
        }
        Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Checks or records it; a model whose tensors are wrong is not run.
    fn self_test(&self, verdict: &Verdict, cancel: &Cancel) -> Result<Option<SelfTestVerdict>> {
        if self.no_self_test || !verdict.is_right() {
            return Ok(None);
        }
        let mut progress = Progress::new(Unit::Steps, self.quiet);
        let show = &mut |what: &str, done, of| progress.show(what, done, of);
        let watch = &mut Watch { cancel, progress: show };
        let setup = Setup::cpu(n_threads(self.threads));
        if self.record {
            record_self_test(&self.file, &setup, watch)?;
        }
        check_self_test(Some(&self.file), &setup, watch).map(Some)
    }
}

#[derive(serde::Serialize)]
struct Json<'a> {
    ok: bool,
    #[serde(flatten)]
    verdict: &'a Verdict,
    /// Null where the model was not run.
    self_test: Option<SelfTestVerdict>,
}

/// A line a check, and a line for each tensor that fails it.
fn in_words(verdict: &Verdict) -> String {
    let Verdict { file, n_bytes, n_tensors, n_values, damaged, not_finite, against } = verdict;
    let mut out = String::new();
    let mut line = |text: std::fmt::Arguments| {
        let _ = writeln!(out, "{text}");
    };
    line(format_args!("{file}: {}, {n_tensors} tensors, {n_values} numbers", bytes_in_words(*n_bytes)));
    line(format_args!("structure  right"));
    line(format_args!("checksums  {}", right_but_for(damaged.len())));
    for tensor in damaged.iter().take(N_LISTED) {
        line(format_args!("  {tensor}: not the bytes that were written"));
    }
    line(format_args!("finite     {}", right_but_for(not_finite.len())));
    for NotFinite { tensor, n, row } in not_finite.iter().take(N_LISTED) {
        line(format_args!("  {tensor}: {n} that are NaN or infinite, the first in row {row}"));
    }
    if let Some(Comparison { dir, same_files, tensors }) = against {
        let files = match same_files {
            Some(true) => "the files that it was made of",
            Some(false) => "other files than it was made of",
            None => "it does not say which files it was made of",
        };
        line(format_args!("source     {dir}: {files}"));
        let n_far = tensors.iter().filter(|tensor| !tensor.is_right()).count();
        line(format_args!("distance   {}; relative error, the worst first:", right_but_for(n_far)));
        let mut worst: Vec<&Deviation> = tensors.iter().collect();
        worst.sort_by(|a, b| b.share().total_cmp(&a.share()));
        let width = worst.iter().take(N_LISTED).map(|tensor| tensor.tensor.len()).max().unwrap_or(0);
        for Deviation { tensor, dtype, relative_rms, bound, .. } in
            worst.iter().take(n_far.clamp(N_WORST, N_LISTED))
        {
            let bound = bound.map_or_else(|| "no bound".to_string(), |bound| format!("at most {bound}"));
            line(format_args!("  {tensor:<width$}  {dtype:<6} {relative_rms:.6}, {bound}"));
        }
    }
    out
}

fn right_but_for(n_wrong: usize) -> String {
    match n_wrong {
        0 => "right".to_string(),
        1 => "1 tensor is wrong".to_string(),
        n => format!("{n} tensors are wrong"),
    }
}
