//! How far weights and caches in smaller types lead away from the f32 reference.
//!
//! The bounds are half as much again as what was measured: arithmetic on another CPU moves these errors by a few
//! percent, a wrong scale or a block out of place multiplies them. The parity weights are as random as weights can be,
//! so every layer passes the rounding of all layers before it on; a trained model is much calmer.

use super::compare::{F32_BOUND, TRAP_DISTANCE};
use super::golden::{Case, Conversation};
use super::subject::{self, Prompt, Seen, Subject};
use super::{compare, nodes, nodes_over, picture_rows};
use ggml::DType;
use owlet::model::{KvType, Row};

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

/// The largest error of any node when activations are rounded to 8 bits, weights being what they are.
const PACKED_BOUND: f64 = 0.4;

const ROUNDED: [DType; 3] = [DType::Q8_0, DType::Q5_1, DType::Q4_0];

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

/// Against the f32 network of the very weights that a file's blocks stand for nothing is left: the proof of f32 holds
/// for every type. With activations in 8 bits their rounding is left.
#[test]
fn exact_types_are_f32_with_rounded_weights() {
    let case = Case::read("base");
    let conversation = case.conversation("picture");
    for dtype in ROUNDED {
        let subject = Subject::new(&case, dtype);
        let expected = nodes(&subject.rounded(), &case, conversation);
        let packed = nodes(&subject, &case, conversation);
        let exact = nodes(&subject.exact(), &case, conversation);
        for ((found, packed), expected) in exact.iter().zip(&packed).zip(&expected) {
            let error = compare::distance(&found.values, &expected.values);
            let of_packed = compare::distance(&packed.values, &expected.values);
            println!("{dtype}: {:18} exact {error:.2e}, packed {of_packed:.2e}", found.name);
            assert!(found.name == expected.name && error <= F32_BOUND, "{dtype}: {} {error:e}", found.name);
            assert!(of_packed <= PACKED_BOUND, "{dtype}: {} {of_packed:e}", found.name);
        }
    }
}

/// Weights of 4 bits are so coarse that a prompt with a token too few may be nearer to the reference than the right
/// one; beside the network of rounded weights it is not.
#[test]
fn a_wrong_prompt_is_seen_in_every_type() {
    let case = Case::read("base");
    let conversation = case.conversation("picture");
    for dtype in ROUNDED {
        let subject = Subject::new(&case, dtype);
        let expected = nodes(&subject.rounded(), &case, conversation).pop().unwrap();
        let subject = subject.exact();
        let embd = picture_rows(&subject, &case, conversation, &mut Vec::new());
        let prompt = subject.prompt(conversation, case.image_context_id());
        let n = prompt.rows.len();
        // Without the start, with the last question mark or colon gone, and with two neighbours changed about.
        let wrong: [(&str, Vec<usize>); 3] = [
            ("no start", (1..n).collect()),
            ("one token less", (0..n - 3).chain(n - 2..n).collect()),
            ("two swapped", (0..n - 4).chain([n - 3, n - 4]).chain(n - 2..n).collect()),
        ];
        for (what, order) in wrong {
            let rows = (0..).zip(order).map(|(pos, from)| Row { pos, ..prompt.rows[from] }).collect();
            let wrong = Prompt { rows, ids: Vec::new() };
            let mut seen = Vec::new();
            subject::prefill(&mut subject.decoder(KvType::F32), &wrong, &embd, &mut seen);
            let found = seen.pop().unwrap();
            let error = compare::distance(&found.values, &expected.values);
            println!("{dtype}: {what}: {error:.2e}");
            let is_seen = error > TRAP_DISTANCE * F32_BOUND;
            assert!(is_seen, "{dtype}: {what} would pass: {error:e}");
        }
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
