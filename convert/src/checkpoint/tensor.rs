//! One tensor of a checkpoint: its type, its shape in PyTorch order, and its place in a file.

use super::dtype::SourceType;

pub const N_TENSORS_MAX: usize = 100_000;

/// A tensor's place. Sizes and strides count elements, outermost first as PyTorch has them.
#[derive(Debug, Clone)]
pub struct SourceTensor {
    /// Which of the checkpoint's files.
    pub file: usize,
    pub dtype: SourceType,
    pub shape: Vec<u64>,
    /// Byte in the file where its first element lies.
    pub offset: u64,
    /// `None`: row-major without gaps.
    pub strides: Option<Vec<u64>>,
    /// Tensors whose rows follow this one's: `shape` is that of all of them.
    pub below: Vec<SourceTensor>,
}

impl SourceTensor {
    /// Elements of the tensor; the readers checked that the count fits.
    pub fn n_elements(&self) -> u64 {
        self.shape.iter().product()
    }

    pub fn n_bytes(&self) -> u64 {
        self.n_elements() * self.dtype.n_bytes()
    }

    /// The file and the byte in it where the first of its parts lies.
    pub fn first_place(&self) -> (usize, u64) {
        let below = self.below.iter().map(|tensor| (tensor.file, tensor.offset));
        below.fold((self.file, self.offset), std::cmp::min)
    }

    /// The tensors that this one is made of, from the top: itself if it is no stack.
    pub(super) fn parts(&self) -> Vec<SourceTensor> {
        if self.below.is_empty() {
            return vec![self.clone()];
        }
        let mut top = SourceTensor { below: Vec::new(), ..self.clone() };
        top.shape[0] -= self.below.iter().map(|tensor| tensor.shape[0]).sum::<u64>();
        [top].into_iter().chain(self.below.iter().cloned()).collect()
    }
}

/// Product of the sizes, `None` beyond 2^64.
pub fn n_elements(shape: &[u64]) -> Option<u64> {
    // a zero anywhere makes the product zero, whatever the others multiply to
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1u64, |n, size| n.checked_mul(*size))
}

/// PyTorch order is printed in round brackets; ggml's order has the square ones.
pub fn shape_text(shape: &[u64]) -> String {
    let sizes: Vec<String> = shape.iter().map(u64::to_string).collect();
    format!("({})", sizes.join(", "))
}
