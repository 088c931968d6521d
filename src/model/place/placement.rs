//! Where each part of a model lies and runs: by tensor, by layer, in words. Chooses nothing.

use std::fmt;

use ggml::Place;
use owlet_format::ModelConfig;

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

    /// Where the tensor of this name lies.
    pub fn of(&self, tensor: &str) -> Place {
        match Home::of(tensor) {
            Home::Vision => self.vision,
            Home::Layer(il) => self.layer(il),
            Home::Output => self.output(),
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

    pub(super) fn is_shared(&self, il: u32) -> bool {
        let before = self.layers.iter().take(il as usize).filter(|place| **place == self.vision);
        self.shares() && self.layer(il) == self.vision && before.count() < self.n_shared as usize
    }

    pub(super) fn layer(&self, il: u32) -> Place {
        self.layers.get(il as usize).copied().unwrap_or_default()
    }

    /// Where the output matrix lies.
    pub(super) fn output(&self) -> Place {
        self.layers.last().copied().unwrap_or_default()
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

/// The part of a model that a tensor goes with.
pub(super) enum Home {
    Vision,
    Layer(u32),
    Output,
    Embeddings,
}

impl Home {
    pub(super) fn of(tensor: &str) -> Home {
        let mut words = tensor.split('.');
        match (words.next(), words.next()) {
            (Some("v" | "mm"), _) => Home::Vision,
            (Some("blk"), Some(il)) => il.parse().map_or(Home::Embeddings, Home::Layer),
            (Some("output" | "output_norm"), _) => Home::Output,
            _ => Home::Embeddings,
        }
    }
}
