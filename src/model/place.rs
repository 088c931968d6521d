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
mod placement;
mod wish;

use ggml::{Backend, Device, Place};
use owlet_format::{Gguf, ModelConfig};

use crate::{Error, Result};

pub use needs::Purpose;
pub use placement::Placement;
pub use wish::{GpuLayers, VisionDevice, Wish};

pub(super) use needs::Needs;
pub(super) use wish::Ask;

/// A placement that fits, and the bytes that it takes of each device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fit {
    pub placement: Placement,
    pub device_bytes: Vec<u64>,
    /// Bytes of weights that a picture has copied to its device, and text behind it.
    pub exchanged_bytes: u64,
}

impl Placement {
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
            if placement.shares() && is_remote(backend, placement.vision()) {
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
}

fn is_remote(backend: &Backend, place: Place) -> bool {
    match place {
        Place::Cpu => false,
        Place::Device(i) => backend.devices().nth(i).is_some_and(Device::is_remote),
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
