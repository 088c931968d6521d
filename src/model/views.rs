//! Parts of contiguous matrices of f32, seen where they lie: nothing is copied. Knows no layers.

use std::ops::Range;

use ggml::Tensor;

use super::net::Net;

const F32_BYTES: u64 = size_of::<f32>() as u64;

/// `width` elements from `first` on of every row of a contiguous `x [n, n_rows]`: a view `[width, n_rows]`.
pub(super) fn columns(net: &mut Net, x: Tensor, first: u64, width: u64) -> Tensor {
    let [n, n_rows, ..] = net.graph.ne(x);
    net.graph.view_2d(x, [width, n_rows], n * F32_BYTES, first * F32_BYTES)
}

/// The same as [`columns`] as heads: a view `[head_dim, n_head, n_rows]`.
pub(super) fn heads(net: &mut Net, x: Tensor, first: u64, [head_dim, n_head]: [u64; 2]) -> Tensor {
    let [n, n_rows, ..] = net.graph.ne(x);
    let strides = [head_dim * F32_BYTES, n * F32_BYTES];
    net.graph.view_3d(x, [head_dim, n_head, n_rows], strides, first * F32_BYTES)
}

/// Rows `rows` of a contiguous `x [n, ...]`: a view `[n, rows.len()]`.
pub(super) fn rows(net: &mut Net, x: Tensor, rows: Range<u32>) -> Tensor {
    let [n, ..] = net.graph.ne(x);
    let row_bytes = n * F32_BYTES;
    net.graph.view_2d(x, [n, rows.len() as u64], row_bytes, u64::from(rows.start) * row_bytes)
}
