//! Every way in which a checkpoint or a target can be wrong: one line that names file, tensor, expected and found,
//! and nothing left behind.

use std::fs;
use std::path::Path;

use ggml::Cancel;
use owlet_convert::{Options, Plan};
use serde_json::json;

use super::Tiny;
use crate::checkpoint::{Float, Layout, Weight};

/// The one line that converting `dir` ends with.
#[track_caller]
fn refusal(dir: &Path, options: &Options) -> String {
    let out = dir.with_extension("gguf");
    let result = Plan::from_dir(dir, options).and_then(|plan| plan.run(&out, &mut (), &Cancel::new()));
    let text = match result {
        Ok(report) => return format!("converted: {report}"),
        Err(error) => error.to_string(),
    };
    let beside: Vec<_> =
        fs::read_dir(dir.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(beside, ["tiny-chat"], "something is left behind: {text}");
    assert!(!text.contains('\n'), "{text:?}");
    text
}

#[track_caller]
fn assert_refused(dir: &Path, expected: &str) {
    let text = refusal(dir, &Options::default());
    assert!(text.contains(expected), "expected {expected}\n   found {text}");
}

const SAFE: Layout = Layout::Safetensors { shards: 1 };
const K_PROJ: &str = "language_model.model.layers.1.self_attn.k_proj.weight";

#[test]
fn bent_configs() {
    type Bend = fn(&mut Tiny);
    let cases: &[(Bend, &str)] = &[
        (
            |t| t.config()["architectures"] = json!(["Qwen2VLForConditionalGeneration"]),
            "config.json: architectures: expected InternVLChatModel or InternVisionModel or LlavaLlamaForCausalLM or LlavaForConditionalGeneration, found Qwen2VLForConditionalGeneration",
        ),
        (|t| drop(t.files.remove("config.json")), "config.json: No such file or directory"),
        (
            |t| t.config()["llm_config"]["architectures"] = json!(["InternLM2ForCausalLM"]),
            "config.json: llm_config.architectures[0]: expected \"LlamaForCausalLM\", found \"InternLM2ForCausalLM\"",
        ),
        (
            |t| t.config()["llm_config"]["hidden_size"] = json!("256"),
            "llm_config.hidden_size: expected an integer from 1 on, found \"256\"",
        ),
        (
            |t| t.config()["llm_config"]["num_attention_heads"] = json!(3),
            "num_attention_heads: expected a divisor of hidden_size 256, found 3",
        ),
        (
            |t| t.config()["llm_config"]["num_attention_heads"] = json!(0),
            "num_attention_heads: expected an integer from 1 on, found 0",
        ),
        (
            |t| t.config()["llm_config"]["rope_scaling"] = json!({"type": "linear"}),
            "llm_config.rope_scaling: expected null, found an object",
        ),
        (
            |t| t.config()["llm_config"]["attention_bias"] = json!(true),
            "llm_config.attention_bias: expected false, found true",
        ),
        (
            |t| t.config()["llm_config"]["rms_norm_eps"] = json!(null),
            "llm_config.rms_norm_eps: expected a value, found none",
        ),
        (
            |t| t.config()["llm_config"]["vocab_size"] = json!(640),
            "tokenizer.model: expected at most the 640 tokens of llm_config.vocab_size, found 653 with the added ones",
        ),
        (
            |t| t.config()["llm_config"]["vocab_size"] = json!(4_000_000_000_u32),
            "4000000000 tokens beyond the limit of 2097152",
        ),
        (
            |t| t.config()["llm_config"]["num_hidden_layers"] = json!(3),
            "tensor language_model.model.layers.2.input_layernorm.weight: expected shape (256) for blk.2.attn_norm.weight, found no such tensor",
        ),
        (
            |t| t.config()["llm_config"]["num_hidden_layers"] = json!(1),
            "tensor language_model.model.layers.1.input_layernorm.weight: expected no such tensor, found shape (256)",
        ),
        (
            |t| t.config()["vision_config"]["norm_type"] = json!("layer_norm"),
            "vision_config.norm_type: expected \"rms_norm\", found \"layer_norm\"",
        ),
        (
            |t| t.config()["vision_config"]["qkv_bias"] = json!(true),
            "vision_config.qkv_bias: expected false, found true",
        ),
        (
            |t| t.config()["vision_config"]["patch_size"] = json!(15),
            "force_image_size: expected a multiple of patch_size 15, found 112",
        ),
        (
            |t| t.config()["force_image_size"] = json!(14),
            "downsample_ratio: expected 1 / n with n a divisor of the 1 patches of a side, found 0.5",
        ),
        (|t| t.config()["downsample_ratio"] = json!(0), "downsample_ratio: expected 1 / n"),
        (|t| t.config()["select_layer"] = json!(-7), "select_layer: expected a layer of 6 blocks, found -7"),
        (|t| t.config()["select_layer"] = json!(0), "select_layer: expected a layer of 6 blocks, found 0"),
        (
            |t| t.config()["select_layer"] = json!(null),
            "config.json: select_layer: expected a value, found none, and only V1-1 itself (48 blocks, <human> and <bot>) or V1-2 itself (45 blocks, <|im_start|> and <|im_end|>) may leave it out: say it with --set select_layer=-4 or -1",
        ),
        (|t| t.config()["ps_version"] = json!("v3"), "ps_version: expected \"v1\" or \"v2\", found \"v3\""),
        (
            |t| t.config()["template"] = json!("internlm2-chat"),
            "template: expected \"internvl_zh\" or \"Hermes-2\", found \"internlm2-chat\"",
        ),
        (
            |t| t.config()["dynamic_image_size"] = json!(true),
            "dynamic_image_size: expected false, found true",
        ),
        (
            |t| t.config()["use_llm_lora"] = json!(16),
            "use_llm_lora: expected 0 (merge the adapters first), found 16",
        ),
        (|t| t.tokenizer = b"{}".to_vec(), "tokenizer.model: byte 0: expected wire type"),
        (
            |t| t.files["tokenizer_config.json"]["tokenizer_class"] = json!("Qwen2Tokenizer"),
            "tokenizer_config.json: tokenizer_class: expected LlamaTokenizer (a tokenizer of another kind), found \"Qwen2Tokenizer\"",
        ),
        (
            |t| t.files["tokenizer_config.json"]["bos_token"] = json!("<\u{1b}[2J"),
            "bos_token \"<\\u{1b}[2J\": expected among the tokens",
        ),
    ];
    for (bend, expected) in cases {
        let mut tiny = Tiny::new();
        bend(&mut tiny);
        assert_refused(&tiny.safetensors(), expected);
    }
}

#[test]
fn bent_weights() {
    type Bend = fn(&mut Tiny);
    let cases: &[(Bend, &str)] = &[
        (
            |t| t.weights.retain(|w| w.name != K_PROJ),
            "tensor language_model.model.layers.1.self_attn.k_proj.weight: expected shape (256, 256) for blk.1.attn_k.weight, found no such tensor",
        ),
        (
            |t| t.weights.retain(|w| !w.name.ends_with("position_embedding")),
            "position_embedding: expected for v.position_embd.weight, not found",
        ),
        (
            |t| *t.weight(K_PROJ) = Weight::new(K_PROJ, &[256, 128], vec![0.0; 256 * 128]),
            "model.safetensors: tensor language_model.model.layers.1.self_attn.k_proj.weight: expected shape (256, 256), found (256, 128)",
        ),
        (|t| t.weight(K_PROJ).shape.insert(0, 1), "expected shape (256, 256), found (1, 256, 256)"),
        (
            |t| t.weight("vision_model.embeddings.position_embedding").shape = vec![1, 1, 65 * 96],
            "expected shape (1, side * side + 1, width), found (1, 1, 6240)",
        ),
        (
            |t| t.weights.push(Weight::new("language_model.score.weight", &[2, 256], vec![0.0; 512])),
            "model.safetensors: tensor language_model.score.weight: expected no such tensor, found shape (2, 256)",
        ),
        (|t| t.weights.push(Weight::new("a\nb", &[1], vec![0.0])), "tensor a\\nb: expected no such tensor"),
        (
            |t| t.weight(K_PROJ).values[300] = f32::NAN,
            "model.safetensors: tensor language_model.model.layers.1.self_attn.k_proj.weight: row 2: as q4_k: expected finite values up to 65504.0, found NaN at element 44",
        ),
        (
            |t| t.weight("mlp1.1.bias").values[7] = f32::INFINITY,
            "tensor mlp1.1.bias: row 0: as f32: expected finite values up to 3.4028235e38, found inf at element 7",
        ),
    ];
    for (bend, expected) in cases {
        let mut tiny = Tiny::new();
        bend(&mut tiny);
        assert_refused(&tiny.safetensors(), expected);
    }
}

#[test]
fn bent_files() {
    type Bend = fn(&Path);
    fn cut(path: &Path, n: u64) {
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() - n).unwrap();
    }
    let torch = Layout::Torch { shards: 2 };
    let cases: &[(Layout, Bend, &str)] = &[
        (
            SAFE,
            |d| fs::remove_file(d.join("model.safetensors")).unwrap(),
            "tiny-chat: expected weights in one of model.safetensors, model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json; found none of them",
        ),
        (
            SAFE,
            |d| cut(&d.join("model.safetensors"), 1),
            "model.safetensors: tensor mlp1.3.bias: expected its data inside the file's 5089599 bytes of data, found 5089088..5089600",
        ),
        (
            SAFE,
            |d| fs::remove_file(d.join("tokenizer.model")).unwrap(),
            "tokenizer.model: No such file or directory",
        ),
        (
            SAFE,
            |d| fs::write(d.join("config.json"), "{\"architectures\":").unwrap(),
            "config.json: EOF while parsing",
        ),
        (
            torch,
            |d| fs::remove_file(d.join("pytorch_model-00002-of-00002.bin")).unwrap(),
            "pytorch_model.bin.index.json: expected shard pytorch_model-00002-of-00002.bin beside it, found no such file",
        ),
        (
            torch,
            |d| cut(&d.join("pytorch_model-00002-of-00002.bin"), 100),
            "pytorch_model-00002-of-00002.bin: truncated, or no sound zip archive",
        ),
        (
            torch,
            |d| {
                fs::copy(
                    d.join("pytorch_model-00001-of-00002.bin"),
                    d.join("pytorch_model-00002-of-00002.bin"),
                )
                .unwrap();
            },
            "pytorch_model-00002-of-00002.bin: tensor vision_model.embeddings.class_embedding: also in",
        ),
        (
            torch,
            |d| fs::write(d.join("pytorch_model.bin.index.json"), "{}").unwrap(),
            "pytorch_model.bin.index.json: expected an object weight_map, found none",
        ),
        (
            torch,
            |d| {
                fs::write(d.join("pytorch_model.bin.index.json"), r#"{"weight_map": {"a": "../x.bin"}}"#)
                    .unwrap()
            },
            "weight_map.a: expected the name of a file beside it, found \"../x.bin\"",
        ),
        (
            torch,
            |d| {
                let index = fs::read_to_string(d.join("pytorch_model.bin.index.json")).unwrap();
                let index = index.replacen("{", r#"{"x": 0, "#, 1).replace(
                    "\"weight_map\":{",
                    r#""weight_map":{"ghost": "pytorch_model-00001-of-00002.bin", "#,
                );
                fs::write(d.join("pytorch_model.bin.index.json"), index).unwrap();
            },
            "pytorch_model-00001-of-00002.bin: tensor ghost: expected in this shard by pytorch_model.bin.index.json, not found",
        ),
    ];
    let tiny = Tiny::new();
    for (layout, bend, expected) in cases {
        let dir = tiny.write(Float::BF16, *layout);
        bend(&dir);
        assert_refused(&dir, expected);
    }
}

#[test]
fn targets_that_cannot_be_written() {
    let tiny = Tiny::new();
    let dir = tiny.safetensors();
    let plan = Plan::from_dir(&dir, &Options::default()).unwrap();
    let cases = [
        (dir.join("none/out.gguf"), "none/out.gguf.part.journal: cannot create: No such file or directory"),
        (dir.clone(), "tiny-chat: expected a file to write, found a directory"),
        ("/dev/full".into(), "/dev/full: expected a file to write, found a pipe, socket or device"),
    ];
    for (out, expected) in cases {
        let text = plan.run(&out, &mut (), &Cancel::new()).unwrap_err().to_string();
        assert!(text.contains(expected), "expected {expected}\n   found {text}");
    }
}

#[test]
fn a_v1_1_of_48_blocks_may_leave_fields_out() {
    let mut tiny = Tiny::new();
    for key in ["select_layer", "ps_version", "template"] {
        tiny.config().as_object_mut().unwrap().remove(key);
    }
    tiny.config()["vision_config"]["num_hidden_layers"] = json!(48);
    let block = |name: &str| name.starts_with("vision_model.encoder.layers.0.");
    let first: Vec<Weight> = tiny.weights.iter().filter(|w| block(&w.name)).cloned().collect();
    for il in 6..48 {
        tiny.weights.extend(first.iter().cloned().map(|mut weight| {
            weight.name = weight.name.replace("layers.0.", &format!("layers.{il}."));
            weight
        }));
    }
    let plan = Plan::from_dir(&tiny.safetensors(), &Options::default()).unwrap();
    let vision = plan.config.vision.as_ref().unwrap();
    assert_eq!((vision.n_layer, vision.source_n_layer), (45, 48));
    let text = plan.to_string();
    for line in
        ["assumed select_layer = -4\n", "assumed ps_version = v1\n", "assumed template = internvl_zh\n"]
    {
        assert!(text.contains(line), "{text}");
    }
    assert!(
        text.contains(
            "skipped, block 47 never runs: the tower ends behind block 44: vision_model.encoder.layers.47."
        ),
        "{text}"
    );
}
