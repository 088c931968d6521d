//! The keys of an exported pair: llama.cpp's, and owlet's for what it has none for.

use owlet_format::{Metadata, ModelConfig, Template, Value};

use super::chat_template;
use super::graph::Graph;
use super::names::{CLASS_TOKEN, LAST};

/// What both files begin with.
fn keys(architecture: &str, config: &ModelConfig, differences: &[String]) -> Metadata {
    let mut keys = Metadata::new("");
    keys.put("general.architecture", architecture);
    keys.put("general.name", config.name.as_str());
    keys.put("general.description", differences.join(" "));
    keys.put("general.quantization_version", 2u32);
    keys.put("owlet.family", config.family.as_str());
    keys
}

/// All that `config` says under keys with one of these beginnings.
fn copy(config: &ModelConfig, beginnings: &[&str], keys: &mut Metadata) {
    let mut all = Metadata::new("");
    config.write(&mut all);
    for (key, value) in all.iter().filter(|(key, _)| beginnings.iter().any(|start| key.starts_with(start))) {
        keys.put(key, value.clone());
    }
}

/// Those of the text half, with a chat template.
pub fn text_keys(config: &ModelConfig, differences: &[String]) -> Metadata {
    let mut keys = keys("llama", config, differences);
    let beginnings = ["llama.", "owlet.prompt.", "owlet.generation.", "owlet.tokenizer.", "tokenizer."];
    copy(config, &beginnings, &mut keys);
    if let Some(Template::Hermes2 { im_end_id, .. }) = config.prompt.as_ref().map(|prompt| prompt.template) {
        keys.put("tokenizer.ggml.eot_token_id", im_end_id);
    }
    if let Some(template) = chat_template::of(config) {
        keys.put("tokenizer.chat_template", template);
    }
    keys
}

/// Those of the vision half.
pub fn mmproj_keys(config: &ModelConfig, graph: Graph, differences: &[String]) -> Metadata {
    let mut keys = keys("clip", config, differences);
    let act = config.vision.as_ref().map(|vision| vision.act);
    for (key, flag) in [
        ("clip.has_vision_encoder", true),
        ("clip.has_text_encoder", false),
        ("clip.has_llava_projector", graph == Graph::Llava),
        ("clip.use_gelu", act == Some(owlet_format::Activation::GeluErf)),
        ("clip.use_silu", false),
    ] {
        keys.put(key, flag);
    }
    keys.put("clip.projector_type", graph.word());
    copy(config, &["clip.", "owlet.vision.", "owlet.projector.", "owlet.image."], &mut keys);
    if let Some(image) = &config.image {
        keys.put("clip.vision.image_mean", image.mean.to_vec());
        keys.put("clip.vision.image_std", image.std.to_vec());
    }
    match (graph, &config.vision, &config.projector) {
        // without it one block less runs than there are
        (Graph::Llava, Some(vision), _) => {
            let layers: Vec<i32> = i32::try_from(vision.n_layer).into_iter().collect();
            keys.put("clip.vision.feature_layer", Value::from(layers));
        }
        (Graph::InternVl, _, Some(projector)) => {
            keys.put("clip.vision.projector.scale_factor", projector.ratio);
            keys.put("clip.vision.preproc_min_tiles", 1u32);
            keys.put("clip.vision.preproc_max_tiles", 1u32);
        }
        _ => {}
    }
    keys.put(CLASS_TOKEN, LAST);
    keys
}
