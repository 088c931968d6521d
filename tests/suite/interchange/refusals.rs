//! Pairs that are none: each is refused in one line with file, key or tensor, what was expected and what was found, and
//! leaves nothing behind. And thousands of small changes to good ones.

use std::fs;
use std::time::{Duration, Instant};

use ggml::DType;
use owlet_convert::{Pair, PairOptions};
use owlet_format::{Gguf, Value};
use tempfile::TempDir;

use super::pairs::{TIMES, Time, TinyPair, model};
use crate::program::owlet;

/// What is bent, and the line about it.
type Case = (&'static str, fn(&mut TinyPair), &'static str);

const TEXT: &[Case] = &[
    (
        "files exchanged",
        |pair| std::mem::swap(&mut pair.text, &mut pair.mmproj),
        "text.gguf: key general.architecture: expected llama, the text half, found clip: this is the mmproj",
    ),
    (
        "another architecture",
        |pair| pair.text.put("general.architecture", "qwen2"),
        "text.gguf: key general.architecture: expected llama, the text half, found qwen2",
    ),
    (
        "another vocabulary",
        |pair| pair.text.put("tokenizer.ggml.model", "gpt2"),
        "text.gguf: key tokenizer.ggml.model: expected llama (SentencePiece BPE), found gpt2",
    ),
    (
        "no scores",
        |pair| pair.text.drop("tokenizer.ggml.scores"),
        "text.gguf: key tokenizer.ggml.scores: expected array of f32, found no such key",
    ),
    (
        "no heads",
        |pair| pair.text.drop("llama.attention.head_count"),
        "text.gguf: key llama.attention.head_count: expected a whole number, found no such key",
    ),
    (
        "a number that is text",
        |pair| pair.text.put("llama.block_count", "two"),
        "text.gguf: key llama.block_count: expected a whole number of 32 bits, found two",
    ),
    (
        "heads that don't divide",
        |pair| pair.text.put("llama.attention.head_count", 7u32),
        "text.gguf: key llama.attention.head_count: expected a divisor of n_embd 256, found 7",
    ),
    (
        "scaled positions",
        |pair| pair.text.put("llama.rope.scaling.type", "linear"),
        "text.gguf: key llama.rope.scaling.type: expected none, found linear",
    ),
    (
        "positions scaled the old way",
        |pair| pair.text.put("llama.rope.scale_linear", 4.0f32),
        "text.gguf: key llama.rope.scale_linear: expected 1, found 4",
    ),
    (
        "experts",
        |pair| pair.text.put("llama.expert_count", 8u32),
        "text.gguf: key llama.expert_count: expected 0, found 8",
    ),
    (
        "a trait nobody knows",
        |pair| pair.text.put("llama.attention.sinks", 4u32),
        "text.gguf: key llama.attention.sinks: expected no such key, which may change what is computed, found 4",
    ),
    (
        "a tensor too many",
        |pair| {
            let norm = pair.text.tensor("output_norm.weight").clone();
            pair.text.add(&norm, "rope_freqs.weight");
        },
        "text.gguf: tensor rope_freqs.weight: expected no such tensor, found ne [256]",
    ),
    (
        "a tensor too few",
        |pair| pair.text.tensors.retain(|tensor| tensor.name != "blk.1.ffn_up.weight"),
        "text.gguf: tensor blk.1.ffn_up.weight: expected ne [256, 512], found no such tensor",
    ),
    (
        "a type of activations",
        |pair| as_type(pair.text.tensor("blk.0.attn_v.weight"), DType::Q8_1),
        "text.gguf: tensor blk.0.attn_v.weight: expected a float or a quantized type for weights, found q8_1",
    ),
];

const MMPROJ: &[Case] = &[
    (
        "a text half twice",
        |pair| pair.mmproj = pair.text.clone(),
        "mmproj.gguf: key general.architecture: expected clip, the vision half, found llama",
    ),
    (
        "another projector",
        |pair| pair.mmproj.put("clip.projector_type", "ldp"),
        "mmproj.gguf: key clip.projector_type: expected mlp, found ldp",
    ),
    (
        "no projector",
        |pair| {
            pair.mmproj.drop("clip.has_llava_projector");
            pair.mmproj.drop("clip.projector_type");
        },
        "mmproj.gguf: key clip.projector_type: expected mlp, found no such key",
    ),
    (
        "LLaVA-1.6",
        |pair| pair.mmproj.put("clip.vision.mm_patch_merge_type", "spatial_unpad"),
        "mmproj.gguf: key clip.vision.mm_patch_merge_type: expected flat, found spatial_unpad",
    ),
    (
        "tiles",
        |pair| pair.mmproj.put("clip.vision.image_grid_pinpoints", vec![336i32, 672]),
        "mmproj.gguf: key clip.vision.image_grid_pinpoints: expected no such key, which may change what is computed, found \
         [336, 672]",
    ),
    (
        "another activation",
        |pair| pair.mmproj.put("clip.use_gelu", true),
        "mmproj.gguf: key clip.use_gelu: expected false, which stands for the quick GELU, found true",
    ),
    (
        "two layers read out",
        |pair| pair.mmproj.put("clip.vision.feature_layer", vec![1i32, 3]),
        "mmproj.gguf: key clip.vision.feature_layer: expected one layer of 1 to 3, found [1, 3]",
    ),
    (
        "a layer that is not there",
        |pair| pair.mmproj.put("clip.vision.feature_layer", vec![-2i32]),
        "mmproj.gguf: key clip.vision.feature_layer: expected one layer of 1 to 3, found [-2]",
    ),
    (
        "blocks that are not there",
        |pair| pair.mmproj.put("clip.vision.block_count", 5u32),
        "mmproj.gguf: tensor v.blk.3.ln1.weight: expected ne [96], found no such tensor",
    ),
    (
        "a block too many",
        |pair| pair.mmproj.put("clip.vision.block_count", 2u32),
        "mmproj.gguf: tensor v.blk.2.ln1.weight: expected no such tensor, found ne [96]",
    ),
    (
        "no way to tell up from down",
        |pair| pair.mmproj.put("clip.vision.feed_forward_length", 96u32),
        "mmproj.gguf: key clip.vision.feed_forward_length: expected another number than the embedding's 96, to tell ffn_up \
         from ffn_down",
    ),
    (
        "mean of two",
        |pair| pair.mmproj.put("clip.vision.image_mean", vec![0.5f32, 0.5]),
        "mmproj.gguf: key owlet.image.mean: expected 3 items, red green blue, found 2",
    ),
    (
        "deviation of zero",
        |pair| pair.mmproj.put("clip.vision.image_std", vec![0.0f32; 3]),
        "mmproj.gguf: key owlet.image.std: expected 0.0001 to 10000, found 0",
    ),
    (
        "another text half's projector",
        |pair| {
            for name in ["mm.2.weight", "mm.2.bias"] {
                let tensor = pair.mmproj.tensor(name);
                *tensor.ne.last_mut().unwrap() /= 2;
                tensor.bytes.truncate(tensor.bytes.len() / 2);
            }
        },
        "mmproj.gguf: tensor mm.2.weight: expected 256 rows, the embedding of text.gguf, found 128: the two files are of \
         different models",
    ),
    (
        "no projector's matrix",
        |pair| pair.mmproj.tensors.retain(|tensor| tensor.name != "mm.2.weight"),
        "mmproj.gguf: tensor mm.2.weight: expected such a tensor, found none",
    ),
    (
        "a tensor of the text half",
        |pair| {
            let norm = pair.text.tensor("output_norm.weight").clone();
            pair.mmproj.add(&norm, "output_norm.weight");
        },
        "mmproj.gguf: tensor output_norm.weight: expected no such tensor, found ne [256]",
    ),
    (
        "a newline of LLaVA-1.6",
        |pair| {
            let bias = pair.mmproj.tensor("mm.2.bias").clone();
            pair.mmproj.add(&bias, "model.image_newline");
        },
        "mmproj.gguf: tensor model.image_newline: expected no such tensor, found ne [256]",
    ),
    (
        "k unlike q",
        |pair| as_type(pair.mmproj.tensor("v.blk.1.attn_k.weight"), DType::Q4_0),
        "mmproj.gguf: tensor v.blk.1.attn_k.weight: expected f32 as v.blk.1.attn_q.weight has it, found q4_0: a model file \
         has them in one tensor",
    ),
    (
        "an owlet file of another family",
        |pair| pair.mmproj.put("owlet.family", "internvl-chat-v1-1"),
        "mmproj.gguf: key owlet.family: expected llava-1.5, found internvl-chat-v1-1",
    ),
    (
        "a class token elsewhere",
        |pair| pair.mmproj.put("owlet.llama_cpp.class_token", "first"),
        "mmproj.gguf: key owlet.llama_cpp.class_token: expected last, found first",
    ),
    (
        "a key that steers terminals",
        |pair| pair.mmproj.put("clip.\u{1b}[2J", 1u32),
        "mmproj.gguf: key clip.\\u{1b}[2J: expected no such key, which may change what is computed, found 1",
    ),
];

/// Blocks of zeros in another type.
fn as_type(tensor: &mut super::gguf::Tensor, dtype: DType) {
    let n_rows: u64 = tensor.ne[1..].iter().product();
    tensor.bytes = vec![0; (dtype.row_bytes(tensor.ne[0]).unwrap() * n_rows) as usize];
    tensor.dtype = dtype;
}

#[test]
fn what_is_wrong_is_named() {
    for (what, bend, expected) in TEXT.iter().chain(MMPROJ) {
        let mut pair = TinyPair::of(model(DType::F32), Time::Old);
        bend(&mut pair);
        assert_eq!(pair.refusal(), *expected, "{what}");
    }
}

#[test]
fn a_number_that_is_none_is_found_while_it_is_unpacked() {
    let mut pair = TinyPair::of(model(DType::F16), Time::Old);
    let tensor = pair.mmproj.tensor("v.position_embd.weight");
    (tensor.dtype, tensor.bytes) = (DType::F16, [0x00, 0x7e].repeat(tensor.bytes.len() / 4));
    let dir = TempDir::new().unwrap();
    let (text, mmproj) = pair.write(dir.path());
    let out = dir.path().join("out.gguf");
    let (text, mmproj) = (text.to_str().unwrap(), mmproj.to_str().unwrap());
    let args = [
        "convert",
        "--text",
        text,
        "--mmproj",
        mmproj,
        "--family",
        "llava-1.5",
        "-o",
        out.to_str().unwrap(),
        "-q",
    ];
    let ran = owlet(&args);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{ran:?}");
    let place = format!("owlet: {mmproj}: tensor v.position_embd.weight: row 0: as f32");
    assert!(ran.err.starts_with(&place) && ran.err.lines().count() == 1, "{}", ran.err);
    let left = |file: &str| dir.path().join(file).exists();
    assert!(!left("out.gguf") && !left("out.gguf.part") && !left("out.gguf.part.journal"));
}

#[test]
fn flags_come_together() {
    for (args, expected) in [
        (&["--text", "a.gguf", "-o", "b"][..], "--mmproj <FILE>"),
        (&["--text", "a.gguf", "--mmproj", "b.gguf", "-o", "c"], "--family <FAMILY>"),
        (&["dir", "--text", "a", "--mmproj", "b", "--family", "llava-1.5", "-o", "c"], "cannot be used with"),
        (&["--text", "a", "--mmproj", "b", "--family", "internvl", "-o", "c"], "possible values: llava-1.5"),
        (&["-o", "c"], "<DIR>"),
    ] {
        let ran = owlet(&[&["convert"], args].concat());
        assert!(ran.code == Some(2) && ran.err.contains(expected), "{args:?}\n{}", ran.err);
    }
}

/// A header that lies is an error of one line, at once, whichever of the two files it is in.
#[test]
fn changed_pairs_are_read_or_refused() {
    let dir = TempDir::new().unwrap();
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    let (mut n_read, mut n_refused) = (0, 0);
    for time in TIMES {
        let pair = TinyPair::of(model(DType::Q8_0), time);
        let (text, mmproj) = pair.write(dir.path());
        for (path, good) in [(&text, pair.text.bytes()), (&mmproj, pair.mmproj.bytes())] {
            let header = Gguf::from_bytes(good.clone().into(), "good").unwrap().tensors()[0].offset as usize;
            for n in 0..300 {
                let mut bytes = good.clone();
                for _ in 0..=random(3) {
                    let at = random(header);
                    bytes[at] = match random(3) {
                        0 => bytes[at] ^ 1 << random(8),
                        1 => 0xff,
                        _ => random(256) as u8,
                    };
                }
                if n % 10 == 0 {
                    bytes.truncate(random(good.len()));
                }
                fs::write(path, &bytes).unwrap();
                let start = Instant::now();
                match Pair::from_files(&text, &mmproj, &PairOptions::default()) {
                    Ok(_) => n_read += 1,
                    Err(error) => {
                        let line = error.to_string();
                        assert!(!line.contains(char::is_control), "{line:?}");
                        n_refused += 1;
                    }
                }
                assert!(start.elapsed() < Duration::from_secs(2), "change {n} takes too long");
            }
            fs::write(path, &good).unwrap();
        }
    }
    println!("{n_read} read, {n_refused} refused");
    assert!(n_read > 30 && n_refused > 800, "{n_read} read, {n_refused} refused");
}

/// Numbers in any of the types that converters have used.
#[test]
fn a_number_may_be_of_any_type() {
    let mut pair = TinyPair::of(model(DType::F32), Time::New);
    pair.text.put("tokenizer.ggml.bos_token_id", Value::I32(1));
    pair.mmproj.put("clip.vision.image_size", Value::U64(pair_px()));
    let packed = pair.packed(&PairOptions::default());
    assert!(super::facts(&packed) == super::facts(&model(DType::F32).file), "other facts");
}

fn pair_px() -> u64 {
    model(DType::F32).config.vision.as_ref().unwrap().image_px.into()
}
