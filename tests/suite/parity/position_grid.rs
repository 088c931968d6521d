//! The real grids, 16x16 to 32x32 positions, on 24 columns.

use super::compare::{self, F32_BOUND};
use super::formula;
use super::golden::{self, Node, Samples};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    seed: String,
    tensor: Table,
    node: Node,
    wrong: Wrong,
}

#[derive(Deserialize)]
struct Table {
    name: String,
    /// (1, 1 + 16 * 16, n_embd)
    shape: Vec<u64>,
}

#[derive(Deserialize)]
struct Wrong {
    name: String,
    node: Node,
}

#[test]
fn sixteen_to_thirty_two_is_the_reference_s() {
    let Golden { seed, tensor, node, wrong }: Golden = golden::facts("position_grid");
    let samples = Samples::read("position_grid");
    let n_embd = tensor.shape[2] as usize;
    let stored = formula::tensor(&seed, &tensor.name, &tensor.shape);
    let (class, patches) = stored.split_at(n_embd);
    let resized = [class, &owlet_convert::position_grid::resize(patches, n_embd, 16, 32)].concat();

    let error = compare::error(&resized, &node.ne, &node, samples.of(&node));
    assert!(error <= F32_BOUND, "error {error:e}");
    let error = compare::error(&resized, &wrong.node.ne, &wrong.node, samples.of(&wrong.node));
    assert!(error >= 10.0 * F32_BOUND, "{} would pass: {error:e}", wrong.name);
}
