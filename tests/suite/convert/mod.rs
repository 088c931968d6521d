//! `owlet convert` from end to end: tiny checkpoints of the parity case `base` with weights of our own, written in
//! every layout, converted, read back; and every way in which a checkpoint can be wrong.

mod bytes;
mod door;
mod quantize;
mod refusals;
#[cfg(unix)]
mod resume;

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use ggml::Cancel;
use owlet_convert::{Options, Plan, TypeChoice};
use owlet_format::Gguf;
use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::checkpoint::{Float, Layout, Weight, write_weights};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");

/// A checkpoint that can be bent before it is written.
pub struct Tiny {
    pub files: Map<String, Value>,
    pub weights: Vec<Weight>,
    pub tokenizer: Vec<u8>,
    root: TempDir,
    n_written: Cell<usize>,
}

/// Files and weights of the case, made once.
static CASE: LazyLock<(Map<String, Value>, Vec<Weight>)> = LazyLock::new(|| {
    let case: Value =
        serde_json::from_slice(&fs::read(format!("{GOLDEN}/parity/base.json")).unwrap()).unwrap();
    let weights = case["tensors"].as_array().unwrap().iter().map(|tensor| {
        let name = tensor["name"].as_str().unwrap();
        let shape: Vec<u64> =
            tensor["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
        Weight::new(name, &shape, values_of(name, shape.iter().product()))
    });
    (case["files"].as_object().unwrap().clone(), weights.collect())
});

impl Tiny {
    pub fn new() -> Tiny {
        let (files, weights) = CASE.clone();
        Tiny {
            files,
            weights,
            tokenizer: fs::read(format!("{GOLDEN}/parity/tokenizer.model")).unwrap(),
            root: TempDir::new().unwrap(),
            n_written: Cell::new(0),
        }
    }

    /// A text half that is wide and shallow: feed-forward parts of `n_ff`.
    pub fn wide(n_ff: u64) -> Tiny {
        let mut tiny = Tiny::new();
        tiny.config()["llm_config"]["intermediate_size"] = n_ff.into();
        for weight in &mut tiny.weights {
            if weight.name.starts_with("language_model") && weight.shape.contains(&512) {
                let shape: Vec<u64> =
                    weight.shape.iter().map(|n| if *n == 512 { n_ff } else { *n }).collect();
                *weight = Weight::new(&weight.name, &shape, values_of(&weight.name, 256 * n_ff));
            }
        }
        tiny
    }

    pub fn config(&mut self) -> &mut Value {
        &mut self.files["config.json"]
    }

    pub fn weight(&mut self, name: &str) -> &mut Weight {
        self.weights.iter_mut().find(|weight| weight.name == name).unwrap()
    }

    /// Every call writes a directory of its own, always called `tiny-chat`.
    pub fn write(&self, float: Float, layout: Layout) -> PathBuf {
        let n = self.n_written.replace(self.n_written.get() + 1);
        let dir = self.root.path().join(n.to_string()).join("tiny-chat");
        fs::create_dir_all(&dir).unwrap();
        for (name, json) in &self.files {
            fs::write(dir.join(name), json.to_string()).unwrap();
        }
        fs::write(dir.join("tokenizer.model"), &self.tokenizer).unwrap();
        write_weights(&dir, &self.weights, float, layout);
        dir
    }

    /// What the recorded plan shows: a table of an old version, and a flag left out.
    pub fn bend_for_the_plan(&mut self) {
        let name = "language_model.model.layers.0.self_attn.rotary_emb.inv_freq";
        self.weights.push(Weight::new(name, &[32], vec![0.5; 32]));
        self.files["tokenizer_config.json"].as_object_mut().unwrap().remove("legacy");
    }

    pub fn safetensors(&self) -> PathBuf {
        self.write(Float::BF16, Layout::Safetensors { shards: 1 })
    }
}

/// Values in [-1, 1) that a formula makes out of the name.
fn values_of(name: &str, n: u64) -> Vec<f32> {
    let mut state =
        name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// Options with one type for every part.
pub fn all_as(text: &str) -> Options {
    let choice: TypeChoice = text.parse().unwrap();
    Options { text: choice, vision: choice, ..Options::default() }
}

/// The file that `dir` becomes, in bytes.
pub fn convert(dir: &Path, options: &Options) -> Vec<u8> {
    let out = dir.with_extension("gguf");
    Plan::from_dir(dir, options).unwrap().run(&out, &mut (), &Cancel::new()).unwrap();
    fs::read(&out).unwrap()
}

pub fn open(bytes: Vec<u8>) -> Gguf {
    Gguf::from_bytes(bytes.into(), "tiny.gguf").unwrap()
}

/// What lies in the directory of `path`, sorted.
pub fn names_beside(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path.parent().unwrap()).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The amount in front of `unit` in a report, in MB.
pub fn megabytes(report: &str, unit: &str) -> f64 {
    let before = report.split(unit).next().unwrap();
    before.split_whitespace().last().unwrap().parse().unwrap_or_else(|_| panic!("{unit}: {report}"))
}
