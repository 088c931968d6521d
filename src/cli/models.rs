//! The models that a person has: files `NAME.gguf` in the directory of models, and the one among them that answers where
//! no other is named.

use super::screen::{Screen, note};
use crate::error::{Error, Result};
use crate::measure::bytes_in_words;
use owlet_format::{Gguf, ModelConfig};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The name of the model that is part of the program.
const BUILT_IN: &str = "built-in";
/// What a model's file is called behind its name.
const SUFFIX: &str = ".gguf";
/// The file that holds the default's name.
const DEFAULT_FILE: &str = "default";
const NAME_BYTES_MAX: u64 = 255;

/// List the models that there are, choose the default, remove one
///
/// Models that `owlet pull` made are files NAME.gguf in owlet/models in XDG_DATA_HOME (~/.local/share without it); other model
/// files may be put there, too. The default, marked with a star, answers where -m names no file.
#[derive(clap::Args)]
pub struct Models {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Make this model the default; `built-in` is the small one that is part of the program
    Use { name: String },
    /// Delete this model's file
    Rm { name: String },
}

impl Models {
    pub fn run(self) -> Result<ExitCode> {
        let shelf = Shelf::open()?;
        match self.action {
            None => Screen::new().say(&shelf.listing()?)?,
            Some(Action::Use { name }) => {
                shelf.make_default(&name)?;
                note(&format!("{name} is the default model now"));
            }
            Some(Action::Rm { name }) => {
                let was_default = shelf.remove(&name)?;
                note(&format!("{name}: removed"));
                if was_default {
                    note(&format!("it was the default: {BUILT_IN} is that now"));
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The model file to take: the one that was `given`, else the default one; `None` is the built-in model.
///
/// # Errors
/// Where the default model is not there any more.
pub fn chosen(given: Option<&Path>) -> Result<Option<PathBuf>> {
    match given {
        Some(path) => Ok(Some(path.to_path_buf())),
        // without a place for models there is no default among them
        None => Shelf::open().map_or(Ok(None), |shelf| shelf.default_path()),
    }
}

/// The directory of models.
pub struct Shelf {
    dir: PathBuf,
}

impl Shelf {
    /// # Errors
    /// Where the system names no place for it.
    pub fn open() -> Result<Shelf> {
        let dir = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let data = dir("XDG_DATA_HOME")
            .or_else(|| dir("HOME").map(|home| home.join(".local/share")))
            .or_else(|| dir("LOCALAPPDATA"));
        let data =
            data.ok_or_else(|| Error::request("models: no place to keep them; set HOME or XDG_DATA_HOME"))?;
        Ok(Shelf { dir: data.join("owlet/models") })
    }

    /// Makes the directory where there was none.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn make(&self) -> Result<()> {
        fs::create_dir_all(&self.dir).map_err(|cause| Error::io(&self.dir, cause))
    }

    /// Where the model `name` is, or would be.
    ///
    /// # Errors
    /// For names that are no file's, and for the built-in model's.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        let is_plain =
            !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\']) && name != BUILT_IN;
        if !is_plain {
            return Err(Error::request(format!(
                "{name}: expected the name of a model, as `owlet models` lists them"
            )));
        }
        Ok(self.dir.join(format!("{name}{SUFFIX}")))
    }

    /// The name of the default, if one was chosen.
    pub fn default_name(&self) -> Option<String> {
        let path = self.dir.join(DEFAULT_FILE);
        fs::metadata(&path).ok().filter(|meta| meta.is_file() && meta.len() <= NAME_BYTES_MAX)?;
        let name = fs::read_to_string(path).ok()?.trim().to_string();
        (!name.is_empty()).then_some(name)
    }

    fn default_path(&self) -> Result<Option<PathBuf>> {
        let Some(name) = self.default_name() else { return Ok(None) };
        let path = self.path(&name)?;
        if path.is_file() {
            return Ok(Some(path));
        }
        let what = "the default model is not there any more; `owlet models use NAME` chooses another one, -m FILE does for once";
        Err(Error::request(format!("{}: {what}", path.display())))
    }

    /// # Errors
    /// Where there is no such model.
    pub fn make_default(&self, name: &str) -> Result<()> {
        let file = self.dir.join(DEFAULT_FILE);
        if name == BUILT_IN {
            return match fs::remove_file(&file) {
                Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => Err(Error::io(file, cause)),
                _ => Ok(()),
            };
        }
        self.existing(name)?;
        // whole or not at all
        let part = self.dir.join(format!("{DEFAULT_FILE}.part"));
        let written = fs::write(&part, format!("{name}\n")).and_then(|()| fs::rename(&part, &file));
        written.map_err(|cause| Error::io(file, cause))
    }

    /// Deletes the model's file; tells whether it was the default.
    ///
    /// # Errors
    /// Where there is no such model, and where the system refuses.
    fn remove(&self, name: &str) -> Result<bool> {
        let path = self.existing(name)?;
        fs::remove_file(&path).map_err(|cause| Error::io(path, cause))?;
        let was_default = self.default_name().as_deref() == Some(name);
        if was_default {
            self.make_default(BUILT_IN)?;
        }
        Ok(was_default)
    }

    fn existing(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name)?;
        match path.is_file() {
            true => Ok(path),
            false => {
                Err(Error::request(format!("{name}: no such model; `owlet models` lists what there is")))
            }
        }
    }

    fn names(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|cause| Error::io(&self.dir, cause))?,
        };
        let name = |entry: fs::DirEntry| entry.file_name().to_str()?.strip_suffix(SUFFIX).map(str::to_string);
        let mut names: Vec<_> =
            entries.flatten().filter_map(name).filter(|name| self.existing(name).is_ok()).collect();
        names.sort();
        Ok(names)
    }

    /// A line a model: star, name, size, family.
    fn listing(&self) -> Result<String> {
        let default = self.default_name();
        let mut rows = vec![[BUILT_IN.to_string(), String::new(), "part of the program".to_string()]];
        for name in self.names()? {
            let path = self.path(&name)?;
            let size = fs::metadata(&path).map_or_else(|_| String::new(), |meta| bytes_in_words(meta.len()));
            let family = family(&path).unwrap_or_else(|error| format!("unreadable: {error}"));
            rows.push([name, size, family]);
        }
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let (n_name, n_size) = (width(0), width(1));
        let line = |[name, size, family]: &[String; 3]| {
            let is_default = default.as_deref().unwrap_or(BUILT_IN) == name;
            let star = if is_default { '*' } else { ' ' };
            format!("{star} {name:<n_name$}  {size:>n_size$}  {family}\n")
        };
        Ok(rows.iter().map(line).collect())
    }
}

fn family(path: &Path) -> Result<String> {
    Ok(ModelConfig::read(&Gguf::open(path)?)?.family)
}
