//! What is in a converted file: the numbers of the checkpoint, whatever it was stored as.

use std::fs;

use ggml::quantize::{dequantize, quantize_rows};
use ggml::{Cancel, DType};
use owlet_convert::{Error, Options, Plan, Progress};
use owlet_format::{Gguf, ModelConfig, TensorInfo, Value};

use super::{GOLDEN, Tiny, all_as, convert, names_beside, open};
use crate::checkpoint::{Float, Layout, Weight};

fn values(file: &Gguf, name: &str) -> Vec<f32> {
    let info = file.tensor(name).unwrap();
    let mut values = vec![0.0; info.shape.n_elements() as usize];
    dequantize(info.dtype, file.data(info), &mut values).unwrap();
    values
}

fn bf16(values: &[f32]) -> Vec<f32> {
    let bytes = crate::checkpoint::encode(values, Float::BF16);
    bytes.chunks_exact(2).map(|b| f32::from_bits(u32::from_le_bytes([0, 0, b[0], b[1]]))).collect()
}

/// Rows as rotary positions want them: written as the inverse of what the converter's source says.
fn paired(weight: &Weight, n_head: usize) -> Vec<f32> {
    let (n_rows, n_per_row) = (weight.shape[0] as usize, weight.shape[1] as usize);
    let half = n_rows / n_head / 2;
    let mut rows = vec![0.0; weight.values.len()];
    for (row, values) in weight.values.chunks_exact(n_per_row).enumerate() {
        let (head, at) = (row / (2 * half), row % (2 * half));
        let to = head * 2 * half + if at < half { 2 * at } else { 2 * (at - half) + 1 };
        rows[to * n_per_row..][..n_per_row].copy_from_slice(values);
    }
    rows
}

/// What a file says but for the files that its weights came from.
#[derive(PartialEq)]
struct Said {
    keys: Vec<(String, Value)>,
    /// Each tensor with its bytes; where it lies depends on the length of the header.
    tensors: Vec<(TensorInfo, Vec<u8>)>,
}

fn but_for_the_shards(bytes: Vec<u8>) -> Said {
    let file = open(bytes);
    let keys = file.metadata().iter().filter(|(key, _)| *key != "owlet.provenance.shards");
    let tensors = file.tensors().iter().map(|info| {
        let data = file.data(info).to_vec();
        (TensorInfo { offset: 0, ..info.clone() }, data)
    });
    Said {
        keys: keys.map(|(key, value)| (key.to_string(), value.clone())).collect(),
        tensors: tensors.collect(),
    }
}

#[test]
fn every_layout_of_the_same_weights_gives_the_same_file() {
    let tiny = Tiny::new();
    let layouts = [
        Layout::Safetensors { shards: 1 },
        Layout::Safetensors { shards: 3 },
        Layout::Torch { shards: 1 },
        Layout::Torch { shards: 4 },
    ];
    for float in [Float::BF16, Float::F32, Float::F16] {
        let first = but_for_the_shards(convert(&tiny.write(float, layouts[0]), &Options::default()));
        for layout in &layouts[1..] {
            let other = convert(&tiny.write(float, *layout), &Options::default());
            assert!(
                but_for_the_shards(other) == first,
                "{float:?}: {layout:?} differs from {:?}",
                layouts[0]
            );
        }
    }
}

#[test]
fn bf16_and_f32_arrive_exactly() {
    let mut tiny = Tiny::new();
    for (float, types) in [(Float::BF16, ["bf16", "f32"].as_slice()), (Float::F32, &["f32"])] {
        let dir = tiny.write(float, Layout::Torch { shards: 2 });
        for dtype in types {
            let file = open(convert(&dir, &all_as(dtype)));
            let stored = |v: &[f32]| if float == Float::BF16 { bf16(v) } else { v.to_vec() };
            for (name, source) in [
                ("v.class_embd", "vision_model.embeddings.class_embedding"),
                ("v.position_embd.weight", "vision_model.embeddings.position_embedding"),
                ("v.patch_embd.weight", "vision_model.embeddings.patch_embedding.weight"),
                ("v.blk.2.attn_qkv.weight", "vision_model.encoder.layers.2.attn.qkv.weight"),
                ("v.blk.1.ls2.weight", "vision_model.encoder.layers.1.ls2"),
                ("mm.0.bias", "mlp1.0.bias"),
                ("mm.3.weight", "mlp1.3.weight"),
                ("token_embd.weight", "language_model.model.embed_tokens.weight"),
                ("blk.1.attn_v.weight", "language_model.model.layers.1.self_attn.v_proj.weight"),
                ("output.weight", "language_model.lm_head.weight"),
            ] {
                let expected = stored(&tiny.weight(source).values);
                assert!(values(&file, name) == expected, "{float:?} as {dtype}: {name}");
            }
            for (name, source) in [
                ("blk.0.attn_q.weight", "language_model.model.layers.0.self_attn.q_proj.weight"),
                ("blk.1.attn_k.weight", "language_model.model.layers.1.self_attn.k_proj.weight"),
            ] {
                let expected = stored(&paired(tiny.weight(source), 4));
                assert!(values(&file, name) == expected, "{float:?} as {dtype}: {name}");
            }
        }
    }
}

#[test]
fn blocks_are_those_of_ggmls_quantizers() {
    let mut tiny = Tiny::new();
    let dir = tiny.write(Float::F32, Layout::Safetensors { shards: 1 });
    for (choice, name, source, expected) in [
        ("q8_0", "blk.0.ffn_up.weight", "language_model.model.layers.0.mlp.up_proj.weight", DType::Q8_0),
        ("q4_k", "blk.0.ffn_up.weight", "language_model.model.layers.0.mlp.up_proj.weight", DType::Q4_K),
        ("q4_k", "blk.1.ffn_down.weight", "language_model.model.layers.1.mlp.down_proj.weight", DType::Q6_K),
        ("q4_k", "v.blk.0.ffn_up.weight", "vision_model.encoder.layers.0.mlp.fc1.weight", DType::Q5_0),
        ("q5_k", "v.blk.0.ffn_up.weight", "vision_model.encoder.layers.0.mlp.fc1.weight", DType::Q5_1),
        ("q6_k", "v.blk.0.ffn_up.weight", "vision_model.encoder.layers.0.mlp.fc1.weight", DType::Q8_0),
        ("q4_1", "mm.1.weight", "mlp1.1.weight", DType::Q4_1),
        ("f16", "mm.1.weight", "mlp1.1.weight", DType::F16),
    ] {
        let file = open(convert(&dir, &all_as(choice)));
        let info = file.tensor(name).unwrap();
        assert_eq!(info.dtype, expected, "{choice} {name}");
        let weight = tiny.weight(source);
        let mut blocks = vec![0; info.n_bytes as usize];
        quantize_rows(expected, &weight.values, weight.shape[1] as usize, None, &mut blocks).unwrap();
        assert!(file.data(info) == blocks, "{choice} {name}");
    }
}

#[test]
fn a_file_states_its_checksums_and_its_config() {
    let tiny = Tiny::new();
    let file = open(convert(&tiny.safetensors(), &Options::default()));
    for (tensor, checksum) in file.tensors().iter().zip(file.checksums().unwrap()) {
        file.verify(tensor, &checksum).unwrap();
    }
    let config = ModelConfig::read(&file).unwrap();
    assert_eq!((config.name.as_str(), config.family.as_str()), ("tiny-chat", "internvl-chat-v1-1"));
    let vision = config.vision.unwrap();
    assert_eq!((vision.n_layer, vision.source_n_layer), (3, 6));
    let recipe: Vec<&str> = config.provenance.recipe.iter().collect();
    assert_eq!(recipe, ["text = q4_k_m", "vision = q8_0", "projector = q8_0"]);
}

#[test]
fn one_thread_or_many_give_the_same_file() {
    let tiny = Tiny::new();
    let dir = tiny.safetensors();
    let with = |n_threads| convert(&dir, &Options { n_threads: Some(n_threads), ..Options::default() });
    assert!(with(1) == with(4));
}

#[test]
fn the_position_grid_is_resized_when_the_model_takes_another_side() {
    let mut tiny = Tiny::new();
    tiny.config()["force_image_size"] = 224.into();
    let dir = tiny.safetensors();
    let plan = Plan::from_dir(&dir, &all_as("f32")).unwrap().to_string();
    assert!(plan.contains("note: position grid interpolated from 8 x 8 to 16 x 16\n"), "{plan}");
    let file = open(convert(&dir, &all_as("f32")));
    let positions = values(&file, "v.position_embd.weight");
    let source = bf16(&tiny.weight("vision_model.embeddings.position_embedding").values);
    assert_eq!(positions.len(), 257 * 96);
    assert_eq!(positions[..96], source[..96], "the class token's row");
    let resized = owlet_convert::position_grid::resize(&source[96..], 96, 8, 16);
    assert_eq!(positions[96..], resized);
}

#[test]
fn dry_run_text() {
    let mut tiny = Tiny::new();
    tiny.bend_for_the_plan();
    let options = Options {
        vision: "q4_k".parse().unwrap(),
        set: vec![("rope_theta".into(), "20000".into())],
        ..Options::default()
    };
    let dir = tiny.write(Float::BF16, Layout::Torch { shards: 2 });
    let plan = Plan::from_dir(&dir, &options).unwrap().to_string();
    let golden = format!("{GOLDEN}/convert/plan.txt");
    if std::env::var_os("OWLET_RECORD").is_some() {
        fs::write(&golden, &plan).unwrap();
    }
    assert_eq!(plan, fs::read_to_string(&golden).unwrap());
}

/// Cancels at its n-th chunk; no chunk may come behind that.
struct CancelAt<'a>(usize, &'a Cancel);

impl Progress for CancelAt<'_> {
    fn start(&mut self, _: u64) {}

    fn advance(&mut self, tensor: &str, _: u64) {
        assert!(!self.1.is_cancelled(), "{tensor} is worked on although cancelled");
        match self.0 {
            0 => self.1.cancel(),
            _ => self.0 -= 1,
        }
    }
}

#[test]
fn cancelling_leaves_what_stood_there() {
    let tiny = Tiny::new();
    let dir = tiny.safetensors();
    let out = dir.with_extension("gguf");
    fs::write(&out, "an older file").unwrap();
    let plan = Plan::from_dir(&dir, &Options::default()).unwrap();
    let n_tensors = plan.tensors.len();
    for at in [0, 1, 20, n_tensors - 1] {
        let cancel = Cancel::new();
        let error = plan.run(&out, &mut CancelAt(at, &cancel), &cancel).unwrap_err();
        assert!(matches!(error, Error::Cancelled), "{error}");
        assert_eq!(fs::read_to_string(&out).unwrap(), "an older file");
        let beside = names_beside(&out);
        let expected = ["tiny-chat", "tiny-chat.gguf", "tiny-chat.gguf.part", "tiny-chat.gguf.part.journal"];
        assert_eq!(beside, expected);
    }
    plan.run(&out, &mut (), &Cancel::new()).unwrap();
    assert_eq!(names_beside(&out), ["tiny-chat", "tiny-chat.gguf"]);
}

/// Adds up to the bytes that were promised.
#[derive(Default)]
struct Sum {
    promised: u64,
    done: u64,
}

impl Progress for Sum {
    fn start(&mut self, n_source_bytes: u64) {
        self.promised = n_source_bytes;
    }

    fn advance(&mut self, _: &str, n_source_bytes: u64) {
        self.done += n_source_bytes;
    }
}

#[test]
fn progress_ends_where_it_said() {
    let mut tiny = Tiny::new();
    tiny.config()["force_image_size"] = 224.into();
    let dir = tiny.safetensors();
    let mut sum = Sum::default();
    let plan = Plan::from_dir(&dir, &Options::default()).unwrap();
    let report = plan.run(&dir.with_extension("gguf"), &mut sum, &Cancel::new()).unwrap();
    assert_eq!(sum.done, sum.promised);
    assert_eq!(report.done.n_source_bytes, sum.promised);
    assert_eq!(report.done.n_bytes, fs::metadata(&report.done.path).unwrap().len());
}
