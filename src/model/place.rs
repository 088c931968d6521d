//! Where a model's parts lie and run: on the CPU, or on the device beside it. Comes in: what the user wants, what the file
//! holds, what memory the device has. Goes out: a [`Placement`] that fits, or one line that says what would. The tower
//! comes first: a picture costs more than the words about it. Knows no graph.
//!
//! Text goes by layers from the end: the output matrix, then the last layer, so that rows cross from the CPU to the
//! device once. Token embeddings stay: a pass reads a row of them a token.

use std::fmt;
use std::str::FromStr;

use ggml::{Backend, Device, Place};
use owlet_format::{Gguf, ModelConfig, TextConfig, VisionConfig};

use super::{KvType, kv_bytes};
use crate::{Error, Result};

/// Text layers that the device shall have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GpuLayers {
    /// As many as fit beside the tower.
    #[default]
    Auto,
    All,
    /// The last ones; more than there are is all.
    Last(u32),
}

impl FromStr for GpuLayers {
    type Err = Error;

    fn from_str(word: &str) -> Result<GpuLayers> {
        match word {
            "auto" => Ok(GpuLayers::Auto),
            "all" => Ok(GpuLayers::All),
            _ => word.parse().map(GpuLayers::Last).map_err(|_| {
                Error::request(format_args!("gpu layers: expected a number, auto or all, found {word}"))
            }),
        }
    }
}

/// Where the tower and the projector shall run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VisionDevice {
    /// On the device if they fit.
    #[default]
    Auto,
    Cpu,
    Gpu,
}

impl FromStr for VisionDevice {
    type Err = Error;

    fn from_str(word: &str) -> Result<VisionDevice> {
        match word {
            "auto" => Ok(VisionDevice::Auto),
            "cpu" => Ok(VisionDevice::Cpu),
            "gpu" => Ok(VisionDevice::Gpu),
            _ => Err(Error::request(format_args!("vision device: expected auto, cpu or gpu, found {word}"))),
        }
    }
}

/// What the user wants on the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    pub layers: GpuLayers,
    pub vision: VisionDevice,
}

/// What a model is loaded for: memory goes by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purpose {
    pub n_ctx: u32,
    pub n_seq: u32,
    pub kv_type: KvType,
}

/// Where each part of a model lies and runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Tower and projector.
    vision: Place,
    /// The last text layers, on the device with the output matrix.
    n_device_layers: u32,
    n_layer: u32,
}

/// A placement that fits, and the bytes that it takes of the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fit {
    pub placement: Placement,
    pub device_bytes: u64,
}

impl Placement {
    /// Everything on the CPU.
    pub fn cpu() -> Placement {
        Placement::default()
    }

    /// The tower there, and the last `n_device_layers` text layers of `config` on the device.
    pub fn new(config: &ModelConfig, vision: Place, n_device_layers: u32) -> Placement {
        let n_layer = config.text.as_ref().map_or(0, |text| text.n_layer);
        let vision = if config.vision.is_some() { vision } else { Place::Cpu };
        Placement { vision, n_device_layers: n_device_layers.min(n_layer), n_layer }
    }

    /// What `wish` comes to on the device of `backend`; everything on the CPU where that has none. The device was asked
    /// for as much memory in one piece, and gave it.
    ///
    /// # Errors
    /// `Backend`: what is wanted does not fit; the text says what would. `Unsupported`: no vision half to place.
    pub fn plan(
        file: &Gguf,
        config: &ModelConfig,
        backend: &Backend,
        wish: Wish,
        purpose: Purpose,
    ) -> Result<Fit> {
        let Some(device) = backend.device() else { return Ok(Fit::default()) };
        config.check(file)?;
        if config.vision.is_none() && wish.vision == VisionDevice::Gpu {
            return Err(Error::unsupported(file.label(), "this model has no vision half"));
        }
        let tensors = file.tensors().iter().map(|tensor| (tensor.name.as_str(), tensor.n_bytes));
        let needs = Needs::of(tensors, config, purpose);
        let free = device.memory().free.saturating_sub(RESERVE_BYTES);
        let fits = |placement: &Placement| {
            let n_bytes = needs.total(placement);
            n_bytes <= free && backend.device_has_room(n_bytes)
        };
        let wanted = wish.largest(config);
        let Some(placement) = wish.most(config, fits) else {
            return Err(no_room(&device, &needs, &wanted, &largest_fit(config, wanted, fits)));
        };
        Ok(Fit { placement, device_bytes: needs.total(&placement) })
    }

    /// Where the tensor of this name lies.
    pub fn of(&self, tensor: &str) -> Place {
        let is_on_device = match Home::of(tensor) {
            Home::Vision => self.vision == Place::Device,
            Home::Layer(il) => self.has_layer(il),
            Home::Output => self.n_device_layers > 0,
            Home::Embeddings => false,
        };
        if is_on_device { Place::Device } else { Place::Cpu }
    }

    /// Where the tower runs.
    pub fn vision(&self) -> Place {
        self.vision
    }

    pub fn n_layer(&self) -> u32 {
        self.n_layer
    }

    pub fn n_device_layers(&self) -> u32 {
        self.n_device_layers
    }

    /// Whether anything is on the device.
    pub fn has_device(&self) -> bool {
        self.vision == Place::Device || self.n_device_layers > 0
    }

    /// Whether a text layer is on the device.
    pub fn has_layer(&self, il: u32) -> bool {
        il < self.n_layer && il >= self.n_layer - self.n_device_layers
    }
}

/// What is on the device.
impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Placement { vision, n_device_layers, n_layer } = *self;
        match vision {
            Place::Device => write!(f, "the vision half and ")?,
            Place::Cpu => {}
        }
        write!(f, "{n_device_layers} of {n_layer} text layers")
    }
}

impl Wish {
    /// The most that it allows.
    fn largest(&self, config: &ModelConfig) -> Placement {
        let vision = if self.vision == VisionDevice::Cpu { Place::Cpu } else { Place::Device };
        let n_layers = match self.layers {
            GpuLayers::Auto | GpuLayers::All => u32::MAX,
            GpuLayers::Last(n) => n,
        };
        Placement::new(config, vision, n_layers)
    }

    /// The most that it allows and that fits.
    pub(super) fn most(&self, config: &ModelConfig, fits: impl Fn(&Placement) -> bool) -> Option<Placement> {
        let mut placement = self.largest(config);
        while !fits(&placement) {
            placement = self.smaller(&placement)?;
        }
        Some(placement)
    }

    /// The next less, where something was left to us: text gives way to the tower.
    fn smaller(&self, placement: &Placement) -> Option<Placement> {
        if self.layers == GpuLayers::Auto && placement.n_device_layers > 0 {
            return Some(Placement { n_device_layers: placement.n_device_layers - 1, ..*placement });
        }
        if self.vision == VisionDevice::Auto && placement.vision == Place::Device {
            let n_device_layers = match self.layers {
                GpuLayers::Auto => placement.n_layer,
                GpuLayers::All | GpuLayers::Last(_) => placement.n_device_layers,
            };
            return Some(Placement { vision: Place::Cpu, n_device_layers, ..*placement });
        }
        None
    }
}

/// The part of a model that a tensor goes with.
enum Home {
    Vision,
    Layer(u32),
    Output,
    Embeddings,
}

impl Home {
    fn of(tensor: &str) -> Home {
        let mut words = tensor.split('.');
        match (words.next(), words.next()) {
            (Some("v" | "mm"), _) => Home::Vision,
            (Some("blk"), Some(il)) => il.parse().map_or(Home::Embeddings, Home::Layer),
            (Some("output" | "output_norm"), _) => Home::Output,
            _ => Home::Embeddings,
        }
    }
}

/// What a driver and its libraries take once kernels run, and what the screen takes meanwhile.
const RESERVE_BYTES: u64 = 768 << 20;

/// Bytes on a device, by part.
pub(super) struct Needs {
    pub(super) vision_weights: u64,
    pub(super) vision_buffers: u64,
    /// From the first layer on, each with its part of the cache.
    pub(super) layers: Vec<u64>,
    pub(super) output: u64,
    pub(super) text_buffers: u64,
}

impl Needs {
    /// For tensors of these names and sizes.
    pub(super) fn of<'t>(
        tensors: impl Iterator<Item = (&'t str, u64)>,
        config: &ModelConfig,
        purpose: Purpose,
    ) -> Needs {
        /// Devices begin and pad tensors at such multiples.
        const ALIGNMENT: u64 = 512;
        let n_layer = config.text.as_ref().map_or(0, |text| text.n_layer);
        let kv = config.text.as_ref().map_or(0, |text| {
            kv_bytes(text, purpose.n_ctx, purpose.n_seq, purpose.kv_type) / u64::from(n_layer.max(1))
        });
        let mut needs = Needs {
            vision_weights: 0,
            vision_buffers: config.vision.as_ref().map_or(0, vision_buffers),
            layers: vec![kv; n_layer as usize],
            output: 0,
            text_buffers: config.text.as_ref().map_or(0, |text| text_buffers(text, purpose.n_ctx)),
        };
        for (name, n_bytes) in tensors {
            let n_bytes = (n_bytes + ALIGNMENT).next_multiple_of(ALIGNMENT);
            match Home::of(name) {
                Home::Vision => needs.vision_weights += n_bytes,
                Home::Layer(il) => needs.layers[il as usize] += n_bytes,
                Home::Output => needs.output += n_bytes,
                Home::Embeddings => {}
            }
        }
        needs
    }

    fn total(&self, placement: &Placement) -> u64 {
        let mut n_bytes = 0;
        if placement.vision == Place::Device {
            n_bytes += self.vision_weights + self.vision_buffers;
        }
        if placement.n_device_layers > 0 {
            let layers = self.layers.iter().rev().take(placement.n_device_layers as usize);
            n_bytes += self.output + self.text_buffers + layers.sum::<u64>();
        }
        n_bytes
    }
}

/// What a block's largest nodes take at once: the fused rows, two matrices of all scores, the wide rows before and
/// behind the activation.
fn vision_buffers(config: &VisionConfig) -> u64 {
    let [n_embd, n_ff, n_head, n_rows] =
        [config.n_embd, config.n_ff, config.n_head, config.n_positions()].map(u64::from);
    let values = n_rows * (8 * n_embd).max(4 * n_embd + 2 * n_ff) + 2 * n_head * n_rows * n_rows;
    values * size_of::<f32>() as u64
}

/// The same of a pass of the most rows over a full context.
fn text_buffers(config: &TextConfig, n_ctx: u32) -> u64 {
    const N_ROWS: u64 = super::pass::MAX_ROWS as u64;
    let [n_embd, n_ff, n_vocab] = [config.n_embd, config.n_ff, config.n_vocab].map(u64::from);
    let values = N_ROWS * (6 * n_embd + 3 * n_ff + u64::from(n_ctx)) + 8 * n_vocab;
    values * size_of::<f32>() as u64 + 2 * super::pass::MAX_SCORE_BYTES
}

/// The most of `wanted` that fits: the tower before layers.
fn largest_fit(config: &ModelConfig, wanted: Placement, fits: impl Fn(&Placement) -> bool) -> Placement {
    let with = |vision| {
        let layers = (0..=wanted.n_device_layers).rev();
        layers.map(|n| Placement::new(config, vision, n)).find(|placement| fits(placement))
    };
    with(wanted.vision).or_else(|| with(Place::Cpu)).unwrap_or_default()
}

pub(super) fn no_room(device: &Device, needs: &Needs, wanted: &Placement, fitting: &Placement) -> Error {
    let gigabytes = |n_bytes: u64| format!("{:.2} GB", n_bytes as f64 / 1e9);
    let advice = if fitting.has_device() { format!("{fitting} fit") } else { "nothing of it fits".into() };
    Error::Backend(format!(
        "{}: {wanted} need {} and {} beside them, {} are free; {advice}",
        device.name(),
        gigabytes(needs.total(wanted)),
        gigabytes(RESERVE_BYTES),
        gigabytes(device.memory().free)
    ))
}
