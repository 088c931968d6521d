//! `owlet bench`: how fast this machine runs a model, and how near that is to what the machine can do.

use super::devices::DeviceFlags;
use super::flags::n_threads;
use super::interrupt::Interruptible;
use super::models;
use super::progress::{Progress, Unit};
use super::screen::{Screen, note};
use super::state::state_dir;
use super::{figures, json, version};
use crate::engine::Setup;
use crate::error::Result;
use crate::measure::{self, History, Report, SHAPES, Source, Synthetic, Test, Watch};
use crate::model::{Arithmetic, KvType};
use clap::{ArgAction, value_parser};
use ggml::Cancel;
use owlet_convert::checkpoint::SourceType;
use owlet_convert::{Options, Recipe, TypeChoice};
use owlet_format::TensorSpec;
use serde::Serialize;
use std::io::stdout;
use std::path::PathBuf;
use std::process::ExitCode;

/// Measure how fast this machine runs a model, and how near that is to what it can do
///
/// First come the machine's own limits (reading memory, products of floats, products of bytes), then the tests, then the limits
/// once more; a test's share of the limit is the least time that the limits allow over the time it took. --shape measures a
/// model without its file, on random weights made in memory. The result is kept for `owlet inspect --plan`,
/// unless --exact or --kernels say otherwise than other commands do.
#[derive(clap::Args)]
pub struct Bench {
    /// Model file [default: that of `owlet models`]
    #[arg(short, long, value_name = "FILE", conflicts_with = "shape")]
    model: Option<PathBuf>,
    /// Tests to run, by name [default: all of them]
    #[arg(long = "test", value_name = "NAME", num_args = 1.., value_delimiter = ',', long_help = tests())]
    tests: Vec<Test>,
    /// Timed runs of each test, behind one that warms up; medians count
    #[arg(short, long, value_name = "N", default_value = "3", value_parser = value_parser!(u32).range(1..=1000))]
    repetitions: u32,
    /// Threads that compute [default: one for each physical core]
    #[arg(short, long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    threads: Option<u32>,
    /// Type of the cached keys and values: f16, f32 or q8_0
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    kv_type: KvType,
    /// Multiply quantized weights by activations in f32 instead of eight bits, as --exact does elsewhere
    #[arg(long)]
    exact: bool,
    /// Kernels that compute on the CPU: ggml, avx2, avx-vnni or avx512-vnni [default: the fastest that this machine has]
    #[arg(long, value_name = "NAME")]
    kernels: Option<String>,
    /// Leave the machine's limits out, and with them the shares
    #[arg(long = "no-limits", action = ArgAction::SetFalse)]
    with_limits: bool,
    /// Print one JSON object instead of tables
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print comma-separated values instead of tables
    #[arg(long)]
    csv: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    devices: DeviceFlags,
    #[command(flatten)]
    random: Random,
}

#[derive(clap::Args)]
#[command(next_help_heading = "Random weights")]
struct Random {
    /// Instead of a file: random weights in the shapes of this model
    #[arg(long, value_name = "NAME", long_help = shapes())]
    shape: Option<String>,
    /// Blocks of the tower; the rest is extrapolated [default: all]
    #[arg(long, value_name = "N", requires = "shape")]
    vision_layers: Option<u32>,
    /// Layers of the text half; the rest is extrapolated [default: all]
    #[arg(long, value_name = "N", requires = "shape")]
    text_layers: Option<u32>,
    /// Type of the text half, as `owlet convert` takes it [default: as there]
    #[arg(long = "type", value_name = "TYPE", requires = "shape")]
    text: Option<TypeChoice>,
    /// Type of the vision tower [default: as there]
    #[arg(long, value_name = "TYPE", requires = "shape")]
    vision_type: Option<TypeChoice>,
    /// Type of the projector [default: as the vision tower]
    #[arg(long, value_name = "TYPE", requires = "shape")]
    projector_type: Option<TypeChoice>,
}

impl Bench {
    pub fn run(self) -> Result<ExitCode> {
        let model = models::chosen(self.model.as_deref())?;
        let source = match &self.random.shape {
            Some(name) => self.random.source(name)?,
            None => Source::File(model.as_deref()),
        };
        let options = measure::Options {
            tests: if self.tests.is_empty() { Test::ALL.to_vec() } else { self.tests.clone() },
            repetitions: self.repetitions,
            setup: self.devices.apply(Setup {
                arithmetic: if self.exact { Arithmetic::Exact } else { Arithmetic::Packed },
                kernels: self.kernels.clone(),
                n_ctx: Some(measure::POSITIONS),
                kv_type: self.kv_type,
                ..Setup::cpu(n_threads(self.threads))
            })?,
            with_limits: self.with_limits,
        };
        let cancel = Cancel::new();
        let interruptible = Interruptible::by(&cancel);
        let mut progress = Progress::new(Unit::Steps, self.quiet);
        let mut show = |what: &str, done: u64, of: u64| progress.show(what, done, of);
        let mut watch = Watch { cancel: &cancel, progress: &mut show };
        let report = measure::bench(&source, &options, &mut watch)?;
        progress.clear();
        drop(interruptible);
        self.print(&report)?;
        // Plans are for what runs where nothing else is said.
        if !self.exact && self.kernels.is_none() {
            keep(report);
        }
        Ok(ExitCode::SUCCESS)
    }

    fn print(&self, report: &Report) -> Result<()> {
        if self.json {
            let printed = Printed { version: version::line(), report };
            return json::write_line(&mut stdout().lock(), &printed).map_err(Screen::failed);
        }
        let text = if self.csv { figures::csv(report) } else { figures::markdown(version::line(), report) };
        Screen::new().say(&text)
    }
}

impl Random {
    /// The model `name` as these flags want it, and as it is in full.
    fn source(&self, name: &str) -> Result<Source<'static>> {
        let model = self.model(name, self.vision_layers, self.text_layers)?;
        let full = self.model(name, None, None)?;
        let is_full = model.tensors().len() == full.tensors().len();
        Ok(Source::Random { model: Box::new(model), full: (!is_full).then(|| Box::new(full)) })
    }

    fn model(&self, name: &str, vision_layers: Option<u32>, text_layers: Option<u32>) -> Result<Synthetic> {
        let config = measure::shape(name, vision_layers, text_layers)?;
        let default = Options::default();
        let vision = self.vision_type.unwrap_or(default.vision);
        let recipe = Recipe {
            text: self.text.unwrap_or(default.text),
            vision,
            projector: self.projector_type.or(default.projector).unwrap_or(vision),
            rules: default.rules,
            has_importance: false,
        };
        let dtype_of = |spec: &TensorSpec| recipe.choose(spec, SourceType::BF16, &config).dtype;
        Ok(Synthetic::new(config.clone(), dtype_of))
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Printed<'a> {
    version: &'a str,
    #[serde(flatten)]
    report: &'a Report,
}

/// Remembers the report for plans. What was measured is on the screen already, so failing here is no failure.
fn keep(report: Report) {
    let Some(dir) = state_dir() else { return };
    if let Err(error) = History::open(&dir).add(report) {
        note(&format!("owlet: not kept: {error}"));
    }
}

fn tests() -> String {
    format!("Tests to run, by name [default: all of them]: {}", Test::ALL.map(Test::name).join(" "))
}

fn shapes() -> String {
    format!("Instead of a file: random weights in the shapes of this model: {}", SHAPES.join(" "))
}
