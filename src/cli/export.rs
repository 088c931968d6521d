//! `owlet export`: a model file in, the files of another program out.

use super::bar::Bar;
use super::interrupt::Interruptible;
use super::screen::{Screen, note};
use super::writing::refuse_existing;
use crate::error::Result;
use ggml::Cancel;
use std::path::PathBuf;
use std::process::ExitCode;

/// Write a model file as another program wants it
///
/// For llama.cpp these are two files, text-NAME.gguf and mmproj-NAME.gguf, with the same blocks. It concludes what its files
/// do not say, and computes some things in its own way: what that changes for this model is printed, and stands in
/// both files as general.description. Where it cannot run the vision half at all, the text half is written alone.
#[derive(clap::Args)]
pub struct Export {
    /// Model file to read
    model: PathBuf,
    /// Write llama.cpp's files
    #[arg(long, required = true)]
    llama_cpp: bool,
    /// Directory to write into
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
    /// Print errors and nothing else
    #[arg(short, long)]
    quiet: bool,
}

impl Export {
    pub fn run(self) -> Result<ExitCode> {
        let export = owlet_convert::Export::from_file(&self.model)?;
        if !self.force {
            export.files(&self.output).iter().try_for_each(|file| refuse_existing(file))?;
        }
        let cancel = Cancel::new();
        let _interruptible = Interruptible::by(&cancel);
        let mut bar = Bar::new(self.quiet);
        let exported = export.run(&self.output, &mut bar, &cancel)?;
        bar.clear();
        if !self.quiet {
            Screen::new().say(&format!("{}\n", export.differences.join("\n")))?;
            note(exported.to_string().trim_end());
        }
        Ok(ExitCode::SUCCESS)
    }
}
