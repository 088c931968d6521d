//! `owlet doctor`: what there is on this machine, and whether it is as it should be.

mod words;

use super::backends;
use super::flags::{CachePlace, DEFAULT_CACHE_SIZE, n_threads};
use super::interrupt::Interruptible;
use super::progress::{Progress, Unit};
use super::quantity::parse_bytes;
use super::screen::Screen;
use super::settings::Settings;
use super::state::state_dir;
use super::{Owlet, json, version};
use crate::engine::image_cache::DiskCache;
use crate::engine::{Setup, open_file};
use crate::error::{Error, Result};
use crate::measure::{self, Machine, Measured, SelfTestVerdict, Source, Test, Watch, check_self_test};
use clap::CommandFactory;
use ggml::{Cancel, Device};
use owlet_format::{Gguf, ModelConfig};
use serde::Serialize;
use std::ffi::OsString;
use std::fs;
use std::io::stdout;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Look at this machine, the settings and the model, and say what is wrong
///
/// Where each setting comes from, the processor and the kernels that it gets, memory, GPUs, directories and what they hold, the
/// model file down to every tensor's checksum and its self-test, and a measurement of some ten seconds on the built-in model. Exit status 0: all is as it
/// should be; 1: something is not, and is said at the end.
#[derive(clap::Args)]
pub struct Doctor {
    /// Model file to look at [default: the one that owlet run would take]
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Measure nothing
    #[arg(long)]
    no_bench: bool,
    /// Print one JSON object instead
    #[arg(long)]
    json: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Serialize)]
struct Findings {
    ok: bool,
    version: &'static str,
    settings_file: Option<PathBuf>,
    settings: Vec<SettingFound>,
    machine: Machine,
    devices: Vec<DeviceFound>,
    directories: Vec<Directory>,
    model: Option<ModelFound>,
    /// On the built-in model.
    bench: Vec<Measured>,
    /// A line for each thing that is wrong.
    problems: Vec<String>,
}

#[derive(Serialize)]
struct SettingFound {
    name: &'static str,
    /// `None` where it depends on the model or the machine.
    value: Option<String>,
    source: String,
}

#[derive(Serialize)]
struct DeviceFound {
    name: String,
    description: String,
    free_bytes: u64,
    total_bytes: u64,
}

#[derive(Serialize)]
struct Directory {
    what: &'static str,
    path: Option<PathBuf>,
    files: usize,
    bytes: u64,
}

#[derive(Serialize)]
struct ModelFound {
    file: String,
    name: String,
    bytes: u64,
    tensors: usize,
    /// Tensors whose bytes are not what was written.
    damaged: Vec<String>,
    /// Null where the model was not run, being damaged.
    self_test: Option<SelfTestVerdict>,
    kernels: String,
}

impl Doctor {
    pub fn run(self) -> Result<ExitCode> {
        let cancel = Cancel::new();
        let _interruptible = Interruptible::by(&cancel);
        let mut progress = Progress::new(Unit::Steps, self.quiet);
        let mut show = |what: &str, done: u64, of: u64| progress.show(what, done, of);
        let mut watch = Watch { cancel: &cancel, progress: &mut show };
        let findings = self.look(&mut watch)?;
        progress.clear();
        if self.json {
            json::write_line(&mut stdout().lock(), &findings).map_err(Screen::failed)?;
        } else {
            Screen::new().say(&words::of(&findings))?;
        }
        Ok(if findings.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// # Errors
    /// `Cancelled` alone: everything else is a finding.
    fn look(&self, watch: &mut Watch) -> Result<Findings> {
        let mut problems = Vec::new();
        let settings = Settings::read(&Owlet::command()).unwrap_or_else(|error| {
            problems.push(error.to_string());
            Settings::default()
        });
        let value = |name: &str| {
            let given = settings.given.iter().find(|given| given.name == name);
            given.map(|given| given.value.clone())
        };
        let n_threads = n_threads(value("threads").and_then(|n| n.parse().ok()));
        let path = self.model.clone().or_else(|| value("model").map(PathBuf::from));
        let model = noted(look_at_model(path.as_deref(), n_threads, watch), &mut problems)?;
        if let Some(model) = &model {
            problems.extend(model.damaged.iter().cloned());
            let wrong = model.self_test.as_ref().filter(|verdict| !verdict.is_right());
            let in_words = wrong.map(ToString::to_string);
            problems.extend(
                in_words
                    .iter()
                    .filter_map(|text| text.lines().next())
                    .map(|line| format!("self-test: {line}")),
            );
        }
        let image_cache =
            value("image-cache").map_or(CachePlace::Default, |dir| CachePlace::from(OsString::from(dir)));
        let mut directories = Vec::new();
        for found in [look_at_cache(image_cache.dir()), look_at_state(state_dir())] {
            directories.extend(noted(found, &mut problems)?);
        }
        if value("device").as_deref() != Some("none") {
            let named = value("backends").map(PathBuf::from);
            let passed_over = noted(backends::load(named.as_deref()), &mut problems)?;
            problems.extend(passed_over.iter().flatten().map(ToString::to_string));
        }
        let bench = if self.no_bench { None } else { noted(measured(n_threads, watch), &mut problems)? };
        Ok(Findings {
            ok: problems.is_empty(),
            version: version::line(),
            settings: list(&settings),
            settings_file: settings.file,
            machine: Machine::here(n_threads),
            devices: Device::all().into_iter().map(DeviceFound::from).collect(),
            directories,
            model,
            bench: bench.unwrap_or_default(),
            problems,
        })
    }
}

/// What was found, unless it failed: that is a problem.
///
/// # Errors
/// `Cancelled`.
fn noted<T>(found: Result<T>, problems: &mut Vec<String>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Error::Cancelled) => Err(Error::Cancelled),
        Err(error) => {
            problems.push(error.to_string());
            Ok(None)
        }
    }
}

/// Every setting with its value and where that comes from.
fn list(settings: &Settings) -> Vec<SettingFound> {
    let built_in = settings.apply(Owlet::command());
    let flags: Vec<_> = built_in.get_subcommands().flat_map(|command| command.get_arguments()).collect();
    super::settings::names()
        .map(|name| {
            let flag = flags.iter().find(|flag| flag.get_long() == Some(name));
            let default = flag.and_then(|flag| flag.get_default_values().first());
            let given = settings.given.iter().find(|given| given.name == name);
            SettingFound {
                name,
                value: given
                    .map(|given| given.value.clone())
                    .or(default.map(|value| value.to_string_lossy().into())),
                source: given.map_or_else(|| "built in".to_string(), |given| given.source.clone()),
            }
        })
        .collect()
}

/// Opens the model as a run would, and reads all of it.
fn look_at_model(path: Option<&Path>, n_threads: usize, watch: &mut Watch) -> Result<ModelFound> {
    let file = open_file(path)?;
    let config = ModelConfig::read(&file)?;
    let setup = Setup::cpu(n_threads);
    let model = setup.load(&file, &config)?;
    let damaged = damaged(&file, watch)?;
    let self_test = if damaged.is_empty() { Some(check_self_test(path, &setup, watch)?) } else { None };
    Ok(ModelFound {
        file: file.label().to_string(),
        name: config.name.clone(),
        bytes: file.bytes().len() as u64,
        tensors: file.tensors().len(),
        damaged,
        self_test,
        kernels: model.kernels(),
    })
}

fn damaged(file: &Gguf, watch: &mut Watch) -> Result<Vec<String>> {
    let mut damaged = Vec::new();
    let sums = file.checksums()?;
    let n_tensors = file.tensors().len() as u64;
    for ((tensor, sum), at) in file.tensors().iter().zip(&sums).zip(0..) {
        if watch.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        (watch.progress)("reading the model file", at, n_tensors);
        if let Err(error) = file.verify(tensor, sum) {
            damaged.push(error.to_string());
        }
    }
    Ok(damaged)
}

fn look_at_cache(dir: Option<PathBuf>) -> Result<Directory> {
    let what = "pictures";
    let Some(dir) = dir else { return Ok(Directory { what, path: None, files: 0, bytes: 0 }) };
    let max_bytes = parse_bytes(DEFAULT_CACHE_SIZE).map_err(Error::internal)?;
    let entries = DiskCache::new(&dir, max_bytes).entries().map_err(|cause| Error::io(&dir, cause))?;
    let bytes = entries.iter().map(|entry| entry.n_bytes).sum();
    Ok(Directory { what, files: entries.len(), bytes, path: Some(dir) })
}

/// What a chat and a bench remember.
fn look_at_state(dir: Option<PathBuf>) -> Result<Directory> {
    let what = "history";
    let Some(dir) = dir else { return Ok(Directory { what, path: None, files: 0, bytes: 0 }) };
    let failed = |cause| Error::io(&dir, cause);
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(&dir).map_err(failed)? {
        let metadata = entry.and_then(|entry| entry.metadata()).map_err(failed)?;
        if metadata.is_file() {
            (files, bytes) = (files + 1, bytes + metadata.len());
        }
    }
    Ok(Directory { what, files, bytes, path: Some(dir) })
}

/// The built-in model on this machine.
fn measured(n_threads: usize, watch: &mut Watch) -> Result<Vec<Measured>> {
    let options = measure::Options {
        tests: vec![Test::Vision, Test::Prefill256, Test::Decode],
        repetitions: 3,
        setup: Setup { n_ctx: Some(measure::POSITIONS), ..Setup::cpu(n_threads) },
        with_limits: true,
    };
    Ok(measure::bench(&Source::File(None), &options, watch)?.results)
}

impl From<Device> for DeviceFound {
    fn from(device: Device) -> DeviceFound {
        let memory = device.memory();
        DeviceFound {
            name: device.name().to_string(),
            description: device.description().to_string(),
            free_bytes: memory.free,
            total_bytes: memory.total,
        }
    }
}
