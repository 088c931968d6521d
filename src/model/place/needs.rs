//! What the parts of a model take of devices, and how layers are spread over them so that all of it fits. Comes in: names and
//! sizes of tensors, the config, what the model is for. Goes out: bytes by part, and a [`Placement`] for what is asked. Asks no
//! device.

use ggml::Place;
use owlet_format::{ModelConfig, TextConfig, VisionConfig};

use super::placement::{Home, Placement};
use super::wish::Ask;
use crate::model::{KvType, kv_bytes, pass};

/// What a model is loaded for: memory goes by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purpose {
    pub n_ctx: u32,
    pub n_seq: u32,
    pub kv_type: KvType,
}

/// Bytes on devices, by part.
pub(in crate::model) struct Needs {
    pub(in crate::model) vision_weights: u64,
    pub(in crate::model) vision_buffers: u64,
    /// Weights, from the first layer on.
    pub(in crate::model) layers: Vec<u64>,
    /// A layer's part of the cache.
    pub(in crate::model) kv: u64,
    pub(in crate::model) output: u64,
    pub(in crate::model) text_buffers: u64,
}

impl Needs {
    /// For tensors of these names and sizes.
    pub(in crate::model) fn of<'t>(
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
            layers: vec![0; n_layer as usize],
            kv,
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

    /// Of one device. What takes turns counts once.
    pub(in crate::model) fn on_device(&self, placement: &Placement, device: usize) -> u64 {
        let place = Place::Device(device);
        let (mut n_bytes, mut vision, mut shared) = (0, 0, 0);
        if placement.vision() == place {
            n_bytes += self.vision_buffers;
            vision = self.vision_weights;
        }
        for (il, weights) in (0..).zip(&self.layers).filter(|(il, _)| placement.layer(*il) == place) {
            n_bytes += self.kv;
            *(if placement.is_shared(il) { &mut shared } else { &mut n_bytes }) += weights;
        }
        if placement.n_layers(place) > 0 {
            n_bytes += self.text_buffers;
        }
        if placement.output() == place {
            n_bytes += self.output;
        }
        n_bytes + vision.max(shared)
    }

    /// What is copied to the vision half's device for a picture, and behind it for text: what lies over the other's.
    pub(in crate::model) fn exchanged(&self, placement: &Placement) -> u64 {
        let shared = (0..).zip(&self.layers).filter(|(il, _)| placement.is_shared(*il));
        2 * shared.map(|(_, weights)| weights).sum::<u64>().min(self.vision_weights)
    }

    /// A place for what is asked for on devices that have so many bytes free: the tower on the first one that it fits, then
    /// layers wherever there is room for them, as few as possible in turns with it.
    pub(in crate::model) fn spread(
        &self,
        config: &ModelConfig,
        ask: Ask,
        rooms: &[u64],
    ) -> Option<Placement> {
        let (before, mut rooms) = (rooms, rooms.to_vec());
        let mut vision = Place::Cpu;
        if ask.vision {
            let n_bytes = self.vision_weights + self.vision_buffers;
            let device = rooms.iter().position(|&room| n_bytes <= room)?;
            rooms[device] -= if ask.shares { self.vision_buffers } else { n_bytes };
            vision = Place::Device(device);
        }
        let fits = |n_layers: &Vec<u32>| {
            let placement = Placement::new(config, vision, n_layers);
            let most = if ask.shares { placement.n_layers(vision) } else { 0 };
            let mut placements = (0..=most).map(|n_shared| placement.clone().sharing(n_shared));
            placements.find(|placement| (0..before.len()).all(|i| self.on_device(placement, i) <= before[i]))
        };
        fits(&self.alike(ask.n_layers, &rooms)).or_else(|| fits(&self.fill(ask.n_layers, &rooms)?))
    }

    /// How many of the last `n_layers` go to each device where its part of them is its part of all memory, as near as whole
    /// layers come to that.
    fn alike(&self, n_layers: u32, rooms: &[u64]) -> Vec<u32> {
        let rooms: Vec<_> =
            rooms.iter().map(|room| u128::from(room.saturating_sub(self.text_buffers))).collect();
        let layers = || self.last_layers(n_layers).map(u128::from);
        let (all_rooms, all_layers) = (rooms.iter().sum::<u128>(), layers().sum::<u128>());
        let (mut shares, mut behind) = (vec![0; rooms.len()], 0);
        for layer in layers() {
            let middle = behind + layer / 2;
            let mut reach = 0;
            let device = rooms.iter().position(|room| {
                reach += room;
                middle * all_rooms < reach * all_layers
            });
            shares[device.unwrap_or(rooms.len() - 1)] += 1;
            behind += layer;
        }
        shares
    }

    /// How many of the last `n_layers` go to each device where one after the other takes all that it can hold; none where
    /// some are left over.
    fn fill(&self, n_layers: u32, rooms: &[u64]) -> Option<Vec<u32>> {
        let mut layers = self.last_layers(n_layers).peekable();
        let mut shares = vec![0; rooms.len()];
        for (device, &room) in rooms.iter().enumerate() {
            let is_first = shares.iter().all(|&n| n == 0);
            let mut n_bytes = self.text_buffers + if is_first { self.output } else { 0 };
            while let Some(layer) = layers.next_if(|layer| n_bytes + layer <= room) {
                n_bytes += layer;
                shares[device] += 1;
            }
        }
        layers.next().is_none().then_some(shares)
    }

    /// Weights and cache of the last `n_layers`, from the last one on.
    fn last_layers(&self, n_layers: u32) -> impl Iterator<Item = u64> {
        self.layers.iter().rev().take(n_layers as usize).map(|weights| weights + self.kv)
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
    const N_ROWS: u64 = pass::MAX_ROWS as u64;
    let [n_embd, n_ff, n_vocab] = [config.n_embd, config.n_ff, config.n_vocab].map(u64::from);
    let cached = u64::from(config.n_embd_kv()) * u64::from(n_ctx);
    let values = N_ROWS * (6 * n_embd + 3 * n_ff + u64::from(n_ctx)) + 8 * n_vocab + cached;
    values * size_of::<f32>() as u64 + 2 * pass::MAX_SCORE_BYTES
}
