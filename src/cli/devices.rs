//! Flags about devices beside the CPU, and the list of those that there are.

use super::backends::{self, BackendsFlag};
use super::screen::{Screen, note};
use crate::engine::{DeviceChoice, Setup, why_no_device};
use crate::error::{Error, Result};
use crate::measure::bytes_in_words;
use crate::model::{GpuLayers, VisionDevice, Wish};
use clap::Args;
use ggml::Device;
use std::path::Path;
use std::process::ExitCode;

/// Hidden, and refused, where a program can have no device.
#[derive(Args)]
#[command(next_help_heading = "GPU")]
pub struct DeviceFlags {
    /// Text layers on the GPU, the last ones first: a number, auto (as many as fit beside the vision half, or in turns with it) or all [default: auto]
    #[arg(long, value_name = "N", hide = !Device::ARE_BUILT_IN)]
    gpu_layers: Option<GpuLayers>,
    /// Where pictures are looked at: gpu, cpu, or auto (on the GPU if the vision half fits) [default: auto]
    #[arg(long, value_name = "WHERE", hide = !Device::ARE_BUILT_IN)]
    vision_device: Option<VisionDevice>,
    /// GPUs to use, as --list-devices names them: A or A,B (the first one gets the vision half), all, or none [default: the first one]
    #[arg(long, value_name = "NAMES", hide = !Device::GPUS_ARE_BUILT_IN)]
    device: Option<String>,
    /// Workers whose memory models go to as well, HOST:PORT or several with commas: `owlet rpc-worker`, only in a network that you trust
    #[arg(long, value_name = "ADDRESSES", value_delimiter = ',', hide = !Device::WORKERS_ARE_BUILT_IN)]
    rpc: Vec<String>,
    #[command(flatten)]
    backends: BackendsFlag,
}

impl DeviceFlags {
    /// The same for a command that runs no text layer.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn apply_to_tower(&self, setup: Setup) -> Result<Setup> {
        let setup = self.apply(setup)?;
        if self.gpu_layers.is_some() {
            return Err(Error::request("--gpu-layers has no effect: no text layer runs here"));
        }
        let wish = Wish { layers: GpuLayers::Last(0), ..setup.wish };
        Ok(Setup { wish, ..setup })
    }

    /// One of the flags, where any is given; not --device or --rpc before the others.
    fn given(&self) -> Option<&'static str> {
        let flags = [
            ("--gpu-layers", self.gpu_layers.is_some()),
            ("--vision-device", self.vision_device.is_some()),
            ("--device", self.device.is_some()),
            ("--rpc", !self.rpc.is_empty()),
        ];
        flags.into_iter().find(|(_, is_given)| *is_given).map(|(flag, _)| flag)
    }

    /// `setup` with what the flags say.
    ///
    /// # Errors
    /// `Unsupported` where a flag could have no effect.
    pub fn apply(&self, setup: Setup) -> Result<Setup> {
        let given = self.given();
        if let (false, Some(flag), []) = (Device::ARE_BUILT_IN, given, self.rpc.as_slice()) {
            return Err(Error::unsupported(flag, why_no_device()));
        }
        let device = self.device.as_deref().map_or(DeviceChoice::First, chosen);
        if let (DeviceChoice::Cpu, Some(flag), []) =
            (&device, given.filter(|flag| *flag != "--device"), self.rpc.as_slice())
        {
            return Err(Error::request(format!("{flag} has no effect with --device none")));
        }
        let wish = Wish {
            layers: self.gpu_layers.unwrap_or_default(),
            vision: self.vision_device.unwrap_or_default(),
        };
        let setup = Setup { device, workers: self.rpc.clone(), wish, ..setup };
        if setup.looks_for_devices() {
            self.backends.load_for(&setup.device)?;
        }
        Ok(setup)
    }
}

/// What `--device` says.
pub fn chosen(names: &str) -> DeviceChoice {
    match names {
        "none" => DeviceChoice::Cpu,
        "all" => DeviceChoice::All,
        _ => DeviceChoice::Named(names.split(',').map(|name| name.trim().into()).collect()),
    }
}

/// Prints a line a device, those of the backends in a directory among them, and notes what was passed over there. That is a
/// failure where somebody named the directory.
///
/// # Errors
/// What standard output says.
pub fn list(named: Option<&Path>) -> Result<ExitCode> {
    let passed_over = backends::load(named)?;
    let line = |device: Device| {
        let memory = device.memory();
        format!(
            "{}  {}, {} of {} free\n",
            device.name(),
            device.description(),
            bytes_in_words(memory.free),
            bytes_in_words(memory.total)
        )
    };
    let lines: String = Device::all().into_iter().map(line).collect();
    let none = format!("none: {}\n", why_no_device());
    Screen::new().say(if lines.is_empty() { &none } else { &lines })?;
    passed_over.iter().for_each(|problem| note(&backends::passed_over(problem)));
    Ok(if named.is_some() && !passed_over.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
