//! What the user wants on devices, and all that it allows, the most first. Asks no device.

use std::str::FromStr;

use ggml::Place;
use owlet_format::ModelConfig;

use super::placement::Placement;
use crate::{Error, Result};

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

/// What shall be on devices, wherever there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::model) struct Ask {
    pub(in crate::model) vision: bool,
    /// The last ones.
    pub(in crate::model) n_layers: u32,
    /// Whether layers may take turns with the tower.
    pub(in crate::model) shares: bool,
}

impl Ask {
    /// As one device would have it, in the least memory.
    pub(super) fn placement(&self, config: &ModelConfig) -> Placement {
        let vision = if self.vision { Place::Device(0) } else { Place::Cpu };
        let n_shared = if self.shares { self.n_layers } else { 0 };
        Placement::new(config, vision, &[self.n_layers]).sharing(n_shared)
    }

    /// This and all that is less, the most first: text gives way to the tower. Layers take turns with it only where more of
    /// them have a place then.
    pub(super) fn and_less(self) -> impl Iterator<Item = Ask> {
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
    pub(super) fn largest(&self, config: &ModelConfig) -> Ask {
        let vision = config.vision.is_some() && self.vision != VisionDevice::Cpu;
        let n_layer = config.text.as_ref().map_or(0, |text| text.n_layer);
        let n_layers = match self.layers {
            GpuLayers::Auto | GpuLayers::All => n_layer,
            GpuLayers::Last(n) => n.min(n_layer),
        };
        Ask { vision, n_layers, shares: true }
    }

    /// The most that it allows and that `place` finds a place for.
    pub(in crate::model) fn most(
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
