//! `--set` by family: every key changes what it names, or is refused in a line that says so. None is without effect.

use super::golden::Case;
use super::{llava, tiny};
use owlet_convert::{Input, Options, Plan};
use owlet_format::{Metadata, ModelConfig, Provenance};
use std::path::Path;
use tempfile::TempDir;

enum Effect {
    /// This key of the file is another one, and no other is.
    Changes(&'static str),
    /// The tensors contradict it.
    Contradicts(&'static str),
    /// There is no such thing in this family.
    Refused(&'static str),
}
use Effect::{Changes, Contradicts, Refused};

const TEXT: [(&str, &str, Effect); 4] = [
    ("rms_norm_eps", "0.001", Changes("llama.attention.layer_norm_rms_epsilon")),
    ("rope_theta", "5e5", Changes("llama.rope.freq_base")),
    ("n_head_kv", "2", Contradicts("self_attn.k_proj.weight: expected shape (")),
    ("n_ctx", "100", Changes("llama.context_length")),
];

const TOKENIZER: [(&str, &str, Effect); 2] = [
    ("legacy", "false", Changes("owlet.tokenizer.legacy")),
    ("add_bos", "false", Changes("tokenizer.ggml.add_bos_token")),
];

#[test]
fn of_internvl_chat() {
    let own = [
        ("select_layer", "-3", Changes("clip.vision.block_count")),
        ("ps_version", "v2", Changes("owlet.projector.shuffle")),
        ("downsample_ratio", "0.25", Contradicts("tensor mlp1.0.weight: expected shape (1536), found (384)")),
        (
            "template",
            "phi3-chat",
            Contradicts("config.json: template: expected \"internvl_zh\" or \"Hermes-2\""),
        ),
        ("system", "Be brief.", Changes("owlet.prompt.system")),
        ("image_size", "56", Changes("clip.vision.image_size")),
        ("pad2square", "true", Contradicts("config.json: pad2square: expected false, found true")),
    ];
    check("base", &|case, folder| tiny::lay_out(case, folder), own.iter().chain(&TEXT).chain(&TOKENIZER));
}

#[test]
fn of_an_internvit() {
    let refused = "InternViT takes select_layer, image_size";
    let own = [
        ("select_layer", "-3", Changes("clip.vision.block_count")),
        ("image_size", "56", Changes("clip.vision.image_size")),
    ];
    let others = [
        ("ps_version", "v2"),
        ("downsample_ratio", "0.25"),
        ("template", "internvl_zh"),
        ("system", "Be brief."),
        ("pad2square", "true"),
        ("rms_norm_eps", "0.001"),
        ("rope_theta", "5e5"),
        ("n_head_kv", "2"),
        ("n_ctx", "100"),
        ("legacy", "false"),
        ("add_bos", "false"),
    ];
    let others = others.map(|(key, value)| (key, value, Refused(refused)));
    check("tower_6b", &|case, folder| tiny::lay_out(case, folder), own.iter().chain(&others));
}

const LLAVA: [(&str, &str, Effect); 6] = [
    ("select_layer", "-3", Changes("clip.vision.block_count")),
    ("ps_version", "v2", Refused("takes select_layer, system, ")),
    ("downsample_ratio", "0.5", Refused("takes select_layer, system, ")),
    ("template", "vicuna_v1", Refused("takes select_layer, system, ")),
    ("system", "Be brief.", Changes("owlet.prompt.system")),
    ("pad2square", "true", Refused("takes select_layer, system, ")),
];

#[test]
fn of_llava_with_a_clip() {
    let own = [("image_size", "56", Refused("a CLIP tower sees pictures of one size"))];
    let table = || own.iter().chain(&LLAVA).chain(&TEXT).chain(&TOKENIZER);
    check("llava_legacy", &|case, folder| tiny::lay_out(case, folder), table());
}

#[test]
fn of_llava_in_the_layout_of_transformers() {
    let own = [("image_size", "56", Refused("takes select_layer, system, rms_norm_eps, "))];
    let table = || own.iter().chain(&LLAVA).chain(&TEXT).chain(&TOKENIZER);
    check("llava_legacy", &llava::lay_out_for_transformers, table());
}

#[test]
fn of_internvl_v1_0() {
    // this one has a tokenizer that is not legacy
    let tokenizer = [
        ("legacy", "true", Changes("owlet.tokenizer.legacy")),
        ("add_bos", "false", Changes("tokenizer.ggml.add_bos_token")),
    ];
    let own = [("image_size", "56", Changes("clip.vision.image_size"))];
    let table = own.iter().chain(&LLAVA).chain(&TEXT).chain(&tokenizer);
    check("internvl_v1_0", &|case, folder| tiny::lay_out(case, folder), table);
}

/// Keys that follow from another one.
const FOLLOWING: [&str; 2] = ["owlet.image.size_px", "owlet.image.n_tokens"];

fn check<'a>(
    name: &str,
    lay_out: &dyn Fn(&Case, &Path),
    table: impl Iterator<Item = &'a (&'static str, &'static str, Effect)>,
) {
    let folder = TempDir::new().unwrap();
    lay_out(&Case::read(name), folder.path());
    let before = metadata(folder.path(), &[]).unwrap();
    let mut keys: Vec<&str> = Vec::new();
    for (key, value, effect) in table {
        keys.push(key);
        let after = metadata(folder.path(), &[(key.to_string(), value.to_string())]);
        match (effect, after) {
            (Changes(expected), Ok(after)) => {
                let changed = before.iter().filter(|(key, value)| after.get(key) != Some(value));
                let changed: Vec<&str> =
                    changed.map(|(key, _)| key).filter(|key| !FOLLOWING.contains(key)).collect();
                assert_eq!(changed, [*expected], "{name}: {key}={value}");
            }
            (Contradicts(expected), Err(text)) => {
                assert!(
                    text.contains(expected),
                    "{name}: {key}={value}: expected {expected}\n   found {text}"
                );
            }
            (Refused(expected), Err(text)) => {
                let is_named = text.starts_with(&format!("--set {key}: ")) && text.contains(expected);
                assert!(is_named, "{name}: {key}={value}: expected {expected}\n   found {text}");
            }
            (_, after) => panic!("{name}: {key}={value}: {after:?}"),
        }
    }
    let help = owlet_convert::settings_help();
    let mut known: Vec<&str> = help.lines().filter_map(|line| Some(line.split_once(':')?.0)).collect();
    keys.sort_unstable();
    known.sort_unstable();
    assert_eq!(keys, known, "{name}: every key has a row");
}

/// What the file would say, but for where it comes from.
fn metadata(folder: &Path, set: &[(String, String)]) -> Result<Metadata, String> {
    let vision_tower = Some(folder.join("tower")).filter(|tower| tower.exists()).map(Input::of_dir);
    let options = Options { vision_tower, set: set.to_vec(), ..Options::default() };
    let plan = Plan::from_dir(folder, &options).map_err(|error| error.to_string())?;
    let mut metadata = Metadata::new("");
    let config = ModelConfig { provenance: Provenance::default(), name: String::new(), ..plan.config };
    config.write(&mut metadata);
    Ok(metadata)
}
