//! Model files for the doors' tests, made on the spot.
//!
//! `Story` and `Endless` say what a script says, whatever they are asked: their text half has no attention, and each
//! token of the script is the likeliest one behind the token before it. `Random` has random weights everywhere, so that
//! every position and every pixel matters. `Slow` is `Endless` behind a tower that takes its time.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ggml::DType;
use owlet::measure::shape;
use owlet_format::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Says [`STORY`] and ends.
    Story,
    /// Says `la li lo la li lo …`.
    Endless,
    Random,
    Slow,
}

/// What `Story` says, piece by piece; 圆 is three byte tokens.
const STORY_PIECES: [&str; 10] =
    ["▁:", "▁A", "▁red", "▁circle", ",", "<0xE5>", "<0x9C>", "<0x86>", ".", "</s>"];
pub const STORY: &str = "A red circle,圆.";

const ENDLESS_PIECES: [&str; 5] = ["▁:", "▁la", "▁li", "▁lo", "▁la"];

/// The model's file; made once a run of the tests.
pub fn path(kind: Kind) -> PathBuf {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    static MADE: [OnceLock<()>; 4] = [const { OnceLock::new() }; 4];
    let dir = DIR.get_or_init(|| tempfile::tempdir().unwrap());
    let path = dir.path().join(format!("{kind:?}.gguf"));
    MADE[kind as usize].get_or_init(|| write(kind, &path));
    path
}

/// The tower of `Random` in a file of its own.
pub fn path_of_tower() -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let path = path(Kind::Random).with_file_name("Tower.gguf");
        let whole = config(Kind::Random);
        let image = whole.image.map(|image| ImageConfig { fit: Fit::Crop, n_tokens: 64, ..image });
        let config = ModelConfig {
            family: "intern-vit".into(),
            image,
            projector: None,
            text: None,
            tokenizer: None,
            prompt: None,
            generation: None,
            ..whole
        };
        write_config(&config, Kind::Random, &path);
        path
    };
    MADE.get_or_init(make).clone()
}

fn write(kind: Kind, path: &Path) {
    write_config(&config(kind), kind, path);
}

fn write_config(config: &ModelConfig, kind: Kind, path: &Path) {
    let plan: Vec<_> = config
        .tensors()
        .into_iter()
        .map(|spec| TensorPlan { dtype: DType::F32, name: spec.name, shape: spec.ne })
        .collect();
    let mut metadata = Metadata::new("test.gguf");
    config.write(&mut metadata);
    let mut encoder = Encoder::new(std::io::Cursor::new(Vec::new()), &metadata, &plan).unwrap();
    for (seed, spec) in config.tensors().iter().enumerate() {
        let values =
            if kind == Kind::Random { random(spec, seed as u64) } else { scripted(spec, config, kind) };
        encoder.begin(&spec.name).unwrap();
        encoder.write(&values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>()).unwrap();
    }
    fs::write(path, encoder.finish().unwrap().into_inner()).unwrap();
}

/// Tokens of all of them.
pub const N_VOCAB: usize = 3 + 256 + 11 + 4;

fn pieces() -> Vec<String> {
    let mut pieces: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).into();
    pieces.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    let words = ["▁", ":", "▁:", "▁A", "▁red", "▁circle", ",", ".", "▁la", "▁li", "▁lo"];
    pieces.extend(words.map(String::from));
    pieces.extend(["<human>", "<bot>", "<img>", "</img>"].map(String::from));
    pieces
}

fn id(piece: &str) -> usize {
    pieces().iter().position(|p| p == piece).unwrap()
}

/// The shapes of V1-1, small.
fn config(kind: Kind) -> ModelConfig {
    let (image_px, n_layer) = if kind == Kind::Slow { (896, 60) } else { (112, 2) };
    let pieces = pieces();
    let n_vocab = pieces.len();
    assert_eq!(n_vocab, N_VOCAB);
    let kinds = (0..n_vocab).map(|id| match id {
        0 => TokenKind::Unknown,
        1 | 2 => TokenKind::Control,
        3..=258 => TokenKind::Byte,
        _ if id >= n_vocab - 4 => TokenKind::Control,
        _ => TokenKind::Normal,
    });
    let special = |n: usize| (n_vocab - 4 + n) as u32;
    let full = shape("internvl-chat-v1-1", None, None).unwrap();
    ModelConfig {
        name: format!("{kind:?}").to_lowercase(),
        vision: full.vision.map(|vision| VisionConfig {
            n_embd: 32,
            n_head: 1,
            n_layer,
            n_ff: 32,
            image_px,
            source_n_layer: n_layer,
            ..vision
        }),
        projector: full.projector.map(|projector| ProjectorConfig { n_embd_out: 64, ..projector }),
        image: full.image.map(|image| ImageConfig {
            size_px: image_px,
            mean: [0.5; 3],
            std: [0.5; 3],
            n_tokens: (image_px / 28).pow(2),
            ..image
        }),
        text: full.text.map(|text| TextConfig {
            n_vocab: n_vocab as u32,
            n_ctx_train: if matches!(kind, Kind::Endless | Kind::Slow) { 1 << 17 } else { 2048 },
            n_embd: 64,
            n_layer: 2,
            n_ff: 64,
            n_head: 4,
            n_head_kv: 2,
            rope_dim: 16,
            ..text
        }),
        tokenizer: full.tokenizer.map(|tokenizer| TokenizerConfig {
            scores: (0..n_vocab).map(|id| -(id as f32)).collect(),
            kinds: kinds.collect(),
            tokens: Strings::from_iter(pieces.iter().map(String::as_str)),
            pad_id: None,
            ..tokenizer
        }),
        prompt: full.prompt.map(|prompt| PromptConfig {
            template: Template::InternVlZh {
                human_id: special(0),
                bot_id: special(1),
                image_begin_id: special(2),
                image_end_id: special(3),
            },
            ..prompt
        }),
        ..full
    }
}

/// Token `n` of the script has the unit vector `n` as its embedding; the head of its successor looks for that one.
/// Behind the output norm it is sqrt(64) long, so logits are 4 against 0.
fn scripted(spec: &TensorSpec, config: &ModelConfig, kind: Kind) -> Vec<f32> {
    let mut values = match spec.role {
        Role::Norm => return vec![1.0; spec.ne.n_elements() as usize],
        _ => vec![0.0; spec.ne.n_elements() as usize],
    };
    let script: &[&str] = if kind == Kind::Story { &STORY_PIECES } else { &ENDLESS_PIECES };
    let n_embd = config.text.as_ref().unwrap().n_embd as usize;
    // The last piece of a loop is one that was there before, and needs no second vector.
    let n_vectors = script.len() - 1;
    for n in 0..n_vectors {
        match spec.role {
            Role::Embedding => values[id(script[n]) * n_embd + n] = 1.0,
            Role::Output => values[id(script[n + 1]) * n_embd + n] = 0.5,
            _ => {}
        }
    }
    values
}

fn random(spec: &TensorSpec, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut uniform = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let n_in = spec.ne.padded()[0] as f32;
    let (offset, scale) = match spec.role {
        Role::Norm => (1.0, 0.2),
        Role::Bias | Role::Scale => (0.1, 0.1),
        Role::Patch => (0.0, 0.06),
        Role::Embedding | Role::Position | Role::Output => (0.0, 0.5),
        _ => (0.0, (3.0 / n_in).sqrt()),
    };
    (0..spec.ne.n_elements()).map(|_| offset + scale * uniform()).collect()
}
