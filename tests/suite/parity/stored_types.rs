//! How far weights stored in f16, q8_0 and q4_0 lead away from the f32 reference.
//!
//! The bounds are half as much again as what was measured: arithmetic on another CPU moves these errors by a few
//! percent, a wrong scale or a block out of place multiplies them. The parity weights are as random as weights can be,
//! so every layer passes the rounding of all layers before it on; a trained model is much calmer.

use super::golden::Case;
use super::subject::Subject;
use super::{compare, nodes};
use ggml::DType;

const NODES: [&str; 4] = ["v.out", "mm.out", "blk.0.out", "next"];

/// The largest error of each of [`NODES`].
const BOUNDS: [(DType, [f64; 4]); 3] = [
    (DType::F16, [3e-3, 3e-3, 5.5e-3, 9e-3]),
    (DType::Q8_0, [0.07, 0.075, 0.15, 0.25]),
    (DType::Q4_0, [0.5, 0.7, 1.2, 2.0]),
];

#[test]
fn stay_within_their_bounds() {
    let case = Case::read("base");
    let conversation = case.conversation("picture");
    for (dtype, bounds) in BOUNDS {
        let seen = nodes(&Subject::new(&case, dtype), &case, conversation);
        for (name, bound) in NODES.into_iter().zip(bounds) {
            let golden = conversation.nodes.iter().find(|node| node.name == name).unwrap();
            let found = seen.iter().find(|node| node.name == name).unwrap();
            let error = compare::error(&found.values, &found.ne, golden, case.samples(golden));
            println!("{dtype} {name} {error:.2e}");
            assert!(error <= bound, "{dtype}: {name} is {error:.2e} off, bound {bound:e}");
        }
    }
}
