//! Reads tests/golden/parity: what the models' own PyTorch code did with the formula's weights.
//!
//! Comes in: a case's name. Goes out: its facts, and for every node the recorded samples.
//! tests/reference/README.md has the format.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Deserialize)]
pub struct Case {
    pub case: String,
    pub seed: String,
    /// The SentencePiece model among the goldens.
    #[serde(default = "llama_model")]
    pub tokenizer: String,
    /// The checkpoint's JSON files by name.
    pub files: BTreeMap<String, serde_json::Value>,
    pub tensors: Vec<Tensor>,
    /// A vision tower in a directory of its own.
    pub tower: Option<Tower>,
    /// What transformers' own layout calls the tensors of checkpoint and tower.
    #[serde(default)]
    pub transformers_names: BTreeMap<String, String>,
    /// What the checkpoint stores, `f32` or `bf16`.
    pub weights: String,
    pub picture: Picture,
    #[serde(default)]
    pub conversations: Vec<Conversation>,
    /// What a tower without a conversation yields for the picture, and pictures for their pixels alone.
    #[serde(default)]
    pub nodes: Vec<Node>,
    #[serde(default)]
    pub pictures: Vec<Picture>,
    pub traps: Vec<Trap>,
    #[serde(skip)]
    samples: Samples,
}

fn llama_model() -> String {
    "tokenizer.model".to_string()
}

#[derive(Deserialize)]
pub struct Tower {
    pub files: BTreeMap<String, serde_json::Value>,
    pub tensors: Vec<Tensor>,
}

#[derive(Deserialize, Clone)]
pub struct Tensor {
    pub name: String,
    /// PyTorch's order.
    pub shape: Vec<u64>,
    /// Hash of the little-endian f32 values, in hexadecimal.
    pub fnv1a64: String,
}

#[derive(Deserialize)]
pub struct Picture {
    pub name: String,
    pub width: u32,
    pub height: u32,
    pub pixels_sha256: String,
}

#[derive(Deserialize)]
pub struct Conversation {
    pub name: String,
    pub turns: Vec<Turn>,
    pub prompt: String,
    pub ids: Vec<u32>,
    /// The tokens of greedy decoding.
    pub greedy: Vec<u32>,
    /// What `chat` makes of them.
    pub answer: String,
    /// The least distance between the first and the second logit over all steps, over the logits' rms.
    pub least_margin: f64,
    pub nodes: Vec<Node>,
}

#[derive(Deserialize)]
pub struct Turn {
    pub question: String,
    pub answer: Option<String>,
}

#[derive(Deserialize)]
pub struct Trap {
    pub name: String,
    pub about: String,
    pub node: Node,
}

#[derive(Deserialize, Clone)]
pub struct Node {
    pub name: String,
    pub ne: Vec<u64>,
    pub rms: f64,
    pub projection: f64,
    first_sample: usize,
    n_samples: usize,
}

/// All samples of a golden, which its nodes point into.
#[derive(Default)]
pub struct Samples(Vec<f32>);

impl Case {
    pub fn read(name: &str) -> Case {
        let mut case: Case = facts(name);
        case.samples = Samples::read(name);
        case
    }

    pub fn samples(&self, node: &Node) -> &[f32] {
        self.samples.of(node)
    }

    pub fn conversation(&self, name: &str) -> &Conversation {
        let found = self.conversations.iter().find(|c| c.name == name);
        found.unwrap_or_else(|| panic!("{}: no conversation {name}", self.case))
    }

    /// What the goldens have where a picture's rows go: the reference's own token, or no token at all.
    pub fn image_context_id(&self) -> u32 {
        match self.files.get("added_tokens.json") {
            Some(added) => added["<IMG_CONTEXT>"].as_u64().unwrap() as u32,
            None => u32::MAX,
        }
    }
}

impl Conversation {
    pub fn has_picture(&self) -> bool {
        self.name != "text"
    }
}

impl Samples {
    pub fn read(name: &str) -> Samples {
        let bytes = std::fs::read(path(&format!("{name}.f32"))).unwrap();
        let (words, rest) = bytes.as_chunks::<4>();
        assert!(rest.is_empty(), "{name}.f32 is cut short");
        Samples(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
    }

    pub fn of(&self, node: &Node) -> &[f32] {
        &self.0[node.first_sample..][..node.n_samples]
    }
}

/// `<name>.json`, read as T.
pub fn facts<T: serde::de::DeserializeOwned>(name: &str) -> T {
    let text = std::fs::read_to_string(path(&format!("{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}.json: {e}"))
}

pub fn path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/parity").join(file)
}
