//! THE NETWORK: pictures and tokens in, logits out. Comes in: a checked file, normalised pixels, rows of
//! token ids or embeddings. Goes out: embedding rows of a picture ([`VisionEncoder`]), logits ([`Decoder`]).
//! Knows no text, no JSON, no image format.
//!
//! State has three parts that never mix: configs, weights where they are mapped (both in [`Model`], shared),
//! and run state: the hidden rows of an encoder, the cache of a decoder. Nothing that a file says can reach
//! an assertion in a graph: [`Model::load`] accepts only what `ModelConfig::check` has proven, and what a
//! caller says is checked row by row.

mod decoder;
mod grid;
mod kv_cache;
mod layers;
mod net;
mod observe;
mod operand;
mod pass;
mod pieces;
mod place;
mod projector;
mod row;
mod text;
mod tower;
mod views;
mod vision;
mod weights;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use ggml::{Backend, Device, Place, Weights};
use owlet_format::{Gguf, ModelConfig, ProjectorConfig, Role, TextConfig, VisionConfig};

pub use decoder::{Decoder, Logits};
pub use kv_cache::{KvHalf, KvRows, KvType, kv_bytes, kv_row_bytes};
pub use observe::Observe;
pub use place::{Fit, GpuLayers, Placement, Purpose, VisionDevice, Wish};
pub use row::{Input, Row};
pub use vision::{Progress, Step, VisionEncoder};

pub use crate::kernels::{Arithmetic, Kernels};
use crate::{Error, Result};
use weights::{Lookup, ProjectorWeights, TextWeights, VisionWeights};

/// Configs and weights, read-only. A clone is another handle to the same.
#[derive(Clone)]
pub struct Model(Arc<Parts>);

struct Parts {
    /// The file's name, for messages.
    label: String,
    backend: Backend,
    kernels: Kernels,
    placement: Placement,
    weights: Weights,
    vision: Option<(VisionConfig, VisionWeights)>,
    projector: Option<(ProjectorConfig, ProjectorWeights)>,
    text: Option<(TextConfig, TextWeights)>,
}

/// Of the parts that there are.
type Configs = (Option<VisionConfig>, Option<ProjectorConfig>, Option<TextConfig>);

/// What computes, and which part of a model where.
struct Machine<'a> {
    backend: &'a Backend,
    kernels: Kernels,
    placement: Placement,
}

impl Model {
    /// The network of `file`, using its tensors where they lie; `config` is what `file` says.
    ///
    /// # Errors
    /// The file is not what its config implies, or the backend cannot take its tensors.
    pub fn load(file: &Gguf, config: &ModelConfig, backend: &Backend) -> Result<Model> {
        Model::load_with(file, config, backend, Arithmetic::Packed)
    }

    /// The same with this arithmetic.
    ///
    /// # Errors
    /// As [`load`](Self::load); `Unsupported` where this machine cannot multiply all of the file's types exactly.
    pub fn load_with(
        file: &Gguf,
        config: &ModelConfig,
        backend: &Backend,
        arithmetic: Arithmetic,
    ) -> Result<Model> {
        Model::load_placed(file, config, backend, Kernels::of_this_machine(arithmetic), Placement::cpu())
    }

    /// The same by these kernels, with its parts where `placement` says: those on devices of `backend` are copied there.
    ///
    /// # Errors
    /// As [`load_with`](Self::load_with); `Backend` where the device has no room; `Unsupported` where exact arithmetic
    /// would run on a device.
    pub fn load_placed(
        file: &Gguf,
        config: &ModelConfig,
        backend: &Backend,
        kernels: Kernels,
        placement: Placement,
    ) -> Result<Model> {
        config.check(file)?;
        if kernels.arithmetic() == Arithmetic::Exact {
            if placement.has_device() {
                return Err(Error::unsupported("exact arithmetic", "expected all layers on the CPU"));
            }
            expect_exact(file, config, &kernels)?;
        }
        let spec = |tensor: &owlet_format::TensorInfo| ggml::TensorSpec {
            name: tensor.name.clone(),
            dtype: tensor.dtype,
            ne: tensor.shape.padded(),
            offset: tensor.offset,
            place: placement.of(&tensor.name),
            turn: placement.turn(&tensor.name),
        };
        let specs: Vec<_> = file.tensors().iter().map(spec).collect();
        let weights = Weights::new(backend, file.bytes(), &specs)?;
        let configs = (config.vision.clone(), config.projector.clone(), config.text.clone());
        Model::assemble(file.label(), weights, configs, Machine { backend, kernels, placement })
    }

    /// The same network in the same places, after a device was lost: devices are looked for anew, and what lies on them is
    /// copied there again. What this one has there is given back before.
    ///
    /// # Errors
    /// `Unsupported`, `Backend`: a device is not back, or has no room.
    pub fn again(&self) -> Result<Model> {
        let parts = &self.0;
        let backend = parts.backend.again()?;
        let weights = parts.weights.again(&backend)?;
        let configs = (
            parts.vision.as_ref().map(|(config, _)| config.clone()),
            parts.projector.as_ref().map(|(config, _)| config.clone()),
            parts.text.as_ref().map(|(config, _)| config.clone()),
        );
        let (kernels, placement) = (parts.kernels, parts.placement.clone());
        Model::assemble(&parts.label, weights, configs, Machine { backend: &backend, kernels, placement })
    }

    /// Whether a device is lost that some of it lies on: nothing is computed any more.
    pub fn is_lost(&self) -> bool {
        self.0.backend.check().is_err()
    }

    /// The network of tensors that are what the configs imply.
    fn assemble(label: &str, weights: Weights, configs: Configs, machine: Machine) -> Result<Model> {
        let Machine { backend, kernels, placement } = machine;
        let lookup = Lookup { weights: &weights, label };
        let (vision, projector, text) = configs;
        let vision = vision.map(|c| lookup.vision(&c).map(|w| (c, w))).transpose()?;
        let projector = projector.map(|c| lookup.projector(&c).map(|w| (c, w))).transpose()?;
        let text = text.map(|c| lookup.text(&c).map(|w| (c, w))).transpose()?;
        let (label, backend) = (label.to_owned(), backend.clone());
        Ok(Model(Arc::new(Parts { label, backend, kernels, placement, weights, vision, projector, text })))
    }

    /// Which code computes the matrix products, in words for a report.
    pub fn kernels(&self) -> String {
        let on_cpu = self.kernels_on_cpu();
        match self.on_devices() {
            Some(on_devices) => format!("{on_cpu}; {on_devices}"),
            None => on_cpu,
        }
    }

    fn kernels_on_cpu(&self) -> String {
        let ggml = ggml::build_info();
        format!("{}, ggml {} (cpu {})", self.0.kernels, ggml.ggml_version, ggml.cpu_level)
    }

    /// What lies where.
    pub fn placement(&self) -> &Placement {
        &self.0.placement
    }

    /// What is on which device, in words; none where all is on the CPU.
    pub fn on_devices(&self) -> Option<String> {
        let devices = self.0.backend.devices().enumerate();
        let shares = devices.filter_map(|(i, device)| {
            let what = self.0.placement.on_device(i)?;
            Some(format!("{} ({}): {what}", device.name(), device.description()))
        });
        let shares: Vec<_> = shares.collect();
        (!shares.is_empty()).then(|| shares.join("; "))
    }

    /// What activations are before quantized weights are multiplied with them.
    pub fn activations(&self) -> Arithmetic {
        self.0.kernels.arithmetic()
    }

    /// Whether activations stay what they are, in f32.
    pub fn is_exact(&self) -> bool {
        self.activations() == Arithmetic::Exact
    }

    /// What the bits of results depend on besides file and input, kernels and compiler flags included. Whoever makes
    /// sums in another order on some condition names the condition here.
    pub fn arithmetic(&self) -> String {
        let ggml = ggml::build_info();
        let attention = self.0.kernels.attention();
        let on_cpu = self.kernels_on_cpu();
        let on_cpu = format!("{on_cpu}, {attention}, {}, {}", ggml.ggml_source, ggml.features.join(","));
        // Where words are read changes nothing that is made of a picture.
        match self.0.placement.vision() {
            Place::Device(i) => {
                let device = self.0.backend.devices().nth(i).map(Device::description).unwrap_or_default();
                format!("{on_cpu}, vision on {device}")
            }
            Place::Cpu => on_cpu,
        }
    }

    pub fn backend(&self) -> &Backend {
        &self.0.backend
    }

    fn vision(&self) -> Result<&(VisionConfig, VisionWeights)> {
        self.part(self.0.vision.as_ref(), "vision tower")
    }

    fn projector(&self) -> Result<&(ProjectorConfig, ProjectorWeights)> {
        self.part(self.0.projector.as_ref(), "projector")
    }

    fn text(&self) -> Result<&(TextConfig, TextWeights)> {
        self.part(self.0.text.as_ref(), "text model")
    }

    fn part<'a, T>(&'a self, part: Option<&'a T>, what: &str) -> Result<&'a T> {
        part.ok_or_else(|| Error::unsupported(&self.0.label, format_args!("the file has no {what}")))
    }
}

/// Every matrix that something is multiplied with must have exact products.
fn expect_exact(file: &Gguf, config: &ModelConfig, kernels: &Kernels) -> Result<()> {
    let is_multiplied = |role| matches!(role, Role::Matrix | Role::Output);
    for spec in config.tensors().into_iter().filter(|spec| is_multiplied(spec.role)) {
        let dtype = file.tensor(&spec.name).map(|tensor| tensor.dtype);
        if let Some(dtype) = dtype.filter(|&dtype| !kernels.is_exact(dtype)) {
            let what = format_args!(
                "exact arithmetic: expected kernels of owlet's own for {dtype}, found {kernels}, which rounds \
                 activations to 8 bits"
            );
            return Err(Error::unsupported(format_args!("{}: tensor {}", file.label(), spec.name), what));
        }
    }
    Ok(())
}
