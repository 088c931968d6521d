//! Where a checkpoint comes from: a directory, or the hub. What comes from the hub is planned before it is fetched, so that
//! people see what it will take, and that it can be converted at all, before their disks and lines are busy for an hour.

use super::bar::Bar;
use super::disk::room;
use super::interrupt::Interruptible;
use super::screen::note;
use crate::error::{Error, Result};
use crate::measure::bytes_in_words as bytes;
use ggml::Cancel;
use owlet_convert::hub::{self, Environment, Found, ModelName, Repository, Wish};
use owlet_convert::{Options, Plan};
use std::io::{IsTerminal, Write, stderr, stdin};
use std::path::{Path, PathBuf};

/// Flags of commands that take a model from the hub.
#[derive(clap::Args)]
#[command(next_help_heading = "Hub")]
pub struct HubFlags {
    /// Branch, tag or commit [default: main]
    #[arg(long, value_name = "REV", conflicts_with = "text_half")]
    revision: Option<String>,
    /// Convert while downloading: no disk has to hold the checkpoint
    #[arg(long, conflicts_with_all = ["download_dir", "text_half"])]
    stream: bool,
    /// Keep the checkpoint's files in DIR [default: the cache of the hub's own tool, which HF_HOME names]
    #[arg(long, value_name = "DIR", conflicts_with = "text_half")]
    download_dir: Option<PathBuf>,
    /// Go on without asking
    #[arg(short, long, conflicts_with = "text_half")]
    yes: bool,
}

/// What the command line names.
#[derive(Debug, PartialEq, Eq)]
pub enum Source {
    Dir(PathBuf),
    Hub(ModelName),
}

/// A conversion that was planned, and may have to be fetched yet.
pub struct Planned {
    pub plan: Plan,
    repository: Option<Repository>,
}

impl HubFlags {
    /// Converting while downloading, with nothing kept but the result.
    pub fn streaming(revision: Option<String>, yes: bool) -> HubFlags {
        HubFlags { revision, stream: true, download_dir: None, yes }
    }

    /// A directory of that name wins over the hub, and that is said.
    ///
    /// # Errors
    /// For flags that have no effect on a directory, and for variables that can't be meant.
    pub fn source(&self, word: &Path, is_quiet: bool) -> Result<Source> {
        let text = word.to_string_lossy();
        if !word.exists()
            && let Some(name) = ModelName::parse_at(&text, &Environment::of_process()?.endpoint())
        {
            return Ok(Source::Hub(name));
        }
        let given = [
            ("--revision", self.revision.is_some()),
            ("--stream", self.stream),
            ("--download-dir", self.download_dir.is_some()),
        ];
        if let Some((flag, _)) = given.iter().find(|(_, given)| *given) {
            let what = "has no effect on a directory, and only ORG/NAME is taken from the hub";
            return Err(Error::request(format!("{text}: {flag} {what}")));
        }
        if ModelName::parse(&text).is_some() && !is_quiet {
            note(&format!("{text}: the directory here, not the hub's model of that name"));
        }
        Ok(Source::Dir(word.to_path_buf()))
    }

    /// Plans the conversion of `source`. Of the hub's weights only headers are read for that. `cancel` stops everything that
    /// is read from there, now and later.
    ///
    /// # Errors
    /// What is wrong with the checkpoint, or with the way to it.
    pub fn plan(
        &self,
        source: &Source,
        options: &Options,
        is_quiet: bool,
        cancel: &Cancel,
    ) -> Result<Planned> {
        let name = match source {
            Source::Dir(dir) => return Ok(Planned { plan: Plan::from_dir(dir, options)?, repository: None }),
            Source::Hub(name) => name,
        };
        let wish =
            Wish { name: name.clone(), revision: self.revision.clone(), dir: self.download_dir.clone() };
        let _interruptible = Interruptible::by(cancel);
        let mut bar = Bar::new(is_quiet);
        match hub::find(&wish, &Environment::of_process()?, cancel, &mut bar)? {
            Found::InCache(dir) => {
                if !is_quiet {
                    note(&format!("{name}: the hub was not asked, taking {}", dir.display()));
                }
                Ok(Planned { plan: Plan::from_dir(&dir, options)?, repository: None })
            }
            Found::AtHub(repository) => {
                if !is_quiet && repository.n_missing_bytes() > 0 {
                    note(&format!("{name}: reading the headers of its weights"));
                }
                let plan = Plan::of(&repository.input(), options)?;
                Ok(Planned { plan, repository: Some(repository) })
            }
        }
    }

    /// Says what the conversion to `output` will take and asks whether to go on, then fetches what is wanted on the disk.
    /// Yields the plan that can run.
    ///
    /// # Errors
    /// `Cancelled` where the answer is no; what stops a download.
    pub fn ready(&self, planned: Planned, options: &Options, output: &Path, is_quiet: bool) -> Result<Plan> {
        let Some(repository) = planned.repository.filter(|repository| repository.n_missing_bytes() > 0)
        else {
            return Ok(planned.plan);
        };
        if !is_quiet {
            note(&self.summary(&repository, &planned.plan, output));
            if !self.yes && !is_wanted()? {
                return Err(Error::Cancelled);
            }
        }
        if self.stream {
            return Ok(planned.plan);
        }
        let cancel = repository.cancel();
        let _interruptible = Interruptible::by(cancel);
        let mut bar = Bar::new(is_quiet);
        repository.fetch_weights(&mut bar)?;
        bar.clear();
        Ok(Plan::of(&repository.input(), options)?)
    }

    /// Size, licence, what goes where, and the room there is.
    fn summary(&self, repository: &Repository, plan: &Plan, output: &Path) -> String {
        let n_missing = repository.n_missing_bytes();
        let n_result = plan.tensors.iter().map(|tensor| tensor.n_bytes).sum();
        let commit = &repository.commit()[..12];
        let licence = repository.licence().unwrap_or("not stated");
        let (n_files, weights) = (repository.n_weight_files(), bytes(repository.n_weight_bytes()));
        let files = if n_files == 1 { "file" } else { "files" };
        let mut lines = vec![format!(
            "{} at {commit}: {weights} in {n_files} {files}, licence: {licence}",
            repository.name()
        )];
        let mut n_here = n_result;
        let there = room(output);
        if self.stream {
            lines.push(format!("to read from the hub: {}, none of it kept", bytes(n_missing)));
        } else {
            let dir = repository.dir();
            let room = room(&dir);
            let is_one_disk = room.zip(there).is_some_and(|(a, b)| a.device == b.device);
            n_here += if is_one_disk { n_missing } else { 0 };
            lines.push(format!(
                "to download: {} to {}{}",
                bytes(n_missing),
                dir.display(),
                free(room.map(|room| room.n_free_bytes), n_missing)
            ));
        }
        lines.push(format!(
            "to write: {} to {}{}",
            bytes(n_result),
            output.display(),
            free(there.map(|room| room.n_free_bytes), n_here)
        ));
        lines.join("\n")
    }
}

/// `, 12.3 GB free`, with a word where that is not enough.
fn free(n_free: Option<u64>, n_needed: u64) -> String {
    let Some(n_free) = n_free else { return String::new() };
    let verdict =
        if n_free < n_needed { format!(": {} too little", bytes(n_needed - n_free)) } else { String::new() };
    format!(", {} free{verdict}", bytes(n_free))
}

/// Asks whoever sits there; nobody does where input or errors are no terminal.
fn is_wanted() -> Result<bool> {
    if !stdin().is_terminal() || !stderr().is_terminal() {
        return Ok(true);
    }
    // nobody is left to ask where even that is closed
    let _ = write!(stderr(), "Go on? [Y/n] ").and_then(|()| stderr().flush());
    let mut answer = String::new();
    stdin().read_line(&mut answer).map_err(|cause| Error::io("standard input", cause))?;
    let word = answer.trim().to_ascii_lowercase();
    Ok(answer.ends_with('\n') && ["", "y", "yes"].contains(&word.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_room_is_said() {
        assert_eq!(free(None, 5), "");
        assert_eq!(free(Some(3_000_000_000), 2_000_000_000), ", 3.00 GB free");
        assert_eq!(free(Some(3_000_000_000), 4_500_000_000), ", 3.00 GB free: 1.50 GB too little");
    }
}
