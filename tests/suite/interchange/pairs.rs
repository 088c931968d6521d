//! Pairs as llama.cpp's converters of two times have written them, made of the parity case `llava`.
//!
//! Comes in: the model file that owlet makes of the checkpoint. Goes out: its tensors under the others' names and keys.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use ggml::{Cancel, DType};
use owlet_convert::{Input, Options, Pair, PairOptions, Plan, TypeChoice};
use owlet_format::{Gguf, ModelConfig, Part, Value};
use tempfile::TempDir;

use super::gguf::Raw;
use crate::parity::golden::Case;
use crate::parity::tiny;

/// When a pair was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// 2023: no kind of projector, `ffn_up` and `ffn_down` exchanged, the blocks that run and no more; a text half that
    /// states what llama.cpp would not take by itself.
    Old,
    /// The layer to read out is stated, in a tower with all its blocks and its last norm; every key is there.
    New,
}

pub const TIMES: [Time; 2] = [Time::Old, Time::New];

/// What one type makes of the case.
pub struct Model {
    _folder: TempDir,
    pub path: PathBuf,
    pub file: Gguf,
    pub config: ModelConfig,
}

/// Model files of the case with all matrices in one type.
pub static MODELS: LazyLock<Vec<(DType, Model)>> = LazyLock::new(|| {
    let case = Case::read("llava");
    let checkpoint = TempDir::new().unwrap();
    tiny::lay_out(&case, checkpoint.path());
    let model = |dtype: DType| {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("tiny.gguf");
        let plain = TypeChoice::Plain(dtype);
        let vision_tower = Some(Input::of_dir(checkpoint.path().join("tower")));
        let name = Some("tiny".to_string());
        let options = Options { name, text: plain, vision: plain, vision_tower, ..Options::default() };
        let plan = Plan::from_dir(checkpoint.path(), &options).unwrap();
        plan.run(&path, &mut (), &Cancel::new()).unwrap();
        let file = Gguf::open(&path).unwrap();
        let config = ModelConfig::read(&file).unwrap();
        (dtype, Model { _folder: folder, path, file, config })
    };
    [DType::F32, DType::F16, DType::Q8_0].map(model).into()
});

pub fn model(dtype: DType) -> &'static Model {
    &MODELS.iter().find(|(known, _)| *known == dtype).unwrap().1
}

/// A pair in memory, to be bent before it is written.
#[derive(Clone)]
pub struct TinyPair {
    pub text: Raw,
    pub mmproj: Raw,
}

impl TinyPair {
    pub fn of(model: &Model, time: Time) -> TinyPair {
        TinyPair { text: text(model, time), mmproj: mmproj(model, time) }
    }

    /// Writes both into `dir`.
    pub fn write(&self, dir: &Path) -> (PathBuf, PathBuf) {
        let (text, mmproj) = (dir.join("text.gguf"), dir.join("mmproj.gguf"));
        self.text.write(&text);
        self.mmproj.write(&mmproj);
        (text, mmproj)
    }

    /// What is wrong with it, without the folder.
    pub fn refusal(&self) -> String {
        self.refusal_with(&PairOptions::default())
    }

    pub fn refusal_with(&self, options: &PairOptions) -> String {
        let dir = TempDir::new().unwrap();
        let (text, mmproj) = self.write(dir.path());
        let found = Pair::from_files(&text, &mmproj, options).unwrap_err().to_string();
        found.replace(&format!("{}/", dir.path().display()), "")
    }

    /// Packs it, and opens what came out.
    pub fn packed(&self, options: &PairOptions) -> Gguf {
        let dir = TempDir::new().unwrap();
        let (text, mmproj) = self.write(dir.path());
        let out = dir.path().join("out.gguf");
        let pair = Pair::from_files(&text, &mmproj, options).unwrap();
        pair.run(&out, &mut (), &Cancel::new()).unwrap();
        Gguf::from_bytes(std::fs::read(out).unwrap().into(), "packed").unwrap()
    }
}

fn text(model: &Model, time: Time) -> Raw {
    let mut raw = Raw::default();
    raw.put("general.architecture", "llama");
    raw.put("general.name", "tiny");
    for (key, value) in model.file.metadata().iter() {
        if key.starts_with("llama.") || key.starts_with("tokenizer.") {
            raw.put(key, value.clone());
        }
    }
    if time == Time::Old {
        // what llama.cpp takes by itself is what this model has
        for key in [
            "llama.vocab_size",
            "llama.attention.head_count_kv",
            "llama.rope.dimension_count",
            "llama.rope.freq_base",
            "tokenizer.ggml.add_bos_token",
            "tokenizer.ggml.add_eos_token",
            "tokenizer.ggml.add_space_prefix",
            "tokenizer.ggml.remove_extra_whitespaces",
            "tokenizer.ggml.unknown_token_id",
        ] {
            raw.drop(key);
        }
        raw.put("llama.tensor_data_layout", "Meta AI original pth");
        // another type of number
        raw.put("llama.context_length", Value::U64(model.config.text.as_ref().unwrap().n_ctx_train.into()));
    }
    for info in model.file.tensors() {
        if specs(model).any(|spec| spec.name == info.name && spec.part == Part::Text) {
            raw.take(&model.file, info, &info.name);
        }
    }
    raw
}

fn specs(model: &Model) -> impl Iterator<Item = owlet_format::TensorSpec> {
    model.config.tensors().into_iter()
}

fn mmproj(model: &Model, time: Time) -> Raw {
    let vision = model.config.vision.as_ref().unwrap();
    let image = model.config.image.as_ref().unwrap();
    let mut raw = Raw::default();
    raw.put("general.architecture", "clip");
    raw.put("clip.has_text_encoder", false);
    raw.put("clip.has_vision_encoder", true);
    raw.put("clip.has_llava_projector", true);
    for (key, n) in [
        ("embedding_length", vision.n_embd),
        ("attention.head_count", vision.n_head),
        ("feed_forward_length", vision.n_ff),
        ("patch_size", vision.patch_px),
        ("image_size", vision.image_px),
        // CLIP's own, of which LLaVA has no use
        ("projection_dim", 768),
        ("block_count", vision.n_layer),
    ] {
        raw.put(&format!("clip.vision.{key}"), n);
    }
    raw.put("clip.vision.attention.layer_norm_epsilon", vision.norm_eps);
    raw.put("clip.vision.image_mean", image.mean.to_vec());
    raw.put("clip.vision.image_std", image.std.to_vec());
    raw.put("clip.use_gelu", false);
    for info in model.file.tensors() {
        if specs(model).any(|spec| spec.name == info.name && spec.part != Part::Text) {
            take(model, info, time, &mut raw);
        }
    }
    if time == Time::New {
        let n = vision.n_layer;
        raw.put("clip.projector_type", "mlp");
        raw.put("clip.vision.feature_layer", vec![n as i32]);
        raw.put("clip.vision.mm_patch_merge_type", "flat");
        raw.put("clip.vision.block_count", n + 1);
        // the block behind the layer that is read out
        let before = format!("v.blk.{}.", n - 1);
        let last: Vec<_> =
            raw.tensors.iter().filter(|tensor| tensor.name.starts_with(&before)).cloned().collect();
        for mut tensor in last {
            tensor.name = tensor.name.replace(&before, &format!("v.blk.{n}."));
            raw.tensors.push(tensor);
        }
        for end in ["weight", "bias"] {
            let mut norm = raw.tensor(&format!("v.pre_ln.{end}")).clone();
            norm.name = format!("v.post_ln.{end}");
            raw.tensors.push(norm);
        }
    }
    raw
}

/// A tensor of the vision half; q, k and v come apart.
fn take(model: &Model, info: &owlet_format::TensorInfo, time: Time, raw: &mut Raw) {
    let Some((block, end)) = info.name.split_once(".attn_qkv.") else {
        let name = match time {
            Time::Old if info.name.contains(".ffn_up.") => info.name.replace("ffn_up", "ffn_down"),
            Time::Old => info.name.replace("ffn_down", "ffn_up"),
            Time::New => info.name.clone(),
        };
        return raw.take(&model.file, info, &name);
    };
    raw.take(&model.file, info, "");
    let whole = raw.tensors.pop().unwrap();
    for (part, bytes) in ["q", "k", "v"].iter().zip(whole.bytes.chunks_exact(whole.bytes.len() / 3)) {
        let mut tensor = whole.clone();
        tensor.name = format!("{block}.attn_{part}.{end}");
        *tensor.ne.last_mut().unwrap() /= 3;
        tensor.bytes = bytes.to_vec();
        raw.tensors.push(tensor);
    }
}
