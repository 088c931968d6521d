//! Where a model's parts lie and run: on the CPU, or on the devices beside it. Comes in: what the user wants, what the file
//! holds, what memory each device has. Goes out: a [`Placement`] that fits, or one line that says what would. The tower
//! comes first: a picture costs more than the words about it. Knows no graph.
//!
//! Where tower and text do not fit beside each other, text layers on its device may share its memory: their weights are there
//! while no picture is looked at. Caches and buffers stay.
//!
//! Text goes by layers from the end: the output matrix, then the last layer, so that rows cross from the CPU to a
//! device once. Several devices have neighbouring layers each, the last ones on the first device, as many as its part of all
//! the memory that is free: layers run one after another, so only memory speaks for another device. Token embeddings stay:
//! a pass reads a row of them a token.

mod needs;

use std::fmt;
use std::str::FromStr;

use ggml::{Backend, Device, Place};
use owlet_format::{Gguf, ModelConfig};

use super::KvType;
use crate::{Error, Result};
use needs::Home;
pub(super) use needs::Needs;

/// Text layers that devices shall have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GpuLayers {
    /// As many as fit beside the tower, or in turns with it.
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
    /// On the first device where they fit, if there is one.
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

/// What the user wants on devices.
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Tower and projector.
    vision: Place,
    /// From the first text layer on. The output matrix is with the last one.
    layers: Vec<Place>,
    /// Text layers whose weights leave while a picture is looked at: the first ones on the vision half's device.
    n_shared: u32,
}

/// A placement that fits, and the bytes that it takes of each device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fit {
    pub placement: Placement,
    pub device_bytes: Vec<u64>,
    /// Bytes of weights that a picture has copied to its device, and text behind it.
    pub exchanged_bytes: u64,
}

impl Placement {
    /// Everything on the CPU.
    pub fn cpu() -> Placement {
        Placement::default()
    }

    /// The tower there, and the last text layers of `config` on devices: `n_layers[0]` of them on the first one,
    /// `n_layers[1]` before those on the next, and so on.
    pub fn new(config: &ModelConfig, vision: Place, n_layers: &[u32]) -> Placement {
        let vision = if config.vision.is_some() { vision } else { Place::Cpu };
        let mut layers = vec![Place::Cpu; config.text.as_ref().map_or(0, |text| text.n_layer as usize)];
        let on_devices = n_layers.iter().enumerate();
        let places = on_devices.flat_map(|(device, &n)| (0..n).map(move |_| Place::Device(device)));
        layers.iter_mut().rev().zip(places).for_each(|(layer, place)| *layer = place);
        Placement { vision, layers, n_shared: 0 }
    }

    /// The same, with the first `n_shared` of the text layers on the vision half's device in turns with it; no more than
    /// there are.
    pub fn sharing(self, n_shared: u32) -> Placement {
        let most = if self.vision.is_device() { self.n_layers(self.vision) } else { 0 };
        Placement { n_shared: n_shared.min(most), ..self }
    }

    /// What `wish` comes to on the devices of `backend`; everything on the CPU where that has none. Each device was asked
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
        if backend.n_devices() == 0 {
            return Ok(Fit::default());
        }
        config.check(file)?;
        if config.vision.is_none() && wish.vision == VisionDevice::Gpu {
            return Err(Error::unsupported(file.label(), "this model has no vision half"));
        }
        let tensors = file.tensors().iter().map(|tensor| (tensor.name.as_str(), tensor.n_bytes));
        let needs = Needs::of(tensors, config, purpose);
        let rooms: Vec<_> =
            backend.devices().map(|device| device.memory().free.saturating_sub(RESERVE_BYTES)).collect();
        let place = |ask: &Ask| {
            let placement = needs.spread(config, *ask, &rooms)?;
            // Gigabytes over a network are no exchange.
            if placement.shares() && is_remote(backend, placement.vision) {
                return None;
            }
            let mut devices = (0..rooms.len()).map(|device| (device, needs.on_device(&placement, device)));
            let is_there = devices.all(|(device, n_bytes)| backend.device_has_room(device, n_bytes));
            is_there.then_some(placement)
        };
        let Some(placement) = wish.most(config, place) else {
            let wanted = wish.largest(config);
            let fitting = wanted.and_less().find_map(|ask| place(&ask)).unwrap_or_default();
            let devices: Vec<_> = backend.devices().collect();
            return Err(no_room(&devices, &needs, &wanted.placement(config), &fitting));
        };
        let device_bytes = (0..rooms.len()).map(|device| needs.on_device(&placement, device)).collect();
        let exchanged_bytes = needs.exchanged(&placement);
        Ok(Fit { placement, device_bytes, exchanged_bytes })
    }

    /// Where the tensor of this name lies.
    pub fn of(&self, tensor: &str) -> Place {
        match Home::of(tensor) {
            Home::Vision => self.vision,
            Home::Layer(il) => self.layer(il),
            Home::Output => self.layers.last().copied().unwrap_or_default(),
            Home::Embeddings => Place::Cpu,
        }
    }

    /// Whose turn it is when this tensor is on its device, where it shares the memory there.
    pub fn turn(&self, tensor: &str) -> Option<u8> {
        const VISION: u8 = 0;
        const TEXT: u8 = 1;
        match Home::of(tensor) {
            Home::Vision => self.shares().then_some(VISION),
            Home::Layer(il) => self.is_shared(il).then_some(TEXT),
            Home::Output | Home::Embeddings => None,
        }
    }

    /// Whether text layers take turns with the vision half: pictures and words each bring weights along.
    pub fn shares(&self) -> bool {
        self.n_shared > 0
    }

    fn is_shared(&self, il: u32) -> bool {
        let before = self.layers.iter().take(il as usize).filter(|place| **place == self.vision);
        self.shares() && self.layer(il) == self.vision && before.count() < self.n_shared as usize
    }

    fn layer(&self, il: u32) -> Place {
        self.layers.get(il as usize).copied().unwrap_or_default()
    }

    /// Where the tower runs.
    pub fn vision(&self) -> Place {
        self.vision
    }

    pub fn n_layer(&self) -> u32 {
        self.layers.len() as u32
    }

    /// Text layers in this place.
    pub fn n_layers(&self, place: Place) -> u32 {
        self.layers.iter().filter(|layer| **layer == place).count() as u32
    }

    /// Text layers on any device.
    pub fn n_device_layers(&self) -> u32 {
        self.n_layer() - self.n_layers(Place::Cpu)
    }

    /// Whether anything is on a device.
    pub fn has_device(&self) -> bool {
        self.vision.is_device() || self.n_device_layers() > 0
    }

    /// What is on one device, in words; none where nothing is.
    pub fn on_device(&self, device: usize) -> Option<String> {
        let place = Place::Device(device);
        let (has_vision, n_layers) = (self.vision == place, self.n_layers(place));
        (has_vision || n_layers > 0).then(|| self.parts(has_vision, n_layers))
    }

    fn parts(&self, has_vision: bool, n_layers: u32) -> String {
        let Placement { n_shared, .. } = self;
        let vision = if has_vision { "the vision half and " } else { "" };
        let sharing = match has_vision && self.shares() {
            true => format!(" ({n_shared} of them away while a picture is looked at)"),
            false => String::new(),
        };
        format!("{vision}{n_layers} of {} text layers{sharing}", self.n_layer())
    }
}

/// What is on devices.
impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.parts(self.vision.is_device(), self.n_device_layers()))
    }
}

fn is_remote(backend: &Backend, place: Place) -> bool {
    match place {
        Place::Cpu => false,
        Place::Device(i) => backend.devices().nth(i).is_some_and(Device::is_remote),
    }
}

/// What shall be on devices, wherever there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) vision: bool,
    /// The last ones.
    pub(super) n_layers: u32,
    /// Whether layers may take turns with the tower.
    pub(super) shares: bool,
}

impl Ask {
    /// As one device would have it, in the least memory.
    fn placement(&self, config: &ModelConfig) -> Placement {
        let vision = if self.vision { Place::Device(0) } else { Place::Cpu };
        let n_shared = if self.shares { self.n_layers } else { 0 };
        Placement::new(config, vision, &[self.n_layers]).sharing(n_shared)
    }

    /// This and all that is less, the most first: text gives way to the tower. Layers take turns with it only where more of
    /// them have a place then.
    fn and_less(self) -> impl Iterator<Item = Ask> {
        let towers = [true, false].into_iter().filter(move |vision| self.vision || !vision);
        let layers = move |vision| (0..=self.n_layers).rev().map(move |n_layers| (vision, n_layers));
        towers.flat_map(layers).flat_map(move |(vision, n_layers)| {
            let can_share = self.shares && vision && n_layers > 0;
            let ways = [false, true].into_iter().filter(move |shares| can_share || !shares);
            ways.map(move |shares| Ask { vision, n_layers, shares })
        })
    }
}

impl Wish {
    /// The most that it allows.
    fn largest(&self, config: &ModelConfig) -> Ask {
        let vision = config.vision.is_some() && self.vision != VisionDevice::Cpu;
        let n_layer = config.text.as_ref().map_or(0, |text| text.n_layer);
        let n_layers = match self.layers {
            GpuLayers::Auto | GpuLayers::All => n_layer,
            GpuLayers::Last(n) => n.min(n_layer),
        };
        Ask { vision, n_layers, shares: true }
    }

    /// The most that it allows and that `place` finds a place for.
    pub(super) fn most(
        &self,
        config: &ModelConfig,
        place: impl Fn(&Ask) -> Option<Placement>,
    ) -> Option<Placement> {
        let largest = self.largest(config);
        let is_left_to_us = |ask: &Ask| {
            (ask.vision == largest.vision || self.vision == VisionDevice::Auto)
                && (ask.n_layers == largest.n_layers || self.layers == GpuLayers::Auto)
        };
        largest.and_less().filter(is_left_to_us).find_map(|ask| place(&ask))
    }
}

/// What a driver and its libraries take once kernels run, and what the screen takes meanwhile.
const RESERVE_BYTES: u64 = 768 << 20;

pub(super) fn no_room(devices: &[&Device], needs: &Needs, wanted: &Placement, fitting: &Placement) -> Error {
    let gigabytes = |n_bytes: u64| format!("{:.2} GB", n_bytes as f64 / 1e9);
    let advice = if fitting.has_device() { format!("{fitting} fit") } else { "nothing of it fits".into() };
    let names: Vec<_> = devices.iter().map(|device| device.name()).collect();
    Error::Backend(format!(
        "{}: {wanted} need {} and {} beside them, {} are free; {advice}",
        names.join(", "),
        gigabytes(needs.on_device(wanted, 0)),
        gigabytes(RESERVE_BYTES * devices.len() as u64),
        gigabytes(devices.iter().map(|device| device.memory().free).sum())
    ))
}
