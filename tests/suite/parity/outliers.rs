//! Outliers in norms' scales: the conversion moves them into the matrices behind, and no bit of an f32 result changes.

use super::golden::Case;
use super::subject::Subject;
use super::{nodes, tiny};
use crate::checkpoint::Weight;
use ggml::DType;
use owlet_convert::Plan;
use owlet_format::Gguf;
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
