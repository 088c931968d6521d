//! Matrix products, and rows by number.

use super::demand;
use crate::{DType, GraphBuilder, Tensor, sys};

impl GraphBuilder {
    /// a [k, m, ..] by b [k, n, ..] gives f32 [m, n, ..]: each column of b with each row of a. The outer
    /// sizes of a divide those of b. Sums are of f32 for float types; for quantized a, the columns are
    /// quantized to 8 bits first. b is f32, or f16 for a of f16. Devices add in f32 as well.
    pub fn mul_mat(&mut self, a: Tensor, b: Tensor) -> Tensor {
        let (fa, fb) = (self.facts("mul_mat", a), self.facts("mul_mat", b));
        let (ne_a, ne_b) = (fa.shape(), fb.shape());
        demand!(
            ne_a[0] == ne_b[0] && ne_b[2].is_multiple_of(ne_a[2]) && ne_b[3].is_multiple_of(ne_a[3]),
            "mul_mat: expected rows of one length and outer sizes that divide, found {} and {}",
            self.show(a),
            self.show(b)
        );
        demand!(
            is_matrix(fa.dtype()) && fa.has_whole_rows() && fa.nb[1] >= fa.nb[0],
            "mul_mat: expected a matrix in whole rows, found {}",
            self.show(a)
        );
        let of_f16 = fa.dtype() == DType::F16 && fb.dtype() == DType::F16;
        demand!(
            (fb.dtype() == DType::F32 || of_f16) && fb.has_whole_rows(),
            "mul_mat: expected f32 in whole rows, found {}",
            self.show(b)
        );
        let ne = [ne_a[1], ne_b[1], ne_b[2], ne_b[3]];
        self.node("mul_mat", DType::F32, ne, |context| {
            // SAFETY: shapes and types checked against ggml_can_mul_mat and the CPU's loops.
            unsafe {
                let product = sys::ggml_mul_mat(context, a.raw.as_ptr(), b.raw.as_ptr());
                // Some backends would add, and keep activations, in f16 otherwise, which a tower overflows.
                sys::ggml_prec_set_acc(product, sys::GGML_PREC_F32);
                product
            }
        })
    }

    /// The rows of a [k, m] that `ids`, an i32 input of `[n]`, number, as f32 [k, n]. Outer sizes of ids are those
    /// of a, one dimension further in.
    pub fn get_rows(&mut self, a: Tensor, ids: Tensor) -> Tensor {
        let (fa, fi) = (self.facts("get_rows", a), self.facts("get_rows", ids));
        let (ne_a, ne_i) = (fa.shape(), fi.shape());
        demand!(
            is_matrix(fa.dtype()) && fa.has_whole_rows() && fi.dtype() == DType::I32,
            "get_rows: expected a matrix in whole rows and i32, found {} and {}",
            self.show(a),
            self.show(ids)
        );
        demand!(
            ne_a[2] == ne_i[1] && ne_a[3] == ne_i[2] && ne_i[3] == 1,
            "get_rows: expected outer sizes to match, found {} and {}",
            self.show(a),
            self.show(ids)
        );
        self.limit_ids("get_rows", ids, ne_a[1]);
        self.node("get_rows", DType::F32, [ne_a[0], ne_i[0], ne_i[1], ne_i[2]], |context| {
            // SAFETY: shapes checked; the executor checks the row numbers.
            unsafe { sys::ggml_get_rows(context, a.raw.as_ptr(), ids.raw.as_ptr()) }
        })
    }

    /// Writes `rows` [k, n, ..] (f32, or f16 where the destination is) over the rows of `destination`
    /// [k, m, ..], which lies in memory, that `ids`, an i64 or i32 input of `[n]`, number. Yields the destination.
    /// Of two rows with one number, either may stay.
    pub fn set_rows(&mut self, destination: Tensor, rows: Tensor, ids: Tensor) -> Tensor {
        const OP: &str = "set_rows";
        let (fd, fr) = (self.facts(OP, destination), self.facts(OP, rows));
        let fi = self.facts(OP, ids);
        let (ne_d, ne_r, ne_i) = (fd.shape(), fr.shape(), fi.shape());
        demand!(
            ne_d[0] == ne_r[0]
                && ne_d[2] == ne_r[2]
                && ne_d[3] == ne_r[3]
                && ne_r[1] == ne_i[0]
                && ne_r[2].is_multiple_of(ne_i[1])
                && ne_r[3].is_multiple_of(ne_i[2])
                && ne_i[3] == 1,
            "set_rows: expected one row a number, found {} into {} at {}",
            self.show(rows),
            self.show(destination),
            self.show(ids)
        );
        let f16 = fr.dtype() == DType::F16 && fd.dtype() == DType::F16;
        demand!(
            (fr.dtype() == DType::F32 || f16) && fr.has_whole_rows(),
            "set_rows: expected rows of f32, found {}",
            self.show(rows)
        );
        demand!(
            is_row_target(fd.dtype()) && fd.has_whole_rows(),
            "set_rows: expected a type that rows are written to, found {}",
            self.show(destination)
        );
        demand!(
            matches!(fi.dtype(), DType::I64 | DType::I32),
            "set_rows: expected i64 or i32, found {}",
            self.show(ids)
        );
        self.demand_memory(OP, destination, rows);
        self.limit_ids(OP, ids, ne_d[1]);
        self.node(OP, fd.dtype(), ne_d, |context| {
            // SAFETY: shapes and types checked; the destination is ours to write; the executor checks the
            // row numbers.
            unsafe {
                sys::ggml_set_rows(context, destination.raw.as_ptr(), rows.raw.as_ptr(), ids.raw.as_ptr())
            }
        })
    }

    /// Only memory is written to: weights are read-only, and the allocator may have given the place of a
    /// node to another one. What is written lies elsewhere.
    pub(super) fn demand_memory(&self, op: &str, destination: Tensor, source: Tensor) {
        let root = self.facts(op, destination).root;
        demand!(
            self.memories.iter().any(|memory| memory.owns(root)),
            "{op}: expected a destination in memory, found {}",
            self.show(destination)
        );
        demand!(
            root != self.facts(op, source).root,
            "{op}: expected to read from elsewhere than {}",
            self.show(destination)
        );
    }
}

/// Types whose rows ggml's CPU code multiplies and expands to f32.
pub(super) fn is_matrix(dtype: DType) -> bool {
    let activations_only = matches!(dtype, DType::Q8_1 | DType::Q8_K);
    (dtype.is_quantized() && !activations_only) || matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
}

/// Types that ggml's CPU code makes of f32 while a graph runs.
fn is_row_target(dtype: DType) -> bool {
    use DType::*;
    matches!(dtype, F32 | F16 | BF16 | Q8_0 | Q4_0 | Q4_1 | Q5_0 | Q5_1 | IQ4_NL)
}
