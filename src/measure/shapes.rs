//! The shapes of models that can be measured without their files: all that a config says, and a vocabulary of the true
//! size whose words are made up. In: a name, and how many layers of it. Out: a [`ModelConfig`].

use owlet_format::{
    Activation, Fit, GenerationConfig, ImageConfig, ModelConfig, NormKind, ProjectorConfig, ProjectorKind,
    PromptConfig, Provenance, QkNorm, Shuffle, Strings, Template, TextConfig, TokenKind, TokenizerConfig,
    VisionConfig,
};

use crate::error::{Error, Result};

/// The names of the shapes there are.
pub const SHAPES: [&str; 1] = [INTERNVL_CHAT_V1_1];

const INTERNVL_CHAT_V1_1: &str = "internvl-chat-v1-1";

/// The config of the model `name` with its first so many layers; `None` is all of them.
///
/// # Errors
/// `Request`: no such name. `Limit`: more layers than the model has.
pub fn shape(name: &str, vision_layers: Option<u32>, text_layers: Option<u32>) -> Result<ModelConfig> {
    if name != INTERNVL_CHAT_V1_1 {
        let known = SHAPES.join(", ");
        return Err(Error::request(format_args!("shape {name:?}: expected one of {known}")));
    }
    let mut config = internvl_chat_v1_1();
    if let (Some(vision), Some(n_layer)) = (&mut config.vision, vision_layers) {
        vision.n_layer = at_most("vision layers", vision.n_layer, n_layer)?;
    }
    if let (Some(text), Some(n_layer)) = (&mut config.text, text_layers) {
        text.n_layer = at_most("text layers", text.n_layer, n_layer)?;
    }
    Ok(config)
}

fn at_most(what: &str, max: u32, n_layer: u32) -> Result<u32> {
    if n_layer > max {
        return Err(Error::limit(what, max.into(), n_layer.into()));
    }
    if n_layer == 0 {
        return Err(Error::request(format_args!("{what}: expected 1 to {max}, found 0")));
    }
    Ok(n_layer)
}

const N_VOCAB: u32 = 41_919;
/// The first of the thirteen added tokens.
const FIRST_ADDED: u32 = 41_906;

fn internvl_chat_v1_1() -> ModelConfig {
    ModelConfig {
        name: "random weights in the shapes of InternVL-Chat-V1-1".into(),
        family: INTERNVL_CHAT_V1_1.into(),
        vision: Some(VisionConfig {
            n_embd: 3200,
            n_head: 25,
            n_layer: 45,
            n_ff: 12_800,
            patch_px: 14,
            image_px: 448,
            norm: NormKind::Rms,
            norm_eps: 1e-6,
            qk_norm: QkNorm::Full,
            qkv_bias: false,
            act: Activation::GeluErf,
            cls: true,
            patch_bias: true,
            pre_norm: false,
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
            n_layer: 40,
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
            converter: "random".into(),
            ..Provenance::default()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_would_be_read_as_a_file() {
        for (vision, text) in [(None, None), (Some(1), Some(1)), (Some(45), Some(40))] {
            let config = shape(INTERNVL_CHAT_V1_1, vision, text).unwrap();
            config.validate("shape").unwrap();
            assert_eq!(config.vision.unwrap().n_layer, vision.unwrap_or(45));
            assert_eq!(config.text.unwrap().n_layer, text.unwrap_or(40));
        }
        // 45 blocks of the tower have 5.5 billion, the text half 13.1.
        let config = shape(INTERNVL_CHAT_V1_1, None, None).unwrap();
        let n_parameters: u64 = config.tensors().iter().map(|tensor| tensor.ne.n_elements()).sum();
        assert!((18_500_000_000..19_500_000_000).contains(&n_parameters), "{n_parameters}");
    }

    #[test]
    fn what_there_is_not() {
        for (name, vision, text, expected) in [
            ("llava", None, None, "shape \"llava\": expected one of internvl-chat-v1-1"),
            (INTERNVL_CHAT_V1_1, Some(46), None, "vision layers: at most 45, found 46"),
            (INTERNVL_CHAT_V1_1, None, Some(41), "text layers: at most 40, found 41"),
            (INTERNVL_CHAT_V1_1, Some(0), None, "vision layers: expected 1 to 45, found 0"),
        ] {
            assert_eq!(shape(name, vision, text).unwrap_err().to_string(), expected);
        }
    }
}
