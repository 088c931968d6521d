//! A pair in: the model file is the one that the checkpoint becomes, byte for byte, and what the pair does not say is said.

use std::fs;

use ggml::quantize::{dequantize, quantize_rows};
use ggml::{Cancel, DType};
use owlet_convert::{Pair, PairOptions, Progress, RequantizeOptions, TypeChoice};
use owlet_format::{Gguf, ModelConfig};
use tempfile::TempDir;

use super::pairs::{MODELS, TIMES, Time, TinyPair, model};
use super::{assert_same_tensors, facts};
use crate::program::owlet;

#[test]
fn pairs_of_both_times_become_what_the_checkpoint_becomes() {
    for (dtype, model) in MODELS.iter() {
        for time in TIMES {
            let packed = TinyPair::of(model, time).packed(&PairOptions::default());
            let what = format!("{time:?} in {dtype}");
            assert_same_tensors(&packed, &model.file, &what);
            assert!(facts(&packed) == facts(&model.file), "{what}: other facts");
        }
    }
}

#[test]
fn the_file_says_what_the_pair_did_not() {
    let assumed = |time| {
        let packed = TinyPair::of(model(DType::F32), time).packed(&PairOptions::default());
        let provenance = ModelConfig::read(&packed).unwrap().provenance;
        assert_eq!(provenance.source, "text.gguf, mmproj.gguf");
        let names: Vec<_> = provenance.shards.iter().map(|line| line.split_once("  ").unwrap().1).collect();
        assert_eq!(names, ["text.gguf", "mmproj.gguf"]);
        provenance.assumed.iter().map(str::to_string).collect::<Vec<_>>()
    };
    let (old, new) = (assumed(Time::Old), assumed(Time::New));
    for line in [
        "owlet.prompt.template = vicuna_v1, as llava-1.5 has it",
        "owlet.tokenizer.legacy = false, as llava-1.5 has it",
        "owlet.vision.norm = layer, as llava-1.5 has it",
        "owlet.image.fit = pad, as llava-1.5 has it",
        "owlet.image.pad_rgb = [122, 116, 104], as llava-1.5 has it",
        "owlet.projector.kind = mlp2x_gelu, as llava-1.5 has it",
    ] {
        assert!(old.iter().chain(&new).filter(|found| *found == line).count() == 2, "{line}\n{old:#?}");
    }
    let of_llama_cpp =
        |lines: &[String]| lines.iter().filter(|line| line.ends_with("llama.cpp takes it")).count();
    assert_eq!((of_llama_cpp(&old), of_llama_cpp(&new)), (8, 0));
    assert!(old.contains(&"llama.rope.freq_base = 10000, as llama.cpp takes it".to_string()), "{old:#?}");
}

/// Old converters and quantizers stored the positions like any matrix; a model file has them in f32.
#[test]
fn positions_in_another_type_become_the_numbers_that_they_stand_for() {
    const NAME: &str = "v.position_embd.weight";
    let model = model(DType::F32);
    let info = model.file.tensor(NAME).unwrap();
    let values: Vec<f32> =
        model.file.data(info).as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect();
    let n_embd = info.shape.dims()[0] as usize;
    for dtype in [DType::F16, DType::Q4_0] {
        let mut pair = TinyPair::of(model, Time::Old);
        let mut bytes = vec![0; info.shape.n_bytes(dtype).unwrap() as usize];
        quantize_rows(dtype, &values, n_embd, None, &mut bytes).unwrap();
        let mut expected = vec![0.0; values.len()];
        dequantize(dtype, &bytes, &mut expected).unwrap();
        assert_ne!(expected, values);
        let tensor = pair.mmproj.tensor(NAME);
        (tensor.dtype, tensor.bytes) = (dtype, bytes);
        let packed = pair.packed(&PairOptions::default());
        let found = packed.tensor(NAME).unwrap();
        let expected: Vec<u8> = expected.iter().flat_map(|x| x.to_le_bytes()).collect();
        assert!(found.dtype == DType::F32 && packed.data(found) == expected, "{dtype}");
    }
}

/// All of a CLIP ViT-L/14 is in the file, and nothing says where to read it out: one block before its end, as the family does.
#[test]
fn a_tower_of_all_its_blocks_is_read_out_before_its_end() {
    let mut pair = TinyPair::of(model(DType::F32), Time::Old);
    let block: Vec<_> =
        pair.mmproj.tensors.iter().filter(|t| t.name.starts_with("v.blk.2.")).cloned().collect();
    for il in 3..24 {
        for mut tensor in block.clone() {
            tensor.name = tensor.name.replace("v.blk.2.", &format!("v.blk.{il}."));
            pair.mmproj.tensors.push(tensor);
        }
    }
    pair.mmproj.put("clip.vision.block_count", 24u32);
    let vision = ModelConfig::read(&pair.packed(&PairOptions::default())).unwrap().vision.unwrap();
    assert_eq!((vision.n_layer, vision.source_n_layer), (23, 24));
}

#[test]
fn types_that_are_asked_for_are_what_quantize_makes() {
    let model = model(DType::F16);
    let pair = TinyPair::of(model, Time::Old);
    let dir = TempDir::new().unwrap();
    let (text, mmproj) = pair.write(dir.path());
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let (packed, quantized) = (path("packed.gguf"), path("quantized.gguf"));
    let types = ["--type", "q8_0", "--vision-type", "q5_1", "-q"];
    let (text, mmproj) = (text.to_str().unwrap(), mmproj.to_str().unwrap());
    let args = ["convert", "--text", text, "--mmproj", mmproj, "--family", "llava-1.5", "-o", &packed];
    owlet(&[&args[..], &types].concat()).ok();
    let args = ["quantize", model.path.to_str().unwrap(), &quantized, "--projector-type", "q5_1"];
    owlet(&[&args[..], &types].concat()).ok();
    let open = |path: &str| Gguf::from_bytes(fs::read(path).unwrap().into(), path).unwrap();
    assert_same_tensors(&open(&packed), &open(&quantized), "q8_0 and q5_1");
    let recipe: Vec<String> =
        ModelConfig::read(&open(&packed)).unwrap().provenance.recipe.iter().map(str::to_string).collect();
    assert_eq!(recipe, ["text = q8_0", "vision = q5_1", "projector = q5_1"]);
}

#[test]
fn what_is_quantized_is_not_quantized_again() {
    let pair = TinyPair::of(model(DType::Q8_0), Time::New);
    let types = RequantizeOptions { text: Some(TypeChoice::Plain(DType::Q4_0)), ..Default::default() };
    let found = pair.refusal_with(&PairOptions { types, ..Default::default() });
    let expected = "text.gguf: tensor token_embd.weight: is q8_0 already: quantizing it once more, to q4_0, adds to what \
                    was lost; convert without a type, then use owlet quantize --allow-requantize";
    assert_eq!(found, expected);
}

/// As llama.cpp passes over it.
#[test]
fn a_padding_token_that_is_none_is_left_out() {
    let mut pair = TinyPair::of(model(DType::F32), Time::Old);
    pair.text.put("tokenizer.ggml.padding_token_id", 640u32);
    let config = ModelConfig::read(&pair.packed(&PairOptions::default())).unwrap();
    assert_eq!(config.tokenizer.unwrap().pad_id, None);
}

#[test]
fn facts_can_be_set() {
    let pair = TinyPair::of(model(DType::F32), Time::New);
    let set = |key: &str, value: &str| (key.to_string(), value.to_string());
    let options = PairOptions {
        name: Some("other".into()),
        set: vec![set("legacy", "true"), set("system", "Be brief.")],
        ..Default::default()
    };
    let config = ModelConfig::read(&pair.packed(&options)).unwrap();
    let (tokenizer, prompt) = (config.tokenizer.unwrap(), config.prompt.unwrap());
    assert_eq!(
        (config.name.as_str(), tokenizer.legacy, prompt.system.as_str()),
        ("other", true, "Be brief.")
    );
    for (key, value, expected) in [
        ("legacy", "maybe", "--set legacy: expected true or false, found maybe"),
        ("rope_theta", "1", "--set rope_theta: expected system or legacy, all else is in a pair"),
    ] {
        let options = PairOptions { set: vec![set(key, value)], ..Default::default() };
        assert_eq!(pair.refusal_with(&options), expected);
    }
}

/// The program: what it says of a pair before and while it packs it, and that a split text half is one.
#[test]
fn the_door_tells_where_facts_are_from() {
    let dir = TempDir::new().unwrap();
    let mut pair = TinyPair::of(model(DType::F32), Time::Old);
    pair.text.put("tokenizer.chat_template", "{{ messages }}");
    let (text, mmproj) = pair.write(dir.path());
    let out = dir.path().join("out.gguf");
    let (text, mmproj, out) = (text.to_str().unwrap(), mmproj.to_str().unwrap(), out.to_str().unwrap());
    let args = ["convert", "--text", text, "--mmproj", mmproj, "--family", "llava-1.5"];
    let planned = owlet(&[&args[..], &["--dry-run"]].concat()).ok();
    for line in [
        format!("tiny: llava-1.5 from {text} and {mmproj}"),
        format!("llama.embedding_length = 256, from {text}"),
        format!("clip.vision.projection_dim = 256, from {mmproj}: tensor mm.2.weight"),
        format!("owlet.vision.act = quick_gelu, from {mmproj}: clip.use_gelu"),
        "owlet.vision.pre_norm = true, as llava-1.5 has it".to_string(),
        format!(
            "note: {mmproj}: ffn_up and ffn_down have each other's names, as old converters wrote them: read as meant"
        ),
        format!("note: {text}: key tokenizer.chat_template is not read: llava-1.5 has vicuna_v1"),
    ] {
        assert!(planned.lines().any(|found| found == line), "no line {line}\n{planned}");
    }
    assert!(planned.contains("from v.blk.0.attn_q.weight, v.blk.0.attn_k.weight, v.blk.0.attn_v.weight"));
    let ran = owlet(&[&args[..], &["-o", out]].concat());
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""), "{ran:?}");
    assert!(ran.err.contains("assumed owlet.image.fit = pad, as llava-1.5 has it\n"), "{}", ran.err);
    assert!(!ran.err.contains("assumed llama.embedding_length"), "{}", ran.err);
    owlet(&["verify", out]).ok();
}

/// Cancels behind so many chunks.
struct Impatient {
    n_left: usize,
    cancel: Cancel,
}

impl Progress for Impatient {
    fn start(&mut self, _: u64) {}

    fn advance(&mut self, _: &str, _: u64) {
        match self.n_left.checked_sub(1) {
            Some(n_left) => self.n_left = n_left,
            None => self.cancel.cancel(),
        }
    }
}

/// What `run` yields when nobody else has the journal: a program that another test starts just now inherits the lock for as
/// long as it takes to start.
fn alone<T>(mut run: impl FnMut() -> owlet_convert::Result<T>) -> owlet_convert::Result<T> {
    loop {
        match run() {
            Err(error) if error.to_string().contains("another run is writing") => std::thread::yield_now(),
            done => return done,
        }
    }
}

/// Stopped behind every chunk, so also between the pieces that q, k and v are put together from.
#[test]
fn an_interrupted_run_goes_on() {
    let pair = TinyPair::of(model(DType::F16), Time::Old);
    let dir = TempDir::new().unwrap();
    let (text, mmproj) = pair.write(dir.path());
    let pair = Pair::from_files(&text, &mmproj, &PairOptions::default()).unwrap();
    let whole = dir.path().join("whole.gguf");
    pair.run(&whole, &mut (), &Cancel::new()).unwrap();
    let expected = fs::read(&whole).unwrap();
    let out = dir.path().join("out.gguf");
    let mut n_stopped = 0;
    for n_left in 0.. {
        let cancel = Cancel::new();
        let mut impatient = Impatient { n_left, cancel: cancel.clone() };
        match alone(|| pair.run(&out, &mut impatient, &cancel)) {
            Ok(_) => break,
            Err(error) => assert!(matches!(error, owlet_convert::Error::Cancelled), "{error}"),
        }
        n_stopped += 1;
        assert!(!out.exists());
        alone(|| pair.run(&out, &mut (), &Cancel::new())).unwrap();
        assert!(fs::read(&out).unwrap() == expected, "stopped behind {n_left} chunks");
        fs::remove_file(&out).unwrap();
    }
    assert!(n_stopped > 60, "stopped {n_stopped} times");
}
