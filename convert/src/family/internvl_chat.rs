//! InternVL-Chat V1-1, V1-2 and V1-2-Plus: an InternViT tower with RMS norms, whose last blocks don't run in V1-1 and are
//! left out in V1-2, a pixel shuffle, the projector mlp1 and a LLaMA decoder behind a SentencePiece vocabulary: one of 13B
//! in V1-1, Yi-34B with grouped heads in V1-2.
//!
//! Names, shapes and defaults: OpenGVLab/InternVL, modeling_internvl_chat.py and configuration_internvl_chat.py.

use owlet_format::{
    Fit, GenerationConfig, ImageConfig, ModelConfig, Part, ProjectorConfig, ProjectorKind, PromptConfig,
    Provenance, Shuffle, Template,
};

use super::intern_vit::{Grid, Tower, blocks_run};
use super::llama;
use super::reading::{Reading, renamed, sources, tables, unused_blocks};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::hf::json::Json;
use crate::hf::settings::Place::{Config, TokenizerConfig};
use crate::hf::settings::Places;
use crate::hf::tokenizer::Tokenizer;
use crate::hf::{ConfigFiles, image};

const TOWER: &str = "vision_model.";
/// PyTorch's default for the projector's LayerNorm, which no config states.
const MLP1_NORM_EPS: f32 = 1e-5;

/// What members of the family differ in, beside their shapes.
struct Member {
    family: &'static str,
    /// As messages call it.
    name: &'static str,
    /// As config.json calls it.
    template: &'static str,
    /// Of the checkpoints by the authors, whose configs leave fields out: blocks of the tower and tokens by which they are
    /// known, and what holds for them.
    n_layer: u32,
    tokens: [&'static str; 2],
    select_layer: i64,
    /// Where config.json has none.
    system: &'static str,
}

const MEMBERS: [Member; 2] = [
    Member {
        family: "internvl-chat-v1-1",
        name: "V1-1",
        template: "internvl_zh",
        n_layer: 48,
        tokens: ["<human>", "<bot>"],
        select_layer: -4,
        system: "",
    },
    Member {
        family: "internvl-chat-v1-2",
        name: "V1-2",
        template: "Hermes-2",
        n_layer: 45,
        tokens: ["<|im_start|>", "<|im_end|>"],
        select_layer: -1,
        system: "Answer the questions.",
    },
];

impl Member {
    fn is_itself(&self, n_layer: u32, tokenizer: &Tokenizer) -> bool {
        n_layer == self.n_layer && self.tokens.iter().all(|token| tokenizer.has(token))
    }

    /// The conversation's form, and the token that ends an answer.
    fn template(&self, tokenizer: &mut Tokenizer) -> Result<(Template, u32)> {
        let [before, behind] = self.tokens;
        let (image_begin_id, image_end_id) =
            (tokenizer.of_template("<img>")?, tokenizer.of_template("</img>")?);
        Ok(match self.template {
            "internvl_zh" => {
                let human_id = tokenizer.special(before)?;
                let bot_id = tokenizer.special(behind)?;
                let template = Template::InternVlZh { human_id, bot_id, image_begin_id, image_end_id };
                (template, tokenizer.special("</s>")?)
            }
            _ => {
                let im_start_id = tokenizer.of_template(before)?;
                let im_end_id = tokenizer.of_template(behind)?;
                (Template::Hermes2 { im_start_id, im_end_id, image_begin_id, image_end_id }, im_end_id)
            }
        })
    }
}

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
    let mut tokenizer = Tokenizer::read(files, text.config.n_vocab)?;
    let tower = root.need("vision_config")?;
    let n_layer = tower.need("num_hidden_layers")?.n()?;

    let itself = MEMBERS.iter().find(|member| member.is_itself(n_layer, &tokenizer));
    let mut left_out = LeftOut { itself, assumed: Vec::new() };
    let member = match root.key("template") {
        Some(value) => {
            let found = value.str()?;
            let known = MEMBERS.iter().find(|member| member.template == found);
            known.ok_or_else(|| value.unsupported("\"internvl_zh\" or \"Hermes-2\""))?
        }
        None => left_out.member(&root, "template", |member| member.template.to_string())?,
    };
    let select_layer = match root.key("select_layer") {
        Some(value) => blocks_run(&value, n_layer)?,
        None => {
            let itself = left_out.member(&root, "select_layer", |member| member.select_layer.to_string())?;
            // from the end of a list that begins before the first block
            n_layer + 1 - itself.select_layer.unsigned_abs() as u32
        }
    };
    let shuffle = match root.key("ps_version") {
        Some(value) => match value.str()? {
            "v1" => Shuffle::V1,
            "v2" => Shuffle::V2,
            _ => return Err(value.unsupported("\"v1\" or \"v2\"")),
        },
        None => {
            left_out.member(&root, "ps_version", |_| "v1".to_string())?;
            Shuffle::V1
        }
    };

    let grid = Grid::read(TOWER, &tower, Grid::forced(&root)?, checkpoint)?;
    let vit = Tower { prefix: TOWER, n_stored: n_layer, n_layer: select_layer, grid };
    let vision = vit.config(&tower)?;
    refuse_other_towers(&tower)?;
    let ratio = shuffle_ratio(&root, &grid)?;
    let pixels = image::read(&files.preprocessor, &image::IMAGENET, grid.image_px)?;
    let (template, stop_id) = member.template(&mut tokenizer)?;
    let system = match root.key("system_message") {
        Some(value) => value.str()?,
        None => {
            if !member.system.is_empty() {
                left_out.assumed.push(format!("system_message = {}", member.system));
            }
            member.system
        }
    };
    let config = ModelConfig {
        name: String::new(),
        family: member.family.to_string(),
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
        prompt: Some(PromptConfig { template, system: system.to_string(), stop_ids: vec![stop_id] }),
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

/// Fields that the authors' own configs left out take their values, but for no other model.
struct LeftOut {
    /// Whose checkpoint it is.
    itself: Option<&'static Member>,
    assumed: Vec<String>,
}

impl LeftOut {
    /// The member whose `key` is left out, and has what `value` says of it.
    fn member(&mut self, root: &Json, key: &str, value: fn(&Member) -> String) -> Result<&'static Member> {
        if let Some(member) = self.itself {
            self.assumed.push(format!("{key} = {}", value(member)));
            return Ok(member);
        }
        let who = |member: &Member| {
            let [before, behind] = member.tokens;
            format!("{} itself ({} blocks, {before} and {behind})", member.name, member.n_layer)
        };
        let values = MEMBERS.iter().map(value).collect::<Vec<_>>();
        let what = format!(
            "expected a value, found none, and only {} may leave it out: say it with --set {key}={}",
            MEMBERS.iter().map(who).collect::<Vec<_>>().join(" or "),
            if values[0] == values[1] { values[0].clone() } else { values.join(" or ") }
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
