//! `owlet verify`: a sound file passes, and whatever is planted in one is found, named and is exit status 1.

use std::fs;
use std::path::{Path, PathBuf};

use ggml::{Cancel, DType};
use owlet_convert::{Options, Plan};
use owlet_format::{Encoder, Gguf, Metadata, TensorPlan};
use serde_json::{Value, json};

use crate::checkpoint::{Float, Layout};
use crate::convert::{Tiny, all_as, open};
use crate::models::Kind;
use crate::program::{Ran, owlet};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A checkpoint and the file that it becomes.
fn converted(tiny: &Tiny, options: &Options) -> (PathBuf, PathBuf) {
    let dir = tiny.write(Float::BF16, Layout::Safetensors { shards: 2 });
    let out = dir.with_extension("gguf");
    Plan::from_dir(&dir, options).unwrap().run(&out, &mut (), &Cancel::new()).unwrap();
    (dir, out)
}

fn verdict(args: &[&str]) -> (Option<i32>, Value) {
    let ran = owlet(&[&["verify", "--json"], args].concat());
    (ran.code, serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}")))
}

/// The file at `path` anew, with checksums of its own, but tensor `name` as `change` has it.
fn rewrite(path: &Path, name: &str, change: impl Fn(&mut Vec<u8>)) {
    let old = open(fs::read(path).unwrap());
    let plan: Vec<_> = old
        .tensors()
        .iter()
        .map(|info| TensorPlan { name: info.name.clone(), dtype: info.dtype, shape: info.shape })
        .collect();
    let mut metadata = Metadata::new("new.gguf");
    old.metadata().iter().for_each(|(key, value)| metadata.put(key, value.clone()));
    let mut encoder = Encoder::new(std::io::Cursor::new(Vec::new()), &metadata, &plan).unwrap();
    for info in old.tensors() {
        let mut data = old.data(info).to_vec();
        if info.name == name {
            change(&mut data);
        }
        encoder.begin(&info.name).unwrap();
        encoder.write(&data).unwrap();
    }
    fs::write(path, encoder.finish().unwrap().into_inner()).unwrap();
}

#[test]
fn a_sound_file_passes() {
    let tiny = Tiny::new();
    let (dir, out) = converted(&tiny, &Options::default());
    let words = owlet(&["verify", text(&out)]).ok();
    let lines: Vec<&str> = words.lines().collect();
    assert!(lines[0].ends_with(" 70 tensors, 2209568 numbers"), "{words}");
    assert_eq!(
        lines[1..],
        [
            "structure  right",
            "checksums  right",
            "finite     right",
            "self-test  not recorded: `owlet verify --record` does that",
            "all is right"
        ],
        "{words}"
    );
    let words = owlet(&["verify", text(&out), "--against", text(&dir)]).ok();
    let lines: Vec<&str> = words.lines().collect();
    assert_eq!(lines[4], format!("source     {}: the files that it was made of", text(&dir)));
    assert_eq!(lines[5], "distance   right; relative error, the worst first:");
    assert_eq!(lines.len(), 6 + 5 + 2, "{words}");
    assert!(lines[6].starts_with("  ") && lines[6].contains(", at most 0."), "{words}");

    // the built-in model's like, which no conversion made
    let path = crate::models::path(Kind::Random);
    assert!(owlet(&["verify", text(&path)]).ok().ends_with("all is right\n"));
}

/// Every target, with settings and a grid that was interpolated: the comparison sees what the conversion did.
#[test]
fn every_type_is_near_its_source() {
    let mut tiny = Tiny::new();
    tiny.config()["force_image_size"] = 224.into();
    for (name, _) in owlet_convert::TYPE_CHOICES {
        let options = Options { set: vec![("rope_theta".into(), "20000".into())], ..all_as(name) };
        let (dir, out) = converted(&tiny, &options);
        let (code, found) = verdict(&[text(&out), "--against", text(&dir)]);
        assert_eq!((code, &found["ok"]), (Some(0), &json!(true)), "{name}: {found}");
        let tensors = found["against"]["tensors"].as_array().unwrap();
        assert_eq!(tensors.len(), 70);
        for tensor in tensors.iter().filter(|tensor| tensor["type"] == "f32") {
            assert_eq!(tensor["relative_rms"], 0.0, "{name}: {tensor}");
        }
        // these hold the numbers of this checkpoint exactly
        if !["f32", "bf16", "f16"].contains(&name) {
            assert!(tensors.iter().any(|tensor| tensor["relative_rms"].as_f64().unwrap() > 1e-5), "{name}");
        }
    }
}

/// Tensors that are read in several pieces.
#[test]
fn long_tensors_are_compared_row_by_row() {
    let tiny = Tiny::wide(24_000);
    let (dir, out) = converted(&tiny, &all_as("q8_0"));
    let (code, found) = verdict(&[text(&out), "--against", text(&dir)]);
    assert_eq!((code, &found["ok"]), (Some(0), &json!(true)), "{found}");
}

#[test]
fn a_flipped_bit_is_found() {
    let tiny = Tiny::new();
    let (_, out) = converted(&tiny, &Options::default());
    let file = Gguf::open(&out).unwrap();
    let names = ["v.blk.1.ffn_up.weight", "output_norm.weight"];
    let mut bytes = fs::read(&out).unwrap();
    for name in names {
        let info = file.tensor(name).unwrap();
        bytes[(info.offset + info.n_bytes - 1) as usize] ^= 0x01;
    }
    let damaged = out.with_extension("damaged");
    fs::write(&damaged, bytes).unwrap();
    let Ran { code, out: words, err } = owlet(&["verify", text(&damaged)]);
    assert!(code == Some(1) && err.is_empty(), "{err}");
    assert!(words.contains("checksums  2 tensors are wrong\n"), "{words}");
    for name in names {
        assert!(words.contains(&format!("\n  {name}: not the bytes that were written\n")), "{words}");
    }
    assert!(words.ends_with("not all is right\n"), "{words}");
    let (code, found) = verdict(&[text(&damaged)]);
    assert_eq!((code, &found["ok"], &found["damaged"]), (Some(1), &json!(false), &json!(names)));
}

/// A scale that is no number makes numbers of a whole block that are none, whatever the block's type.
#[test]
fn numbers_that_are_none_are_found() {
    let tiny = Tiny::new();
    let cases = [
        ("f32", DType::F32, 4, 1),
        ("f16", DType::F16, 2, 1),
        ("bf16", DType::BF16, 2, 1),
        ("q8_0", DType::Q8_0, 34, 32),
        ("q4_0", DType::Q4_0, 18, 32),
        ("q5_1", DType::Q5_1, 24, 32),
        ("q4_k", DType::Q4_K, 144, 256),
        ("q6_k", DType::Q6_K, 210, 256),
    ];
    for (choice, dtype, block_bytes, n) in cases {
        let (_, out) = converted(&tiny, &all_as(choice));
        let name = if dtype == DType::Q6_K { "output.weight" } else { "blk.1.ffn_up.weight" };
        let info = Gguf::open(&out).unwrap().tensor(name).unwrap().clone();
        assert_eq!(info.dtype, dtype);
        let row = 2 * info.n_bytes as usize / info.shape.n_rows() as usize;
        // the half of q6_k's scale stands at the end of the block, all others' at its beginning
        let at = if dtype == DType::Q6_K { row + block_bytes - 2 } else { row };
        rewrite(&out, name, |data| match dtype {
            DType::F32 => data[at..at + 4].copy_from_slice(&f32::INFINITY.to_le_bytes()),
            DType::BF16 => data[at..at + 2].copy_from_slice(&[0xc0, 0x7f]),
            _ => data[at..at + 2].copy_from_slice(&[0x00, 0x7e]),
        });
        let (code, found) = verdict(&[text(&out)]);
        assert_eq!(code, Some(1), "{choice}: {found}");
        assert_eq!(found["damaged"], json!([]), "{choice}");
        assert_eq!(found["not_finite"], json!([{"tensor": name, "n": n, "row": 2}]), "{choice}");
    }
}

/// Bytes that are as they were written, but not what the checkpoint says.
#[test]
fn what_was_mixed_up_is_far_from_its_source() {
    let tiny = Tiny::new();
    let (dir, sound) = converted(&tiny, &Options::default());
    let row_bytes = |file: &Gguf, name: &str| {
        let info = file.tensor(name).unwrap();
        (info.n_bytes / info.shape.n_rows()) as usize
    };
    let file = Gguf::open(&sound).unwrap();
    type Change<'a> = &'a dyn Fn(&mut Vec<u8>);
    let swap = |name: &str| row_bytes(&file, name);
    let (q, ffn) = (swap("blk.0.attn_q.weight"), swap("v.blk.0.ffn_up.weight"));
    let cases: &[(&str, Change)] = &[
        ("blk.0.attn_q.weight", &|data| {
            let (first, second) = data.split_at_mut(q);
            first.swap_with_slice(&mut second[..q]);
        }),
        ("v.blk.0.ffn_up.weight", &|data| data.rotate_left(ffn)),
        ("blk.1.attn_norm.weight", &|data| data[..4].copy_from_slice(&2.0f32.to_le_bytes())),
        ("mm.3.bias", &|data| data.fill(0)),
    ];
    for (name, change) in cases {
        let out = sound.with_extension("changed");
        fs::copy(&sound, &out).unwrap();
        rewrite(&out, name, change);
        let (code, _) = verdict(&[text(&out)]);
        assert_eq!(code, Some(0), "{name}: by itself the file is sound");
        let (code, found) = verdict(&[text(&out), "--against", text(&dir)]);
        assert_eq!(code, Some(1), "{name}: {found}");
        let far: Vec<&str> = found["against"]["tensors"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|tensor| tensor["relative_rms"].as_f64().unwrap() > tensor["bound"].as_f64().unwrap())
            .map(|tensor| tensor["tensor"].as_str().unwrap())
            .collect();
        assert_eq!(far, [*name]);
        let words = owlet(&["verify", text(&out), "--against", text(&dir)]).out;
        assert!(
            words.contains("distance   1 tensor is wrong; relative error, the worst first:\n  "),
            "{words}"
        );
        assert!(words.lines().nth(6).unwrap().trim_start().starts_with(name), "{words}");
    }
}

#[test]
fn another_source_is_told_apart() {
    let mut tiny = Tiny::new();
    let (_, out) = converted(&tiny, &Options::default());
    // the same weights in other files
    let torch = tiny.write(Float::BF16, Layout::Torch { shards: 1 });
    let (code, found) = verdict(&[text(&out), "--against", text(&torch)]);
    assert_eq!((code, &found["against"]["same_files"]), (Some(0), &json!(false)));
    tiny.config()["llm_config"]["rope_theta"] = json!(5e5);
    let other = tiny.safetensors();
    let ran = owlet(&["verify", text(&out), "--against", text(&other)]);
    let what = format!("key llama.rope.freq_base: expected what {} says, found something else", text(&other));
    assert_eq!((ran.code, ran.err), (Some(1), format!("owlet: {}: {what}\n", text(&out))));
}

#[test]
fn a_wrong_structure_is_one_line() {
    let tiny = Tiny::new();
    let (_, out) = converted(&tiny, &Options::default());
    let whole = fs::read(&out).unwrap();
    let cut = out.with_extension("cut");
    fs::write(&cut, &whole[..whole.len() - 4096]).unwrap();
    let ran = owlet(&["verify", text(&cut)]);
    assert!(ran.code == Some(1) && ran.out.is_empty(), "{ran:?}");
    assert!(ran.err.starts_with(&format!("owlet: {}: tensor ", text(&cut))), "{ran:?}");
    assert!(
        ran.err.contains("expected to end inside of the file's") && ran.err.lines().count() == 1,
        "{ran:?}"
    );
    assert_eq!(owlet(&["verify", text(&out), "--threads", "0"]).code, Some(2));
}
