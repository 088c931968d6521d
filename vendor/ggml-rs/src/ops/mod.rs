//! The operations of a [`GraphBuilder`], by what they do. Each checks what ggml's own assertions and loops
//! assume, then calls one function of ggml.

mod attention;
mod custom;
mod elementwise;
mod matrix;
mod shape;
#[cfg(test)]
pub(crate) mod tests;

pub use attention::{Rope, RopeMode};
pub(crate) use custom::Customs;

use crate::sys::TensorFacts;
use crate::{DType, GraphBuilder, Tensor};

/// Stops with op and shapes: the graph code is wrong.
macro_rules! demand {
    ($condition:expr, $($message:tt)*) => {
        if !$condition {
            panic!($($message)*);
        }
    };
}
pub(crate) use demand;

impl GraphBuilder {
    /// What is known of a f32 tensor with whole rows.
    fn f32_rows(&self, op: &str, tensor: Tensor) -> TensorFacts {
        let facts = self.facts(op, tensor);
        demand!(
            facts.dtype() == DType::F32 && facts.has_whole_rows(),
            "{op}: expected f32 in whole rows, found {}",
            self.show(tensor)
        );
        facts
    }

    /// What is known of a contiguous f32 tensor.
    fn f32_contiguous(&self, op: &str, tensor: Tensor) -> TensorFacts {
        let facts = self.facts(op, tensor);
        demand!(
            facts.dtype() == DType::F32 && facts.is_contiguous(),
            "{op}: expected contiguous f32, found {}",
            self.show(tensor)
        );
        facts
    }
}

/// Whether copies of `small` tile `large`.
fn tiles(small: [u64; 4], large: [u64; 4]) -> bool {
    small.iter().zip(&large).all(|(small, large)| large.is_multiple_of(*small))
}
