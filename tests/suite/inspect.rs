//! `owlet inspect`: tables for people, JSON for programs, any GGUF.

use std::process::Stdio;

use ggml::DType;
use owlet_format::{Encoder, Metadata, Shape, TensorPlan};
use serde_json::{Value, json};

use crate::models::{Kind, path};
use crate::program::{command, owlet};

#[test]
fn tables_name_everything_and_cut_what_is_long() {
    let path = path(Kind::Story);
    let out = owlet(&["inspect", path.to_str().unwrap()]).ok();
    let line = |start: &str| {
        out.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {out}"))
    };
    assert_eq!(line("model "), "model story, family internvl-chat-v1-1");
    assert!(line(&path.display().to_string()).contains(" kB, GGUF version 3, alignment 64"), "{out}");
    assert!(line("  text ").contains(" f32 "), "{out}");
    assert!(line("  general.architecture").ends_with("\"owlet\""), "{out}");
    assert!(
        line("  tokenizer.ggml.tokens")
            .ends_with("[274 string] \"<unk>\", \"<s>\", \"</s>\", \"<0x00>\", \"<0x01>\", \"<0x02>\", …"),
        "{out}"
    );
    let tensor: Vec<_> = line("  v.blk.1.attn_qkv.weight").split_whitespace().collect();
    assert_eq!(tensor[1..], ["f32", "[32,", "96]", "12.29", "kB"]);
}

#[test]
fn json_has_whole_arrays() {
    let path = path(Kind::Story);
    let out = owlet(&["inspect", "--json", path.to_str().unwrap()]).ok();
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["model"], &report["problem"]), (&json!("story"), &Value::Null));
    assert_eq!(report["metadata"]["tokenizer.ggml.tokens"].as_array().unwrap().len(), 274);
    assert_eq!(report["metadata"]["llama.context_length"], 2048);
    let n_bytes: u64 =
        report["tensors"].as_array().unwrap().iter().map(|t| t["n_bytes"].as_u64().unwrap()).sum();
    let sizes: u64 = report["sizes"].as_array().unwrap().iter().map(|t| t["n_bytes"].as_u64().unwrap()).sum();
    assert_eq!(n_bytes, sizes);
    let norm =
        report["tensors"].as_array().unwrap().iter().find(|t| t["name"] == "output_norm.weight").unwrap();
    assert_eq!((&norm["ne"], &norm["dtype"], &norm["n_bytes"]), (&json!([64]), &json!("f32"), &json!(256)));
}

/// A file of another program is shown, too, and its text steers no terminal.
#[test]
fn another_programs_file() {
    let mut metadata = Metadata::new("other.gguf");
    metadata.put("general.architecture", "llama");
    metadata.put("general.name", "\u{1b}[2Jgone");
    let plan = [TensorPlan {
        name: "token_embd.weight".into(),
        dtype: DType::F32,
        shape: Shape::new(&[4, 2]).unwrap(),
    }];
    let mut encoder = Encoder::new(std::io::Cursor::new(Vec::new()), &metadata, &plan).unwrap();
    encoder.begin("token_embd.weight").unwrap();
    encoder.write(&[0; 32]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("other.gguf");
    std::fs::write(&path, encoder.finish().unwrap().into_inner()).unwrap();
    let path = path.to_str().unwrap();

    let out = owlet(&["inspect", path]).ok();
    assert!(out.contains(&format!("\nnot a model that owlet runs: {path}: ")), "{out}");
    assert!(
        out.contains("general.name") && out.contains("\"\\u{1b}[2Jgone\"") && !out.contains('\u{1b}'),
        "{out}"
    );
    let report: Value = serde_json::from_str(&owlet(&["inspect", "--json", path]).ok()).unwrap();
    assert!(report["model"].is_null() && report["problem"].as_str().unwrap().contains("llama"), "{report}");
    assert_eq!(report["metadata"]["general.name"], "\u{1b}[2Jgone");
}

#[test]
fn a_closed_pipe_is_no_error() {
    let path = path(Kind::Random);
    let mut child = command(&["inspect", "--json", path.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}
