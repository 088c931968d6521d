//! Where the program keeps what it remembers from one run to the next.

use std::env;
use std::fs;
use std::path::PathBuf;

/// The directory, made where it was not there: `owlet` in `$XDG_STATE_HOME`, else in `~/.local/state`, else in `%LOCALAPPDATA%`.
/// `None` where the system names no such place or refuses it.
pub fn state_dir() -> Option<PathBuf> {
    let dir = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = dir("XDG_STATE_HOME")
        .or_else(|| dir("HOME").map(|home| home.join(".local/state")))
        .or_else(|| dir("LOCALAPPDATA"))?;
    let owlet = state.join("owlet");
    fs::create_dir_all(&owlet).ok()?;
    Some(owlet)
}
