//! The real program: what `owlet convert` prints, how it ends, what it leaves, and how much memory it takes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use owlet_convert::{Options, TYPE_CHOICES};
use owlet_format::ModelConfig;
use serde_json::json;

use super::{GOLDEN, Tiny, convert, names_beside, open};
use crate::checkpoint::{Float, Layout, Weight};

const OWLET: &str = env!("CARGO_BIN_EXE_owlet");

fn owlet(args: &[&str]) -> Output {
    Command::new(OWLET).args(args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_checkpoint_becomes_a_file_and_a_report() {
    let dir = Tiny::new().kept();
    let out = dir.path.with_extension("owlet.gguf");
    let done =
        owlet(&["convert", text(&dir.path), "-o", text(&out), "--type", "Q5_K", "--vision-type", "f16"]);
    assert!(done.status.success(), "{}", stderr(&done));
    assert!(done.stdout.is_empty());
    let report = stderr(&done);
    assert!(report.contains("vision       43 tensors       398112 weights"), "{report}");
    assert!(report.contains("4.4 MB of weights in "), "{report}");
    let options =
        Options { text: "q5_k_m".parse().unwrap(), vision: "f16".parse().unwrap(), ..Options::default() };
    assert!(fs::read(&out).unwrap() == convert(&dir.path, &options), "program and library differ");
}

#[test]
fn every_type_is_taken_by_every_part() {
    let dir = Tiny::new().kept();
    for (name, _) in TYPE_CHOICES {
        let name = name.to_uppercase();
        let out = dir.path.with_extension("gguf");
        let args = [
            "convert",
            text(&dir.path),
            "-o",
            text(&out),
            "--type",
            &name,
            "--vision-type",
            &name,
            "--force",
        ];
        let done = owlet(&args);
        assert!(done.status.success(), "{name}: {}", stderr(&done));
        let file = open(fs::read(&out).unwrap());
        ModelConfig::read(&file).unwrap().check(&file).unwrap();
    }
}

#[test]
fn a_dry_run_prints_the_plan_and_writes_nothing() {
    let dir = Tiny::new().for_the_plan();
    let args =
        ["convert", text(&dir.path), "--dry-run", "--vision-type", "q4_k", "--set", "rope_theta=20000"];
    let done = String::from_utf8(owlet(&args).stdout).unwrap();
    let plan = fs::read_to_string(format!("{GOLDEN}/convert/plan.txt")).unwrap();
    let estimate = done.strip_prefix(&plan).unwrap_or_else(|| panic!("{done}"));
    let lines: Vec<&str> = estimate.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("memory     at most about "), "{estimate}");
    assert!(
        lines[1].starts_with("time       about ") && lines[1].ends_with(" to read the 4.4 MB"),
        "{estimate}"
    );
    assert_eq!(names_beside(&dir.path), ["tiny-chat"]);
}

#[test]
fn what_is_wrong_is_one_line_and_status_one() {
    let mut tiny = Tiny::new();
    tiny.weights.pop();
    let dir = tiny.safetensors();
    let out = dir.with_extension("gguf");
    let done = owlet(&["convert", text(&dir), "-o", text(&out)]);
    assert_eq!(done.status.code(), Some(1));
    let expected = format!(
        "owlet: {}: tensor mlp1.3.bias: expected shape (256) for mm.3.bias, found no such tensor\n",
        text(&dir)
    );
    assert_eq!(stderr(&done), expected);
    assert_eq!(names_beside(&out), ["tiny-chat"]);

    let usage = owlet(&["convert", text(&dir), "-o", text(&out), "--type", "q9"]);
    assert_eq!(usage.status.code(), Some(2));
    assert!(stderr(&usage).contains("expected one of f32, f16, bf16,"), "{}", stderr(&usage));
}

/// A checkpoint of 400 MB that is almost all holes: nothing but its header takes room on the disk.
pub fn wide() -> Kept {
    const N_FF: u64 = 131_072;
    let mut tiny = Tiny::new();
    tiny.config()["llm_config"]["intermediate_size"] = json!(N_FF);
    for weight in &mut tiny.weights {
        weight.shape.iter_mut().filter(|_| weight.name.starts_with("language_model")).for_each(|n| {
            if *n == 512 {
                *n = N_FF;
            }
        });
    }
    let shapes = std::mem::take(&mut tiny.weights);
    let dir = tiny.kept();
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for Weight { name, shape, .. } in shapes {
        let start = end;
        end += 2 * shape.iter().product::<u64>();
        header.insert(name, json!({"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}));
    }
    let header = serde_json::Value::from(header).to_string();
    let path = dir.path.join("model.safetensors");
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
    fs::write(&path, &bytes).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(bytes.len() as u64 + end).unwrap();
    dir
}

#[test]
fn memory_is_that_of_a_few_rows() {
    const MAX_MIB: u64 = 64;
    let dir = wide();
    let out = dir.path.with_extension("gguf");
    let done = owlet(&["convert", text(&dir.path), "-o", text(&out)]);
    let report = stderr(&done);
    assert!(done.status.success(), "{report}");
    if !cfg!(target_os = "linux") {
        println!("not measured: this system does not say how much memory a process had");
        return;
    }
    let peak = report.split("peak memory ").nth(1).and_then(|rest| rest.split(' ').next());
    let peak: u64 = peak.unwrap_or_else(|| panic!("{report}")).parse().unwrap();
    println!("peak memory {peak} MiB");
    let dry = owlet(&["convert", text(&dir.path), "--dry-run"]);
    let dry = String::from_utf8(dry.stdout).unwrap();
    let estimate = dry.split("at most about ").nth(1).and_then(|rest| rest.split(' ').next());
    let estimate: u64 = estimate.unwrap_or_else(|| panic!("{dry}")).parse().unwrap();
    assert!(peak <= estimate && estimate <= 4 * peak, "{estimate} MiB were estimated, {peak} MiB needed");
    assert!(peak <= MAX_MIB, "peak memory {peak} MiB for 400 MB of weights, expected at most {MAX_MIB}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_it_and_leaves_no_model() {
    let dir = wide();
    let out = dir.path.with_extension("gguf");
    let child = Command::new(OWLET)
        .args(["convert", text(&dir.path), "-o", text(&out), "-t", "1"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // it is under way as soon as its part file takes something
    let part = dir.path.with_extension("gguf.part");
    while part.metadata().map_or(0, |meta| meta.len()) == 0 {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(130), "{}", stderr(&done));
    let expected = ["tiny-chat", "tiny-chat.gguf.part", "tiny-chat.gguf.part.journal"];
    assert_eq!(names_beside(&out), expected);
}

/// A directory that lives as long as this does.
pub struct Kept {
    pub path: PathBuf,
    _tiny: Tiny,
}

impl Tiny {
    fn kept(self) -> Kept {
        Kept { path: self.safetensors(), _tiny: self }
    }

    fn for_the_plan(mut self) -> Kept {
        self.bend_for_the_plan();
        Kept { path: self.write(Float::BF16, Layout::Torch { shards: 2 }), _tiny: self }
    }
}
