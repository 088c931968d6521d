//! A model file out: llama.cpp's names, shapes and keys, the same blocks, and on the way back the same file.

use std::fs;
use std::path::{Path, PathBuf};

use ggml::{Cancel, DType};
use owlet_convert::{Export, Pair, PairOptions};
use owlet_format::{Encoder, Gguf, Metadata, ModelConfig, NormKind, QkNorm, Shuffle, TensorPlan, Value};
use tempfile::TempDir;

use super::pairs::{MODELS, model};
use super::{assert_same_tensors, facts};
use crate::convert::{Tiny, all_as, convert};
use crate::program::owlet;

/// The files that `model` becomes, in `dir`.
fn export(model: &Path, dir: &Path) -> Vec<PathBuf> {
    let exported = Export::from_file(model).unwrap().run(dir, &mut (), &Cancel::new()).unwrap();
    exported.files.into_iter().map(|(path, _)| path).collect()
}

fn open(path: &Path) -> Gguf {
    Gguf::from_bytes(fs::read(path).unwrap().into(), &path.display().to_string()).unwrap()
}

#[test]
fn there_and_back_is_the_same_file() {
    for (dtype, model) in MODELS.iter() {
        let dir = TempDir::new().unwrap();
        let pair = export(&model.path, &dir.path().join("pair"));
        let out = dir.path().join("back.gguf");
        let back = Pair::from_files(&pair[0], &pair[1], &PairOptions::default()).unwrap();
        back.run(&out, &mut (), &Cancel::new()).unwrap();
        let back = open(&out);
        assert_same_tensors(&back, &model.file, dtype.name());
        assert!(facts(&back) == facts(&model.file), "{dtype}: other facts");
        let keys = |file: &Gguf| {
            let is_fact = |(key, _): &(&str, &Value)| !key.starts_with("owlet.provenance.");
            let facts = file.metadata().iter().filter(is_fact);
            facts.map(|(key, value)| (key.to_string(), value.clone())).collect::<Vec<_>>()
        };
        assert!(keys(&back) == keys(&model.file), "{dtype}: other keys");
        let assumed = ModelConfig::read(&back).unwrap().provenance.assumed;
        assert_eq!(assumed.len(), 0, "a pair of ours says all: {assumed:?}");
    }
}

/// What the family would say otherwise comes back as the file had it.
#[test]
fn facts_of_the_file_go_before_those_of_the_family() {
    let model = model(DType::Q8_0);
    let mut config = model.config.clone();
    config.prompt.as_mut().unwrap().system = "Be \"brief\".\n".into();
    config.generation.as_mut().unwrap().max_tokens = 7;
    config.tokenizer.as_mut().unwrap().legacy = true;
    config.image.as_mut().unwrap().pad_rgb = [1, 2, 3];
    let dir = TempDir::new().unwrap();
    let path = write(&config, &dir.path().join("bent.gguf"), |name| {
        model.file.data(model.file.tensor(name).unwrap()).to_vec()
    });
    let pair = export(&path, &dir.path().join("pair"));
    let out = dir.path().join("back.gguf");
    let back = Pair::from_files(&pair[0], &pair[1], &PairOptions::default()).unwrap();
    back.run(&out, &mut (), &Cancel::new()).unwrap();
    let expected = ModelConfig { provenance: Default::default(), ..config };
    assert!(facts(&open(&out)) == expected, "other facts");
}

/// A file of `config`, its matrices in q8_0, with the bytes that `data` has for each tensor.
fn write(config: &ModelConfig, path: &Path, data: impl Fn(&str) -> Vec<u8>) -> PathBuf {
    let plan = |spec: &owlet_format::TensorSpec| {
        let is_matrix = spec.role.allows(DType::Q8_0);
        TensorPlan {
            name: spec.name.clone(),
            dtype: if is_matrix { DType::Q8_0 } else { DType::F32 },
            shape: spec.ne,
        }
    };
    let plan: Vec<TensorPlan> = config.tensors().iter().map(plan).collect();
    let mut keys = Metadata::new("written");
    config.write(&mut keys);
    let mut encoder = Encoder::new(fs::File::create(path).unwrap(), &keys, &plan).unwrap();
    for tensor in &plan {
        encoder.begin(&tensor.name).unwrap();
        encoder.write(&data(&tensor.name)).unwrap();
    }
    encoder.finish().unwrap();
    path.to_path_buf()
}

#[test]
fn the_pair_is_what_llama_cpp_looks_for() {
    let model = model(DType::Q8_0);
    let dir = TempDir::new().unwrap();
    let paths = export(&model.path, dir.path());
    let names: Vec<_> = paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["text-tiny.gguf", "mmproj-tiny.gguf"]);
    let (text, mmproj) = (open(&paths[0]), open(&paths[1]));
    assert_eq!(text.metadata().str("general.architecture").unwrap(), "llama");
    assert_eq!(text.metadata().str("tokenizer.ggml.model").unwrap(), "llama");
    let keys = mmproj.metadata();
    assert_eq!(keys.str("general.architecture").unwrap(), "clip");
    assert_eq!(keys.str("clip.projector_type").unwrap(), "mlp");
    // all of its blocks run, where llama.cpp would leave the last one out
    assert_eq!(keys.i32s("clip.vision.feature_layer").unwrap(), [3]);
    assert_eq!(
        (keys.u32("clip.vision.block_count").unwrap(), keys.bool("clip.use_gelu").unwrap()),
        (3, false)
    );
    assert!(keys.str("general.description").unwrap().contains("the class token's row as the last one"));

    let qkv = model.file.data(model.file.tensor("v.blk.1.attn_qkv.weight").unwrap());
    let bias = model.file.data(model.file.tensor("v.blk.1.attn_qkv.bias").unwrap());
    for (at, part) in ["q", "k", "v"].iter().enumerate() {
        for (whole, end, dims) in [(qkv, "weight", 2), (bias, "bias", 1)] {
            let found = mmproj.tensor(&format!("v.blk.1.attn_{part}.{end}")).unwrap();
            let third = whole.len() / 3;
            assert_eq!(found.shape.dims(), &[96, 96][..dims]);
            assert!(mmproj.data(found) == &whole[at * third..][..third], "{part} {end}");
        }
    }
    assert!(mmproj.tensor("v.blk.1.attn_qkv.weight").is_none());
    // the class token's position, which is the first here, is the last there
    let positions = model.file.data(model.file.tensor("v.position_embd.weight").unwrap());
    let (class, patches) = positions.split_at(96 * 4);
    let turned = mmproj.data(mmproj.tensor("v.position_embd.weight").unwrap());
    assert!(turned == [patches, class].concat() && turned != positions);
}

/// A tower with LayerNorms is one that llama.cpp takes for what it is, and so is the 6B one of 45 blocks.
#[test]
fn an_intern_vit_that_llama_cpp_knows_goes_out_under_its_names() {
    let tiny = Tiny::new();
    let file = Gguf::from_bytes(convert(&tiny.safetensors(), &all_as("q8_0")).into(), "base").unwrap();
    let mut config = ModelConfig::read(&file).unwrap();
    let vision = config.vision.as_mut().unwrap();
    (vision.norm, vision.qk_norm) = (NormKind::Layer, QkNorm::None);
    let dir = TempDir::new().unwrap();
    let n_bytes = |config: &ModelConfig, name: &str| {
        let spec = config.tensors().into_iter().find(|spec| spec.name == name).unwrap();
        let dtype = if spec.role.allows(DType::Q8_0) { DType::Q8_0 } else { DType::F32 };
        spec.ne.n_bytes(dtype).unwrap() as usize
    };
    let path = write(&config, &dir.path().join("layer.gguf"), |name| vec![7; n_bytes(&config, name)]);
    let pair = export(&path, &dir.path().join("pair"));
    let mmproj = open(&pair[1]);
    assert_eq!(mmproj.metadata().str("clip.projector_type").unwrap(), "internvl");
    assert_eq!(mmproj.metadata().u32("clip.vision.projector.scale_factor").unwrap(), 2);
    assert!(mmproj.metadata().bool("clip.use_gelu").unwrap());
    for name in
        ["mm.model.mlp.0.bias", "mm.model.mlp.1.weight", "mm.model.mlp.3.weight", "v.blk.0.ls1.weight"]
    {
        assert!(mmproj.tensor(name).is_some(), "{name}");
    }
    let said = Export::from_file(&path).unwrap().differences.join("\n");
    assert!(said.contains("axes exchanged") && said.contains("in tower and projector"), "{said}");
    config.projector.as_mut().unwrap().shuffle = Shuffle::V2;
    let path = write(&config, &dir.path().join("rows.gguf"), |name| vec![7; n_bytes(&config, name)]);
    assert!(!Export::from_file(&path).unwrap().differences.join("\n").contains("axes exchanged"));
}

#[test]
fn a_tower_that_llama_cpp_would_misread_stays_here() {
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("demo");
    let (demo, out_text) = ("demo/owlet-demo.gguf", out.to_str().unwrap());
    let args = ["export", demo, "--llama-cpp", "-o", out_text];
    let ran = owlet(&args);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let expected = "Only the text half is written: llama.cpp cannot run this vision half, since it concludes from a width of";
    assert!(
        ran.out.starts_with(expected) && ran.out.contains("LayerNorms, and it has others."),
        "{}",
        ran.out
    );
    let names: Vec<_> = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["text-owlet-demo.gguf"]);
    let template = open(&out.join("text-owlet-demo.gguf"));
    let template = template.metadata().str("tokenizer.chat_template").unwrap().to_string();
    assert!(template.contains("\"<human>: \"") && template.contains("\" <bot>:\""), "{template}");
    let again = owlet(&args);
    let exists = format!("owlet: {out_text}/text-owlet-demo.gguf: exists; --force replaces it\n");
    assert_eq!((again.code, again.err), (Some(1), exists));
    owlet(&[&args[..], &["--force"]].concat()).ok();
}

#[test]
fn what_llama_cpp_has_no_use_for_is_refused() {
    let model = model(DType::Q8_0);
    let dir = TempDir::new().unwrap();
    let config =
        ModelConfig { text: None, tokenizer: None, prompt: None, generation: None, ..model.config.clone() };
    let path = write(&config, &dir.path().join("tower.gguf"), |name| {
        model.file.data(model.file.tensor(name).unwrap()).to_vec()
    });
    let ran = owlet(&["export", path.to_str().unwrap(), "--llama-cpp", "-o", dir.path().to_str().unwrap()]);
    let what = "expected a text half, without which llama.cpp runs nothing, found none";
    assert_eq!((ran.code, ran.err), (Some(1), format!("owlet: {}: {what}\n", path.display())));
    let ran = owlet(&["export", path.to_str().unwrap(), "-o", "x"]);
    assert!(ran.code == Some(2) && ran.err.contains("--llama-cpp"), "{}", ran.err);
}

/// A byte that changed on the disk, in a tensor that goes out whole and in each kind of one that is cut.
#[test]
fn a_file_that_rotted_leaves_nothing() {
    let model = model(DType::Q8_0);
    for name in ["blk.0.ffn_up.weight", "v.blk.2.attn_qkv.weight", "v.position_embd.weight", "mm.2.bias"] {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("rotten.gguf");
        let mut bytes = fs::read(&model.path).unwrap();
        bytes[model.file.tensor(name).unwrap().offset as usize + 9] ^= 1;
        fs::write(&path, bytes).unwrap();
        let out = dir.path().join("pair");
        let found =
            Export::from_file(&path).unwrap().run(&out, &mut (), &Cancel::new()).unwrap_err().to_string();
        let expected =
            format!("{}: tensor {name}: expected the bytes that were written, found others", path.display());
        assert_eq!(found, expected);
        assert!(!out.exists(), "{name}");
    }
}
