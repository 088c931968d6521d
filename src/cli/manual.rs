//! `owlet completions` and `owlet man`: what the flags are, for shells and for man.

use super::Owlet;
use super::screen::{Screen, note};
use crate::error::{Error, Result};
use clap::CommandFactory;
use clap_complete::Shell;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

/// Print a script that completes owlet's commands and flags in a shell
///
/// bash: `source <(owlet completions bash)`, or write it to ~/.local/share/bash-completion/completions/owlet. zsh: write it to
/// a file `_owlet` in a directory of $fpath. fish: write it to ~/.config/fish/completions/owlet.fish.
#[derive(clap::Args)]
pub struct Completions {
    shell: Shell,
}

/// Write man pages, one a command
#[derive(clap::Args)]
pub struct Man {
    /// Directory to write owlet.1, owlet-run.1 and so on to; it is made where it is not there
    dir: PathBuf,
}

impl Completions {
    pub fn run(self) -> Result<ExitCode> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Owlet::command(), "owlet", &mut script);
        let script = String::from_utf8(script).map_err(|_| Error::internal("a script that is no text"))?;
        Screen::new().say(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Man {
    pub fn run(self) -> Result<ExitCode> {
        let failed = |cause| Error::io(&self.dir, cause);
        fs::create_dir_all(&self.dir).map_err(failed)?;
        clap_mangen::generate_to(Owlet::command(), &self.dir).map_err(failed)?;
        note(&format!("{}: man -l {0}/owlet.1 shows the first page", self.dir.display()));
        Ok(ExitCode::SUCCESS)
    }
}
