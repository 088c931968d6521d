//! `owlet quantize`: a model file in, the same model in other types out.

use super::screen::Screen;
use super::types::TypeFlags;
use super::writing::{WriteFlags, carry_out};
use crate::error::Result;
use clap::ArgGroup;
use ggml::Cancel;
use owlet_convert::{Requantize, RequantizeOptions};
use std::path::PathBuf;
use std::process::ExitCode;

/// Write a model file in other types
///
/// Parts that no flag names stay as they are, and so do blocks whose type stays. OUT appears under its name when it is whole;
/// a run that was interrupted is gone on with by the same command, as in `owlet convert`.
#[derive(clap::Args)]
#[command(override_usage = "owlet quantize [OPTIONS] <INPUT> [OUTPUT]")]
#[command(group(ArgGroup::new("what").args(["text", "vision_type", "projector_type", "recipe"]).required(true).multiple(true)))]
pub struct Quantize {
    /// Model file to read, best one of f32, f16 or bf16
    input: PathBuf,
    /// Model file to write
    #[arg(required_unless_present = "dry_run")]
    output: Option<PathBuf>,
    #[command(flatten)]
    types: TypeFlags,
    /// Quantize again what is quantized already
    #[arg(long)]
    allow_requantize: bool,
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    write: WriteFlags,
}

impl Quantize {
    pub fn run(self) -> Result<ExitCode> {
        let Quantize { types, write, .. } = &self;
        let options = RequantizeOptions {
            text: types.text,
            vision: types.vision_type,
            projector: types.projector_type,
            rules: types.rules()?,
            importance: types.importance()?,
            allow_requantize: self.allow_requantize,
            split_max_bytes: types.split_max_size,
            n_threads: write.n_threads(),
        };
        let Some(output) = self.output.as_ref().filter(|_| !self.dry_run) else {
            let requantize = Requantize::from_file(&self.input, &options)?;
            Screen::new().say(&format!("{requantize}{}", requantize.estimate()))?;
            return Ok(ExitCode::SUCCESS);
        };
        owlet_convert::tidy(output);
        write.refuse_existing([output])?;
        let requantize = Requantize::from_file(&self.input, &options)?;
        write.refuse_existing(&requantize.files(output)?)?;
        carry_out(&Cancel::new(), write.quiet, |bar, cancel| requantize.run(output, bar, cancel))
    }
}
