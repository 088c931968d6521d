//! How far weights and caches in smaller types lead away from the f32 reference.
//!
//! The bounds are half as much again as what was measured: arithmetic on another CPU moves these errors by a few
//! percent, a wrong scale or a block out of place multiplies them. The parity weights are as random as weights can be,
//! so every layer passes the rounding of all layers before it on; a trained model is much calmer.

use super::golden::{Case, Conversation};
use super::subject::{Seen, Subject};
use super::{compare, nodes, nodes_over};
use ggml::DType;
use owlet::model::KvType;

/// Matrices of one type: the largest error of some nodes from first to last.
const WEIGHTS: [(DType, [(&str, f64); 4]); 3] = [
    (DType::F16, [("v.out", 3e-3), ("mm.out", 3e-3), ("blk.0.out", 5.5e-3), ("next", 9e-3)]),
    (DType::Q8_0, [("v.out", 0.07), ("mm.out", 0.075), ("blk.0.out", 0.15), ("next", 0.25)]),
    (DType::Q4_0, [("v.out", 0.5), ("mm.out", 0.7), ("blk.0.out", 1.2), ("next", 2.0)]),
];

/// Keys and values of one type over f32 weights.
const CACHES: [(KvType, [(&str, f64); 2]); 2] = [
    (KvType::F16, [("blk.0.attn_out", 2e-3), ("next", 2.6e-3)]),
    (KvType::Q8_0, [("blk.0.attn_out", 0.04), ("next", 0.076)]),
];

#[test]
fn weights_stay_within_their_bounds() {
    let case = Case::read("base");
    let conversation = case.conversation("picture");
    for (dtype, bounds) in WEIGHTS {
        let seen = nodes(&Subject::new(&case, dtype), &case, conversation);
        assert_within(&format!("{dtype} weights"), &bounds, &seen, &case, conversation);
    }
}

#[test]
fn caches_stay_within_their_bounds() {
    let case = Case::read("base");
    let conversation = case.conversation("picture");
    let subject = Subject::new(&case, DType::F32);
    for (kv_type, bounds) in CACHES {
        let seen = nodes_over(kv_type, &subject, &case, conversation);
        assert_within(&format!("{kv_type:?} cache"), &bounds, &seen, &case, conversation);
    }
}

fn assert_within(
    what: &str,
    bounds: &[(&str, f64)],
    seen: &[Seen],
    case: &Case,
    conversation: &Conversation,
) {
    for &(name, bound) in bounds {
        let golden = conversation.nodes.iter().find(|node| node.name == name).unwrap();
        let found = seen.iter().find(|node| node.name == name).unwrap();
        let error = compare::error(&found.values, &found.ne, golden, case.samples(golden));
        println!("{what}: {name} {error:.2e}");
        assert!(error <= bound, "{what}: {name} is {error:.2e} off, bound {bound:e}");
    }
}
