//! The graph of the projector: the tower's rows in, rows of the text model's width out.
//! Formulas: `pixel_shuffle` and `mlp1` of InternVL's modeling_internvl_chat.py, LLaVA's `mlp2x_gelu`.

use ggml::{DType, Tensor};
use owlet_format::{Activation, ProjectorConfig, VisionConfig};

use super::grid::shuffle_order;
use super::layers::{linear, rows_from};
use super::net::Net;
use super::operand::{Operand, activation, norm};
use super::weights::ProjectorWeights;

/// The input `[n_patches]` (i32), to be set to [`order`], and the picture's rows:
/// `[n_embd_out, n_image_tokens]`.
pub(super) fn project(
    net: &mut Net,
    tower: &VisionConfig,
    config: &ProjectorConfig,
    weights: &ProjectorWeights,
    hidden: Tensor,
) -> (Tensor, Tensor) {
    let n_patches = u64::from(tower.n_patches());
    let n_embd_in = u64::from(config.n_embd_in(tower.n_embd));
    net.follow(weights.first.weight);
    let order = net.graph.input("order", DType::I32, [n_patches, 1, 1, 1]);
    if net.is_watched("v.out") {
        let patches = rows_from(net, hidden, u64::from(tower.cls), n_patches);
        net.name(patches, "v.out");
    }
    let shuffled = net.graph.get_rows(hidden, order);
    let n_rows = n_patches / u64::from(config.ratio * config.ratio);
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

/// Which hidden rows the projector reads, in order: the pixel shuffle, past the class token's row.
pub(super) fn order(tower: &VisionConfig, config: &ProjectorConfig) -> Vec<i32> {
    let class_rows = u32::from(tower.cls);
    let patches = shuffle_order(tower.grid(), config.ratio, config.shuffle);
    patches.into_iter().map(|p| (p + class_rows) as i32).collect()
}
