//! Types and bytes of the text half against llama.cpp's own quantizer, as tests/reference/record_quantize.py recorded
//! what it does under each name that llama-quantize takes.

use std::collections::BTreeMap;
use std::fs;

use ggml::quantize::quantize_rows;
use owlet_convert::checkpoint::SourceType;
use owlet_convert::{Recipe, Rules, TypeChoice};
use owlet_format::{ModelConfig, TensorSpec, TextConfig};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{GOLDEN, Tiny};
use crate::parity::formula;

#[derive(Deserialize)]
struct Recorded {
    name: String,
    n_layer: u32,
    n_embd: u32,
    n_ff: u32,
    n_head: u32,
    n_head_kv: u32,
    n_vocab: u32,
    /// By name of the type: by name of the tensor, a type, or type and SHA-256; `*` is what all others have.
    types: BTreeMap<String, BTreeMap<String, Value>>,
}

impl Recorded {
    fn config(&self) -> ModelConfig {
        let mut config = owlet::measure::shape("internvl-chat-v1-1", Some(1), Some(1)).unwrap();
        let text = config.text.take().unwrap();
        let (n_layer, n_embd, n_ff) = (self.n_layer, self.n_embd, self.n_ff);
        let (n_head, n_head_kv, n_vocab) = (self.n_head, self.n_head_kv, self.n_vocab);
        config.text = Some(TextConfig { n_layer, n_embd, n_ff, n_head, n_head_kv, n_vocab, ..text });
        config.vision = None;
        config
    }
}

fn bytes_of(model: &str, spec: &TensorSpec, dtype: ggml::DType) -> Vec<u8> {
    let shape: Vec<u64> = spec.ne.dims().iter().rev().copied().collect();
    let values = formula::tensor(model, &spec.name, &shape);
    let mut bytes = vec![0; spec.ne.n_bytes(dtype).unwrap() as usize];
    quantize_rows(dtype, &values, spec.ne.dims()[0] as usize, None, &mut bytes).unwrap();
    bytes
}

#[test]
fn types_and_bytes_are_llama_quantizes() {
    let text = fs::read_to_string(format!("{GOLDEN}/convert/llama_quantize.json")).unwrap();
    let recorded: Vec<Recorded> = serde_json::from_str(&text).unwrap();
    assert_eq!(recorded.len(), 4);
    let (mut n_types, mut n_bytes) = (0, 0);
    for model in &recorded {
        let config = model.config();
        for (name, by_tensor) in &model.types {
            let text: TypeChoice = name.parse().unwrap();
            let recipe = Recipe {
                text,
                vision: text,
                projector: text,
                rules: Rules::default(),
                has_importance: false,
            };
            for spec in config.tensors() {
                let found = recipe.choose(&spec, SourceType::F32, &config).dtype;
                let common = by_tensor.get("*").filter(|_| !spec.name.contains("norm"));
                let expected = by_tensor.get(&spec.name).or(common);
                let place = format!("{} as {name}: {}", model.name, spec.name);
                match expected {
                    Some(Value::String(dtype)) => assert_eq!(found.name(), dtype, "{place}"),
                    Some(Value::Array(both)) => {
                        assert_eq!(found.name(), both[0], "{place}");
                        let sum = Sha256::digest(bytes_of(&model.name, &spec, found));
                        let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
                        assert_eq!(sum, both[1], "{place}");
                        n_bytes += 1;
                    }
                    _ => assert!(spec.name.contains("norm") && found == ggml::DType::F32, "{place}"),
                }
                n_types += 1;
            }
        }
    }
    println!("{n_types} types and the bytes of {n_bytes} tensors are those of llama-quantize");
    assert_eq!(recorded[0].types.len(), 19);
    // every name but the three that stand for another one
    let names = owlet_convert::TYPE_CHOICES.iter().map(|(name, _)| *name);
    assert!(names.filter(|name| !recorded[0].types.contains_key(*name)).eq(["q5_k", "q4_k", "q3_k"]));
}

/// The program with a recipe file: what the lines say, what they don't, and what is wrong with them.
#[test]
fn a_recipe_file_chooses_types() {
    use crate::program::owlet;
    let tiny = Tiny::new();
    let dir = tiny.safetensors();
    let recipe = dir.with_extension("recipe");
    let out = dir.with_extension("gguf");
    let (dir, recipe, out) = (dir.to_str().unwrap(), recipe.to_str().unwrap(), out.to_str().unwrap());
    fs::write(
        recipe,
        "# the first block is kept\n^blk\\.0\\. = bf16\nattn_(q|k)\\. = q5_k\nmm\\.1 = iq4_nl\n",
    )
    .unwrap();
    owlet(&["convert", dir, "-o", out, "--recipe", recipe, "--type", "q4_0"]).ok();
    let file = super::open(fs::read(out).unwrap());
    let dtype = |name: &str| file.tensor(name).unwrap().dtype.name();
    for (name, expected) in [
        ("blk.0.attn_q.weight", "bf16"),
        ("blk.0.attn_norm.weight", "f32"),
        ("blk.1.attn_q.weight", "q5_k"),
        ("blk.1.attn_v.weight", "q4_0"),
        ("v.blk.0.attn_qkv.weight", "q8_0"),
        ("mm.1.weight", "iq4_nl"),
        ("output.weight", "q6_k"),
    ] {
        assert_eq!(dtype(name), expected, "{name}");
    }
    let stated = file.metadata().strings("owlet.provenance.recipe").unwrap();
    let expected = ["rule ^blk\\.0\\. = bf16", "rule attn_(q|k)\\. = q5_k", "rule mm\\.1 = iq4_nl"];
    assert_eq!(stated.iter().skip(3).collect::<Vec<_>>(), expected);

    fs::remove_file(out).unwrap();
    for (text, expected) in [
        ("attn_q = q5_k\nattn_z = q4_0", "line 2: attn_z: matches no tensor whose type can be chosen"),
        ("attn_norm = q8_0", "line 1: attn_norm: matches no tensor whose type can be chosen"),
        ("attn_q : q5_k", "line 1: expected regex = type, found attn_q : q5_k"),
        ("attn_[ = q5_k", "line 1: no regular expression: unclosed character class"),
    ] {
        fs::write(recipe, text).unwrap();
        let ran = owlet(&["convert", dir, "-o", out, "--recipe", recipe]);
        assert_eq!((ran.code, ran.err), (Some(1), format!("owlet: {recipe}: {expected}\n")));
    }
    let names = super::names_beside(std::path::Path::new(out));
    assert_eq!(names, ["tiny-chat", "tiny-chat.recipe"]);
}
