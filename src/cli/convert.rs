//! `owlet convert`: a checkpoint in, from a directory or the hub, or a pair of llama.cpp's files; one model file out.

use super::pair::PairFlags;
use super::screen::{Screen, note};
use super::source::HubFlags;
use super::types::TypeFlags;
use super::writing::{WriteFlags, carry_out};
use crate::error::Result;
use ggml::Cancel;
use owlet_convert::{Estimate, Options, Pair, PairOptions, RequantizeOptions};
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
    output: Option<PathBuf>,
    #[command(flatten)]
    types: TypeFlags,
    /// Directory or name at the hub of the vision tower, where the checkpoint only names it: openai/clip-vit-large-patch14-336
    /// for LLaVA-1.5, an InternViT for InternVL-Chat-V1.0 [default: with a checkpoint from the hub what its config.json names]
    #[arg(long, value_name = "DIR|ORG/NAME", conflicts_with = "text_half")]
    vision_tower: Option<PathBuf>,
    /// Name of the model [default: the directory's, that of a pair's text half]
    #[arg(long)]
    name: Option<String>,
    /// Override a fact of the configuration; may be given several times (--help lists the keys)
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    write: WriteFlags,
    #[command(flatten)]
    hub: HubFlags,
}

impl Convert {
    pub fn run(self) -> Result<ExitCode> {
        if let Some(output) = &self.output {
            owlet_convert::tidy(output);
        }
        if !self.dry_run {
            self.write.refuse_existing(&self.output)?;
        }
        match (self.pair.files(), &self.dir) {
            (Some((text, mmproj)), _) => self.run_pair(text, mmproj),
            (None, dir) => self.run_checkpoint(dir.as_deref().unwrap_or(Path::new("."))),
        }
    }

    fn run_checkpoint(&self, dir: &Path) -> Result<ExitCode> {
        let Convert { types, write, .. } = self;
        let default = Options::default();
        let options = Options {
            name: self.name.clone(),
            text: types.text.unwrap_or(default.text),
            vision: types.vision_type.unwrap_or(default.vision),
            projector: types.projector_type,
            rules: types.rules()?,
            importance: types.importance()?,
            vision_tower: None,
            set: self.set.clone(),
            split_max_bytes: types.split_max_size,
            n_threads: write.n_threads(),
        };
        let cancel = Cancel::new();
        let sources = self.hub.sources(dir, self.vision_tower.as_deref())?;
        let planned = self.hub.plan(sources, options, write.quiet, &cancel)?;
        let plan = &planned.plan;
        let Some(output) = self.output.as_ref().filter(|_| !self.dry_run) else {
            Screen::new().say(&format!("{plan}{}", Estimate::of(plan)))?;
            return Ok(ExitCode::SUCCESS);
        };
        write.refuse_existing(&plan.files(output)?)?;
        let plan = self.hub.ready(planned, output, write.quiet)?;
        carry_out(&cancel, write.quiet, |bar, cancel| plan.run(output, bar, cancel))
    }

    /// Packs a pair, as [`Convert::run`] packs a directory.
    ///
    /// # Errors
    /// What is wrong with one of the files, and with writing.
    fn run_pair(&self, text: &Path, mmproj: &Path) -> Result<ExitCode> {
        let Convert { types, write, .. } = self;
        let types = RequantizeOptions {
            text: types.text,
            vision: types.vision_type,
            projector: types.projector_type.or(types.vision_type),
            rules: types.rules()?,
            importance: types.importance()?,
            allow_requantize: false,
            split_max_bytes: types.split_max_size,
            n_threads: write.n_threads(),
        };
        let options = PairOptions { name: self.name.clone(), set: self.set.clone(), types };
        let pair = Pair::from_files(text, mmproj, &options)?;
        let Some(output) = self.output.as_ref().filter(|_| !self.dry_run) else {
            Screen::new().say(&format!("{pair}{}", pair.estimate()))?;
            return Ok(ExitCode::SUCCESS);
        };
        write.refuse_existing(&pair.files(output)?)?;
        if !write.quiet {
            pair.remarks().for_each(|line| note(&line));
        }
        carry_out(&Cancel::new(), write.quiet, |bar, cancel| pair.run(output, bar, cancel))
    }
}

fn key_value(text: &str) -> std::result::Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("expected key=value, found {text}"))?;
    Ok((key.to_string(), value.to_string()))
}

fn settings() -> String {
    format!("Keys of --set:\n{}", owlet_convert::settings_help())
}
