//! The graph of the vision tower: a ViT of InternViT's or CLIP's build, between picture columns and the last
//! block's rows. Formulas: InternVL's modeling_intern_vit.py, transformers'
//! modeling_clip.py. Must not know how steps are run.

use ggml::{DType, Tensor};
use owlet_format::VisionConfig;

use super::layers::{Linear, attention_over_all, linear};
use super::net::Net;
use super::operand::{Norm, Operand, activation, join, norm, norm_of_columns};
use super::weights::{VisionBlock, VisionWeights};
use crate::kernels::Heads;

/// Patches to rows: the input `[patch_px * patch_px * 3, n_patches]`, and what block 0 reads, `[n_embd,
/// n_positions]`.
pub(super) fn embed(net: &mut Net, config: &VisionConfig, weights: &VisionWeights) -> (Tensor, Tensor) {
    let n_embd = u64::from(config.n_embd);
    let n_pixels = u64::from(config.patch_px * config.patch_px * 3);
    net.follow(weights.positions);
    let columns = net.graph.input("columns", DType::F32, [n_pixels, config.n_patches().into(), 1, 1]);
    // A convolution whose stride is its width is one product a patch.
    let weight = net.graph.reshape(weights.patch.weight, [n_pixels, n_embd, 1, 1]);
    let patches = linear(net, &Linear { weight, ..weights.patch }, &mut Operand::given(columns));
    let patches = patches.tensor(net);
    let patches = net.name(patches, "patch_embd");
    let rows = match weights.class {
        Some(class) => {
            let class = net.graph.reshape(class, [n_embd, 1, 1, 1]);
            net.graph.concat(class, patches, 1)
        }
        None => patches,
    };
    let rows = net.graph.add(rows, weights.positions);
    let rows = net.name(rows, "pos_embd");
    let Some(pre_norm) = &weights.pre_norm else { return (columns, rows) };
    let rows = norm(pre_norm, rows).floats(net);
    (columns, net.name(rows, "pre_ln"))
}

/// Block `il` on `hidden [n_embd, n_positions]`.
pub(super) fn block(
    net: &mut Net,
    config: &VisionConfig,
    weights: &VisionWeights,
    il: u32,
    hidden: Tensor,
) -> Tensor {
    let w = &weights.blocks[il as usize];
    net.follow(w.norm1.weight);
    let qkv = qkv(net, w, hidden);
    let keys = keys(net, config, w, il, qkv);
    behind(net, config, (w, il), hidden, Attended { qkv, keys, values: qkv })
}

/// What rows attend with and to, each `[.., n]` from an element on: see [`part`].
#[derive(Clone, Copy)]
pub(super) struct Attended {
    /// `[3 * n_embd, n_rows]`: their own queries.
    pub(super) qkv: Tensor,
    /// Of all positions.
    pub(super) keys: (Tensor, u64),
    /// `[3 * n_embd, n_positions]`: of all positions, the last third.
    pub(super) values: Tensor,
}

/// Queries, keys and values of `hidden [n_embd, n_rows]`: `[3 * n_embd, n_rows]`.
pub(super) fn qkv(net: &mut Net, w: &VisionBlock, hidden: Tensor) -> Tensor {
    linear(net, &w.qkv, &mut norm(&w.norm1, hidden)).tensor(net)
}

/// The keys among `qkv`: where they are, and from which element of a row on.
pub(super) fn keys(
    net: &mut Net,
    config: &VisionConfig,
    w: &VisionBlock,
    il: u32,
    qkv: Tensor,
) -> (Tensor, u64) {
    part(net, qkv, u64::from(config.n_embd), w.k_norm.map(|norm| (norm, format!("v.blk.{il}.attn_k"))))
}

/// What block `il`, whose weights are `w`, makes of `hidden [n_embd, n_rows]`, given what these rows attend with and to.
pub(super) fn behind(
    net: &mut Net,
    config: &VisionConfig,
    (w, il): (&VisionBlock, u32),
    hidden: Tensor,
    Attended { qkv, keys, values }: Attended,
) -> Tensor {
    let (n_head, head_dim) = (u64::from(config.n_head), u64::from(config.head_dim()));
    let q = part(net, qkv, 0, w.q_norm.map(|norm| (norm, format!("v.blk.{il}.attn_q"))));
    let v = (values, 2 * n_head * head_dim);
    let out = attention_over_all(net, Heads { n_head, n_head_kv: n_head, head_dim }, [q, keys, v]);
    let branch =
        linear(net, &w.out, &mut Operand::given(out)).named(net, format_args!("v.blk.{il}.attn_out"));
    let hidden = join(net, hidden, branch, w.scale1);

    let branch = linear(net, &w.up, &mut norm(&w.norm2, hidden));
    let branch = linear(net, &w.down, &mut activation(config.act, branch));
    let hidden = join(net, hidden, branch, w.scale2);
    net.name(hidden, format_args!("v.blk.{il}.out"))
}

/// The elements of `qkv`'s rows from `first` on, where they are; or what a norm over all heads makes of them.
fn part(net: &mut Net, qkv: Tensor, first: u64, over_all_heads: Option<(Norm, String)>) -> (Tensor, u64) {
    match over_all_heads {
        None => (qkv, first),
        Some((norm, name)) => {
            let wide = norm_of_columns(net, &norm, qkv, first);
            (net.name(wide, name), 0)
        }
    }
}
