//! The graph of the vision tower: a ViT of InternViT's or CLIP's build, between picture columns and the last
//! block's rows. Formulas: InternVL's modeling_intern_vit.py, transformers'
//! modeling_clip.py. Must not know how steps are run.

use ggml::{DType, Tensor};
use owlet_format::VisionConfig;

use super::layers::{Linear, Norm, attention_over_all, linear};
use super::net::Net;
use super::operand::{Operand, Sum, activation, join, norm, norm_of_columns};
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
    let branch = attention(net, config, w, il, hidden);
    let hidden = join(net, hidden, branch, w.scale1);

    let branch = linear(net, &w.up, &mut norm(&w.norm2, hidden));
    let branch = linear(net, &w.down, &mut activation(config.act, branch));
    let hidden = join(net, hidden, branch, w.scale2);
    net.name(hidden, format_args!("v.blk.{il}.out"))
}

fn attention(net: &mut Net, config: &VisionConfig, w: &VisionBlock, il: u32, hidden: Tensor) -> Sum {
    let (n_head, head_dim) = (u64::from(config.n_head), u64::from(config.head_dim()));
    let n_embd = n_head * head_dim;
    let qkv = linear(net, &w.qkv, &mut norm(&w.norm1, hidden)).tensor(net);
    let mut part = |index: u64, over_all_heads: Option<Norm>, name: &str| match over_all_heads {
        None => (qkv, index * n_embd),
        Some(over_all_heads) => {
            let wide = norm_of_columns(net, &over_all_heads, qkv, index * n_embd);
            (net.name(wide, format_args!("v.blk.{il}.{name}")), 0)
        }
    };
    let q = part(0, w.q_norm, "attn_q");
    let k = part(1, w.k_norm, "attn_k");
    let v = part(2, None, "attn_v");
    let out = attention_over_all(net, Heads { n_head, n_head_kv: n_head, head_dim }, [q, k, v]);
    linear(net, &w.out, &mut Operand::given(out)).named(net, format_args!("v.blk.{il}.attn_out"))
}
