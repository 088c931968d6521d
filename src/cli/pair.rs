//! What `owlet convert` takes in the place of a checkpoint: llama.cpp's two files for one model.

use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};

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
