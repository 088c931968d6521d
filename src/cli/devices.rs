//! Flags about devices beside the CPU, and the list of those that there are.

use super::screen::Screen;
use crate::engine::{DeviceChoice, Setup};
use crate::error::{Error, Result};
use crate::measure::bytes_in_words;
use crate::model::{GpuLayers, VisionDevice, Wish};
use clap::Args;
use ggml::Device;
use std::process::ExitCode;

/// Hidden, and refused, where a program can have no device.
#[derive(Args)]
#[command(next_help_heading = "GPU")]
pub struct DeviceFlags {
    /// Text layers on the GPU, the last ones first: a number, auto (as many as fit beside the vision half) or all [default: auto]
    #[arg(long, value_name = "N", hide = !Device::ARE_BUILT_IN)]
    gpu_layers: Option<GpuLayers>,
    /// Where pictures are looked at: gpu, cpu, or auto (on the GPU if the vision half fits) [default: auto]
    #[arg(long, value_name = "WHERE", hide = !Device::ARE_BUILT_IN)]
    vision_device: Option<VisionDevice>,
    /// GPU to use, as --list-devices names it, or none [default: the first one]
    #[arg(long, value_name = "NAME", hide = !Device::ARE_BUILT_IN)]
    device: Option<String>,
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

    /// One of the flags, where any is given; not --device before the others.
    pub fn given(&self) -> Option<&'static str> {
        let flags = [
            ("--gpu-layers", self.gpu_layers.is_some()),
            ("--vision-device", self.vision_device.is_some()),
            ("--device", self.device.is_some()),
        ];
        flags.into_iter().find(|(_, is_given)| *is_given).map(|(flag, _)| flag)
    }

    /// `setup` with what the flags say.
    ///
    /// # Errors
    /// `Unsupported` where a flag could have no effect.
    pub fn apply(&self, setup: Setup) -> Result<Setup> {
        let given = self.given();
        if let (false, Some(flag)) = (Device::ARE_BUILT_IN, given) {
            return Err(Error::unsupported(flag, "this owlet was built without a GPU backend (docs/gpu.md)"));
        }
        let device = match self.device.as_deref() {
            None => DeviceChoice::First,
            Some("none") => DeviceChoice::Cpu,
            Some(name) => DeviceChoice::Named(name.into()),
        };
        if let (DeviceChoice::Cpu, Some(flag)) = (&device, given.filter(|flag| *flag != "--device")) {
            return Err(Error::request(format!("{flag} has no effect with --device none")));
        }
        let wish = Wish {
            layers: self.gpu_layers.unwrap_or_default(),
            vision: self.vision_device.unwrap_or_default(),
        };
        Ok(Setup { device, wish, ..setup })
    }
}

/// Prints a line a device.
///
/// # Errors
/// What standard output says.
pub fn list() -> Result<ExitCode> {
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
    let none = match Device::ARE_BUILT_IN {
        true => "no GPU was found: is there one, and a driver for it?\n",
        false => "none: this owlet was built without a GPU backend (docs/gpu.md)\n",
    };
    Screen::new().say(if lines.is_empty() { none } else { &lines })?;
    Ok(ExitCode::SUCCESS)
}
