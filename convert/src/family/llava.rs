//! LLaVA-1.5: a CLIP tower read out one block before its end, the projector mlp2x_gelu, a Vicuna decoder. In two layouts:
//! the authors' (LlavaLlamaForCausalLM), whose tower is another repository, and transformers' own
//! (LlavaForConditionalGeneration), which has all of it. InternVL-Chat-V1.0 is the authors' layout with an InternViT for a tower.
//!
//! Names and rules: haotian-liu/LLaVA and OpenGVLab/InternVL's fork of it, llava_arch.py, clip_encoder.py and mm_utils.py;
//! transformers, modeling_llava.py.

use owlet_format::{
    Fit, GenerationConfig, ImageConfig, ModelConfig, Part, ProjectorConfig, ProjectorKind, PromptConfig,
    Provenance, Shuffle, Template, TensorSpec, VisionConfig,
};

use super::intern_vit::{self, blocks_run};
use super::reading::{Reading, Skipped, Source, renamed, skipped, sources, tables, unused_blocks};
use super::vision_tower::VisionTower;
use super::{clip_vit, llama};
use crate::checkpoint::{BESIDE, Checkpoint};
use crate::error::{Error, Result};
use crate::hf::json::Json;
use crate::hf::settings::Place::{Config, TokenizerConfig};
use crate::hf::settings::Places;
use crate::hf::tokenizer::Tokenizer;
use crate::hf::{ConfigFiles, image};

/// What `--set` may say of the authors' layout.
pub const PLACES_OF_AUTHORS: &Places = &[
    ("select_layer", Config("mm_vision_select_layer")),
    ("system", Config("system_message")),
    ("image_size", Config("force_image_size")),
    ("rms_norm_eps", Config("rms_norm_eps")),
    ("rope_theta", Config("rope_theta")),
    ("n_head_kv", Config("num_key_value_heads")),
    ("n_ctx", Config("max_position_embeddings")),
    ("legacy", TokenizerConfig("legacy")),
    ("add_bos", TokenizerConfig("add_bos_token")),
];

/// And of transformers'.
pub const PLACES_OF_TRANSFORMERS: &Places = &[
    ("select_layer", Config("vision_feature_layer")),
    ("system", Config("system_message")),
    ("rms_norm_eps", Config("text_config.rms_norm_eps")),
    ("rope_theta", Config("text_config.rope_theta")),
    ("n_head_kv", Config("text_config.num_key_value_heads")),
    ("n_ctx", Config("text_config.max_position_embeddings")),
    ("legacy", TokenizerConfig("legacy")),
    ("add_bos", TokenizerConfig("add_bos_token")),
];

/// What model files and messages call LLaVA-1.5.
pub const FAMILY: &str = "llava-1.5";
pub const TEMPLATE: &str = "vicuna_v1";
/// Of the template `vicuna_v1` (LLaVA's conversation.py).
pub const SYSTEM: &str = "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, \
                      detailed, and polite answers to the user's questions.";

/// What its tokenizer_config.json says, as Vicuna's does.
pub const LEGACY: bool = false;
/// The authors' quick start.
pub const GENERATION: GenerationConfig = GenerationConfig { temperature: 0.0, max_tokens: 512 };
pub use crate::hf::image::CLIP;

/// What a picture is padded with: the mean as bytes (process_images of LLaVA's mm_utils.py).
pub fn pad_rgb(mean: &[f32; 3]) -> [u8; 3] {
    mean.map(|mean| (mean * 255.0) as u8)
}

/// The authors' layout; `tower` is the one that config.json only names.
pub fn read_of_authors(
    files: &ConfigFiles,
    tower: Option<VisionTower>,
    checkpoint: &mut Checkpoint,
) -> Result<Reading> {
    let layout = Layout::of_authors(files, tower, checkpoint)?;
    read(files, layout, checkpoint)
}

/// Transformers' layout, which has its tower: that one was given another is an error.
pub fn read_of_transformers(
    files: &ConfigFiles,
    is_given_tower: bool,
    checkpoint: &mut Checkpoint,
) -> Result<Reading> {
    if is_given_tower {
        let place = files.config.root().place();
        return Err(Error::Request(format!("--vision-tower: {place} has its own tower")));
    }
    let layout = Layout::of_transformers(files)?;
    read(files, layout, checkpoint)
}

fn read(files: &ConfigFiles, layout: Layout, checkpoint: &mut Checkpoint) -> Result<Reading> {
    let root = files.config.root();
    let text = &layout.text;
    let vit = &layout.tower;
    let tokenizer = Tokenizer::read(files, text.config.n_vocab)?;
    if let Tower::Clip(clip) = vit {
        clip.stack_qkv(checkpoint)?;
    }
    let vision = vit.config();
    let pixels = &layout.pixels;
    let config = ModelConfig {
        name: String::new(),
        family: vit.family().to_string(),
        projector: Some(ProjectorConfig {
            kind: ProjectorKind::Mlp2xGelu,
            // there is no norm to have one
            norm_eps: vision.norm_eps,
            shuffle: Shuffle::None,
            ratio: 1,
            n_embd_out: text.config.n_embd,
        }),
        image: Some(ImageConfig {
            size_px: vision.image_px,
            fit: Fit::Pad,
            pad_rgb: pad_rgb(&pixels.mean),
            mean: pixels.mean,
            std: pixels.std,
            n_tokens: (vision.image_px / vision.patch_px).saturating_pow(2),
        }),
        prompt: Some(PromptConfig {
            template: Template::VicunaV1,
            system: root.key("system_message").map_or(Ok(SYSTEM), |value| value.str())?.to_string(),
            stop_ids: vec![tokenizer.config.eos_id],
        }),
        generation: Some(GENERATION),
        vision: Some(vision.clone()),
        text: Some(text.config.clone()),
        tokenizer: Some(tokenizer.config),
        provenance: Provenance::default(),
    };
    config.validate(&root.place())?;
    let sources = sources(&config, |spec| match spec.part {
        Part::Vision => vit.source(spec),
        Part::Projector => renamed(layout.projector, spec),
        Part::Text => llama::source(spec, &text.config, layout.text_prefix),
    })?;
    let mut dropped = vit.unused(checkpoint);
    dropped.extend(tables(checkpoint));
    if vit.prefix() == BESIDE {
        let reason = "the tower of --vision-tower takes its place";
        dropped.extend(skipped(checkpoint, reason, |name| name.starts_with(INSIDE)));
    }
    let assumed = [&text.assumed[..], vit.assumed(), &tokenizer.assumed, &pixels.assumed];
    let assumed = assumed.into_iter().flatten().cloned().collect();
    let notes = pixels.notes.iter().cloned().chain(vit.note()).collect();
    Ok(Reading { config, sources, skipped: dropped, assumed, notes })
}

/// What looks at the picture.
enum Tower {
    Clip(clip_vit::Tower),
    Intern(intern_vit::Tower, VisionConfig),
}

impl Tower {
    fn family(&self) -> &'static str {
        match self {
            Tower::Clip(_) => FAMILY,
            Tower::Intern(..) => "internvl-chat-v1-0",
        }
    }

    fn config(&self) -> &VisionConfig {
        match self {
            Tower::Clip(clip) => &clip.config,
            Tower::Intern(_, config) => config,
        }
    }

    fn prefix(&self) -> &'static str {
        match self {
            Tower::Clip(clip) => clip.prefix,
            Tower::Intern(vit, _) => vit.prefix,
        }
    }

    fn assumed(&self) -> &[String] {
        match self {
            Tower::Clip(clip) => &clip.assumed,
            Tower::Intern(..) => &[],
        }
    }

    fn note(&self) -> Option<String> {
        match self {
            Tower::Clip(_) => None,
            Tower::Intern(vit, _) => vit.grid.note(),
        }
    }

    fn source(&self, spec: &TensorSpec) -> Option<Source> {
        match self {
            Tower::Clip(clip) => clip.source(spec),
            Tower::Intern(vit, _) => vit.source(spec),
        }
    }

    /// What a tower that is read out before its end has no use for.
    fn unused(&self, checkpoint: &Checkpoint) -> Vec<Skipped> {
        let VisionConfig { n_layer, source_n_layer, .. } = *self.config();
        let (blocks, norm) = match self {
            Tower::Clip(clip) => (clip.blocks(), clip.unused_norm(checkpoint)),
            Tower::Intern(vit, _) => (vit.blocks(), None),
        };
        let mut unused = unused_blocks(checkpoint, &blocks, n_layer..source_n_layer);
        unused.extend(norm);
        unused
    }
}

/// What makes the fork's loader take a tower for an InternViT (is_intern_vit_6b_model of its clip_encoder.py).
const INTERN_VIT: [&str; 4] = ["intern_vit_6b", "internvit_6b", "InternViT-6B", "internvit6b"];

/// The side at which the fork uses an InternViT of this name, whatever the tower's own files say.
fn intern_vit_px(name: &str) -> u32 {
    if name.contains("448") { 448 } else { 336 }
}

/// Where the parts lie, and what they are.
struct Layout {
    tower: Tower,
    pixels: image::Normalisation,
    text: llama::Decoder,
    text_prefix: &'static str,
    /// Name in the file, name in the checkpoint.
    projector: &'static [(&'static str, &'static str)],
}

impl Layout {
    fn of_authors(
        files: &ConfigFiles,
        tower: Option<VisionTower>,
        checkpoint: &mut Checkpoint,
    ) -> Result<Layout> {
        let root = &files.config.root();
        expect(root, "mm_projector_type", "mlp2x_gelu")?;
        expect(root, "mm_vision_select_feature", "patch")?;
        expect(root, "image_aspect_ratio", "pad")?;
        if let Some(value) = root.key("mm_patch_merge_type")
            && value.str()? != "flat"
        {
            return Err(value.unsupported("\"flat\""));
        }
        for key in ["mm_use_im_start_end", "mm_use_im_patch_token", "s2"] {
            if let Some(value) = root.key(key)
                && value.bool()?
            {
                return Err(value.unsupported("false"));
            }
        }
        let place = root.need("mm_vision_tower")?;
        let name = place.str()?;
        let Some(tower) = tower else {
            let what = format!("expected {} as --vision-tower, found none", name.escape_debug());
            return Err(Error::format(place.place(), what));
        };
        // the whole CLIP has its vision half's facts inside
        let whole = tower.config.root();
        let facts = whole.key("vision_config").unwrap_or_else(|| whole.clone());
        let width = facts.need("hidden_size")?;
        let wanted = root.need("mm_hidden_size")?.n()?;
        if width.n()? != wanted {
            return Err(width.wrong(&format!("mm_hidden_size {wanted} of {}", root.place())));
        }
        let select_layer = root.need("mm_vision_select_layer")?;
        let n_layer = blocks_run(&select_layer, facts.need("num_hidden_layers")?.n()?)?;
        let prefix = if tower.checkpoint.is_some() { BESIDE } else { INSIDE };
        let is_intern_vit = INTERN_VIT.iter().any(|known| name.contains(known));
        if let Some(weights) = tower.checkpoint {
            checkpoint.put_beside(weights, |name| is_intern_vit || name.starts_with("vision_model."));
        }
        let (vit, pixels) = if is_intern_vit {
            let forced = match intern_vit::Grid::forced(root)? {
                Some(forced) => forced,
                None => (intern_vit_px(name), place),
            };
            let grid = intern_vit::Grid::read(prefix, &facts, Some(forced), checkpoint)?;
            let n_stored = facts.need("num_hidden_layers")?.n()?;
            let vit = intern_vit::Tower { prefix, n_stored, n_layer, grid };
            let config = vit.config(&facts)?;
            // the fork sets up a processor of its own
            let pixels = image::Normalisation::of(&image::IMAGENET);
            (Tower::Intern(vit, config), pixels)
        } else {
            if files.has_set("image_size") {
                let what = "a CLIP tower sees pictures of one size";
                return Err(Error::Request(format!("--set image_size: {what}")));
            }
            let clip = clip_vit::Tower::read(prefix, &facts, n_layer)?;
            image::need_shortest_edge_and_crop(&tower.preprocessor)?;
            let pixels = image::read(&tower.preprocessor, &image::CLIP, clip.config.image_px)?;
            (Tower::Clip(clip), pixels)
        };
        let text = llama::shapes(root, None)?;
        Ok(Layout { tower: vit, pixels, text, text_prefix: "", projector: &AUTHORS_PROJECTOR })
    }

    fn of_transformers(files: &ConfigFiles) -> Result<Layout> {
        let root = files.config.root();
        expect(&root, "vision_feature_select_strategy", "default")?;
        expect(&root, "projector_hidden_act", "gelu")?;
        let facts = root.need("vision_config")?;
        let select_layer = root.need("vision_feature_layer")?;
        let n_layer = blocks_run(&select_layer, facts.need("num_hidden_layers")?.n()?)?;
        let vit = clip_vit::Tower::read("vision_tower.", &facts, n_layer)?;
        image::need_shortest_edge_and_crop(&files.preprocessor)?;
        let pixels = image::read(&files.preprocessor, &image::CLIP, vit.config.image_px)?;
        let text = llama::shapes(&root.need("text_config")?, Some(&llama::LLAMA_7B))?;
        let text_prefix = "language_model.";
        let tower = Tower::Clip(vit);
        Ok(Layout { tower, pixels, text, text_prefix, projector: &TRANSFORMERS_PROJECTOR })
    }
}

fn expect(root: &Json, key: &str, expected: &str) -> Result<()> {
    let value = root.need(key)?;
    if value.str()? == expected { Ok(()) } else { Err(value.unsupported(&format!("{expected:?}"))) }
}

/// Where the authors' layout has a tower that was saved along.
const INSIDE: &str = "model.vision_tower.vision_tower.";

const AUTHORS_PROJECTOR: [(&str, &str); 4] = [
    ("mm.0.weight", "model.mm_projector.0.weight"),
    ("mm.0.bias", "model.mm_projector.0.bias"),
    ("mm.2.weight", "model.mm_projector.2.weight"),
    ("mm.2.bias", "model.mm_projector.2.bias"),
];

const TRANSFORMERS_PROJECTOR: [(&str, &str); 4] = [
    ("mm.0.weight", "multi_modal_projector.linear_1.weight"),
    ("mm.0.bias", "multi_modal_projector.linear_1.bias"),
    ("mm.2.weight", "multi_modal_projector.linear_2.weight"),
    ("mm.2.bias", "multi_modal_projector.linear_2.bias"),
];
