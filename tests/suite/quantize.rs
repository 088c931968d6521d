//! `owlet quantize`: a file of numbers becomes what the checkpoint would have become, what is quantized stays unless
//! somebody insists, and every type that can be written can be run.

use std::fs;
use std::path::{Path, PathBuf};

use ggml::Cancel;
use owlet_convert::{Options, Plan, TYPE_CHOICES};
use owlet_format::Gguf;

use crate::convert::{Tiny, all_as, convert, names_beside, open};
use crate::program::{Ran, owlet};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn converted(tiny: &Tiny, options: &Options) -> PathBuf {
    let dir = tiny.safetensors();
    let out = dir.with_extension("gguf");
    Plan::from_dir(&dir, options).unwrap().run(&out, &mut (), &Cancel::new()).unwrap();
    out
}

fn assert_same_tensors(found: &Gguf, expected: &Gguf, what: &str) {
    assert_eq!(found.tensors().len(), expected.tensors().len());
    for (a, b) in found.tensors().iter().zip(expected.tensors()) {
        assert_eq!((&a.name, a.dtype), (&b.name, b.dtype), "{what}");
        assert!(found.data(a) == expected.data(b), "{what}: {}", a.name);
    }
    assert_eq!(found.checksums().unwrap(), expected.checksums().unwrap());
}

#[test]
fn it_makes_what_a_conversion_would_have_made() {
    let tiny = Tiny::new();
    let whole = converted(&tiny, &all_as("bf16"));
    let out = whole.with_extension("out");
    for (name, _) in TYPE_CHOICES {
        let args = ["quantize", text(&whole), text(&out), "--type", name, "--vision-type", name];
        owlet(&[&args[..], &["--projector-type", name, "--force", "-q"]].concat()).ok();
        let found = open(fs::read(&out).unwrap());
        let mut expected = all_as(name);
        // the kernel of the patches stays f32: what it would have become is a matter of its source
        expected.n_threads = Some(1);
        let expected = open(convert(&tiny.safetensors(), &expected));
        if name == "f16" {
            let dtype = found.tensor("v.patch_embd.weight").unwrap().dtype.name();
            assert_eq!(dtype, "f32", "{name}");
            continue;
        }
        assert_same_tensors(&found, &expected, name);
        let recipe = found.metadata().strings("owlet.provenance.recipe").unwrap();
        assert!(recipe.iter().any(|line| line.starts_with("then text = ")), "{recipe:?}");
    }
    // what is known of the origin goes along, and the source of it all still is one
    let shards = |file: &Path| {
        Gguf::open(file).unwrap().metadata().strings("owlet.provenance.shards").unwrap().clone()
    };
    assert_eq!(shards(&out), shards(&whole));
    let dir = whole.with_extension("");
    assert!(owlet(&["verify", text(&out), "--against", text(&dir)]).ok().ends_with("all is right\n"));
}

#[test]
fn what_is_quantized_stays_unless_somebody_insists() {
    let tiny = Tiny::new();
    let source = converted(&tiny, &Options::default());
    let out = source.with_extension("out");
    let args = ["quantize", text(&source), text(&out), "--vision-type", "q4_0"];
    let Ran { code, err, .. } = owlet(&args);
    let what = "tensor v.blk.0.attn_qkv.weight: is q8_0 already: quantizing it once more, to q4_0, adds to what was lost; \
                --allow-requantize does so";
    assert_eq!((code, err), (Some(1), format!("owlet: {}: {what}\n", text(&source))));
    assert_eq!(names_beside(&out), ["tiny-chat", "tiny-chat.gguf"]);
    owlet(&[&args[..], &["--allow-requantize"]].concat()).ok();
    let (old, new) = (Gguf::open(&source).unwrap(), Gguf::open(&out).unwrap());
    for (a, b) in old.tensors().iter().zip(new.tensors()) {
        let is_changed = a.name.starts_with("v.") && a.dtype.is_quantized();
        assert_eq!(b.dtype.name(), if is_changed { "q4_0" } else { a.dtype.name() }, "{}", a.name);
        assert!(is_changed || old.data(a) == new.data(b), "{} is copied", a.name);
    }
}

/// What it says of types and bytes is what a run makes, and nothing is written.
#[test]
fn a_dry_run_says_what_would_be_made() {
    let tiny = Tiny::new();
    let source = converted(&tiny, &all_as("bf16"));
    let out = source.with_extension("out");
    let recipe = source.with_file_name("recipe");
    fs::write(&recipe, "blk.1.attn_v = q8_0\n").unwrap();
    let words = [
        "quantize",
        text(&source),
        "--type",
        "q4_k_m",
        "--projector-type",
        "q4_k",
        "--recipe",
        text(&recipe),
    ];
    let shown = owlet(&[&words[..], &["--dry-run"]].concat()).ok();
    assert_eq!(names_beside(&out), ["recipe", "tiny-chat", "tiny-chat.gguf"]);
    owlet(&[&words[..2], &[text(&out), "-q"], &words[2..]].concat()).ok();
    assert_eq!(
        owlet(&[&words[..2], &[text(&out), "--dry-run"], &words[2..]].concat()).ok().lines().count(),
        shown.lines().count()
    );

    let (old, new) = (Gguf::open(&source).unwrap(), Gguf::open(&out).unwrap());
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[0], "tiny-chat: internvl-chat-v1-1 from 1 file of a model");
    let mut totals = std::collections::BTreeMap::new();
    for (line, (before, after)) in lines[2..].iter().zip(old.tensors().iter().zip(new.tensors())) {
        let found: Vec<&str> = line.split_whitespace().collect();
        let at = found.iter().position(|word| *word == "->").unwrap();
        let n_bytes = after.n_bytes.to_string();
        let expected = [before.dtype.name(), "->", after.dtype.name(), &n_bytes];
        assert_eq!((found[0], &found[at - 1..at + 3]), (after.name.as_str(), &expected[..]), "{line}");
        assert_eq!(line.ends_with("  copied"), before.dtype == after.dtype, "{line}");
        let part = match after.name.split('.').next().unwrap() {
            "v" => "vision",
            "mm" => "projector",
            _ => "text",
        };
        *totals.entry(part).or_insert(0) += after.n_bytes;
    }
    let rest = &lines[2 + new.tensors().len()..];
    let all: u64 = totals.values().sum();
    for (line, part, choice, n_bytes) in [
        (rest[1], "vision", " as it is", totals["vision"]),
        (rest[2], "projector", " as q4_k", totals["projector"]),
        (rest[3], "text", " as q4_k_m", totals["text"]),
        (rest[4], "total", " bits a weight", all),
    ] {
        let is_right = line.starts_with(part) && line.ends_with(choice);
        assert!(is_right && line.contains(&format!(" {n_bytes} bytes, ")), "{line}");
    }
    assert_eq!(rest[5], "rule blk.1.attn_v = q8_0");
    let (memory, time) = (rest[rest.len() - 2], rest[rest.len() - 1]);
    assert!(memory.starts_with("memory     at most about ") && memory.ends_with(" MiB"), "{memory}");
    assert!(time.starts_with("time       about ") && time.ends_with(" MB"), "{time}");
    assert_eq!(owlet(&["quantize", text(&source), "--type", "q8_0"]).code, Some(2), "no output");
}

#[test]
fn what_is_wrong_is_one_line() {
    let tiny = Tiny::new();
    let source = converted(&tiny, &all_as("f16"));
    let out = source.with_extension("out");
    assert_eq!(owlet(&["quantize", text(&source), text(&out)]).code, Some(2), "nothing is asked for");
    let ran = owlet(&["quantize", text(&source), text(&source), "--type", "q4_0"]);
    assert_eq!(ran.err, format!("owlet: {}: exists; --force replaces it\n", text(&source)));

    // a source whose bytes changed since it was written must not become a file with sums that are right
    let info = Gguf::open(&source).unwrap().tensor("blk.1.ffn_up.weight").unwrap().clone();
    let mut bytes = fs::read(&source).unwrap();
    bytes[info.offset as usize + 3] ^= 1;
    fs::write(&source, bytes).unwrap();
    let ran = owlet(&["quantize", text(&source), text(&out), "--type", "q4_0"]);
    let what = "tensor blk.1.ffn_up.weight: expected the bytes that were written, found others";
    assert_eq!((ran.code, ran.err), (Some(1), format!("owlet: {}: {what}\n", text(&source))));
    assert_eq!(names_beside(&out), ["tiny-chat", "tiny-chat.gguf"]);
}
