//! Writes a model file of InternVL-Chat-V1-1's true shapes with random weights, in the types that
//! `owlet convert` would choose, so that memory and time of the 19-billion-parameter model can be seen without
//! its checkpoint.
//!
//! In: the name of the file, then how many blocks of the tower and of the text half (default: all 45 and 40).
//! Out: the file, about 14 GB. A few rows of each tensor are drawn and quantized, then repeated: what the
//! model says is noise, what it costs is real.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use ggml::{DType, quantize};
use owlet_convert::checkpoint::SourceType;
use owlet_convert::{Recipe, TypeChoice};
use owlet_format::{
    Activation, Fit, GenerationConfig, ImageConfig, Metadata, ModelConfig, NormKind, ProjectorConfig,
    ProjectorKind, PromptConfig, Provenance, QkNorm, Role, Shuffle, Strings, Template, TensorPlan,
    TensorSpec, TextConfig, TokenKind, TokenizerConfig, VisionConfig, Writer,
};

const N_VOCAB: u32 = 41_919;
/// The first of the thirteen added tokens.
const FIRST_ADDED: u32 = 41_906;
/// Rows that are drawn for a matrix; the rest repeats them.
const N_DRAWN: u64 = 96;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(out) = args.first() else {
        eprintln!("usage: full-size OUT.gguf [VISION_LAYERS [TEXT_LAYERS]]");
        std::process::exit(2);
    };
    let n_layer = |at: usize, all: u32| args.get(at).map_or(all, |text| text.parse().unwrap());
    write(Path::new(out), &config(n_layer(1, 45), n_layer(2, 40)));
}

fn write(out: &Path, config: &ModelConfig) {
    let mut metadata = Metadata::new(out.display().to_string());
    config.write(&mut metadata);
    let choice = |name: &str| name.parse::<TypeChoice>().unwrap();
    let recipe = Recipe { text: choice("q4_k_m"), vision: choice("q8_0"), projector: choice("q8_0") };
    let n_text = config.text.as_ref().unwrap().n_layer;
    let plan: Vec<(TensorSpec, TensorPlan)> = config
        .tensors()
        .into_iter()
        .map(|spec| {
            let dtype = recipe.choose(&spec, SourceType::BF16, n_text).dtype;
            let plan = TensorPlan { name: spec.name.clone(), dtype, shape: spec.ne };
            (spec, plan)
        })
        .collect();
    let plans: Vec<TensorPlan> = plan.iter().map(|(_, plan)| plan.clone()).collect();
    let mut writer = Writer::create(out, &metadata, &plans).unwrap();
    let mut dice = Dice(1);
    for (spec, plan) in &plan {
        writer.begin(&spec.name).unwrap();
        let [n_per_row, rows @ ..] = spec.ne.padded();
        let n_rows: u64 = rows.iter().product();
        let drawn = draw(spec, n_per_row, n_rows.min(N_DRAWN), &mut dice);
        let bytes = quantized(plan.dtype, &drawn, n_per_row as usize);
        let row_bytes = bytes.len() / n_rows.min(N_DRAWN) as usize;
        let mut left = n_rows as usize * row_bytes;
        while left > 0 {
            let n = left.min(bytes.len());
            writer.write(&bytes[..n]).unwrap();
            left -= n;
        }
    }
    writer.finish().unwrap().publish().unwrap();
}

/// Numbers of the size that a trained model has there, so that nothing overflows or dies out on the way.
fn draw(spec: &TensorSpec, n_per_row: u64, n_rows: u64, dice: &mut Dice) -> Vec<f32> {
    let (offset, scale) = match spec.role {
        Role::Norm if spec.name.ends_with("bias") => (0.0, 0.0),
        Role::Norm => (1.0, 0.1),
        Role::Bias => (0.0, 0.05),
        Role::Scale => (0.1, 0.01),
        Role::Embedding | Role::Position => (0.0, 0.5),
        Role::Patch => (0.0, 0.05),
        Role::Matrix | Role::Output => (0.0, (3.0 / n_per_row as f32).sqrt()),
    };
    (0..n_per_row * n_rows).map(|_| offset + scale * dice.roll()).collect()
}

fn quantized(dtype: DType, values: &[f32], n_per_row: usize) -> Vec<u8> {
    let n_rows = (values.len() / n_per_row) as u64;
    let row_bytes = dtype.row_bytes(n_per_row as u64).unwrap();
    let mut bytes = vec![0; (row_bytes * n_rows) as usize];
    quantize::quantize_rows(dtype, values, n_per_row, None, &mut bytes).unwrap();
    bytes
}

/// A small generator of numbers in [-1, 1): only their spread matters here.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

fn config(n_layer_vision: u32, n_layer_text: u32) -> ModelConfig {
    ModelConfig {
        name: "random weights in the shapes of InternVL-Chat-V1-1".into(),
        family: "internvl-chat-v1-1".into(),
        vision: Some(VisionConfig {
            n_embd: 3200,
            n_head: 25,
            n_layer: n_layer_vision,
            n_ff: 12_800,
            patch_px: 14,
            image_px: 448,
            norm: NormKind::Rms,
            norm_eps: 1e-6,
            qk_norm: QkNorm::Full,
            qkv_bias: false,
            act: Activation::GeluErf,
            cls: true,
            layer_scale: true,
            source_n_layer: 48,
        }),
        projector: Some(ProjectorConfig {
            kind: ProjectorKind::Mlp1,
            norm_eps: 1e-5,
            shuffle: Shuffle::V1,
            ratio: 2,
            n_embd_out: 5120,
        }),
        image: Some(ImageConfig {
            size_px: 448,
            fit: Fit::Squash,
            pad_rgb: [0; 3],
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            n_tokens: 256,
        }),
        text: Some(TextConfig {
            n_vocab: N_VOCAB,
            n_ctx_train: 4096,
            n_embd: 5120,
            n_layer: n_layer_text,
            n_ff: 13_824,
            n_head: 40,
            n_head_kv: 40,
            norm_eps: 1e-5,
            rope_dim: 128,
            rope_base: 10_000.0,
        }),
        tokenizer: Some(tokenizer()),
        prompt: Some(PromptConfig {
            template: Template::InternVlZh {
                human_id: FIRST_ADDED,
                bot_id: FIRST_ADDED + 1,
                image_begin_id: FIRST_ADDED + 2,
                image_end_id: FIRST_ADDED + 3,
            },
            system: String::new(),
            stop_ids: vec![2],
        }),
        generation: Some(GenerationConfig { temperature: 0.0, max_tokens: 1024 }),
        provenance: Provenance {
            source: "random".into(),
            converter: "full-size".into(),
            recipe: Strings::from_iter(["text q4_k_m", "vision q8_0", "projector q8_0"]),
            assumed: Strings::from_iter::<[&str; 0]>([]),
        },
    }
}

/// A vocabulary of the true size: control tokens, bytes, ASCII, and made-up words for the rest.
fn tokenizer() -> TokenizerConfig {
    let kind = |id: u32| match id {
        0 => TokenKind::Unknown,
        1 | 2 | FIRST_ADDED.. => TokenKind::Control,
        3..=258 => TokenKind::Byte,
        _ => TokenKind::Normal,
    };
    let added = [
        "human",
        "bot",
        "img",
        "/img",
        "vid",
        "/vid",
        "box",
        "/box",
        "ref",
        "/ref",
        "IMG_CONTEXT",
        "quad",
        "/quad",
    ];
    let token = |id: u32| match id {
        0 => "<unk>".to_string(),
        1 => "<s>".to_string(),
        2 => "</s>".to_string(),
        3..=258 => format!("<0x{:02X}>", id - 3),
        259 => "\u{2581}".to_string(),
        260..=353 => char::from((id - 260 + 33) as u8).to_string(),
        FIRST_ADDED.. => format!("<{}>", added[(id - FIRST_ADDED) as usize]),
        _ => format!("\u{2581}w{id}"),
    };
    TokenizerConfig {
        tokens: Strings::from_iter((0..N_VOCAB).map(token)),
        scores: (0..N_VOCAB).map(|id| -(id as f32)).collect(),
        kinds: (0..N_VOCAB).map(kind).collect(),
        bos_id: 1,
        eos_id: 2,
        unk_id: 0,
        pad_id: Some(0),
        add_bos: true,
        add_eos: false,
        add_space_prefix: true,
        remove_extra_whitespaces: false,
        legacy: true,
    }
}
