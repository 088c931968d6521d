//! Models small enough for loops, with weights from a formula, and what the tests ask of them.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use ggml::quantize::{dequantize, quantize_rows};
use ggml::{Backend, DType, TensorSpec, Weights};
use owlet_format::{
    Activation, ModelConfig, NormKind, ProjectorConfig, ProjectorKind, Provenance, QkNorm, Role,
};
use owlet_format::{Shuffle, TextConfig, VisionConfig};

use super::reference::Nodes;
use crate::kernels::{Arithmetic, Kernels};
use crate::model::{Machine, Model, Observe, Placement};

/// InternViT's build: 8 x 8 patches and the class token, so that a last tile of attention is one column wide.
pub(super) const TOWER: VisionConfig = VisionConfig {
    n_embd: 96,
    n_head: 3,
    n_layer: 2,
    n_ff: 160,
    patch_px: 6,
    image_px: 48,
    norm: NormKind::Rms,
    norm_eps: 1e-6,
    qk_norm: QkNorm::Full,
    qkv_bias: false,
    act: Activation::GeluErf,
    cls: true,
    patch_bias: true,
    pre_norm: false,
    layer_scale: true,
    source_n_layer: 3,
};

pub(super) const PROJECTOR: ProjectorConfig = ProjectorConfig {
    kind: ProjectorKind::Mlp1,
    norm_eps: 1e-5,
    shuffle: Shuffle::V1,
    ratio: 2,
    n_embd_out: 256,
};

/// Rows of 256, which every quantized type can hold; two query heads a key head.
pub(super) const TEXT: TextConfig = TextConfig {
    n_vocab: 97,
    n_ctx_train: 1024,
    n_embd: 256,
    n_layer: 2,
    n_ff: 512,
    n_head: 8,
    n_head_kv: 4,
    norm_eps: 1e-5,
    rope_dim: 32,
    rope_base: 10000.0,
};

/// A model's tensors in f32, by name.
pub(super) struct Tensors(HashMap<String, Vec<f32>>);

impl Tensors {
    pub(super) fn get(&self, name: &str) -> Vec<f64> {
        self.0[name].iter().map(|&v| f64::from(v)).collect()
    }
}

/// Parts of a model; `None` where a test has no use for one.
pub(super) fn config(
    vision: Option<VisionConfig>,
    projector: Option<ProjectorConfig>,
    text: Option<TextConfig>,
) -> ModelConfig {
    ModelConfig {
        name: "tiny".into(),
        family: "test".into(),
        vision,
        projector,
        image: None,
        text,
        tokenizer: None,
        prompt: None,
        generation: None,
        provenance: Provenance::default(),
    }
}

/// A model of `config` with every matrix in `dtype`, and its tensors before that.
pub(super) fn model(config: &ModelConfig, dtype: DType, n_threads: usize) -> (Model, Tensors) {
    model_of(config, |_| dtype, n_threads)
}

/// The type of a matrix, by its name.
pub(super) type TypeByName = fn(&str) -> DType;

/// The same with matrices in types by their names.
pub(super) fn model_of(
    config: &ModelConfig,
    dtype_of: impl Fn(&str) -> DType,
    n_threads: usize,
) -> (Model, Tensors) {
    let backend = Backend::cpu(n_threads).unwrap();
    stored(config, dtype_of, (&backend, Placement::cpu()), |_, _| ())
}

/// The same on a backend with a device.
pub(super) fn placed(
    config: &ModelConfig,
    dtype: DType,
    backend: &Backend,
    placement: Placement,
) -> (Model, Tensors) {
    stored(config, |_| dtype, (backend, placement), |_, _| ())
}

/// In f32, with the matrices that a model in `dtype` has: rounded to it.
pub(super) fn rounded(config: &ModelConfig, dtype: DType, n_threads: usize) -> Model {
    let round = |values: &mut [f32], n_in: usize| {
        let mut blocks = vec![0; dtype.row_bytes(values.len() as u64).unwrap() as usize];
        quantize_rows(dtype, values, n_in, None, &mut blocks).unwrap();
        dequantize(dtype, &blocks, values).unwrap();
    };
    let backend = Backend::cpu(n_threads).unwrap();
    stored(config, |_| DType::F32, (&backend, Placement::cpu()), round).0
}

/// Matrices go through `change`, with the length of their rows, before they are stored.
fn stored(
    config: &ModelConfig,
    dtype_of: impl Fn(&str) -> DType,
    (backend, placement): (&Backend, Placement),
    change: impl Fn(&mut [f32], usize),
) -> (Model, Tensors) {
    let mut tensors = HashMap::new();
    let mut specs = Vec::new();
    let mut bytes = Vec::new();
    for spec in config.tensors() {
        let ne = spec.ne.padded();
        let mut values = values(&spec.name, ne[0], spec.ne.n_elements());
        let is_matrix = matches!(spec.role, Role::Matrix | Role::Embedding | Role::Output);
        let dtype = if is_matrix { dtype_of(&spec.name) } else { DType::F32 };
        if is_matrix {
            change(&mut values, ne[0] as usize);
        }
        let n_bytes = spec.ne.n_bytes(dtype).unwrap() as usize;
        let offset = bytes.len();
        bytes.resize(offset + n_bytes, 0);
        quantize_rows(dtype, &values, ne[0] as usize, None, &mut bytes[offset..]).unwrap();
        bytes.resize(bytes.len().next_multiple_of(64), 0);
        let (place, turn) = (placement.of(&spec.name), placement.turn(&spec.name));
        specs.push(TensorSpec { name: spec.name.clone(), dtype, ne, offset: offset as u64, place, turn });
        tensors.insert(spec.name, values);
    }
    let weights = Weights::new(backend, Bytes::from(bytes), &specs).unwrap();
    let kernels = Kernels::of_this_machine(Arithmetic::Packed);
    let machine = Machine { backend, kernels, placement };
    let configs = (config.vision.clone(), config.projector.clone(), config.text.clone());
    (Model::assemble("tiny", weights, configs, machine).unwrap(), Tensors(tensors))
}

/// The same model without kernels of ours.
pub(super) fn by_ggml(mut model: Model) -> Model {
    Arc::get_mut(&mut model.0).unwrap().kernels = Kernels::none();
    model
}

/// The same model with activations in f32.
pub(super) fn exact(mut model: Model) -> Model {
    Arc::get_mut(&mut model.0).unwrap().kernels = Kernels::of_this_machine(Arithmetic::Exact);
    model
}

/// Values that keep every signal near 1: norms around 1, small biases, matrices by their fan-in.
fn values(name: &str, n_in: u64, n: u64) -> Vec<f32> {
    let is_norm =
        ["norm.weight", "ln1.weight", "ln2.weight", "mm.0.weight"].iter().any(|end| name.ends_with(end));
    let (offset, scale) = match name {
        _ if is_norm => (1.0, 0.2),
        _ if name.ends_with(".bias") => (0.0, 0.1),
        _ if name.contains(".ls") => (0.3, 0.1),
        "v.class_embd" | "v.position_embd.weight" | "token_embd.weight" => (0.0, 0.5),
        "v.patch_embd.weight" => (0.0, 0.15),
        _ => (0.0, (3.0 / n_in as f32).sqrt()),
    };
    noise(name, n as usize).into_iter().map(|v| offset + scale * v).collect()
}

/// `n` numbers in -1 to 1 that depend on `seed` only.
pub(super) fn noise(seed: &str, n: usize) -> Vec<f32> {
    let mut state =
        seed.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// Watches every node, and keeps all values.
#[derive(Default)]
pub(super) struct Everything(pub(super) Nodes);

impl Observe for Everything {
    fn wants(&self, _: &str) -> bool {
        true
    }

    fn node(&mut self, name: &str, _: &[u64], values: &[f32]) {
        self.0.insert(name.to_owned(), values.iter().map(|&v| v.into()).collect());
    }
}

/// Compares every node that the reference has with the network's.
pub(super) struct Compare {
    case: String,
    pub(super) expected: Nodes,
    pub(super) bound: f64,
    /// Node and error, `max |a - b| / rms(b)`, in graph order.
    pub(super) errors: Vec<(String, f64)>,
}

impl Compare {
    pub(super) fn new(case: impl Into<String>, expected: Nodes, bound: f64) -> Compare {
        Compare { case: case.into(), expected, bound, errors: Vec::new() }
    }

    /// Notes how far a node is from what is expected.
    pub(super) fn see(&mut self, name: &str, values: &[f32]) {
        self.node(name, &[], values);
    }

    pub(super) fn largest(&self) -> f64 {
        self.errors.iter().map(|(_, error)| *error).fold(0.0, f64::max)
    }

    /// The first node beyond the bound, or one that never came.
    pub(super) fn wrong(&self) -> Option<String> {
        let seen = |name: &String| self.errors.iter().any(|(n, _)| n == name);
        let missing: Vec<_> = self.expected.keys().filter(|name| !seen(name)).collect();
        if !missing.is_empty() {
            return Some(format!("{}: nodes that were not observed: {missing:?}", self.case));
        }
        let wrong = self.errors.iter().find(|(_, error)| *error > self.bound || error.is_nan())?;
        Some(format!("{}: first wrong node: {wrong:?}, bound {:e}", self.case, self.bound))
    }

    /// Fails where something is [`wrong`](Self::wrong).
    pub(super) fn finish(self) {
        let wrong = self.wrong();
        assert!(wrong.is_none(), "{}; all: {:#?}", wrong.unwrap_or_default(), self.errors);
    }
}

impl Observe for Compare {
    fn wants(&self, name: &str) -> bool {
        self.expected.contains_key(name)
    }

    fn node(&mut self, name: &str, ne: &[u64], values: &[f32]) {
        let expected = &self.expected[name];
        assert_eq!(values.len(), expected.len(), "{name} {ne:?}");
        let rms = (expected.iter().map(|v| v * v).sum::<f64>() / expected.len() as f64).sqrt();
        let max = values.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
        self.errors.push((name.to_owned(), max / rms));
    }
}
