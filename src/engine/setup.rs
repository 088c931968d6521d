//! What a model is opened with: threads, arithmetic, and how much of it goes to which device. Comes in: what a user said.
//! Goes out: a network with every part in its place. Knows no command line.

use crate::error::{Error, Result};
use crate::model::{Arithmetic, Fit, GpuLayers, KvType, Model, Placement, Purpose, VisionDevice, Wish};
use ggml::{Backend, Device};
use owlet_format::{Gguf, ModelConfig};

/// Which device computes beside the CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first one, where there is any.
    #[default]
    First,
    Named(String),
    /// None: all on the CPU.
    Cpu,
}

/// How a model is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    pub n_threads: usize,
    pub arithmetic: Arithmetic,
    pub device: DeviceChoice,
    /// What of the model the device gets.
    pub wish: Wish,
    /// Positions to have room for on the device; the model's where that is `None`.
    pub n_ctx: Option<u32>,
    /// Requests at the same time, which have room there each.
    pub n_slots: u32,
    pub kv_type: KvType,
}

impl Setup {
    /// Everything on the CPU.
    pub fn cpu(n_threads: usize) -> Setup {
        Setup {
            n_threads,
            arithmetic: Arithmetic::default(),
            device: DeviceChoice::Cpu,
            wish: Wish::default(),
            n_ctx: None,
            n_slots: 1,
            kv_type: KvType::default(),
        }
    }

    /// The network of `file`, whose config is `config`.
    ///
    /// # Errors
    /// `Format`, `Unsupported` by what is wrong with the file; `Unsupported` where there is no such device, or where this
    /// machine cannot do the arithmetic; `Backend` where something does not fit.
    pub fn load(&self, file: &Gguf, config: &ModelConfig) -> Result<Model> {
        let (backend, fit) = self.place(file, config)?;
        Model::load_placed(file, config, &backend, self.arithmetic, fit.placement)
    }

    /// What computes, and what of `file` would go where.
    ///
    /// # Errors
    /// As [`Setup::load`].
    pub fn place(&self, file: &Gguf, config: &ModelConfig) -> Result<(Backend, Fit)> {
        let backend = self.backend()?;
        let train = config.text.as_ref().map_or(0, |text| text.n_ctx_train);
        let n_ctx = self.n_ctx.unwrap_or(train).min(train);
        let purpose = Purpose { n_ctx, n_seq: self.n_slots, kv_type: self.kv_type };
        let fit = Placement::plan(file, config, &backend, self.wish, purpose)?;
        Ok((backend, fit))
    }

    fn backend(&self) -> Result<Backend> {
        let device = match &self.device {
            // Exact products are kernels of ours.
            DeviceChoice::First if self.arithmetic == Arithmetic::Exact => None,
            DeviceChoice::First => {
                let device = Device::all().into_iter().next();
                if device.is_none() && self.wish.needs_device() {
                    return Err(no_device());
                }
                device
            }
            DeviceChoice::Named(name) => Some(find(name)?),
            DeviceChoice::Cpu => None,
        };
        Ok(match device {
            Some(device) => Backend::with_device(self.n_threads, device)?,
            None => Backend::cpu(self.n_threads)?,
        })
    }
}

impl Wish {
    /// Whether it cannot come true on a CPU.
    fn needs_device(&self) -> bool {
        let wants_layers = match self.layers {
            GpuLayers::Auto => false,
            GpuLayers::All => true,
            GpuLayers::Last(n) => n > 0,
        };
        wants_layers || self.vision == VisionDevice::Gpu
    }
}

fn find(name: &str) -> Result<Device> {
    let devices = Device::all();
    if devices.is_empty() {
        return Err(no_device());
    }
    let names: Vec<_> = devices.iter().map(Device::name).collect();
    let found = devices.into_iter().find(|device| device.name().eq_ignore_ascii_case(name));
    found.ok_or_else(|| {
        Error::unsupported("device", format_args!("expected one of {}, found {name}", names.join(", ")))
    })
}

fn no_device() -> Error {
    let why = match Device::ARE_BUILT_IN {
        true => "none was found: is there a GPU, and a driver for it?",
        false => "this program was built for the CPU alone",
    };
    Error::unsupported("device", why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_device_says_so_where_there_is_none() {
        let wish = |layers, vision| Wish { layers, vision };
        let cases = [
            (wish(GpuLayers::Auto, VisionDevice::Auto), false),
            (wish(GpuLayers::Auto, VisionDevice::Cpu), false),
            (wish(GpuLayers::Last(0), VisionDevice::Auto), false),
            (wish(GpuLayers::Last(1), VisionDevice::Cpu), true),
            (wish(GpuLayers::All, VisionDevice::Auto), true),
            (wish(GpuLayers::Auto, VisionDevice::Gpu), true),
        ];
        for (wish, needs_device) in cases {
            assert_eq!(wish.needs_device(), needs_device, "{wish:?}");
        }
        if !Device::all().is_empty() {
            println!("not run: this machine has a device");
            return;
        }
        let refused = |device, wish| {
            let setup = Setup { device, wish, ..Setup::cpu(1) };
            setup.backend().err().map(|error| error.to_string())
        };
        let why = match Device::ARE_BUILT_IN {
            true => "device: none was found: is there a GPU, and a driver for it?",
            false => "device: this program was built for the CPU alone",
        };
        for (wish, needs_device) in cases {
            assert_eq!(
                refused(DeviceChoice::First, wish).as_deref(),
                needs_device.then_some(why),
                "{wish:?}"
            );
            assert_eq!(refused(DeviceChoice::Cpu, wish), None);
        }
        let named = refused(DeviceChoice::Named("CUDA7".into()), Wish::default());
        assert_eq!(named.as_deref(), Some(why));
    }
}
