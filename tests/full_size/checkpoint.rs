//! Writes a checkpoint of InternVL-Chat-V1-1's true widths with made-up bf16 weights, as the hub has it: configuration,
//! tokenizer, two shards of safetensors. For looking at what a conversion takes of memory and time; see memory.sh.
//!
//! In: the directory to make, then blocks of the tower and of the text half (default: 2 and 3). Out: the directory, 3.6 GB
//! with the default. Memory does not depend on how many blocks there are, since no buffer does.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

const N_VOCAB: u64 = 41_919;
const N_EMBD_V: u64 = 3200;
const N_FF_V: u64 = 12_800;
const N_EMBD: u64 = 5120;
const N_FF: u64 = 13_824;
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/parity");

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(dir) = args.first().map(Path::new) else {
        eprintln!("usage: full-size-checkpoint DIR [VISION_LAYERS [TEXT_LAYERS]]");
        std::process::exit(2);
    };
    let n_layer = |at: usize, default: u64| args.get(at).map_or(default, |text| text.parse().unwrap());
    let (n_vision, n_text) = (n_layer(1, 2), n_layer(2, 3));
    fs::create_dir_all(dir).unwrap();
    write_files(dir, n_vision, n_text);
    let tensors = tensors(n_vision, n_text);
    let mut shard_of = Map::new();
    for (i, share) in tensors.chunks(tensors.len().div_ceil(2)).enumerate() {
        let name = format!("model-{:05}-of-00002.safetensors", i + 1);
        write_shard(&dir.join(&name), share);
        shard_of.extend(share.iter().map(|(tensor, _)| (tensor.clone(), name.clone().into())));
    }
    let index = json!({"metadata": {}, "weight_map": shard_of});
    fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

/// The small files of a parity case, with true sizes in config.json; the vocabulary's rest is unused tokens.
fn write_files(dir: &Path, n_vision: u64, n_text: u64) {
    let case: Value = serde_json::from_slice(&fs::read(format!("{GOLDEN}/base.json")).unwrap()).unwrap();
    let mut files = case["files"].as_object().unwrap().clone();
    let config = &mut files["config.json"];
    config["force_image_size"] = json!(448);
    config["select_layer"] = json!(-1);
    let sizes = |config: &mut Value, sizes: &[(&str, u64)]| {
        for (key, size) in sizes {
            config[*key] = json!(size);
        }
    };
    let vision = [
        ("hidden_size", N_EMBD_V),
        ("intermediate_size", N_FF_V),
        ("num_attention_heads", 25),
        ("num_hidden_layers", n_vision),
        ("image_size", 448),
    ];
    sizes(&mut config["vision_config"], &vision);
    let text = [
        ("hidden_size", N_EMBD),
        ("intermediate_size", N_FF),
        ("num_attention_heads", 40),
        ("num_key_value_heads", 40),
        ("num_hidden_layers", n_text),
        ("vocab_size", N_VOCAB),
        ("max_position_embeddings", 4096),
    ];
    sizes(&mut config["llm_config"], &text);
    for (name, json) in &files {
        fs::write(dir.join(name), json.to_string()).unwrap();
    }
    fs::copy(format!("{GOLDEN}/tokenizer.model"), dir.join("tokenizer.model")).unwrap();
}

/// Names and shapes, in PyTorch's order.
fn tensors(n_vision: u64, n_text: u64) -> Vec<(String, Vec<u64>)> {
    let mut tensors: Vec<(String, Vec<u64>)> = Vec::new();
    let mut add = |name: String, shape: &[u64]| tensors.push((name, shape.to_vec()));
    let embeddings = |name: &str| format!("vision_model.embeddings.{name}");
    add(embeddings("class_embedding"), &[1, 1, N_EMBD_V]);
    add(embeddings("patch_embedding.bias"), &[N_EMBD_V]);
    add(embeddings("patch_embedding.weight"), &[N_EMBD_V, 3, 14, 14]);
    add(embeddings("position_embedding"), &[1, 1025, N_EMBD_V]);
    for il in 0..n_vision {
        let block = |name: &str| format!("vision_model.encoder.layers.{il}.{name}");
        for vector in
            ["norm1.weight", "norm2.weight", "attn.q_norm.weight", "attn.k_norm.weight", "ls1", "ls2"]
        {
            add(block(vector), &[N_EMBD_V]);
        }
        for bias in ["attn.proj.bias", "mlp.fc2.bias"] {
            add(block(bias), &[N_EMBD_V]);
        }
        add(block("attn.qkv.weight"), &[3 * N_EMBD_V, N_EMBD_V]);
        add(block("attn.proj.weight"), &[N_EMBD_V, N_EMBD_V]);
        add(block("mlp.fc1.weight"), &[N_FF_V, N_EMBD_V]);
        add(block("mlp.fc1.bias"), &[N_FF_V]);
        add(block("mlp.fc2.weight"), &[N_EMBD_V, N_FF_V]);
    }
    let n_in = 4 * N_EMBD_V;
    for (name, shape) in [("0", &[n_in][..]), ("1", &[N_EMBD, n_in]), ("3", &[N_EMBD, N_EMBD])] {
        add(format!("mlp1.{name}.weight"), shape);
        add(format!("mlp1.{name}.bias"), &shape[..1]);
    }
    add("language_model.model.embed_tokens.weight".into(), &[N_VOCAB, N_EMBD]);
    for il in 0..n_text {
        let block = |name: &str| format!("language_model.model.layers.{il}.{name}.weight");
        add(block("input_layernorm"), &[N_EMBD]);
        add(block("post_attention_layernorm"), &[N_EMBD]);
        for part in ["q", "k", "v", "o"] {
            add(block(&format!("self_attn.{part}_proj")), &[N_EMBD, N_EMBD]);
        }
        add(block("mlp.gate_proj"), &[N_FF, N_EMBD]);
        add(block("mlp.up_proj"), &[N_FF, N_EMBD]);
        add(block("mlp.down_proj"), &[N_EMBD, N_FF]);
    }
    add("language_model.model.norm.weight".into(), &[N_EMBD]);
    add("language_model.lm_head.weight".into(), &[N_VOCAB, N_EMBD]);
    tensors
}

fn write_shard(path: &Path, tensors: &[(String, Vec<u64>)]) {
    let mut header = Map::new();
    let mut end = 0;
    for (name, shape) in tensors {
        let start = end;
        end += 2 * shape.iter().product::<u64>();
        header.insert(name.clone(), json!({"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}));
    }
    let header = Value::from(header).to_string();
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    out.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    out.write_all(header.as_bytes()).unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..end / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // four numbers: any sign and mantissa, sizes of 2^-7 to 2^-6
        let numbers = (state & 0x807f_807f_807f_807f) | 0x3c00_3c00_3c00_3c00;
        out.write_all(&numbers.to_le_bytes()).unwrap();
    }
    out.write_all(&vec![0; (end % 8) as usize]).unwrap();
    out.flush().unwrap();
}
