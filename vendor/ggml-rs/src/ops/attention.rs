//! Attention and positions.

use std::ptr::null_mut;

use super::demand;
use super::matrix::is_matrix;
use crate::{DType, GraphBuilder, Tensor, sys};

/// Which elements of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeMode {
    /// Neighbours: (0, 1), (2, 3), ...
    Normal,
    /// Halves: (0, n/2), (1, n/2 + 1), ...
    Neox,
}

/// Rotary positions (Su et al. 2021): pair i of a head turns by position * freq_base^(-2i / n_dims).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// Leading elements of a head that turn; the rest is kept. Even.
    pub n_dims: u32,
    pub mode: RopeMode,
    pub freq_base: f32,
}

impl GraphBuilder {
    /// Turns the heads of a [head_dim, n_head, n_rows] by `positions`, i32 of `[n_rows]`.
    pub fn rope(&mut self, a: Tensor, positions: Tensor, rope: Rope) -> Tensor {
        let (fa, fp) = (self.f32_rows("rope", a), self.facts("rope", positions));
        let (ne, ne_p) = (fa.shape(), fp.shape());
        demand!(
            fp.dtype() == DType::I32 && fp.is_contiguous() && ne_p == [ne[2], 1, 1, 1],
            "rope: expected one i32 position a row, found {} for {}",
            self.show(positions),
            self.show(a)
        );
        let Rope { n_dims, mode, freq_base } = rope;
        demand!(
            ne[0].is_multiple_of(2) && n_dims.is_multiple_of(2) && (2..=ne[0]).contains(&n_dims.into()),
            "rope: expected an even number of dims of each head, found {n_dims} of {}",
            self.show(a)
        );
        demand!(
            freq_base > 0.0 && freq_base.is_finite(),
            "rope: expected a base above zero, found {freq_base}"
        );
        let mode = match mode {
            RopeMode::Normal => sys::GGML_ROPE_TYPE_NORMAL,
            RopeMode::Neox => sys::GGML_ROPE_TYPE_NEOX,
        };
        self.node("rope", DType::F32, ne, |context| {
            // SAFETY: shapes and types checked. No factors, and the values that switch scaling off.
            unsafe {
                sys::ggml_rope_ext(
                    context,
                    a.raw.as_ptr(),
                    positions.raw.as_ptr(),
                    null_mut(),
                    n_dims as i32,
                    mode,
                    0,
                    freq_base,
                    1.0,
                    0.0,
                    1.0,
                    0.0,
                    0.0,
                )
            }
        })
    }

    /// softmax(scale * a + mask) along the rows of a [n_kv, n_rows, ..]. The mask is f32 or f16
    /// [n_kv, >= n_rows, ..], its outer sizes divide those of a.
    pub fn soft_max(&mut self, a: Tensor, mask: Option<Tensor>, scale: f32) -> Tensor {
        let facts = self.f32_contiguous("soft_max", a);
        let ne = facts.shape();
        if let Some(mask) = mask {
            let fm = self.facts("soft_max", mask);
            let ne_m = fm.shape();
            demand!(
                matches!(fm.dtype(), DType::F32 | DType::F16)
                    && fm.is_contiguous()
                    && ne_m[0] == ne[0]
                    && ne_m[1] >= ne[1]
                    && ne[2].is_multiple_of(ne_m[2])
                    && ne[3].is_multiple_of(ne_m[3]),
                "soft_max: expected a contiguous mask for {}, found {}",
                self.show(a),
                self.show(mask)
            );
        }
        let mask = mask.map_or(null_mut(), |mask| mask.raw.as_ptr());
        self.node("soft_max", DType::F32, ne, |context| {
            // SAFETY: shapes and types checked; a bias of 0 asks for no mask.
            unsafe { sys::ggml_soft_max_ext(context, a.raw.as_ptr(), mask, scale, 0.0) }
        })
    }

    /// Attention in one node, without the matrix of all scores: q [head_dim, n_rows, n_head], k
    /// [head_dim, n_kv, n_head_kv], v [head_dim_v, n_kv, n_head_kv] give f32 [head_dim_v, n_head, n_rows].
    /// k and v are of one type; n_head_kv divides n_head. The mask is f16 [n_kv, >= n_rows]. Scores are
    /// scaled before the mask is added.
    ///
    /// With k and v of f16, ggml adds values in f16 for short batches.
    pub fn flash_attn(
        &mut self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Option<Tensor>,
        scale: f32,
    ) -> Tensor {
        const OP: &str = "flash_attn";
        let (fq, fk, fv) = (self.f32_rows(OP, q), self.facts(OP, k), self.facts(OP, v));
        let (ne_q, ne_k, ne_v) = (fq.shape(), fk.shape(), fv.shape());
        demand!(
            ne_q[0] == ne_k[0]
                && ne_k[1] == ne_v[1]
                && ne_k[2] == ne_v[2]
                && ne_q[2].is_multiple_of(ne_k[2])
                && [ne_k[3], ne_v[3]] == [ne_q[3]; 2],
            "flash_attn: expected heads that match, found {}, {} and {}",
            self.show(q),
            self.show(k),
            self.show(v)
        );
        demand!(
            fk.dtype() == fv.dtype() && is_matrix(fk.dtype()) && fk.has_whole_rows() && fv.has_whole_rows(),
            "flash_attn: expected k and v of one type in whole rows, found {} and {}",
            self.show(k),
            self.show(v)
        );
        if let Some(mask) = mask {
            let fm = self.facts(OP, mask);
            let ne_m = fm.shape();
            demand!(
                fm.dtype() == DType::F16
                    && fm.is_contiguous()
                    && ne_m[0] == ne_k[1]
                    && ne_m[1] >= ne_q[1]
                    && ne_q[2].is_multiple_of(ne_m[2])
                    && ne_q[3].is_multiple_of(ne_m[3]),
                "flash_attn: expected a contiguous f16 mask for {} and {}, found {}",
                self.show(q),
                self.show(k),
                self.show(mask)
            );
        }
        let mask = mask.map_or(null_mut(), |mask| mask.raw.as_ptr());
        self.node(OP, DType::F32, [ne_v[0], ne_q[2], ne_q[1], ne_q[3]], |context| {
            // SAFETY: shapes and types checked, those that ggml takes for granted among them.
            unsafe {
                let (q, k, v) = (q.raw.as_ptr(), k.raw.as_ptr(), v.raw.as_ptr());
                let attention = sys::ggml_flash_attn_ext(context, q, k, v, mask, scale, 0.0, 0.0);
                // Some backends would add in f16 otherwise.
                sys::ggml_flash_attn_ext_set_prec(attention, sys::GGML_PREC_F32);
                attention
            }
        })
    }
}
