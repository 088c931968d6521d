//! Settings: flags that the environment and a file may give, too.
//!
//! [`SETTINGS`] is the one place that names them, and a name is that of the flag: `--kv-type` is `OWLET_KV_TYPE` in the
//! environment and `kv-type` in the file. A flag comes before the environment, that before the file, that before what is
//! built in. What is found becomes the flag's default, so it is read, checked and shown as the flag is, and a flag that
//! excludes another is not excluded by a setting.

mod file;
mod known;

use crate::error::{Error, Result};
use clap::{Arg, ArgAction, Command};
use file::Entry;
use ggml::Device;
use known::SETTINGS;
pub use known::{names, variable};
use serde::Serialize;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The command that says what is wrong with settings, and goes on.
const JUDGE: &str = "doctor";

/// Names another file, or is `off`.
pub const FILE_VARIABLE: &str = "OWLET_CONFIG";

/// A setting that somebody made.
#[derive(Clone, Debug, Serialize)]
pub struct Given {
    pub name: &'static str,
    pub value: String,
    /// The variable, or the file with the line.
    pub source: String,
}

/// All that were made.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub given: Vec<Given>,
    /// Where the file is, or would be.
    pub file: Option<PathBuf>,
}

impl Settings {
    /// What environment and file say about the flags of `program`.
    ///
    /// # Errors
    /// `Io` where the file cannot be read; `Format`, naming file and line or the variable, where something in it is unknown or
    /// no value for its flag.
    pub fn read(program: &Command) -> Result<Settings> {
        let (file, is_named) = file_place();
        let entries = match &file {
            Some(path) => file::read(path, is_named)?,
            None => Vec::new(),
        };
        let mut given = Vec::new();
        for (name, is_path) in SETTINGS {
            let found = match from_environment(name)? {
                Some(found) => Some(found),
                None => from_file(name, is_path, &entries, file.as_deref()),
            };
            if let Some(found) = found {
                check(program, &found)?;
                given.push(found);
            }
        }
        Ok(Settings { given, file })
    }

    /// `program` with the settings as defaults of its flags.
    pub fn apply(&self, mut program: Command) -> Command {
        for Given { name, value, .. } in &self.given {
            // clap wants what lives as long as the program does.
            let value: &'static str = Box::leak(value.clone().into_boxed_str());
            let set =
                |flag: Arg| if flag.get_long() == Some(*name) { flag.default_value(value) } else { flag };
            let set_in =
                |command: Command| if has_flag(&command, name) { command.mut_args(set) } else { command };
            program = program.mut_args(set).mut_subcommands(set_in);
        }
        program
    }

    /// Whether the command line names a command of `program` that has flags which may be set elsewhere, and wants more than its
    /// help.
    pub fn matter(program: &Command) -> bool {
        let words: Vec<OsString> = env::args_os().skip(1).collect();
        let is_help = |word: &OsString| ["-h", "--help"].iter().any(|help| word == help);
        let is_named = |command: &&Command| words.first().is_some_and(|word| word == command.get_name());
        let named = program.get_subcommands().find(is_named);
        let has_some = |command: &Command| names().any(|name| has_flag(command, name));
        let lists_devices = Device::CAN_BE_LOADED && words.iter().any(|word| word == "--list-devices");
        (lists_devices || named.is_some_and(|command| command.get_name() != JUDGE && has_some(command)))
            && !words.iter().any(is_help)
    }
}

/// Where the file is, and whether somebody said so.
fn file_place() -> (Option<PathBuf>, bool) {
    match env::var_os(FILE_VARIABLE).filter(|place| !place.is_empty()) {
        Some(place) if place == "off" => (None, true),
        Some(place) => (Some(place.into()), true),
        None => {
            let dir = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
            let config = dir("XDG_CONFIG_HOME")
                .or_else(|| dir("HOME").map(|home| home.join(".config")))
                .or_else(|| dir("APPDATA"));
            (config.map(|dir| dir.join("owlet/config.toml")), false)
        }
    }
}

/// An empty variable is none.
fn from_environment(name: &'static str) -> Result<Option<Given>> {
    let variable = variable(name);
    let Some(value) = env::var_os(&variable).filter(|value| !value.is_empty()) else { return Ok(None) };
    let value =
        value.into_string().map_err(|_| Error::format(&variable, "expected UTF-8, found other bytes"))?;
    Ok(Some(Given { name, value, source: variable }))
}

/// Paths in the file count from where it is, and `~/` is the user's home.
fn from_file(name: &'static str, is_path: bool, entries: &[Entry], file: Option<&Path>) -> Option<Given> {
    let entry = entries.iter().find(|entry| entry.name == name)?;
    let file = file?;
    let value = if is_path { placed(&entry.value, file) } else { entry.value.clone() };
    Some(Given { name, value, source: entry.place(file) })
}

fn placed(value: &str, file: &Path) -> String {
    let home = env::var_os("HOME").map(PathBuf::from);
    let path = match (value.strip_prefix("~/"), home) {
        _ if value == "off" => return value.to_string(),
        (Some(below), Some(home)) => home.join(below),
        _ => file.parent().unwrap_or(Path::new("")).join(value),
    };
    path.display().to_string()
}

/// Whether it takes the setting: embed refuses --gpu-layers, since no text layer runs there.
fn has_flag(command: &Command, name: &str) -> bool {
    command.get_arguments().any(|flag| flag.get_long() == Some(name))
        && (command.get_name(), name) != ("embed", "gpu-layers")
}

/// Whether the flag takes the value, said by the flag's own words.
fn check(program: &Command, given: &Given) -> Result<()> {
    let command = program.get_subcommands().find(|command| has_flag(command, given.name));
    let Some(command) = command else {
        return Err(Error::internal(format_args!("no command has a flag --{}", given.name)));
    };
    let wrong = |why: &str| Error::format(format_args!("{}: {}", given.source, given.name), why);
    let is_switch = command
        .get_arguments()
        .any(|flag| flag.get_long() == Some(given.name) && matches!(flag.get_action(), ArgAction::SetTrue));
    if is_switch {
        return match given.value.as_str() {
            "true" | "false" => Ok(()),
            other => Err(wrong(&format!("expected true or false, found {other}"))),
        };
    }
    let words = [format!("--{}={}", given.name, given.value)];
    match command.clone().no_binary_name(true).try_get_matches_from(words) {
        Err(error)
            if matches!(
                error.kind(),
                clap::error::ErrorKind::ValueValidation | clap::error::ErrorKind::InvalidValue
            ) =>
        {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            // "error: invalid value 'x' for '--flag <N>': why"
            let why = line.split_once(">': ").map_or(line, |(_, why)| why);
            Err(wrong(&format!("{why}, found {}", given.value)))
        }
        // That a question is missing, say, is no fault of the value.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// A name that no flag has would be a setting without effect; and what a name means to one command it means to all, since a
    /// value is checked once.
    #[test]
    fn every_setting_is_a_flag_of_one_meaning() {
        let program = super::super::Owlet::command();
        for name in names() {
            let flags: Vec<_> = program
                .get_subcommands()
                .filter_map(|command| {
                    command
                        .get_arguments()
                        .find(|flag| flag.get_long() == Some(name))
                        .map(|flag| (command.get_name(), flag))
                })
                .collect();
            assert!(!flags.is_empty(), "no command has --{name}");
            for (command, flag) in &flags {
                let shape = |flag: &Arg| {
                    (flag.get_value_names().map(|names| names.to_vec()), format!("{:?}", flag.get_action()))
                };
                assert_eq!(shape(flag), shape(flags[0].1), "--{name} of {command} and of {}", flags[0].0);
            }
        }
    }

    #[test]
    fn paths_count_from_the_file() {
        let home = PathBuf::from(env::var_os("HOME").unwrap());
        for (value, expected) in [
            ("m.gguf", "/etc/owlet/m.gguf".to_string()),
            ("/models/m.gguf", "/models/m.gguf".to_string()),
            ("off", "off".to_string()),
            ("~/m.gguf", home.join("m.gguf").display().to_string()),
        ] {
            assert_eq!(placed(value, Path::new("/etc/owlet/config.toml")), expected, "{value}");
        }
    }
}
