//! Sums, products, activations and norms. All of f32.

use super::{demand, tiles};
use crate::{GraphBuilder, Tensor, sys};

type Binary = unsafe extern "C" fn(
    *mut sys::ggml_context,
    *mut sys::ggml_tensor,
    *mut sys::ggml_tensor,
) -> *mut sys::ggml_tensor;

impl GraphBuilder {
    /// a + b; b is repeated where its sizes divide those of a. Shape of a.
    pub fn add(&mut self, a: Tensor, b: Tensor) -> Tensor {
        self.binary("add", a, b, sys::ggml_add)
    }

    /// a - b; b is repeated as in [`GraphBuilder::add`].
    pub fn sub(&mut self, a: Tensor, b: Tensor) -> Tensor {
        self.binary("sub", a, b, sys::ggml_sub)
    }

    /// a * b, element by element; b is repeated as in [`GraphBuilder::add`].
    pub fn mul(&mut self, a: Tensor, b: Tensor) -> Tensor {
        self.binary("mul", a, b, sys::ggml_mul)
    }

    /// a / b, element by element; b is repeated as in [`GraphBuilder::add`].
    pub fn div(&mut self, a: Tensor, b: Tensor) -> Tensor {
        self.binary("div", a, b, sys::ggml_div)
    }

    /// a * factor; a is contiguous.
    pub fn scale(&mut self, a: Tensor, factor: f32) -> Tensor {
        let facts = self.f32_contiguous("scale", a);
        self.node("scale", facts.dtype(), facts.shape(), |context| {
            // SAFETY: contiguous f32.
            unsafe { sys::ggml_scale(context, a.raw.as_ptr(), factor) }
        })
    }

    /// x * Phi(x) with the error function, not an approximation; a is contiguous.
    pub fn gelu_erf(&mut self, a: Tensor) -> Tensor {
        self.unary("gelu_erf", a, sys::GGML_UNARY_OP_GELU_ERF)
    }

    /// x * sigmoid(1.702 x); a is contiguous. Three nodes, because ggml's own goes through a table of f16.
    pub fn gelu_quick(&mut self, a: Tensor) -> Tensor {
        let scaled = self.scale(a, 1.702);
        let gate = self.unary("gelu_quick", scaled, sys::GGML_UNARY_OP_SIGMOID);
        self.mul(gate, a)
    }

    /// x * sigmoid(x); a is contiguous.
    pub fn silu(&mut self, a: Tensor) -> Tensor {
        self.unary("silu", a, sys::GGML_UNARY_OP_SILU)
    }

    /// silu(gate) * up; both contiguous and of one shape.
    pub fn swiglu_split(&mut self, gate: Tensor, up: Tensor) -> Tensor {
        let facts = self.f32_contiguous("swiglu_split", gate);
        let other = self.f32_contiguous("swiglu_split", up);
        demand!(
            facts.ne == other.ne,
            "swiglu_split: expected one shape, found {} and {}",
            self.show(gate),
            self.show(up)
        );
        self.node("swiglu_split", facts.dtype(), facts.shape(), |context| {
            // SAFETY: contiguous f32 of one shape.
            unsafe { sys::ggml_swiglu_split(context, gate.raw.as_ptr(), up.raw.as_ptr()) }
        })
    }

    /// Each row less its mean, over its standard deviation: (x - mean) / sqrt(variance + eps).
    pub fn norm(&mut self, a: Tensor, eps: f32) -> Tensor {
        let facts = self.f32_rows("norm", a);
        demand!(eps >= 0.0 && eps.is_finite(), "norm: expected eps >= 0, found {eps}");
        self.node("norm", facts.dtype(), facts.shape(), |context| {
            // SAFETY: rows of f32, eps >= 0.
            unsafe { sys::ggml_norm(context, a.raw.as_ptr(), eps) }
        })
    }

    /// Each row over its root mean square: x / sqrt(mean(x^2) + eps).
    pub fn rms_norm(&mut self, a: Tensor, eps: f32) -> Tensor {
        let facts = self.f32_rows("rms_norm", a);
        demand!(eps >= 0.0 && eps.is_finite(), "rms_norm: expected eps >= 0, found {eps}");
        self.node("rms_norm", facts.dtype(), facts.shape(), |context| {
            // SAFETY: rows of f32, eps >= 0.
            unsafe { sys::ggml_rms_norm(context, a.raw.as_ptr(), eps) }
        })
    }

    /// The sum of each row [n, ..] as a row of one, [1, ..]; added one after another, in f64.
    pub fn sum_rows(&mut self, a: Tensor) -> Tensor {
        let facts = self.f32_rows("sum_rows", a);
        let [_, n1, n2, n3] = facts.shape();
        self.node("sum_rows", facts.dtype(), [1, n1, n2, n3], |context| {
            // SAFETY: rows of f32.
            unsafe { sys::ggml_sum_rows(context, a.raw.as_ptr()) }
        })
    }

    fn binary(&mut self, op: &str, a: Tensor, b: Tensor, function: Binary) -> Tensor {
        let facts = self.f32_rows(op, a);
        let other = self.f32_rows(op, b);
        demand!(
            tiles(other.shape(), facts.shape()),
            "{op}: expected the second to tile the first, found {} and {}",
            self.show(a),
            self.show(b)
        );
        self.node(op, facts.dtype(), facts.shape(), |context| {
            // SAFETY: rows of f32, and b repeats to the shape of a.
            unsafe { function(context, a.raw.as_ptr(), b.raw.as_ptr()) }
        })
    }

    fn unary(&mut self, op: &str, a: Tensor, code: i32) -> Tensor {
        let facts = self.f32_contiguous(op, a);
        self.node(op, facts.dtype(), facts.shape(), |context| {
            // SAFETY: contiguous f32; the code is one of ggml's unary operations.
            unsafe { sys::ggml_unary(context, a.raw.as_ptr(), code) }
        })
    }
}
