//! InternVL-Chat-V1-1: an InternViT tower with RMS norms whose last blocks don't run, a pixel shuffle, the
//! projector mlp1 and a LLaMA decoder behind a SentencePiece vocabulary.
//!
//! Names, shapes and defaults: OpenGVLab/InternVL, modeling_internvl_chat.py and configuration_internvl_chat.py.

use owlet_format::{
    Fit, GenerationConfig, ImageConfig, ModelConfig, Part, ProjectorConfig, ProjectorKind, PromptConfig,
    Provenance, Shuffle, Template,
};

use super::intern_vit::{Grid, Tower, blocks_run};
use super::{Reading, llama, renamed, sources, tables, unused_blocks};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::hf::json::Json;
use crate::hf::settings::Place::{Config, TokenizerConfig};
use crate::hf::settings::Places;
use crate::hf::tokenizer::Tokenizer;
use crate::hf::{ConfigFiles, image};

/// Blocks of the tower in the checkpoints whose configs leave fields out.
const V1_1_LAYERS: u32 = 48;
const TOWER: &str = "vision_model.";
/// PyTorch's default for the projector's LayerNorm, which no config states.
const MLP1_NORM_EPS: f32 = 1e-5;

/// What `--set` may say.
pub const PLACES: &Places = &[
    ("select_layer", Config("select_layer")),
    ("ps_version", Config("ps_version")),
    ("downsample_ratio", Config("downsample_ratio")),
    ("template", Config("template")),
    ("system", Config("system_message")),
    ("image_size", Config("force_image_size")),
    ("pad2square", Config("pad2square")),
    ("rms_norm_eps", Config("llm_config.rms_norm_eps")),
    ("rope_theta", Config("llm_config.rope_theta")),
    ("n_head_kv", Config("llm_config.num_key_value_heads")),
    ("n_ctx", Config("llm_config.max_position_embeddings")),
    ("legacy", TokenizerConfig("legacy")),
    ("add_bos", TokenizerConfig("add_bos_token")),
];

pub fn read(files: &ConfigFiles, checkpoint: &Checkpoint) -> Result<Reading> {
    let root = files.config.root();
    refuse_relatives(&root)?;
    let text = llama::read(&root.need("llm_config")?)?;
    let tokenizer = Tokenizer::read(files, text.config.n_vocab)?;
    let tower = root.need("vision_config")?;
    let n_layer = tower.need("num_hidden_layers")?.n()?;

    let is_v1_1 = n_layer == V1_1_LAYERS && tokenizer.has("<human>") && tokenizer.has("<bot>");
    let mut left_out = LeftOut { is_v1_1, assumed: Vec::new() };
    let select_layer = match root.key("select_layer") {
        Some(value) => blocks_run(&value, n_layer)?,
        None => left_out.take(&root, "select_layer", "-4", V1_1_LAYERS - 3)?,
    };
    let shuffle = match root.key("ps_version") {
        Some(value) => match value.str()? {
            "v1" => Shuffle::V1,
            "v2" => Shuffle::V2,
            _ => return Err(value.unsupported("\"v1\" or \"v2\"")),
        },
        None => left_out.take(&root, "ps_version", "v1", Shuffle::V1)?,
    };
    match root.key("template") {
        Some(value) if value.str()? != "internvl_zh" => return Err(value.unsupported("\"internvl_zh\"")),
        Some(_) => {}
        None => left_out.take(&root, "template", "internvl_zh", ())?,
    }

    let grid = Grid::read(TOWER, &tower, Grid::forced(&root)?, checkpoint)?;
    let vit = Tower { prefix: TOWER, n_stored: n_layer, n_layer: select_layer, grid };
    let vision = vit.config(&tower)?;
    refuse_other_towers(&tower)?;
    let ratio = shuffle_ratio(&root, &grid)?;
    let pixels = image::read(&files.preprocessor, &image::IMAGENET, grid.image_px)?;
    let stop_id = tokenizer.special("</s>")?;
    let system = root.key("system_message").map_or(Ok(""), |value| value.str())?.to_string();
    let config = ModelConfig {
        name: String::new(),
        family: "internvl-chat-v1-1".to_string(),
        projector: Some(ProjectorConfig {
            kind: ProjectorKind::Mlp1,
            norm_eps: MLP1_NORM_EPS,
            shuffle,
            ratio,
            n_embd_out: text.config.n_embd,
        }),
        image: Some(ImageConfig {
            size_px: grid.image_px,
            fit: Fit::Squash,
            pad_rgb: pixels.mean.map(|mean| (mean * 255.0) as u8),
            mean: pixels.mean,
            std: pixels.std,
            n_tokens: (grid.side / ratio).pow(2),
        }),
        prompt: Some(PromptConfig {
            template: Template::InternVlZh {
                human_id: tokenizer.special("<human>")?,
                bot_id: tokenizer.special("<bot>")?,
                image_begin_id: tokenizer.special("<img>")?,
                image_end_id: tokenizer.special("</img>")?,
            },
            system,
            stop_ids: vec![stop_id],
        }),
        // the authors' quick start
        generation: Some(GenerationConfig { temperature: 0.0, max_tokens: 1024 }),
        vision: Some(vision),
        text: Some(text.config.clone()),
        tokenizer: Some(tokenizer.config),
        provenance: Provenance::default(),
    };
    config.validate(&root.place())?;

    let mut notes = pixels.notes;
    notes.extend(grid.note());
    let assumed = [left_out.assumed, text.assumed, tokenizer.assumed, pixels.assumed].concat();
    let sources = sources(&config, |spec| match spec.part {
        Part::Vision => vit.source(spec),
        Part::Projector => renamed(&PROJECTOR, spec),
        Part::Text => llama::source(spec, &text.config, "language_model."),
    })?;
    let mut skipped = unused_blocks(checkpoint, &vit.blocks(), select_layer..n_layer);
    skipped.extend(tables(checkpoint));
    Ok(Reading { config, sources, skipped, assumed, notes })
}

/// Relatives that share the name but need another graph, template or tokenizer.
fn refuse_relatives(root: &Json) -> Result<()> {
    for key in ["dynamic_image_size", "pad2square", "use_thumbnail", "tie_word_embeddings"] {
        if let Some(value) = root.key(key)
            && value.bool()?
        {
            return Err(value.unsupported("false"));
        }
    }
    for key in ["use_backbone_lora", "use_llm_lora"] {
        if let Some(value) = root.key(key)
            && value.i64()? != 0
        {
            return Err(value.unsupported("0 (merge the adapters first)"));
        }
    }
    Ok(())
}

/// Relatives have LayerNorm, biases or no q/k norm; their templates and decoders are unknown here.
fn refuse_other_towers(tower: &Json) -> Result<()> {
    if let Some(norm) = tower.key("norm_type")
        && norm.str()? != "rms_norm"
    {
        return Err(norm.unsupported("\"rms_norm\""));
    }
    for (key, expected) in [("qkv_bias", false), ("qk_normalization", true)] {
        let value = tower.need(key)?;
        if value.bool()? != expected {
            return Err(value.unsupported(&expected.to_string()));
        }
    }
    Ok(())
}

/// Fields that V1-1's own config left out take its values, but for no other model.
struct LeftOut {
    is_v1_1: bool,
    assumed: Vec<String>,
}

impl LeftOut {
    fn take<T>(&mut self, root: &Json, key: &str, text: &str, value: T) -> Result<T> {
        if self.is_v1_1 {
            self.assumed.push(format!("{key} = {text}"));
            return Ok(value);
        }
        let what = format!(
            "expected a value, found none, and only V1-1 itself ({V1_1_LAYERS} blocks, <human> and <bot>) may leave \
             it out: say it with --set {key}={text}"
        );
        Err(Error::format(format!("{}: {key}", root.place()), what))
    }
}

/// `downsample_ratio` 0.5 makes one column of 2 x 2 patches.
fn shuffle_ratio(root: &Json, grid: &Grid) -> Result<u32> {
    let value = root.need("downsample_ratio")?;
    let ratio = 1.0 / value.f64()?;
    let whole = (1.0..=64.0).contains(&ratio) && (ratio - ratio.round()).abs() < 1e-6;
    if !whole || !grid.side.is_multiple_of(ratio.round() as u32) {
        let side = grid.side;
        return Err(value.wrong(&format!("1 / n with n a divisor of the {side} patches of a side")));
    }
    Ok(ratio.round() as u32)
}

// Name in the file, name in the checkpoint.
const PROJECTOR: [(&str, &str); 6] = [
    ("mm.0.weight", "mlp1.0.weight"),
    ("mm.0.bias", "mlp1.0.bias"),
    ("mm.1.weight", "mlp1.1.weight"),
    ("mm.1.bias", "mlp1.1.bias"),
    ("mm.3.weight", "mlp1.3.weight"),
    ("mm.3.bias", "mlp1.3.bias"),
];
