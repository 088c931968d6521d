//! `owlet convert`: a checkpoint in, from a directory or the hub, or a pair of llama.cpp's files; one model file out.

use super::bar::Bar;
use super::interrupt::Interruptible;
use super::pair::PairFlags;
use super::quantity::parse_bytes;
use super::screen::{Screen, note};
use super::source::HubFlags;
use crate::error::{Error, Result};
use ggml::Cancel;
use owlet_convert::{Estimate, Options, Report, Rules, TypeChoice, Weighting};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Pack a checkpoint into one model file
///
/// The file appears under its name when it is whole and has been read back. Until then OUT.part takes what is done and
/// OUT.part.journal says how far that is: after Ctrl-C, a power cut or a full disk the same command goes on there. Tensors
/// whose rows the asked type cannot hold get the nearest one that can; the plan says which. Families:
/// InternVL-Chat-V1-1, V1-2 and V1.0, LLaVA-1.5, and InternViT on its own.
///
/// ORG/NAME instead of a directory is taken from the hub, with HF_TOKEN, HF_ENDPOINT and HF_HOME as its own tool takes them.
#[derive(clap::Args)]
#[command(after_long_help = settings())]
pub struct Convert {
    /// Directory as it comes from the hub (config.json, tokenizer.model, weights), or the model's name there, ORG/NAME
    #[arg(required_unless_present = "text_half", conflicts_with = "text_half")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    pair: PairFlags,
    /// Model file to write
    #[arg(short, long, value_name = "OUT", required_unless_present = "dry_run")]
    pub(super) output: Option<PathBuf>,
    /// Type of the text half [default: q4_k_m; a pair keeps its own]
    #[arg(long = "type", value_name = "TYPE", long_help = types() + " [default: q4_k_m; a pair keeps its own]")]
    pub(super) text: Option<TypeChoice>,
    /// Type of the vision tower [default: q8_0; a pair keeps its own]
    #[arg(long, value_name = "TYPE")]
    pub(super) vision_type: Option<TypeChoice>,
    /// Type of the projector [default: as the vision tower]
    #[arg(long, value_name = "TYPE")]
    pub(super) projector_type: Option<TypeChoice>,
    /// File of lines `regex = type`: the first line that is found in a tensor's name chooses its type, before --type and
    /// the others
    #[arg(long, value_name = "FILE")]
    pub(super) recipe: Option<PathBuf>,
    /// Importance matrix of the same model, as `owlet imatrix` writes it: spends precision where it matters
    #[arg(long, value_name = "FILE")]
    pub(super) imatrix: Option<PathBuf>,
    /// Write files of at most so many bytes each: OUT-00001-of-00003.gguf and so on. The first one stands for all
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub(super) split_max_size: Option<u64>,
    /// Directory of the vision tower, where the checkpoint only names it: openai/clip-vit-large-patch14-336 for LLaVA-1.5,
    /// the InternViT that config.json names for InternVL-Chat-V1.0
    #[arg(long, value_name = "DIR", conflicts_with = "text_half")]
    vision_tower: Option<PathBuf>,
    /// Name of the model [default: the directory's, that of a pair's text half]
    #[arg(long)]
    pub(super) name: Option<String>,
    /// Override a fact of the configuration; may be given several times (--help lists the keys)
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub(super) set: Vec<(String, String)>,
    /// Print what would be done, and do nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Replace the output file if there is one
    #[arg(long)]
    pub(super) force: bool,
    /// Threads that quantize [default: one per core]
    #[arg(short, long, value_name = "N")]
    pub(super) threads: Option<usize>,
    /// Print errors and nothing else
    #[arg(short, long)]
    pub(super) quiet: bool,
    #[command(flatten)]
    hub: HubFlags,
}

impl Convert {
    pub fn run(self) -> Result<ExitCode> {
        if let Some(output) = &self.output {
            owlet_convert::tidy(output);
        }
        if let (Some(output), false, false) = (&self.output, self.force, self.dry_run) {
            refuse_existing(std::slice::from_ref(output))?;
        }
        match (self.pair.files(), &self.dir) {
            (Some((text, mmproj)), _) => self.run_pair(text, mmproj),
            (None, dir) => self.run_checkpoint(dir.as_deref().unwrap_or(Path::new("."))),
        }
    }

    fn run_checkpoint(&self, dir: &Path) -> Result<ExitCode> {
        let default = Options::default();
        let options = Options {
            name: self.name.clone(),
            text: self.text.unwrap_or(default.text),
            vision: self.vision_type.unwrap_or(default.vision),
            projector: self.projector_type,
            rules: self.recipe.as_deref().map_or_else(|| Ok(Rules::default()), Rules::read)?,
            importance: self.imatrix.as_deref().map(Weighting::read).transpose()?,
            vision_tower: self.vision_tower.clone(),
            set: self.set.clone(),
            split_max_bytes: self.split_max_size,
            n_threads: self.threads,
        };
        let cancel = Cancel::new();
        let source = self.hub.source(dir, self.quiet)?;
        let planned = self.hub.plan(&source, &options, self.quiet, &cancel)?;
        let plan = &planned.plan;
        let Some(output) = self.output.as_ref().filter(|_| !self.dry_run) else {
            Screen::new().say(&format!("{plan}{}", Estimate::of(plan)))?;
            return Ok(ExitCode::SUCCESS);
        };
        if !self.force {
            refuse_existing(&plan.files(output)?)?;
        }
        let plan = self.hub.ready(planned, &options, output, self.quiet)?;
        carry_out_until(&cancel, self.quiet, |bar, cancel| plan.run(output, bar, cancel))
    }
}

/// Does what `run` does behind a bar, until it is done or Ctrl-C, and says what was done.
///
/// # Errors
/// Those of `run`.
pub fn carry_out(
    quiet: bool,
    run: impl FnOnce(&mut Bar, &Cancel) -> owlet_convert::Result<Report>,
) -> Result<ExitCode> {
    carry_out_until(&Cancel::new(), quiet, run)
}

/// The same with a flag of the caller's for Ctrl-C to raise.
///
/// # Errors
/// Those of `run`.
pub fn carry_out_until(
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

/// # Errors
/// For the first of `files` that is there.
pub fn refuse_existing(files: &[PathBuf]) -> Result<()> {
    match files.iter().find(|file| file.exists()) {
        None => Ok(()),
        Some(file) => Err(Error::request(format!("{}: exists; --force replaces it", file.display()))),
    }
}

fn key_value(text: &str) -> std::result::Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("expected key=value, found {text}"))?;
    Ok((key.to_string(), value.to_string()))
}

/// What `--type` takes.
pub fn types() -> String {
    let names: Vec<_> = owlet_convert::TYPE_CHOICES.iter().map(|(name, _)| *name).collect();
    format!("Type of the text half, in any case: {}", names.join(" "))
}

fn settings() -> String {
    format!("Keys of --set:\n{}", owlet_convert::settings_help())
}
