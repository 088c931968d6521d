//! What a model will take of memory, by part, before it is loaded.
//!
//! Comes in: a file's header and how it will be used. Goes out: bytes by part ([`Plan`]) with the whole context filled, what a
//! first question takes, since the cache only takes what is filled, and whether there is [`room`] for what has to stay in
//! memory. Weights are mapped: the system keeps as many of their pages as it has memory for, and reads the others again; all
//! else must be there at once. Nothing is computed and no weight is read.

use ggml::{Backend, Place};
use owlet_format::{Gguf, ModelConfig, Part, Role, TensorSpec};
use serde::Serialize;

use super::memory::{available, bytes_in_words};
use super::photo;
use super::subject::typed;
use crate::engine::{self, Setup};
use crate::error::{Error, Result};
use crate::model::{Decoder, Fit, KvType, Model, Placement, VisionEncoder, kv_bytes};

/// A part of what is needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Planned {
    pub what: String,
    pub n_bytes: u64,
    /// Pages of the file, which give way where memory is short and come back when they are needed.
    pub is_mapped: bool,
}

/// What a file will take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Positions of the context, all of them filled; 0 for a model without a text half.
    pub n_ctx: u32,
    pub kv_type: String,
    pub parts: Vec<Planned>,
    pub mapped_bytes: u64,
    /// What has to be in memory at once.
    pub fixed_bytes: u64,
    pub total_bytes: u64,
    /// The most at once where the weights of one half give way to those of the other.
    pub low_memory_bytes: u64,
    /// The same for a question about one picture, the first in a conversation.
    pub first_question: Question,
    /// Where the system tells.
    pub available_bytes: Option<u64>,
    /// What devices get, where there are some. It is not among the parts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
}

/// What a question and its answer take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Question {
    /// Of the cache, which grows with the conversation.
    pub n_positions: u32,
    pub fixed_bytes: u64,
    pub total_bytes: u64,
    pub low_memory_bytes: u64,
}

/// A device, and what it gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    pub name: String,
    pub description: String,
    pub what: String,
    /// Weights, keys and values, and buffers.
    pub n_bytes: u64,
    pub free_bytes: u64,
    /// Weights that are copied there for a picture and for the text behind it, where they share memory.
    #[serde(skip_serializing_if = "is_zero")]
    pub exchanged_bytes: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Code, the parsed header and the tables of a vocabulary of 42,000 tokens, as measured.
const PROGRAM_BYTES: u64 = 15 << 20;

impl Plan {
    /// The plan for `file`, whose config is `config`, with a context of `n_ctx` positions (all that the model was trained for
    /// where that is `None`).
    ///
    /// # Errors
    /// What is wrong with the file; `Limit` where the context is longer than the model's; `Backend` where there is no memory even
    /// to plan.
    pub fn new(file: &Gguf, config: &ModelConfig, setup: &Setup) -> Result<Plan> {
        let (backend, fit) = setup.place(file, config)?;
        let placement = &fit.placement;
        // Buffers are those of the CPU; what a device takes was counted when it was asked for it.
        let model = Model::load(file, config, &Backend::cpu(setup.n_threads)?)?;
        let (n_ctx, kv_type) = (setup.n_ctx, setup.kv_type);
        let mut parts = weights(file, config, placement);
        let n_ctx = config.text.as_ref().map_or(0, |text| n_ctx.unwrap_or(text.n_ctx_train));
        let beside =
            |n_ctx| -> Result<Beside> { Ok(Beside::new(&model, config, n_ctx, kv_type)?.without(placement)) };
        let n_positions = first_positions(config, n_ctx);
        let (full, first) = (beside(n_ctx)?, beside(n_positions)?);
        let Beside { kv, text, vision } = full;
        for (what, n_bytes) in [("KV cache", kv), ("text buffers", text), ("vision buffers", vision)] {
            if n_bytes > 0 {
                parts.push(Planned { what: what.into(), n_bytes, is_mapped: false });
            }
        }
        if let Some(image) = &config.image {
            // The photo, and the square as bytes and as floats.
            let n_bytes = photo::WIDTH * photo::HEIGHT * 3 + image.size_px.pow(2) as usize * 3 * 5;
            parts.push(Planned { what: "a photo".into(), n_bytes: n_bytes as u64, is_mapped: false });
        }
        parts.push(Planned { what: "program".into(), n_bytes: PROGRAM_BYTES, is_mapped: false });
        let sum = |is_mapped| {
            parts.iter().filter(|part| part.is_mapped == is_mapped).map(|part| part.n_bytes).sum()
        };
        let (mapped_bytes, fixed_bytes): (u64, u64) = (sum(true), sum(false));
        let text_bytes =
            weights_of(file, config, |spec| spec.part == Part::Text && is_mapped(placement, spec));
        let one_half_bytes = text_bytes.max(mapped_bytes - text_bytes);
        let first_bytes = fixed_bytes - full.total() + first.total();
        Ok(Plan {
            n_ctx,
            kv_type: kv_type.dtype().name().into(),
            parts,
            mapped_bytes,
            fixed_bytes,
            total_bytes: mapped_bytes + fixed_bytes,
            low_memory_bytes: fixed_bytes + one_half_bytes,
            first_question: Question {
                n_positions,
                fixed_bytes: first_bytes,
                total_bytes: mapped_bytes + first_bytes,
                low_memory_bytes: first_bytes + one_half_bytes,
            },
            available_bytes: available(),
            devices: devices(&backend, &fit),
        })
    }
}

fn devices(backend: &Backend, fit: &Fit) -> Vec<Device> {
    let devices = backend.devices().zip(&fit.device_bytes).enumerate();
    let device = |(i, (device, &n_bytes)): (usize, (&ggml::Device, &u64))| Device {
        name: device.name(),
        description: device.description(),
        what: fit.placement.on_device(i).unwrap_or_else(|| "nothing".into()),
        n_bytes,
        free_bytes: device.memory().free,
        exchanged_bytes: if fit.placement.vision() == Place::Device(i) { fit.exchanged_bytes } else { 0 },
    };
    devices.map(device).collect()
}

fn weights(file: &Gguf, config: &ModelConfig, placement: &Placement) -> Vec<Planned> {
    let of_part = |part: Part| {
        let n_bytes = weights_of(file, config, |spec| spec.part == part && is_mapped(placement, spec));
        Planned { what: format!("{part} weights"), n_bytes, is_mapped: true }
    };
    config.parts().map(of_part).collect()
}

/// Whether all of a tensor is read where the file is mapped, by the CPU or to be copied to its device again and again. Of the table of
/// tokens only a row a token is.
fn is_mapped(placement: &Placement, spec: &TensorSpec) -> bool {
    let is_read = placement.of(&spec.name) == Place::Cpu || placement.turn(&spec.name).is_some();
    is_read && spec.role != Role::Embedding
}

/// Bytes of the weights that are wanted.
fn weights_of(file: &Gguf, config: &ModelConfig, is_wanted: impl Fn(&TensorSpec) -> bool) -> u64 {
    let tensors = typed(config, file);
    let wanted = tensors.iter().filter(|(spec, _)| is_wanted(spec));
    wanted.filter_map(|(spec, dtype)| spec.ne.n_bytes(*dtype)).sum()
}

/// Positions of the cache for a first question: those of a picture, and as many as a question and its answer commonly fill.
fn first_positions(config: &ModelConfig, n_ctx: u32) -> u32 {
    const WORDS: u32 = 128;
    let n_of_picture = config.image.as_ref().map_or(0, |image| image.n_tokens);
    engine::cached_positions(n_of_picture.saturating_add(WORDS), n_ctx)
}

/// What is there beside the weights while the model runs.
struct Beside {
    kv: u64,
    text: u64,
    vision: u64,
}

impl Beside {
    /// For a context of `n_ctx`, the largest pass and the largest step of the tower.
    fn new(model: &Model, config: &ModelConfig, n_ctx: u32, kv_type: KvType) -> Result<Beside> {
        let mut beside = Beside { kv: 0, text: 0, vision: 0 };
        if let Some(text) = &config.text {
            beside.kv = kv_bytes(text, n_ctx, 1, kv_type);
            let decoder = |n_ctx| Decoder::new(model, n_ctx, 1, kv_type);
            let decoder = match decoder(n_ctx) {
                // The system gives no address space for such a cache. What runs over a shorter one is planned, then.
                Err(Error::Backend(_)) => decoder(n_ctx.min(256)),
                decoder => decoder,
            };
            beside.text = decoder?.pass_bytes(engine::prompt_rows(model) as u32)?.total();
        }
        if config.vision.is_some() {
            beside.vision = VisionEncoder::new(model)?.bytes()?.total();
        }
        Ok(beside)
    }

    /// The same less what is on devices.
    fn without(self, placement: &Placement) -> Beside {
        let Beside { kv, text, vision } = self;
        let n_layer = u64::from(placement.n_layer()).max(1);
        let n_on_cpu = n_layer - u64::from(placement.n_device_layers());
        Beside {
            kv: kv / n_layer * n_on_cpu,
            text: if n_on_cpu == 0 { 0 } else { text },
            vision: if placement.vision().is_device() { 0 } else { vision },
        }
    }

    fn total(&self) -> u64 {
        self.kv.saturating_add(self.text).saturating_add(self.vision)
    }
}

/// Whether a model can work here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Room {
    Enough,
    /// It can, if the weights of one half give way to those of the other; why, in a line.
    InTurns(String),
    /// It can, but slowly; why, in a line.
    Tight(String),
}

/// How a model is to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    pub n_ctx: u32,
    /// Requests at the same time, each with a context of its own.
    pub n_slots: u32,
    pub kv_type: KvType,
    /// Of the file that its weights are mapped from; 0 for the built-in model.
    pub n_file_bytes: u64,
    /// How many of these pictures need and words do not.
    pub n_vision_bytes: u64,
}

/// Whether there is room for `model` in `available` bytes of memory. Plans only where that is not clear at once.
///
/// Keys and values cannot give way, so those of the whole context count: nobody is stopped in the middle of a conversation.
/// Weights can, and those of the vision half, which lie idle then, are what a full context pushes out; so a first question counts
/// for them.
///
/// # Errors
/// `Backend`: what has to stay in memory does not fit; the text says what context would.
pub fn room(model: &Model, config: &ModelConfig, wanted: &Use, available: u64) -> Result<Room> {
    /// More than buffers and a photo take, by far.
    const PLENTY: u64 = 2 << 30;
    let Use { n_ctx, n_slots, kv_type, n_file_bytes, n_vision_bytes } = *wanted;
    let Some(text) = &config.text else { return Ok(Room::Enough) };
    let all = [kv_bytes(text, n_ctx, n_slots, kv_type), n_file_bytes, PLENTY]
        .into_iter()
        .fold(0, u64::saturating_add);
    if all < available {
        return Ok(Room::Enough);
    }
    let plan = |n_ctx| -> Result<Beside> {
        let beside = Beside::new(model, config, n_ctx, kv_type)?;
        let kv = beside.kv.saturating_mul(n_slots.into());
        Ok(Beside { kv, ..beside }.without(model.placement()))
    };
    let beside = plan(n_ctx)?;
    if beside.total() > available {
        let fits = |n_ctx: u32| plan(n_ctx).is_ok_and(|beside| beside.total() <= available);
        return Err(no_room(&beside, n_ctx, available, fits));
    }
    let first = plan(first_positions(config, n_ctx))?;
    let fits = |n_mapped_bytes: u64| first.total().saturating_add(n_mapped_bytes) <= available;
    if fits(n_file_bytes) {
        return Ok(Room::Enough);
    }
    let why = format!(
        "memory: {} of weights and {} beside them for a first question are more than the {} available",
        bytes_in_words(n_file_bytes),
        bytes_in_words(first.total()),
        bytes_in_words(available)
    );
    Ok(if fits(n_vision_bytes.max(n_file_bytes.saturating_sub(n_vision_bytes))) {
        Room::InTurns(format!("{why}; those of the vision half leave it after each picture (--low-memory)"))
    } else {
        Room::Tight(format!("{why}; weights will be read from disk again and again, which is slow"))
    })
}

/// Says what does not fit, and the longest context that does.
fn no_room(beside: &Beside, n_ctx: u32, available: u64, fits: impl Fn(u32) -> bool) -> Error {
    /// What a cache grows by.
    const STEP: u32 = 256;
    let (mut fitting, mut most) = (0, n_ctx / STEP);
    while fitting < most {
        let middle = (fitting + most).div_ceil(2);
        if fits(middle * STEP) { fitting = middle } else { most = middle - 1 }
    }
    let advice = match fitting {
        0 => format!("not even one of {STEP} fits"),
        n_steps => format!("a context of {} fits", n_steps * STEP),
    };
    Error::Backend(format!(
        "memory: a context of {n_ctx} needs {} for keys and values and {} for buffers, {} are available; {advice}",
        bytes_in_words(beside.kv),
        bytes_in_words(beside.text + beside.vision),
        bytes_in_words(available)
    ))
}

#[cfg(test)]
mod tests {
    use ggml::{Cancel, DType};

    use super::super::shapes::shape;
    use super::super::synthetic::Synthetic;
    use super::*;

    /// Four layers, 64 wide: 1,024 bytes a position in f16, 131,072 positions.
    fn model() -> (Gguf, ModelConfig) {
        let mut config = shape("internvl-chat-v1-1", Some(1), Some(4)).unwrap();
        if let (Some(vision), Some(image), Some(projector), Some(text)) =
            (&mut config.vision, &mut config.image, &mut config.projector, &mut config.text)
        {
            (vision.n_embd, vision.n_head, vision.n_ff) = (64, 2, 128);
            (vision.image_px, image.size_px, image.n_tokens) = (56, 56, 4);
            projector.n_embd_out = 64;
            (text.n_embd, text.n_head, text.n_head_kv, text.n_ff) = (64, 2, 2, 64);
            (text.rope_dim, text.n_ctx_train) = (32, 1 << 17);
        }
        let file =
            Synthetic::new(config.clone(), |_| DType::F32).in_memory(&Cancel::new(), |_, _| {}).unwrap();
        (file, config)
    }

    fn with(n_ctx: Option<u32>, kv_type: KvType) -> Setup {
        Setup { n_ctx, kv_type, ..Setup::cpu(1) }
    }

    #[test]
    fn parts_add_up() {
        let (file, config) = model();
        let plan = Plan::new(&file, &config, &with(Some(1000), KvType::F16)).unwrap();
        let part = |what: &str| plan.parts.iter().find(|part| part.what == what).unwrap().n_bytes;
        // 1,000 positions are 1,024 cells.
        assert_eq!(part("KV cache"), 1 << 20);
        // All but the table of tokens, of which a few rows are read.
        let tensors = file.tensors().iter().filter(|tensor| tensor.name != "token_embd.weight");
        let of_tensors: u64 = tensors.map(|tensor| tensor.n_bytes).sum();
        assert_eq!(file.tensors().iter().filter(|tensor| tensor.name == "token_embd.weight").count(), 1);
        assert_eq!(part("vision weights") + part("projector weights") + part("text weights"), of_tensors);
        assert_eq!(plan.mapped_bytes, of_tensors);
        assert_eq!(plan.parts.iter().map(|part| part.n_bytes).sum::<u64>(), plan.total_bytes);
        assert_eq!(plan.mapped_bytes + plan.fixed_bytes, plan.total_bytes);
        let halves = [part("text weights"), part("vision weights") + part("projector weights")];
        assert_eq!(plan.low_memory_bytes, plan.fixed_bytes + halves[0].max(halves[1]));
        // A first question fills 512 cells at most, and its pass is no larger.
        let first = plan.first_question;
        let less = [
            plan.fixed_bytes - first.fixed_bytes,
            plan.total_bytes - first.total_bytes,
            plan.low_memory_bytes - first.low_memory_bytes,
        ];
        assert!(first.n_positions == 512 && less == [less[0]; 3], "{plan:?}");
        assert!(less[0] >= 1 << 19 && less[0] < (1 << 19) + part("text buffers"), "{plan:?}");
        // A photo of 12 megapixels is 36.6 MB.
        assert!((36_600_000..36_700_000).contains(&part("a photo")), "{plan:?}");
        assert!(part("text buffers") > 64 * 64 * 4 && part("vision buffers") > 16 * 128 * 4, "{plan:?}");

        let whole = Plan::new(&file, &config, &with(None, KvType::F32)).unwrap();
        assert_eq!((whole.n_ctx, whole.kv_type.as_str()), (1 << 17, "f32"));
        let error =
            Plan::new(&file, &config, &with(Some((1 << 17) + 1), KvType::F16)).unwrap_err().to_string();
        assert_eq!(error, "context of the model: at most 131072, found 131073");
    }

    #[test]
    fn what_cannot_stay_in_memory_is_refused_with_what_would_fit() {
        let (file, config) = model();
        let model = Model::load(&file, &config, &Backend::cpu(1).unwrap()).unwrap();
        let found = |n_ctx, n_file_bytes, available| {
            let wanted = Use {
                n_ctx,
                n_slots: 1,
                kv_type: KvType::F16,
                n_file_bytes,
                n_vision_bytes: n_file_bytes / 2,
            };
            room(&model, &config, &wanted, available).map_err(|error| error.to_string())
        };
        const GB: u64 = 1 << 30;
        assert_eq!(found(1 << 17, GB, 16 * GB), Ok(Room::Enough), "by far");
        assert_eq!(found(1 << 17, 0, GB), Ok(Room::Enough), "by a look at the graphs");
        let tight = "memory: 1.07 GB of weights and ";
        assert!(matches!(found(1 << 17, GB, GB / 2), Ok(Room::Tight(why)) if why.starts_with(tight)));
        let in_turns = found(1 << 17, GB, GB);
        let ending = "; those of the vision half leave it after each picture (--low-memory)";
        assert!(matches!(&in_turns, Ok(Room::InTurns(why)) if why.ends_with(ending)), "{in_turns:?}");
        let error = found(1 << 17, GB, 100 << 20).unwrap_err();
        assert!(
            error.starts_with("memory: a context of 131072 needs 134.22 MB for keys and values and "),
            "{error}"
        );
        // The longest one that is said to fit does, and a step more does not.
        let n_ctx = error
            .strip_suffix(" fits")
            .and_then(|rest| rest.rsplit(' ').next()?.parse::<u32>().ok())
            .unwrap();
        assert!(found(n_ctx, 0, 100 << 20).is_ok() && found(n_ctx + 256, 0, 100 << 20).is_err(), "{error}");
        let error = found(1 << 17, GB, 1000).unwrap_err();
        assert!(error.ends_with(" buffers, 1.00 kB are available; not even one of 256 fits"), "{error}");
    }
}
