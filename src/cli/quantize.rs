//! `owlet quantize`: a model file in, the same model in other types out.

use super::convert::{carry_out, refuse_existing, types};
use super::quantity::parse_bytes;
use super::screen::Screen;
use crate::error::Result;
use clap::value_parser;
use owlet_convert::{Requantize, RequantizeOptions, Rules, TypeChoice, Weighting};
use std::path::PathBuf;
use std::process::ExitCode;

/// Write a model file in other types
///
/// Parts that no flag names stay as they are, and so do blocks whose type stays. OUT appears under its name when it is whole;
/// a run that was interrupted is gone on with by the same command, as in `owlet convert`.
#[derive(clap::Args)]
pub struct Quantize {
    /// Model file to read, best one of f32, f16 or bf16
    input: PathBuf,
    /// Model file to write
    #[arg(required_unless_present = "dry_run")]
    output: Option<PathBuf>,
    /// Type of the text half
    #[arg(long = "type", value_name = "TYPE", long_help = types(), required_unless_present_any = ["vision_type", "projector_type", "recipe"])]
    text: Option<TypeChoice>,
    /// Type of the vision tower
    #[arg(long, value_name = "TYPE")]
    vision_type: Option<TypeChoice>,
    /// Type of the projector
    #[arg(long, value_name = "TYPE")]
    projector_type: Option<TypeChoice>,
    /// File of lines `regex = type`: the first line that is found in a tensor's name chooses its type
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Importance matrix of the same model, as `owlet imatrix` writes it: spends precision where it matters
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
    /// Write files of at most so many bytes each: OUT-00001-of-00003.gguf and so on. The first one stands for all
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    split_max_size: Option<u64>,
    /// Quantize again what is quantized already
    #[arg(long)]
    allow_requantize: bool,
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Replace the output file if there is one
    #[arg(long)]
    force: bool,
    /// Threads that quantize [default: one per core]
    #[arg(short, long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    threads: Option<u32>,
    /// Print errors and nothing else
    #[arg(short, long)]
    quiet: bool,
}

impl Quantize {
    pub fn run(self) -> Result<ExitCode> {
        let options = RequantizeOptions {
            text: self.text,
            vision: self.vision_type,
            projector: self.projector_type,
            rules: self.recipe.as_deref().map_or_else(|| Ok(Rules::default()), Rules::read)?,
            importance: self.imatrix.as_deref().map(Weighting::read).transpose()?,
            allow_requantize: self.allow_requantize,
            split_max_bytes: self.split_max_size,
            n_threads: self.threads.map(|n| n as usize),
        };
        let Some(output) = self.output.filter(|_| !self.dry_run) else {
            let requantize = Requantize::from_file(&self.input, &options)?;
            Screen::new().say(&format!("{requantize}{}", requantize.estimate()))?;
            return Ok(ExitCode::SUCCESS);
        };
        owlet_convert::tidy(&output);
        if !self.force {
            refuse_existing(std::slice::from_ref(&output))?;
        }
        let requantize = Requantize::from_file(&self.input, &options)?;
        if !self.force {
            refuse_existing(&requantize.files(&output)?)?;
        }
        carry_out(self.quiet, |bar, cancel| requantize.run(&output, bar, cancel))
    }
}
