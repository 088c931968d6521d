//! What `owlet convert` takes in the place of a checkpoint: llama.cpp's two files for one model.

use super::convert::Convert;
use super::screen::{Screen, note};
use super::writing::carry_out;
use crate::error::Result;
use clap::{Args, ValueEnum};
use ggml::Cancel;
use owlet_convert::{Pair, PairOptions, RequantizeOptions};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HEADING: &str = "In the place of DIR, a pair of llama.cpp";

#[derive(Args)]
pub struct PairFlags {
    /// Text half. Blocks of a pair are copied where no type is asked for; what a pair does not say comes from the family
    /// and is shown
    #[arg(id = "text_half", long = "text", value_name = "FILE", requires_all = ["mmproj", "family"], help_heading = HEADING)]
    text: Option<PathBuf>,
    /// Vision half with the projector
    #[arg(long, value_name = "FILE", requires = "text_half", help_heading = HEADING)]
    mmproj: Option<PathBuf>,
    /// What the pair is of
    #[arg(long, requires = "text_half", help_heading = HEADING)]
    family: Option<PairFamily>,
}

/// A family of which there are pairs.
#[derive(Clone, Copy, ValueEnum)]
enum PairFamily {
    #[value(name = "llava-1.5")]
    Llava,
}

impl PairFlags {
    /// The two files, where they are given.
    pub fn files(&self) -> Option<(&Path, &Path)> {
        Some((self.text.as_deref()?, self.mmproj.as_deref()?))
    }
}

impl Convert {
    /// Packs a pair, as [`Convert::run`] packs a directory.
    ///
    /// # Errors
    /// What is wrong with one of the files, and with writing.
    pub fn run_pair(&self, text: &Path, mmproj: &Path) -> Result<ExitCode> {
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
