//! Where a checkpoint comes from, and the vision tower that some only name: a directory, or the hub. What comes from the hub is
//! planned before it is fetched, so that people see what it will take, and that it can be converted at all, before their
//! disks and lines are busy for an hour.

mod summary;

use super::bar::Bar;
use super::interrupt::Interruptible;
use super::screen::note;
use crate::error::{Error, Result};
use ggml::Cancel;
use owlet_convert::hub::{self, Environment, Found, ModelName, Repository, Wish};
use owlet_convert::{Input, Options, Plan, named_vision_tower};
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

/// What a word on the command line names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Dir(PathBuf),
    Hub(ModelName),
}

/// What a file is to be made of.
#[derive(Debug)]
pub struct Sources {
    pub checkpoint: Source,
    /// Without it the one that a checkpoint at the hub names, if it names one.
    pub vision_tower: Option<Source>,
}

/// A conversion that was planned, and may have to be fetched yet.
pub struct Planned {
    pub plan: Plan,
    options: Options,
    checkpoint: Brought,
    vision_tower: Option<Brought>,
}

/// A source whose small files are on the disk.
enum Brought {
    Here(PathBuf),
    AtHub(Repository),
}

impl Source {
    /// A directory of that name wins over the hub.
    ///
    /// # Errors
    /// For variables that can't be meant.
    pub fn of(word: &Path) -> Result<Source> {
        if !word.exists()
            && let Some(name) =
                ModelName::parse_at(&word.to_string_lossy(), &Environment::of_process()?.endpoint())
        {
            return Ok(Source::Hub(name));
        }
        Ok(Source::Dir(word.to_path_buf()))
    }

    fn is_at_hub(&self) -> bool {
        matches!(self, Source::Hub(_))
    }

    /// The note that a directory won.
    fn note(&self) -> Option<String> {
        let Source::Dir(dir) = self else { return None };
        let name = ModelName::parse(&dir.to_string_lossy())?;
        Some(format!("{name}: the directory here, not the hub's model of that name"))
    }
}

impl Sources {
    fn is_any_at_hub(&self) -> bool {
        self.checkpoint.is_at_hub() || self.vision_tower.as_ref().is_some_and(Source::is_at_hub)
    }
}

impl Planned {
    /// What is not on the disk as a whole.
    fn to_fetch(&self) -> impl Iterator<Item = &Repository> {
        let both = [Some(&self.checkpoint), self.vision_tower.as_ref()].into_iter().flatten();
        both.filter_map(|brought| match brought {
            Brought::AtHub(repository) if repository.n_missing_bytes() > 0 => Some(repository),
            _ => None,
        })
    }
}

impl Brought {
    fn input(&self) -> Input {
        match self {
            Brought::Here(dir) => Input::of_dir(dir),
            Brought::AtHub(repository) => repository.input(),
        }
    }

    fn dir(&self) -> PathBuf {
        match self {
            Brought::Here(dir) => dir.clone(),
            Brought::AtHub(repository) => repository.dir(),
        }
    }
}

impl HubFlags {
    /// Converting while downloading, with nothing kept but the result.
    pub fn streaming(revision: Option<String>, yes: bool) -> HubFlags {
        HubFlags { revision, stream: true, download_dir: None, yes }
    }

    /// What the words name, and whether these flags have something to act on.
    ///
    /// # Errors
    /// For flags that have no effect on directories, and for variables that can't be meant.
    pub fn sources(&self, checkpoint: &Path, vision_tower: Option<&Path>) -> Result<Sources> {
        let given = Sources {
            checkpoint: Source::of(checkpoint)?,
            vision_tower: vision_tower.map(Source::of).transpose()?,
        };
        let idle = [
            ("--revision", self.revision.is_some() && !given.checkpoint.is_at_hub()),
            ("--stream", self.stream && !given.is_any_at_hub()),
            ("--download-dir", self.download_dir.is_some() && !given.is_any_at_hub()),
        ];
        match idle.iter().find(|(_, is_idle)| *is_idle) {
            None => Ok(given),
            Some((flag, _)) => {
                let what = "has no effect on a directory, and only ORG/NAME is taken from the hub";
                Err(Error::request(format!("{}: {flag} {what}", checkpoint.display())))
            }
        }
    }

    /// Plans the conversion of `sources`. Of the hub's weights only headers are read for that. `cancel` stops everything that
    /// is read from there, now and later.
    ///
    /// # Errors
    /// What is wrong with the checkpoint, or with the way to it.
    pub fn plan(
        &self,
        sources: Sources,
        options: Options,
        is_quiet: bool,
        cancel: &Cancel,
    ) -> Result<Planned> {
        let _interruptible = sources.is_any_at_hub().then(|| Interruptible::by(cancel));
        let search = Search { flags: self, is_quiet, cancel };
        let named = [Some(&sources.checkpoint), sources.vision_tower.as_ref()];
        named.into_iter().flatten().filter_map(Source::note).for_each(|line| search.note(&line));
        let checkpoint = search.bring(&sources.checkpoint, None)?;
        let tower = match (sources.vision_tower, &sources.checkpoint) {
            (None, Source::Hub(name)) => search.named_tower(name, &checkpoint)?.map(Source::Hub),
            (given, _) => given,
        };
        let vision_tower = tower.map(|tower| search.bring(&tower, Some(&sources.checkpoint))).transpose()?;
        let options = Options { vision_tower: vision_tower.as_ref().map(Brought::input), ..options };
        let plan = Plan::of(&checkpoint.input(), &options)?;
        Ok(Planned { plan, options, checkpoint, vision_tower })
    }

    /// Says what the conversion to `output` will take and asks whether to go on, then fetches what is wanted on the disk.
    /// Yields the plan that can run.
    ///
    /// # Errors
    /// `Cancelled` where the answer is no; what stops a download.
    pub fn ready(&self, planned: Planned, output: &Path, is_quiet: bool) -> Result<Plan> {
        let Some(cancel) = planned.to_fetch().next().map(|repository| repository.cancel().clone()) else {
            return Ok(planned.plan);
        };
        if !is_quiet {
            note(&summary::summary(self, &planned, output));
            if !self.yes && !is_wanted()? {
                return Err(Error::Cancelled);
            }
        }
        if self.stream {
            return Ok(planned.plan);
        }
        let _interruptible = Interruptible::by(&cancel);
        let mut bar = Bar::new(is_quiet);
        planned.to_fetch().try_for_each(|repository| repository.fetch_weights(&mut bar))?;
        bar.clear();
        let vision_tower = planned.vision_tower.as_ref().map(Brought::input);
        let options = Options { vision_tower, ..planned.options };
        Ok(Plan::of(&planned.checkpoint.input(), &options)?)
    }
}

/// Looks sources up.
struct Search<'a> {
    flags: &'a HubFlags,
    is_quiet: bool,
    cancel: &'a Cancel,
}

impl Search<'_> {
    /// Brings the small files of `source`, which is the vision tower of `of` where that is given.
    fn bring(&self, source: &Source, of: Option<&Source>) -> Result<Brought> {
        let name = match source {
            Source::Dir(dir) => return Ok(Brought::Here(dir.clone())),
            Source::Hub(name) => name,
        };
        let mut wish = Wish { name: name.clone(), revision: None, dir: self.flags.download_dir.clone() };
        match of {
            None => wish.revision.clone_from(&self.flags.revision),
            // beside a checkpoint of the same directory it would have the same names
            Some(Source::Hub(_)) => wish.dir = wish.dir.map(|dir| dir.join(name.model())),
            Some(Source::Dir(_)) => {}
        }
        let mut bar = Bar::new(self.is_quiet);
        match hub::find(&wish, &Environment::of_process()?, self.cancel, &mut bar)? {
            Found::InCache(dir) => {
                self.note(&format!("{name}: the hub was not asked, taking {}", dir.display()));
                Ok(Brought::Here(dir))
            }
            Found::AtHub(repository) => {
                if repository.n_missing_bytes() > 0 {
                    self.note(&format!("{name}: reading the headers of its weights"));
                }
                Ok(Brought::AtHub(repository))
            }
        }
    }

    /// The tower that `checkpoint` from the hub names, if that is a name there. Its words are foreign: they lead to no directory here.
    fn named_tower(&self, name: &ModelName, checkpoint: &Brought) -> Result<Option<ModelName>> {
        let tower = named_vision_tower(&checkpoint.dir())?.and_then(|word| ModelName::parse(&word));
        if let Some(tower) = &tower {
            self.note(&format!("{name}: takes its vision tower from {tower}, as its config.json says"));
        }
        Ok(tower)
    }

    fn note(&self, line: &str) {
        if !self.is_quiet {
            note(line);
        }
    }
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
