//! The layers that tower, projector and decoder are made of. Comes in: a graph under construction, handles of
//! weights, activations `[n_embd, n_rows]`. Goes out: the tensor of the result. Every layer treats each row
//! alone, whatever rows ride along. Knows neither files nor configs of whole models. Shapes are proven when a
//! model is loaded, so a wrong one here is our bug and asserts in the graph builder.

use ggml::{DType, Tensor};

use super::net::Net;
use super::operand::{Operand, Sum};
use super::views;
use crate::kernels::{Heads, Product};

/// A matrix `[n_in, n_out]` and what is added to its product.
#[derive(Clone, Copy)]
pub(super) struct Linear {
    pub(super) weight: Tensor,
    pub(super) bias: Option<Tensor>,
}

/// `weight * x + bias`: `[n_in, n_rows]` to `[n_out, n_rows]`.
///
/// The one place that chooses who multiplies, by where the weight lies and its type: our kernels on the CPU where they
/// know it, else ggml.
pub(super) fn linear(net: &mut Net, w: &Linear, x: &mut Operand) -> Sum {
    if let Some(name) = net.watched_input(w.weight) {
        let floats = x.floats(net);
        net.watch(floats, name);
    }
    let product = match product(net, w.weight, x) {
        Some(product) => product,
        None => {
            let x = x.floats(net);
            net.graph.mul_mat(w.weight, x)
        }
    };
    Sum { product, bias: w.bias }
}

/// The product by a kernel of ours, if there is one.
fn product(net: &mut Net, weight: Tensor, x: &mut Operand) -> Option<Tensor> {
    let [n_in, n_out, ..] = net.graph.ne(weight);
    let [_, n_columns] = x.ne(net);
    let (op, columns) = match net.kernels().product(net.graph.dtype(weight), n_in)? {
        Product::OfFloats(op) => (op, x.floats(net)),
        Product::OfPacked(op) => (op, x.packed(net)?),
    };
    Some(net.graph.custom("mul_mat", DType::F32, [n_out, n_columns, 1, 1], &[weight, columns], op))
}

/// Every row of queries attends to every row of keys. Queries, keys and values are in rows of contiguous matrices, each
/// from an element on; the result is `[n_head * head_dim, n_rows]`, a row a query. Only a kernel of ours takes fewer queries than
/// keys.
///
/// On the CPU by ggml's flash attention where there is none of ours. Memory is bounded by tiles in both, whatever
/// `n_rows` is. Devices hold all scores at once. Sums are in f32 everywhere.
pub(super) fn attention_over_all(net: &mut Net, heads: Heads, parts: [(Tensor, u64); 3]) -> Tensor {
    let Heads { n_head, head_dim, .. } = heads;
    let [_, n_rows, ..] = net.graph.ne(parts[0].0);
    let ne = [head_dim * n_head, n_rows, 1, 1];
    if let Some(op) = net.kernels().attend_all(heads, parts.map(|(_, first)| first)) {
        return net.graph.custom("attention", DType::F32, ne, &parts.map(|(rows, _)| rows), op);
    }
    let [q, k, v] = parts;
    let heads = |net: &mut Net, (rows, first)| {
        let heads = views::heads(net, rows, first, [head_dim, n_head]);
        net.graph.permute(heads, [0, 2, 1, 3])
    };
    let [q, k] = [q, k].map(|part| heads(net, part));
    if net.graph.place().is_device() {
        let (rows, first) = v;
        let v = views::columns(net, rows, first, head_dim * n_head);
        let out = attention_by_products(net, [q, k], Values::Rows(v), None);
        return net.graph.reshape(out, ne);
    }
    let v = heads(net, v);
    let out = net.graph.flash_attn(q, k, v, None, inverse_sqrt(head_dim));
    net.graph.reshape(out, ne)
}

/// Attention of `q [head_dim, n_rows, n_head]` over `k [head_dim, n_kv, n_head_kv]` and values, all views, as two products:
/// `[head_dim, n_head, n_rows]`. `mask [n_kv, n_rows]` is added to the scores.
fn attention_by_products(net: &mut Net, [q, k]: [Tensor; 2], v: Values, mask: Option<Tensor>) -> Tensor {
    let [head_dim, ..] = net.graph.ne(q);
    let scores = net.graph.mul_mat(k, q);
    let weights = net.graph.soft_max(scores, mask, inverse_sqrt(head_dim));
    let columns = match v {
        Values::Columns(columns) => columns,
        Values::Rows(rows) => {
            // All heads at once: devices turn a whole matrix by tiles, and parts of one element by element.
            let columns = net.graph.transpose(rows);
            let columns = net.graph.cont(columns);
            let [_, n_kv, n_head_kv, _] = net.graph.ne(k);
            net.graph.reshape(columns, [n_kv, head_dim, n_head_kv, 1])
        }
    };
    let sums = net.graph.mul_mat(columns, weights);
    let sums = net.graph.permute(sums, [0, 2, 1, 3]);
    net.graph.cont(sums)
}

/// Keys and values that queries look at, as they lie in a cache.
pub(super) enum Cached {
    /// Keys `[head_dim, n_kv, n_head_kv]`, values by element in steps of cells:
    /// `[n_cells_a_step, head_dim, n_head_kv, n_steps]`.
    Columns { k: Tensor, v: Tensor },
    /// Both `[head_dim, n_kv, n_head_kv]`, quantized, or such as a device's flash attention reads.
    Rows { k: Tensor, v: Tensor },
    /// For a device's products: keys as in `Rows`.
    ForProducts { k: Tensor, v: Values },
}

/// Values for a device's products.
#[derive(Clone, Copy)]
pub(super) enum Values {
    /// `[n_kv, head_dim, n_head_kv]`
    Columns(Tensor),
    /// Of all heads: `[head_dim * n_head_kv, n_kv]`.
    Rows(Tensor),
}

/// ggml's attention of `q [head_dim, n_head, n_rows]` over cached cells, where there is none of ours; `mask [n_kv, n_rows]` (f16) is added to the
/// scores. Yields `[n_head * head_dim, n_rows]`. `n_head_kv` divides `n_head`: neighbouring queries share a
/// key head.
///
/// On the CPU the bits of a row depend on its own cells only. Columns go through plain products, a fixed order of sums;
/// ggml's flash attention chooses its order by the number of rows and threads for float caches, but has one
/// path only for quantized ones.
pub(super) fn attention_over_cells(net: &mut Net, q: Tensor, cells: &Cached, mask: Tensor) -> Tensor {
    let [head_dim, n_head, n_rows, _] = net.graph.ne(q);
    let scale = inverse_sqrt(head_dim);
    let q = net.graph.permute(q, [0, 2, 1, 3]);
    let out = match *cells {
        Cached::Columns { k, v } => {
            let scores = net.graph.mul_mat(k, q);
            let weights = net.graph.soft_max(scores, Some(mask), scale);
            let [n_cells, _, _, n_steps] = net.graph.ne(v);
            let weights = net.graph.reshape(weights, [n_cells, n_steps, n_rows, n_head]);
            let weights = net.graph.permute(weights, [0, 3, 1, 2]);
            // [head_dim, n_rows, n_head, n_steps], then the sum over steps; hidden steps add zero.
            let sums = net.graph.mul_mat(v, weights);
            let sums = net.graph.permute(sums, [1, 3, 2, 0]);
            let sums = net.graph.cont(sums);
            net.graph.sum_rows(sums)
        }
        Cached::Rows { k, v } => net.graph.flash_attn(q, k, v, Some(mask), scale),
        Cached::ForProducts { k, v } => attention_by_products(net, [q, k], v, Some(mask)),
    };
    net.graph.reshape(out, [head_dim * n_head, n_rows, 1, 1])
}

fn inverse_sqrt(head_dim: u64) -> f32 {
    (1.0 / (head_dim as f64).sqrt()) as f32
}
