//! What a model is opened with: threads, arithmetic, and how much of it goes to which device. Comes in: what a user said.
//! Goes out: a network with every part in its place. Knows no command line.

use crate::error::{Error, Result};
use crate::model::{
    Arithmetic, Fit, GpuLayers, Kernels, KvType, Model, Placement, Purpose, VisionDevice, Wish,
};
use ggml::{Backend, Device};
use owlet_format::{Gguf, ModelConfig};

/// Which devices compute beside the CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first one, where there is any.
    #[default]
    First,
    All,
    /// In this order: the first one that has room for it gets the vision half.
    Named(Vec<String>),
    /// None: all on the CPU.
    Cpu,
}

impl DeviceChoice {
    /// Those of this machine's devices that were chosen.
    ///
    /// # Errors
    /// `Unsupported` where there is none of a name.
    pub fn devices(&self) -> Result<Vec<Device>> {
        match self {
            DeviceChoice::First => Ok(Device::all().into_iter().take(1).collect()),
            DeviceChoice::All => Ok(Device::all()),
            DeviceChoice::Named(names) => named(names),
            DeviceChoice::Cpu => Ok(Vec::new()),
        }
    }
}

/// How a model is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    pub n_threads: usize,
    pub arithmetic: Arithmetic,
    /// The name of the kernels that compute on the CPU; the fastest ones where that is `None`.
    pub kernels: Option<String>,
    pub device: DeviceChoice,
    /// Addresses `HOST:PORT` of workers, whose devices come behind those.
    pub workers: Vec<String>,
    /// What of the model the devices get.
    pub wish: Wish,
    /// Positions to have room for on devices; the model's where that is `None`.
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
            kernels: None,
            device: DeviceChoice::Cpu,
            workers: Vec::new(),
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
        let kernels = match &self.kernels {
            Some(name) => Kernels::named(name, self.arithmetic)?,
            None => Kernels::of_this_machine(self.arithmetic),
        };
        let (backend, fit) = self.place(file, config)?;
        Model::load_placed(file, config, &backend, kernels, fit.placement)
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

    /// Whether it makes a difference which devices beside the CPU this machine has.
    pub fn looks_for_devices(&self) -> bool {
        match &self.device {
            // Exact products are kernels of ours.
            DeviceChoice::First | DeviceChoice::All => self.arithmetic != Arithmetic::Exact,
            DeviceChoice::Named(_) => true,
            DeviceChoice::Cpu => false,
        }
    }

    fn backend(&self) -> Result<Backend> {
        let mut devices = if self.looks_for_devices() { self.device.devices()? } else { Vec::new() };
        for address in &self.workers {
            devices.extend(devices_at(address)?);
        }
        if devices.is_empty() && self.device != DeviceChoice::Cpu && self.wish.needs_device() {
            return Err(no_device());
        }
        Ok(Backend::with_devices(self.n_threads, &devices)?)
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

fn named(names: &[String]) -> Result<Vec<Device>> {
    let devices = Device::all();
    if devices.is_empty() {
        return Err(no_device());
    }
    let known: Vec<_> = devices.iter().map(Device::name).collect();
    let find = |name: &String| {
        let found = devices.iter().find(|device| device.is_called(name));
        found.cloned().ok_or_else(|| {
            Error::unsupported("device", format_args!("expected one of {}, found {name}", known.join(", ")))
        })
    };
    names.iter().map(find).collect()
}

/// The devices of a worker.
#[cfg(feature = "rpc")]
fn devices_at(address: &str) -> Result<Vec<Device>> {
    Device::remote(address).map_err(|error| Error::unsupported("--rpc", error))
}

#[cfg(not(feature = "rpc"))]
fn devices_at(address: &str) -> Result<Vec<Device>> {
    let why = format_args!("{address}: this owlet was built without feature rpc (docs/gpu.md)");
    Err(Error::unsupported("--rpc", why))
}

fn no_device() -> Error {
    Error::unsupported("device", why_no_device())
}

/// Why there is no device.
pub fn why_no_device() -> &'static str {
    match (Device::CAN_BE_LOADED, Device::GPUS_ARE_BUILT_IN) {
        (true, _) => {
            "no GPU was found: is there one, a driver for it, and a backend in a file (docs/gpu.md)?"
        }
        (false, true) => "no GPU was found: is there one, and a driver for it?",
        (false, false) => "this owlet was built without a GPU backend (docs/gpu.md)",
    }
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
        let why = format!("device: {}", why_no_device());
        for (wish, needs_device) in cases {
            assert_eq!(
                refused(DeviceChoice::First, wish).as_deref(),
                needs_device.then_some(why.as_str()),
                "{wish:?}"
            );
            assert_eq!(refused(DeviceChoice::Cpu, wish), None);
        }
        let named = refused(DeviceChoice::Named(vec!["CUDA7".into()]), Wish::default());
        assert_eq!(named, Some(why));
    }
}
