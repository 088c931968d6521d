//! LLaVA-1.5: the authors' layout with the tower in a second directory, and the same weights in transformers' own layout.

use super::compare::{self, F32_BOUND, TRAP_DISTANCE};
use super::golden::{self, Case, Node, Samples};
use super::subject::Subject;
use super::{assert_conversations, assert_pixels, assert_traps, assert_weights, nodes, tiny};
use crate::checkpoint::{Float, Layout, write_weights};
use crate::program::owlet;
use ggml::{Cancel, DType};
use owlet::model::Arithmetic;
use owlet_convert::{Export, Input, Options, Pair, PairOptions, Plan};
use owlet_format::{Gguf, ModelConfig};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

#[test]
fn llava() {
    assert_parity("llava", 23);
}

#[test]
fn llava_legacy() {
    assert_parity("llava_legacy", 0);
}

/// The 224-pixel tower at 336 pixels: positions of 16x16 patches, used on 24x24.
#[test]
fn internvl_v1_0() {
    assert_parity("internvl_v1_0", 8);
}

#[test]
fn internvl_v1_0_448() {
    assert_parity("internvl_v1_0_448", 0);
}

fn assert_parity(name: &str, n_traps: usize) {
    let case = Case::read(name);
    assert_weights(&case);
    let subject = Subject::new(&case, DType::F32);
    let vision = subject.config.vision.as_ref().unwrap();
    let is_internvl = name.starts_with("internvl");
    assert_eq!((vision.n_layer, vision.source_n_layer), (3, if is_internvl { 6 } else { 4 }));
    assert_eq!(subject.config.family, if is_internvl { "internvl-chat-v1-0" } else { "llava-1.5" });
    assert_pixels(&subject, &case);
    assert_conversations(&subject, &case);
    assert_eq!(case.traps.len(), n_traps, "{name}: traps recorded");
    if n_traps > 0 {
        assert_traps(&subject, &case);
    }
}

/// The same weights under transformers' names, with what its converter leaves out of config.json.
pub fn lay_out_for_transformers(case: &Case, folder: &Path) {
    tiny::lay_out(case, folder);
    fs::remove_dir_all(folder.join("tower")).unwrap();
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    let tower = case.tower.as_ref().unwrap();
    let mut weights = [tiny::weights(case), tiny::tower_weights(case)].concat();
    for weight in &mut weights {
        weight.name = case.transformers_names[&weight.name].clone();
    }
    write_weights(folder, &weights, Float::F32, Layout::Safetensors { shards: 2 });
    let authors = &case.files["config.json"];
    let mut text: serde_json::Map<String, Value> = authors.as_object().unwrap().clone();
    text.retain(|key, _| !key.starts_with("mm_"));
    text.insert("architectures".into(), json!(["LlamaForCausalLM"]));
    let mut vision = tower.files["config.json"]["vision_config"].clone();
    for key in ["hidden_act", "layer_norm_eps"] {
        vision.as_object_mut().unwrap().remove(key);
    }
    let config = json!({
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "projector_hidden_act": "gelu",
        "text_config": text,
        "vision_config": vision,
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
    });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let preprocessor = tower.files["preprocessor_config.json"].to_string();
    fs::write(folder.join("preprocessor_config.json"), preprocessor).unwrap();
}

#[test]
fn both_layouts_become_the_same_model() {
    let case = Case::read("llava");
    let folder = TempDir::new().unwrap();
    let of = |name: &str, lay_out: &dyn Fn(&Path)| {
        let (checkpoint, file) = (folder.path().join(name), folder.path().join(format!("{name}.gguf")));
        lay_out(&checkpoint);
        tiny::convert(&checkpoint, DType::F32, &file);
        Gguf::open(&file).unwrap()
    };
    let authors = of("authors", &|folder| tiny::lay_out(&case, folder));
    let transformers = of("transformers", &|folder| lay_out_for_transformers(&case, folder));
    let config = |file: &Gguf| {
        let config = ModelConfig::read(file).unwrap();
        ModelConfig { name: String::new(), provenance: Default::default(), ..config }
    };
    assert_eq!(config(&authors), config(&transformers));
    for (one, other) in authors.tensors().iter().zip(transformers.tensors()) {
        assert_eq!(one.name, other.name);
        assert!(authors.data(one) == transformers.data(other), "{}", one.name);
    }
    let provenance = ModelConfig::read(&transformers).unwrap().provenance;
    let assumed: Vec<&str> = provenance.assumed.iter().collect();
    assert_eq!(assumed, ["vision_config.hidden_act = quick_gelu", "vision_config.layer_norm_eps = 1e-5"]);
}

/// The pair that llama.cpp would get, packed into one file again, against the authors' module.
#[test]
fn a_pair_of_llama_cpp() {
    let case = Case::read("llava");
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    tiny::lay_out(&case, &path("checkpoint"));
    tiny::convert(&path("checkpoint"), DType::F32, &path("model.gguf"));
    let exported = Export::from_file(&path("model.gguf")).unwrap();
    let [text, mmproj] = &exported.run(&path("pair"), &mut (), &Cancel::new()).unwrap().files[..] else {
        panic!("expected two files");
    };
    let pair = Pair::from_files(&text.0, &mmproj.0, &PairOptions::default()).unwrap();
    let packed = path("packed.gguf");
    pair.run(&packed, &mut (), &Cancel::new()).unwrap();
    let subject = Subject::open(&packed, folder, Arithmetic::Packed);
    assert_pixels(&subject, &case);
    assert_conversations(&subject, &case);
}

#[derive(serde::Deserialize)]
struct OfTransformers {
    nodes: Vec<Node>,
    wrong: Node,
}

/// Transformers' layout, converted, against transformers' own module with the same numbers.
#[test]
fn transformers_layout_is_what_transformers_computes() {
    let (golden, samples) = (golden::facts::<OfTransformers>("llava_hf"), Samples::read("llava_hf"));
    let case = Case::read("llava");
    let folder = TempDir::new().unwrap();
    lay_out_for_transformers(&case, folder.path());
    let subject = Subject::of(folder, DType::F32);
    let seen = nodes(&subject, &case, case.conversation("picture"));
    let error = |node: &Node| {
        let found = seen.iter().find(|seen| seen.name == node.name).unwrap();
        compare::error(&found.values, &found.ne, node, samples.of(node))
    };
    assert_eq!(golden.nodes.len(), 12);
    for node in &golden.nodes {
        println!("llava_hf: {:12} {:9.2e}", node.name, error(node));
        assert!(error(node) <= F32_BOUND, "{}: {:e}", node.name, error(node));
    }
    assert!(error(&golden.wrong) >= TRAP_DISTANCE * F32_BOUND, "the layer behind would pass");
}

/// Rows of q, k and v are stacked from tensors that lie apart, and other tensors lie between them.
#[test]
fn every_byte_is_read_once() {
    let case = Case::read("llava");
    let folder = TempDir::new().unwrap();
    tiny::lay_out(&case, folder.path());
    let tower = folder.path().join("tower");
    let mut weights = tiny::tower_weights(&case);
    for by_name in [false, true] {
        if by_name {
            weights.sort_by(|a, b| a.name.cmp(&b.name));
        }
        for shards in [1, 3] {
            fs::remove_file(tower.join("model.safetensors")).ok();
            write_weights(&tower, &weights, Float::F32, Layout::Safetensors { shards });
            let options = Options { vision_tower: Some(Input::of_dir(&tower)), ..Options::default() };
            let plan = Plan::from_dir(folder.path(), &options).unwrap();
            let out = folder.path().join("model.gguf");
            let done = plan.run(&out, &mut (), &Cancel::new()).unwrap().done;
            let weights = |dir: &Path| -> u64 {
                let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
                let files = files.filter(|path| path.extension().is_some_and(|end| end == "safetensors"));
                files.map(|path| fs::metadata(path).unwrap().len()).sum()
            };
            let n_bytes = weights(folder.path()) + weights(&tower);
            assert_eq!(done.n_read_bytes, n_bytes, "{shards} shards, by name: {by_name}");
        }
        for shard in fs::read_dir(&tower).unwrap().map(|entry| entry.unwrap().path()) {
            if shard.to_string_lossy().contains("model") {
                fs::remove_file(shard).unwrap();
            }
        }
    }
}

#[test]
fn a_file_is_compared_with_checkpoint_and_tower() {
    let case = Case::read("internvl_v1_0");
    let folder = TempDir::new().unwrap();
    tiny::lay_out(&case, folder.path());
    let (file, tower) = (folder.path().join("model.gguf"), folder.path().join("tower"));
    tiny::convert(folder.path(), DType::Q8_0, &file);
    let verify = |words: &[&Path]| owlet(&[&[Path::new("verify"), &file], words].concat());
    let against = [Path::new("--against"), folder.path()];
    let with_tower = [&against[..], &[Path::new("--vision-tower"), &tower]].concat();
    let words = verify(&with_tower).ok();
    assert!(
        words.contains("\ndistance   right; ") && words.contains(": the files that it was made of\n"),
        "{words}"
    );
    let alone = verify(&against);
    assert_eq!(alone.code, Some(1));
    assert!(alone.err.contains("as --vision-tower, found none"), "{}", alone.err);
    assert_eq!(verify(&with_tower[2..]).code, Some(2), "a tower without a checkpoint");
    // another tower
    let mut weights = tiny::tower_weights(&case);
    let qkv = weights.iter_mut().find(|weight| weight.name.ends_with("0.attn.qkv.weight")).unwrap();
    qkv.values.rotate_left(100);
    write_weights(&tower, &weights, Float::F32, Layout::Safetensors { shards: 1 });
    let other = verify(&with_tower);
    assert_eq!(other.code, Some(1));
    assert!(
        other.out.contains("distance   1 tensor is wrong; ")
            && other.out.contains("\n  v.blk.0.attn_qkv.weight"),
        "{}",
        other.out
    );
}

/// InternVL-Chat-V1.0 has the tower's weights in its own shards, too; with those, config.json is all that is needed of the
/// tower's directory.
#[test]
fn a_tower_inside_the_shards_is_the_one_beside_them() {
    let case = Case::read("internvl_v1_0");
    let folder = TempDir::new().unwrap();
    let inside = tiny::tower_weights(&case).into_iter().map(|mut weight| {
        weight.name = format!("model.vision_tower.vision_tower.{}", weight.name);
        weight
    });
    let weights: Vec<_> = tiny::weights(&case).into_iter().chain(inside).collect();
    let of = |name: &str, has_inside: bool, has_beside: bool| {
        let (checkpoint, file) = (folder.path().join(name), folder.path().join(format!("{name}.gguf")));
        tiny::lay_out(&case, &checkpoint);
        if has_inside {
            write_weights(&checkpoint, &weights, Float::F32, Layout::Safetensors { shards: 1 });
        }
        if !has_beside {
            fs::remove_file(checkpoint.join("tower/model.safetensors")).unwrap();
        }
        tiny::convert(&checkpoint, DType::F32, &file);
        Gguf::open(&file).unwrap()
    };
    let expected = of("beside", false, true);
    for (name, has_beside) in [("inside", false), ("both", true)] {
        let found = of(name, true, has_beside);
        assert_eq!(expected.tensors().len(), found.tensors().len());
        for (one, other) in expected.tensors().iter().zip(found.tensors()) {
            assert!(
                one.name == other.name && expected.data(one) == found.data(other),
                "{name}: {}",
                one.name
            );
        }
    }
}

/// A checkpoint that can be bent, with its tower.
struct Bent {
    case: Case,
    folder: TempDir,
}

impl Bent {
    fn config(&mut self) -> &mut Value {
        self.case.files.get_mut("config.json").unwrap()
    }

    fn tower(&mut self) -> &mut Value {
        let tower = self.case.tower.as_mut().unwrap();
        &mut tower.files.get_mut("config.json").unwrap()["vision_config"]
    }

    fn refused(&self, vision_tower: Option<PathBuf>) -> String {
        let folder = self.folder.path().join("llava");
        tiny::lay_out(&self.case, &folder);
        let vision_tower = vision_tower.map(Input::of_dir);
        let options = Options { vision_tower, ..Options::default() };
        Plan::from_dir(&folder, &options).unwrap_err().to_string()
    }
}

#[test]
fn what_is_wrong_is_one_line() {
    type Bend = fn(&mut Bent);
    let cases: &[(Bend, &str)] = &[
        (
            |b| b.config()["mm_projector_type"] = json!("linear"),
            "llava/config.json: mm_projector_type: expected \"mlp2x_gelu\", found \"linear\"",
        ),
        (
            |b| b.config()["mm_vision_select_feature"] = json!("cls_patch"),
            "mm_vision_select_feature: expected \"patch\", found \"cls_patch\"",
        ),
        (
            |b| b.config()["image_aspect_ratio"] = json!("anyres"),
            "image_aspect_ratio: expected \"pad\", found \"anyres\"",
        ),
        (
            |b| b.config()["mm_patch_merge_type"] = json!("spatial_unpad"),
            "mm_patch_merge_type: expected \"flat\", found \"spatial_unpad\"",
        ),
        (
            |b| b.config()["mm_use_im_start_end"] = json!(true),
            "mm_use_im_start_end: expected false, found true",
        ),
        (
            |b| b.config()["mm_vision_select_layer"] = json!(-5),
            "mm_vision_select_layer: expected a layer of 4 blocks, found -5",
        ),
        (
            |b| b.config()["mm_hidden_size"] = json!(1024),
            "tower/config.json: vision_config.hidden_size: expected mm_hidden_size 1024 of ",
        ),
        (
            |b| b.tower()["hidden_act"] = json!("gelu"),
            "vision_config.hidden_act: expected \"quick_gelu\", found \"gelu\"",
        ),
        (
            |b| b.tower()["image_size"] = json!(126),
            "tower/model.safetensors: tensor vision_model.embeddings.position_embedding.weight: expected shape (82, 96), found (65, 96)",
        ),
        (
            |b| {
                b.case
                    .tower
                    .as_mut()
                    .unwrap()
                    .tensors
                    .retain(|t| !t.name.ends_with("1.self_attn.k_proj.bias"))
            },
            "tower: tensor vision_model.encoder.layers.1.self_attn.k_proj.bias: expected such a tensor, found none",
        ),
        (
            |b| {
                let tensors = &mut b.case.tower.as_mut().unwrap().tensors;
                let q = tensors.iter_mut().find(|t| t.name.ends_with("0.self_attn.v_proj.weight")).unwrap();
                q.shape = vec![48, 192];
            },
            "layers.0.self_attn.v_proj.weight: expected f32 (96, 96) as in vision_model.encoder.layers.0.self_attn.q_proj.weight, found f32 (48, 192)",
        ),
        (
            |b| b.config()["architectures"] = json!(["LlavaMistralForCausalLM"]),
            "architectures: expected InternVLChatModel or InternVisionModel or LlavaLlamaForCausalLM or LlavaForConditionalGeneration, found LlavaMistralForCausalLM",
        ),
    ];
    for (bend, expected) in cases {
        let mut bent = Bent { case: Case::read("llava"), folder: TempDir::new().unwrap() };
        bend(&mut bent);
        let found = bent.refused(Some(bent.folder.path().join("llava/tower")));
        assert!(found.contains(expected) && !found.contains('\n'), "expected {expected}\n   found {found}");
    }
    let bent = Bent { case: Case::read("llava"), folder: TempDir::new().unwrap() };
    let found = bent.refused(None);
    let expected = "config.json: mm_vision_tower: expected openai/clip-vit-large-patch14-336 as --vision-tower, found none";
    assert!(found.ends_with(expected), "{found}");
    let found = bent.refused(Some(bent.folder.path().join("nowhere")));
    assert!(found.contains("nowhere/config.json: No such file"), "{found}");
}

/// A family that has its tower takes no other.
#[test]
fn a_tower_that_nobody_asked_for() {
    let case = Case::read("base");
    let folder = TempDir::new().unwrap();
    tiny::lay_out(&case, folder.path());
    let options = Options { vision_tower: Some(Input::of_dir("elsewhere")), ..Options::default() };
    let found = Plan::from_dir(folder.path(), &options).unwrap_err().to_string();
    assert_eq!(found, "--vision-tower elsewhere: InternVL-Chat has its own tower");
}
