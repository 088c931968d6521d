//! A small model with every part, and its file.

use std::io::Cursor;

use ggml::DType;
use owlet_format::*;

pub fn config() -> ModelConfig {
    let n_vocab = 16;
    ModelConfig {
        name: "Tiny".into(),
        family: "internvl-chat-v1-1".into(),
        vision: Some(VisionConfig {
            n_embd: 32,
            n_head: 2,
            n_layer: 2,
            n_ff: 64,
            patch_px: 14,
            image_px: 56,
            norm: NormKind::Rms,
            norm_eps: 1e-6,
            qk_norm: QkNorm::Full,
            qkv_bias: false,
            act: Activation::GeluErf,
            cls: true,
            patch_bias: true,
            pre_norm: false,
            layer_scale: true,
            source_n_layer: 3,
        }),
        projector: Some(ProjectorConfig {
            kind: ProjectorKind::Mlp1,
            norm_eps: 1e-5,
            shuffle: Shuffle::V1,
            ratio: 2,
            n_embd_out: 64,
        }),
        image: Some(ImageConfig {
            size_px: 56,
            fit: Fit::Squash,
            pad_rgb: [124, 116, 104],
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            n_tokens: 4,
        }),
        text: Some(TextConfig {
            n_vocab,
            n_ctx_train: 128,
            n_embd: 64,
            n_layer: 2,
            n_ff: 96,
            n_head: 4,
            n_head_kv: 2,
            norm_eps: 1e-5,
            rope_dim: 16,
            rope_base: 10_000.0,
        }),
        tokenizer: Some(TokenizerConfig {
            tokens: (0..n_vocab).map(|id| format!("▁piece{id}")).collect(),
            scores: (0..n_vocab).map(|id| -(id as f32)).collect(),
            kinds: (0..n_vocab)
                .map(|id| if id < 10 { TokenKind::Normal } else { TokenKind::Control })
                .collect(),
            bos_id: 1,
            eos_id: 2,
            unk_id: 0,
            pad_id: Some(0),
            add_bos: true,
            add_eos: false,
            add_space_prefix: true,
            remove_extra_whitespaces: false,
            legacy: true,
        }),
        prompt: Some(PromptConfig {
            template: Template::InternVlZh { human_id: 10, bot_id: 11, image_begin_id: 12, image_end_id: 13 },
            system: String::new(),
            stop_ids: vec![2],
        }),
        generation: Some(GenerationConfig { temperature: 0.0, max_tokens: 1024 }),
        provenance: Provenance {
            source: "tiny".into(),
            revision: "0123456789abcdef".into(),
            shards: Strings::from_iter([
                "00  model-00001-of-00002.safetensors",
                "11  model-00002-of-00002.safetensors",
            ]),
            converter: "owlet 0.0.0".into(),
            recipe: Strings::from_iter(["text = q4_0", "vision = q8_0"]),
            assumed: Strings::default(),
        },
    }
}

/// The plan of a file of `config`: matrices q8_0, all else f32.
pub fn plan(config: &ModelConfig) -> Vec<TensorPlan> {
    let dtype = |spec: &TensorSpec| match spec.role {
        Role::Matrix | Role::Embedding | Role::Output => DType::Q8_0,
        Role::Patch => DType::F16,
        _ => DType::F32,
    };
    let plan = |spec: TensorSpec| TensorPlan { dtype: dtype(&spec), name: spec.name, shape: spec.ne };
    config.tensors().into_iter().map(plan).collect()
}

pub fn metadata(config: &ModelConfig) -> Metadata {
    let mut metadata = Metadata::new("tiny.gguf");
    config.write(&mut metadata);
    metadata
}

/// A file with these keys and tensors, whose bytes are counted up.
pub fn file(metadata: &Metadata, plan: &[TensorPlan]) -> Vec<u8> {
    try_file(metadata, plan).unwrap()
}

pub fn try_file(metadata: &Metadata, plan: &[TensorPlan]) -> Result<Vec<u8>> {
    let mut encoder = Encoder::new(Cursor::new(Vec::new()), metadata, plan)?;
    for tensor in encoder.tensors().to_vec() {
        encoder.begin(&tensor.name)?;
        let bytes: Vec<u8> = (0..tensor.n_bytes).map(|n| n as u8).collect();
        // pieces of an odd length, as no row has
        for piece in bytes.chunks(997) {
            encoder.write(piece)?;
        }
    }
    Ok(encoder.finish()?.into_inner())
}

/// The whole model's file.
pub fn tiny() -> Vec<u8> {
    let config = config();
    file(&metadata(&config), &plan(&config))
}
