//! The graph of the projector: the tower's rows in, rows of the text model's width out.
//! Formulas: `pixel_shuffle` and `mlp1` of InternVL's modeling_internvl_chat.py, LLaVA's `mlp2x_gelu`.

use std::ops::Range;

use ggml::{DType, Tensor};
use owlet_format::{Activation, ProjectorConfig, VisionConfig};

use super::grid::shuffle_order;
use super::layers::linear;
use super::net::Net;
use super::operand::{Operand, activation, norm};
use super::views;
use super::weights::ProjectorWeights;

/// Reads the patches that an input `[n_patches]` (i32) will name, some rows of [`order`], from `hidden`; yields that input, and
/// their rows of the picture: `[n_embd_out, n_patches / ratio^2]`.
pub(super) fn project(
    net: &mut Net,
    config: &ProjectorConfig,
    weights: &ProjectorWeights,
    hidden: Tensor,
    n_patches: u64,
) -> (Tensor, Tensor) {
    let [n_embd, ..] = net.graph.ne(hidden);
    net.follow(weights.first.weight);
    let order = net.graph.input("order", DType::I32, [n_patches, 1, 1, 1]);
    let shuffled = net.graph.get_rows(hidden, order);
    let n_shuffled = u64::from(config.ratio * config.ratio);
    let (n_embd_in, n_rows) = (n_embd * n_shuffled, n_patches / n_shuffled);
    let shuffled = net.graph.reshape(shuffled, [n_embd_in, n_rows, 1, 1]);
    let shuffled = net.name(shuffled, "shuffle");
    let mut rows = match &weights.norm {
        Some(over_column) => norm(over_column, shuffled).named(net, "mm.0"),
        None => Operand::given(shuffled),
    };
    let rows = linear(net, &weights.first, &mut rows).named(net, "mm.1");
    let mut rows = activation(Activation::GeluErf, rows).named(net, "mm.2");
    let rows = linear(net, &weights.second, &mut rows).tensor(net);
    net.graph.output(rows);
    (order, net.name(rows, "mm.out"))
}

/// Keeps what the tower yields, without the class token's row, if somebody watches it.
pub(super) fn watch_patches(net: &mut Net, tower: &VisionConfig, weights: &ProjectorWeights, hidden: Tensor) {
    if net.is_watched("v.out") {
        net.follow(weights.first.weight);
        let class_rows = u32::from(tower.cls);
        let patches = views::rows(net, hidden, class_rows..class_rows + tower.n_patches());
        let patches = net.graph.cont(patches);
        net.name(patches, "v.out");
    }
}

/// Which hidden rows the projector reads for the rows `rows` of the picture, in order: the pixel shuffle, past the class token's
/// row.
pub(super) fn order(tower: &VisionConfig, config: &ProjectorConfig, rows: &Range<u32>) -> Vec<i32> {
    let class_rows = u32::from(tower.cls);
    let patches = shuffle_order(tower.grid(), config.ratio, config.shuffle);
    let n_shuffled = config.ratio * config.ratio;
    let read = (rows.start * n_shuffled) as usize..(rows.end * n_shuffled) as usize;
    patches[read].iter().map(|p| (p + class_rows) as i32).collect()
}
