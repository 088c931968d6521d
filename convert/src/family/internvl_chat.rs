//! InternVL-Chat-V1-1: an InternViT tower with RMS norms whose last blocks don't run, a pixel shuffle, the
//! projector mlp1 and a LLaMA decoder behind a SentencePiece vocabulary.
//!
//! Names, shapes and defaults: OpenGVLab/InternVL, modeling_internvl_chat.py and configuration_internvl_chat.py.

use owlet_format::{
    Activation, Fit, GenerationConfig, ImageConfig, ModelConfig, NormKind, ProjectorConfig, ProjectorKind,
    PromptConfig, Provenance, QkNorm, Shuffle, Template, TextConfig, VisionConfig,
};

use super::internvl_names::{POSITIONS, VISION_BLOCKS, source_name};
use super::{Reading, Skipped, Source, Transform, torch_shape};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::hf::json::Json;
use crate::hf::tokenizer::Tokenizer;
use crate::hf::{ConfigFiles, image};

/// Blocks of the tower in the checkpoints whose configs leave fields out.
const V1_1_LAYERS: u32 = 48;
/// PyTorch's default for the projector's LayerNorm, which no config states.
const MLP1_NORM_EPS: f32 = 1e-5;

/// By the architecture, or by the type where no architecture is named.
pub fn recognises(root: &Json) -> Result<bool> {
    let architectures = root.key("architectures").map_or(Ok(Vec::new()), |list| list.array())?;
    match architectures.first() {
        Some(name) => Ok(name.str()? == "InternVLChatModel"),
        None => Ok(root.key("model_type").map_or(Ok(""), |name| name.str())? == "internvl_chat"),
    }
}

pub fn read(files: &ConfigFiles, checkpoint: &Checkpoint) -> Result<Reading> {
    let root = files.config.root();
    refuse_relatives(&root)?;
    let text = read_text(&root.need("llm_config")?)?;
    let tokenizer = Tokenizer::read(files, text.config.n_vocab)?;
    let tower = root.need("vision_config")?;
    let n_layer = tower.need("num_hidden_layers")?.n()?;

    let is_v1_1 = n_layer == V1_1_LAYERS && tokenizer.has("<human>") && tokenizer.has("<bot>");
    let mut left_out = LeftOut { is_v1_1, assumed: Vec::new() };
    let select_layer = match root.key("select_layer") {
        Some(value) => blocks_run(&value, value.i64()?, n_layer)?,
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

    let positions = Positions::read(&root, &tower, checkpoint)?;
    let vision = read_vision(&tower, n_layer, select_layer, positions.image_px)?;
    let ratio = shuffle_ratio(&root, &positions)?;
    let pixels = image::read(files, positions.image_px)?;
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
            size_px: positions.image_px,
            fit: Fit::Squash,
            pad_rgb: pixels.mean.map(|mean| (mean * 255.0) as u8),
            mean: pixels.mean,
            std: pixels.std,
            n_tokens: (positions.grid / ratio).pow(2),
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
        text: Some(text.config),
        tokenizer: Some(tokenizer.config),
        provenance: Provenance::default(),
    };
    config.validate(&root.place())?;

    let mut notes = pixels.notes;
    notes.extend(positions.note());
    let assumed = [left_out.assumed, text.assumed, tokenizer.assumed, pixels.assumed].concat();
    let sources = sources(&config, &positions)?;
    let skipped = skipped(checkpoint, select_layer, n_layer);
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

/// `select_layer` indexes the list of hidden states, whose entry 0 is what goes into the first block.
fn blocks_run(value: &Json, select_layer: i64, n_layer: u32) -> Result<u32> {
    let n_states = i64::from(n_layer) + 1;
    let index = if select_layer < 0 { select_layer.saturating_add(n_states) } else { select_layer };
    match u32::try_from(index) {
        Ok(n_run) if n_run >= 1 && n_run <= n_layer => Ok(n_run),
        _ => Err(value.wrong(&format!("a layer of {n_layer} blocks"))),
    }
}

struct Text {
    config: TextConfig,
    assumed: Vec<String>,
}

fn read_text(llm: &Json) -> Result<Text> {
    let architecture = match llm.key("architectures") {
        Some(list) => list.array()?.into_iter().next(),
        None => None,
    };
    match architecture {
        Some(name) if name.str()? != "LlamaForCausalLM" => {
            return Err(name.unsupported("\"LlamaForCausalLM\""));
        }
        Some(_) => {}
        None => {
            let kind = llm.need("model_type")?;
            if kind.str()? != "llama" {
                return Err(kind.unsupported("\"llama\""));
            }
        }
    }
    for key in ["attention_bias", "mlp_bias", "tie_word_embeddings"] {
        if let Some(value) = llm.key(key)
            && value.bool()?
        {
            return Err(value.unsupported("false"));
        }
    }
    if let Some(act) = llm.key("hidden_act")
        && act.str()? != "silu"
    {
        return Err(act.unsupported("\"silu\""));
    }
    if let Some(scaling) = llm.key("rope_scaling") {
        return Err(scaling.unsupported("null"));
    }
    let mut assumed = Vec::new();
    let n_embd = llm.need("hidden_size")?.n()?;
    let heads = llm.need("num_attention_heads")?;
    let n_head = heads.n()?;
    if !n_embd.is_multiple_of(n_head) {
        return Err(heads.wrong(&format!("a divisor of hidden_size {n_embd}")));
    }
    if let Some(dim) = llm.key("head_dim")
        && dim.n()? != n_embd / n_head
    {
        return Err(dim.unsupported(&format!("hidden_size / num_attention_heads = {}", n_embd / n_head)));
    }
    // defaults of transformers' LlamaConfig
    let n_head_kv = match llm.key("num_key_value_heads") {
        Some(value) => value.n()?,
        None => {
            assumed.push(format!("llm_config.num_key_value_heads = {n_head}"));
            n_head
        }
    };
    let rope_base = match llm.key("rope_theta") {
        Some(value) => value.positive_f32()?,
        None => {
            assumed.push("llm_config.rope_theta = 10000".to_string());
            10000.0
        }
    };
    let config = TextConfig {
        n_vocab: llm.need("vocab_size")?.n()?,
        n_ctx_train: llm.need("max_position_embeddings")?.n()?,
        n_embd,
        n_layer: llm.need("num_hidden_layers")?.n()?,
        n_ff: llm.need("intermediate_size")?.n()?,
        n_head,
        n_head_kv,
        norm_eps: llm.need("rms_norm_eps")?.positive_f32()?,
        rope_dim: n_embd / n_head,
        rope_base,
    };
    Ok(Text { config, assumed })
}

fn read_vision(tower: &Json, source_n_layer: u32, n_layer: u32, image_px: u32) -> Result<VisionConfig> {
    // configs from before there was a choice have no norm_type; transformers' own default is GELU
    for (key, expected) in [("norm_type", "rms_norm"), ("hidden_act", "gelu")] {
        if let Some(value) = tower.key(key)
            && value.str()? != expected
        {
            return Err(value.unsupported(&format!("{expected:?}")));
        }
    }
    for (key, expected) in [("qkv_bias", false), ("qk_normalization", true)] {
        let value = tower.need(key)?;
        if value.bool()? != expected {
            return Err(value.unsupported(&expected.to_string()));
        }
    }
    if let Some(channels) = tower.key("num_channels")
        && channels.n()? != 3
    {
        return Err(channels.unsupported("3"));
    }
    Ok(VisionConfig {
        n_embd: tower.need("hidden_size")?.n()?,
        n_head: tower.need("num_attention_heads")?.n()?,
        n_layer,
        n_ff: tower.need("intermediate_size")?.n()?,
        patch_px: tower.need("patch_size")?.n()?,
        image_px,
        norm: NormKind::Rms,
        norm_eps: tower.need("layer_norm_eps")?.positive_f32()?,
        qk_norm: QkNorm::Full,
        qkv_bias: false,
        act: Activation::GeluErf,
        cls: true,
        layer_scale: true,
        source_n_layer,
    })
}

/// Sides of the stored and of the wanted position grid. `vision_config.image_size` has no say: early revisions
/// have an old number there.
struct Positions {
    image_px: u32,
    grid: u32,
    stored_grid: u32,
}

impl Positions {
    fn read(root: &Json, tower: &Json, checkpoint: &Checkpoint) -> Result<Positions> {
        let patch_px = tower.need("patch_size")?.n()?;
        let Some(table) = checkpoint.tensors.get(POSITIONS) else {
            return Err(Error::format(
                checkpoint.place(POSITIONS),
                "expected for v.position_embd.weight, not found",
            ));
        };
        let n_patches = match table.shape.as_slice() {
            [1, n, _] => n.saturating_sub(1),
            _ => 0,
        };
        let side = n_patches.isqrt();
        let stored_grid = u32::try_from(side).ok().filter(|_| side > 0 && side * side == n_patches);
        let Some(stored_grid) = stored_grid else {
            let found = crate::checkpoint::shape_text(&table.shape);
            let what = format!("expected shape (1, side * side + 1, width), found {found}");
            return Err(Error::format(checkpoint.place(POSITIONS), what));
        };
        let Some(forced) = root.key("force_image_size") else {
            let image_px = stored_grid.checked_mul(patch_px);
            let image_px =
                image_px.ok_or_else(|| Error::format(checkpoint.place(POSITIONS), "too many positions"))?;
            return Ok(Positions { image_px, grid: stored_grid, stored_grid });
        };
        let image_px = forced.n()?;
        if !image_px.is_multiple_of(patch_px) {
            return Err(forced.wrong(&format!("a multiple of patch_size {patch_px}")));
        }
        Ok(Positions { image_px, grid: image_px / patch_px, stored_grid })
    }

    fn note(&self) -> Option<String> {
        let Positions { grid, stored_grid, .. } = self;
        (grid != stored_grid).then(|| {
            format!("position grid interpolated from {stored_grid} x {stored_grid} to {grid} x {grid}")
        })
    }
}

/// `downsample_ratio` 0.5 makes one column of 2 x 2 patches.
fn shuffle_ratio(root: &Json, positions: &Positions) -> Result<u32> {
    let value = root.need("downsample_ratio")?;
    let ratio = 1.0 / value.f64()?;
    let whole = (1.0..=64.0).contains(&ratio) && (ratio - ratio.round()).abs() < 1e-6;
    if !whole || !positions.grid.is_multiple_of(ratio.round() as u32) {
        let side = positions.grid;
        return Err(value.wrong(&format!("1 / n with n a divisor of the {side} patches of a side")));
    }
    Ok(ratio.round() as u32)
}

fn sources(config: &ModelConfig, positions: &Positions) -> Result<Vec<Source>> {
    let (n_head, n_head_kv) = config.text.as_ref().map_or((0, 0), |text| (text.n_head, text.n_head_kv));
    let specs = config.tensors();
    let mut sources = Vec::with_capacity(specs.len());
    for spec in &specs {
        let name = source_name(&spec.name).ok_or_else(|| {
            Error::unsupported(&config.family, format!("tensor {} has no source", spec.name))
        })?;
        let mut shape = torch_shape(spec);
        let mut transform = Transform::None;
        match spec.name.as_str() {
            "v.class_embd" => shape.splice(0..0, [1, 1]).for_each(drop),
            "v.position_embd.weight" => {
                let (from, to) = (positions.stored_grid, positions.grid);
                shape = vec![1, u64::from(from).pow(2) + 1, shape[1]];
                if from != to {
                    transform = Transform::ResizeGrid { from, to };
                }
            }
            name if name.ends_with(".attn_q.weight") => transform = Transform::PairRows { n_head },
            name if name.ends_with(".attn_k.weight") => transform = Transform::PairRows { n_head: n_head_kv },
            _ => {}
        }
        sources.push(Source { name, shape, transform });
    }
    Ok(sources)
}

/// Blocks behind the selected layer, a group each, and tables that old versions saved.
fn skipped(checkpoint: &Checkpoint, n_run: u32, n_layer: u32) -> Vec<Skipped> {
    let names = |keep: &dyn Fn(&str) -> bool| -> Vec<String> {
        checkpoint.tensors.keys().filter(|name| keep(name)).cloned().collect()
    };
    let mut skipped = Vec::new();
    for il in n_run..n_layer {
        let prefix = format!("{VISION_BLOCKS}.{il}.");
        let reason = format!("block {il} never runs: the tower ends behind block {}", n_run - 1);
        skipped.push(Skipped { names: names(&|name| name.starts_with(&prefix)), reason });
    }
    for (suffix, reason) in
        [(".inv_freq", "rotary table, computed when it runs"), (".position_ids", "counts from 0 on")]
    {
        skipped.push(Skipped { names: names(&|name| name.ends_with(suffix)), reason: reason.to_string() });
    }
    skipped.retain(|group| !group.names.is_empty());
    skipped
}
