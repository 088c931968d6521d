//! Text layers that share the memory of a device with the tower: they say what they say without, and less is allocated.

use ggml::{Backend, Cancel, DType, Device, Place, StandIn};
use owlet_format::{ModelConfig, TextConfig, VisionConfig};

use super::tiny::{self, PROJECTOR, TEXT, TOWER, noise};
use crate::Error;
use crate::model::{Decoder, Input, KvType, Model, Placement, Row, VisionEncoder};

const N_CTX: u32 = 64;

/// A tower of 3 MB, and three layers of 2 MB each.
fn config() -> ModelConfig {
    let tower = VisionConfig { n_layer: 8, source_n_layer: 9, ..TOWER };
    tiny::config(Some(tower), Some(PROJECTOR), Some(TextConfig { n_layer: 3, ..TEXT }))
}

fn placement(n_shared: u32) -> Placement {
    Placement::new(&config(), Place::Device(0), &[3]).sharing(n_shared)
}

fn model_on(device: &Device, placement: Placement) -> Model {
    let backend = Backend::with_devices(2, std::slice::from_ref(device)).unwrap();
    tiny::placed(&config(), DType::F32, &backend, placement).0
}

/// A conversation: its pictures and its words, each in turn.
struct Talk {
    encoder: VisionEncoder,
    decoder: Decoder,
    n_past: u32,
}

impl Talk {
    fn new(model: &Model) -> Talk {
        let decoder = Decoder::new(model, N_CTX, 1, KvType::F16).unwrap();
        Talk { encoder: VisionEncoder::new(model).unwrap(), decoder, n_past: 0 }
    }

    fn look(&mut self, seed: &str, cancel: &Cancel) -> Result<Vec<f32>, Error> {
        let n_pixels = (TOWER.image_px * TOWER.image_px * 3) as usize;
        let mut step = self.encoder.start(&noise(seed, n_pixels))?;
        while !step.is_last() {
            step = self.encoder.step(cancel)?;
        }
        self.encoder.finish()
    }

    /// Reads a picture's rows and a word behind them.
    fn read(&mut self, embd: &[f32], cancel: &Cancel) -> Result<Vec<f32>, Error> {
        let n_rows = embd.len() as u32 / TEXT.n_embd;
        let input = |i| if i < n_rows { Input::Embd(i as usize) } else { Input::Token(i) };
        let row = |i| Row { input: input(i), seq: 0, pos: self.n_past + i, want_logits: i == n_rows };
        let rows: Vec<_> = (0..=n_rows).map(row).collect();
        let logits = self.decoder.forward(&rows, embd, cancel)?;
        self.n_past += n_rows + 1;
        Ok(logits.rows().flatten().copied().collect())
    }

    /// Picture, words, picture, words: all that came of them.
    fn whole(&mut self) -> Result<Vec<Vec<f32>>, Error> {
        let cancel = Cancel::new();
        let mut made = Vec::new();
        for seed in ["first", "second"] {
            made.push(self.look(seed, &cancel)?);
            made.push(self.read(&made[made.len() - 1].clone(), &cancel)?);
            made.push(self.read(&[], &cancel)?);
        }
        Ok(made)
    }
}

fn expected() -> Vec<Vec<f32>> {
    Talk::new(&model_on(&Device::stand_in(), placement(0))).whole().unwrap()
}

/// What of a device such a conversation needs at most, beside what sharing takes off its weights.
fn needed(n_shared: u32) -> u64 {
    let device = Device::small_stand_in(1 << 30);
    Talk::new(&model_on(&device, placement(0))).whole().unwrap();
    device.stand_in_memory().most - (weight_bytes(0) - weight_bytes(n_shared))
}

fn weight_bytes(n_shared: u32) -> u64 {
    let device = Device::small_stand_in(1 << 30);
    let model = model_on(&device, placement(n_shared));
    let allocated = device.stand_in_memory().allocated;
    drop(model);
    assert_eq!(device.stand_in_memory().allocated, 0);
    allocated
}

/// The device has no room for what shares memory at once.
#[test]
fn sharing_changes_no_bit_and_needs_less() {
    let expected = expected();
    for n_shared in [1, 2, 3] {
        let n_bytes = needed(n_shared);
        let device = Device::small_stand_in(n_bytes);
        assert!(
            Talk::new(&model_on(&device, placement(n_shared))).whole().unwrap() == expected,
            "{n_shared}"
        );
        assert_eq!(device.stand_in_memory().most, n_bytes, "{n_shared}");
    }
}

#[test]
fn memory_is_that_of_the_larger_one() {
    let [apart, one, two, three] = [0, 1, 2, 3].map(weight_bytes);
    let layer = apart - one;
    assert!(
        layer > 2_000_000 && apart - two < 2 * layer,
        "the tower is larger than one and smaller than two"
    );
    assert_eq!(two, three, "what is larger counts, whatever else shares");
}

/// What is there is not copied again, and of what is not, no more than was overwritten.
#[test]
fn weights_cross_only_for_what_lies_over_them() {
    let device = Device::small_stand_in(1 << 30);
    let model = model_on(&device, placement(1));
    let mut talk = Talk::new(&model);
    let mut before = device.stand_in_memory().written;
    let mut crossed = || {
        let written = device.stand_in_memory().written;
        std::mem::replace(&mut before, written).abs_diff(written)
    };
    let cancel = Cancel::new();
    let picture = talk.look("first", &cancel).unwrap();
    let tower = crossed();
    talk.look("second", &cancel).unwrap();
    assert_eq!(crossed(), 0, "the next picture");
    talk.read(&picture, &cancel).unwrap();
    let layer = crossed();
    talk.read(&[], &cancel).unwrap();
    assert_eq!(crossed(), 0, "the next word");
    talk.look("third", &cancel).unwrap();
    let back = crossed();
    assert!(layer < tower && back >= layer && back < layer + layer / 8, "{tower}, {layer}, {back}");
}

/// Lost with half of the weights there, once for each half; the same model goes on elsewhere in the same places.
#[test]
fn a_device_lost_between_two_halves_costs_one_answer() {
    let expected = expected();
    for pictures_first in [true, false] {
        let device = Device::small_stand_in(needed(2));
        let mut model = model_on(&device, placement(2));
        let mut talk = Talk::new(&model);
        let cancel = Cancel::new();
        if pictures_first {
            talk.look("first", &cancel).unwrap();
        } else {
            talk.read(&[], &cancel).unwrap();
        }
        device.set_stand_in(StandIn::Throws, 1_000_000);
        let lost = if pictures_first { talk.read(&[], &cancel) } else { talk.look("first", &cancel) };
        let text = lost.unwrap_err().to_string();
        assert!(text.starts_with("small stand-in: lost, with all that is on it: "), "{text}");
        assert!(model.is_lost());
        device.set_stand_in(StandIn::Works, 0);
        talk.decoder.release();
        model = model.again().unwrap();
        talk = Talk::new(&model);
        assert!(talk.whole().unwrap() == expected, "pictures first: {pictures_first}");
    }
}

/// Broken off at any step, the same picture goes on and words are right.
#[test]
fn cancelling_between_loses_nothing() {
    let expected = expected();
    let device = Device::small_stand_in(needed(2));
    let mut talk = Talk::new(&model_on(&device, placement(2)));
    let (cancel, stop) = (Cancel::new(), Cancel::new());
    stop.cancel();
    let n_pixels = (TOWER.image_px * TOWER.image_px * 3) as usize;
    let mut step = talk.encoder.start(&noise("first", n_pixels)).unwrap();
    talk.read(&[], &cancel).unwrap();
    talk.decoder.truncate(0, 0);
    talk.n_past = 0;
    while !step.is_last() {
        assert!(matches!(talk.encoder.step(&stop), Err(Error::Cancelled)));
        step = talk.encoder.step(&cancel).unwrap();
        if step.done == 4 {
            // Words in the middle of a picture take its weights away.
            talk.read(&[], &cancel).unwrap();
            talk.decoder.truncate(0, 0);
            talk.n_past = 0;
        }
    }
    assert!(talk.encoder.finish().unwrap() == expected[0]);
    assert!(matches!(talk.read(&expected[0], &stop), Err(Error::Cancelled)));
    assert!(talk.read(&expected[0], &cancel).unwrap() == expected[1]);
}
