//! Outliers in norms' scales: the conversion moves them into the matrices behind, and no bit of an f32 result changes.

use super::golden::Case;
use super::subject::Subject;
use super::{nodes, tiny};
use crate::checkpoint::Weight;
use crate::convert::all_as;
use ggml::{Cancel, DType};
use owlet_convert::{Plan, Requantize, RequantizeOptions, Weighting};
use owlet_format::{Gguf, Importance};
use std::path::Path;
use tempfile::TempDir;

/// Norms of every kind and the matrices that read them, as the checkpoint names them.
const NORMS: [(&str, &[&str]); 6] = [
    ("vision_model.encoder.layers.1.norm1", &["vision_model.encoder.layers.1.attn.qkv"]),
    ("vision_model.encoder.layers.0.norm2", &["vision_model.encoder.layers.0.mlp.fc1"]),
    ("mlp1.0", &["mlp1.1"]),
    (
        "language_model.model.layers.0.input_layernorm",
        &[
            "language_model.model.layers.0.self_attn.q_proj",
            "language_model.model.layers.0.self_attn.k_proj",
            "language_model.model.layers.0.self_attn.v_proj",
        ],
    ),
    (
        "language_model.model.layers.1.post_attention_layernorm",
        &["language_model.model.layers.1.mlp.gate_proj", "language_model.model.layers.1.mlp.up_proj"],
    ),
    ("language_model.model.norm", &["language_model.lm_head"]),
];

/// Channels that become outliers, and by how much.
const OUTLIERS: [(usize, f32); 3] = [(3, 64.0), (40, 1024.0), (41, 256.0)];

/// The same function with outliers: what a norm yields more of is read with as much less.
fn with_outliers(weights: &mut [Weight]) {
    let mut scale = |name: &str, suffix: &str, by: &dyn Fn(f32) -> f32| {
        let Some(weight) = weights.iter_mut().find(|weight| weight.name == format!("{name}.{suffix}")) else {
            assert_eq!(suffix, "bias", "{name} has no {suffix}");
            return;
        };
        let n = *weight.shape.last().unwrap() as usize;
        for row in weight.values.chunks_exact_mut(n) {
            OUTLIERS.iter().for_each(|&(channel, factor)| row[channel] *= by(factor));
        }
    };
    for (norm, readers) in NORMS {
        scale(norm, "weight", &|factor| factor);
        scale(norm, "bias", &|factor| factor);
        readers.iter().for_each(|reader| scale(reader, "weight", &|factor| 1.0 / factor));
    }
}

/// The case's checkpoint with outliers, in a folder of its own.
fn outlying(case: &Case) -> TempDir {
    let folder = TempDir::new().unwrap();
    let mut weights = tiny::weights(case);
    with_outliers(&mut weights);
    tiny::lay_out_with(case, &weights, folder.path());
    folder
}

/// In every type: what is rounded is what would have been rounded without outliers.
#[test]
fn outliers_leave_the_file_as_it_was() {
    let case = Case::read("base");
    let outlying = outlying(&case);
    for dtype in [DType::F32, DType::Q8_0, DType::Q4_0] {
        let plain = TempDir::new().unwrap();
        tiny::lay_out(&case, plain.path());
        let [plain, folded] = [plain.path(), outlying.path()].map(|folder| {
            let file = folder.join("model.gguf");
            tiny::convert(folder, dtype, &file);
            Gguf::open(&file).unwrap()
        });
        assert_eq!(plain.tensors().len(), folded.tensors().len());
        for (a, b) in plain.tensors().iter().zip(folded.tensors()) {
            assert!(a.name == b.name && plain.data(a) == folded.data(b), "{dtype}: {}", a.name);
        }
    }
}

/// An importance matrix of llama.cpp is of the norms that the checkpoint has; one of owlet's of those that the file has.
#[test]
fn importance_is_of_the_norms_that_it_was_measured_on() {
    let case = Case::read("base");
    let (plain, outlying) = (TempDir::new().unwrap(), outlying(&case));
    tiny::lay_out(&case, plain.path());
    let mut options = all_as("q4_0");
    let folds = Plan::from_dir(outlying.path(), &options).unwrap().tensors;
    // sums of what matrices read, from 1 to 50, and the same where norms yield more of some
    let sums = |with_outliers: bool, is_folded: bool| {
        let mut importance = Importance::default();
        importance.is_folded = is_folded;
        for tensor in &folds {
            let n = tensor.spec.ne.dims()[0] as usize;
            let mut sums: Vec<f64> = (0..n).map(|at| (at * 7 % 50 + 1) as f64).collect();
            if with_outliers && tensor.fold.is_some() && tensor.spec.ne.n_rows() > 1 {
                OUTLIERS.iter().for_each(|&(channel, factor)| sums[channel] *= f64::from(factor).powi(2));
            }
            importance.add(&tensor.spec.name, &sums, 1);
        }
        importance
    };
    let mut convert = |folder: &Path, importance: Importance| {
        options.importance = Some(Weighting { label: "imatrix.gguf".into(), importance: importance.into() });
        let file = folder.join("model.gguf");
        Plan::from_dir(folder, &options).unwrap().run(&file, &mut (), &Cancel::new()).unwrap();
        Gguf::open(&file).unwrap()
    };
    let expected = convert(plain.path(), sums(false, false));
    let is_same = |found: &Gguf| {
        expected.tensors().iter().zip(found.tensors()).all(|(a, b)| expected.data(a) == found.data(b))
    };
    assert!(
        is_same(&convert(outlying.path(), sums(true, false))),
        "measured by another program on the checkpoint"
    );
    assert!(is_same(&convert(outlying.path(), sums(false, true))), "measured by owlet on the file");
    assert!(!is_same(&convert(outlying.path(), sums(false, false))), "it matters");
    assert!(is_same(&convert(plain.path(), sums(false, true))));

    // the file does not have the factors any more
    let file = outlying.path().join("f16.gguf");
    Plan::from_dir(outlying.path(), &all_as("f16")).unwrap().run(&file, &mut (), &Cancel::new()).unwrap();
    let quantize = |importance: Importance| {
        let importance = Some(Weighting { label: "imatrix.gguf".into(), importance: importance.into() });
        let text = Some("q4_0".parse().unwrap());
        Requantize::from_file(&file, &RequantizeOptions { text, importance, ..Default::default() })
    };
    let line = format!(
        "imatrix.gguf: expected sums of the norms of {} (folded = 18 channels of 6 norms), found those of another program: \
         `owlet convert --imatrix` on the checkpoint uses them, or `owlet imatrix` on a file of f16 makes others",
        file.display()
    );
    assert_eq!(quantize(sums(true, false)).unwrap_err().to_string(), line);
    quantize(sums(false, true)).unwrap();
}

#[test]
fn outliers_change_no_bit_of_an_f32_result() {
    let case = Case::read("base");
    let conversation = case.conversation("picture");
    let plain = nodes(&Subject::new(&case, DType::F32), &case, conversation);
    let folded = nodes(&Subject::of(outlying(&case), DType::F32), &case, conversation);
    assert_eq!(plain.len(), folded.len());
    for (a, b) in plain.iter().zip(&folded) {
        // What the norm yields is scaled back, so even that is the same.
        assert!(a.name == b.name && a.values == b.values, "{}", a.name);
    }
}

#[test]
fn a_plan_shows_what_is_folded() {
    let case = Case::read("base");
    let outlying = outlying(&case);
    let plan = Plan::from_dir(outlying.path(), &Default::default()).unwrap().to_string();
    let folded: Vec<_> = plan.lines().filter(|line| line.contains("  3 channels folded")).collect();
    let names: Vec<_> = folded.iter().map(|line| line.split(' ').next().unwrap()).collect();
    let expected = [
        "v.blk.0.ln2.weight",
        "v.blk.0.ffn_up.weight",
        "v.blk.1.ln1.weight",
        "v.blk.1.attn_qkv.weight",
        "mm.0.weight",
        "mm.0.bias",
        "mm.1.weight",
        "blk.0.attn_norm.weight",
        "blk.0.attn_q.weight",
        "blk.0.attn_k.weight",
        "blk.0.attn_v.weight",
        "blk.1.ffn_norm.weight",
        "blk.1.ffn_gate.weight",
        "blk.1.ffn_up.weight",
        "output_norm.weight",
        "output.weight",
    ];
    let mut found = names.clone();
    found.sort_unstable();
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    assert_eq!(found, expected, "{plan}");
}
