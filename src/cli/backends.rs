//! Backends for GPUs that are files: where they are looked for, and what is said about those that cannot be loaded.

use super::screen::note;
use crate::engine::DeviceChoice;
use crate::error::{Error, Result};
use clap::Args;
use ggml::Device;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Args)]
pub struct BackendsFlag {
    /// Directory of the backends for GPUs, files libggml-NAME that become part of the program [default: `backends` beside the program, else ../lib/owlet/backends from there]
    #[arg(long, value_name = "DIR", hide = !Device::CAN_BE_LOADED)]
    backends: Option<PathBuf>,
}

impl BackendsFlag {
    /// Loads what there is, unless the CPU was chosen. What is passed over is noted, unless somebody asked for it.
    ///
    /// # Errors
    /// `Unsupported`: a file in a directory that was named is no backend for this machine, or a device is not there and
    /// such a file may be why.
    pub fn load_for(&self, choice: &DeviceChoice) -> Result<()> {
        if *choice == DeviceChoice::Cpu {
            return Ok(());
        }
        let problems = load(self.backends.as_deref())?;
        let is_missing = match choice {
            DeviceChoice::Named(names) => names.iter().any(|name| !is_there(name)),
            _ => false,
        };
        if is_missing || self.backends.is_some() {
            return problems.into_iter().next().map_or(Ok(()), Err);
        }
        // A command may open its model more than once.
        static ARE_NOTED: AtomicBool = AtomicBool::new(false);
        if !ARE_NOTED.swap(true, Ordering::Relaxed) {
            problems.iter().for_each(|problem| note(&passed_over(problem)));
        }
        Ok(())
    }
}

/// In words.
pub fn passed_over(problem: &Error) -> String {
    format!("owlet: passed over: {problem}")
}

fn is_there(name: &str) -> bool {
    Device::all().iter().any(|device| device.is_called(name))
}

/// Loads the backends in the directory that was `named`, else where they are by default, and yields what was passed over there.
///
/// # Errors
/// `Unsupported` where this program takes none.
#[cfg(feature = "dynamic-backends")]
pub fn load(named: Option<&Path>) -> Result<Vec<Error>> {
    let Some(dir) = named.map(Path::to_path_buf).or_else(beside_the_program) else { return Ok(Vec::new()) };
    let passed_over = ggml::load_backends(&dir).into_iter();
    Ok(passed_over.map(|file| Error::unsupported(file.path.display(), file.why)).collect())
}

#[cfg(not(feature = "dynamic-backends"))]
pub fn load(named: Option<&Path>) -> Result<Vec<Error>> {
    match named {
        Some(_) => Err(Error::unsupported(
            "--backends",
            "this owlet was built without feature dynamic-backends (docs/gpu.md)",
        )),
        None => Ok(Vec::new()),
    }
}

/// Never from the directory that the program happens to be run in: what is loaded has the rights of whoever runs it.
#[cfg(feature = "dynamic-backends")]
fn beside_the_program() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let dir = program.parent()?;
    let places = [Some(dir.join("backends")), dir.parent().map(|above| above.join("lib/owlet/backends"))];
    places.into_iter().flatten().find(|place| place.is_dir())
}
