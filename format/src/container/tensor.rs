//! What a header says about a tensor: shape, type, and where its bytes lie.

use std::fmt;

use ggml::DType;

use super::size::Size;

/// A tensor's side lengths in ggml's order, innermost first: `[n_in, n_out]` for a matrix.
///
/// Sides that are not there count as 1, so `[8]` equals `[8, 1]`.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    ne: [u64; 4],
    n_dims: u8,
}

impl Shape {
    pub const MAX_DIMS: usize = 4;

    /// `None` unless there are one to four sides, each at least 1, with at most 2^62 elements together.
    pub fn new(dims: &[u64]) -> Option<Self> {
        let mut ne = [1; Self::MAX_DIMS];
        ne.get_mut(..dims.len())?.copy_from_slice(dims);
        let n_dims = u8::try_from(dims.len()).ok().filter(|&n| n > 0)?;
        let mut n_elements = Size(1);
        for &n in dims.iter() {
            n_elements = n_elements.times(Size(n)).filter(|&n| (Size(1)..=Size(1 << 62)).contains(&n))?;
        }
        Some(Self { ne, n_dims })
    }

    /// The sides that were stated.
    pub fn dims(&self) -> &[u64] {
        &self.ne[..self.n_dims as usize]
    }

    /// All four sides.
    pub fn padded(&self) -> [u64; 4] {
        self.ne
    }

    pub fn n_elements(&self) -> u64 {
        self.ne.iter().product()
    }

    /// Rows of `ne[0]` elements.
    pub fn n_rows(&self) -> u64 {
        self.ne[1..].iter().product()
    }

    /// Bytes that a tensor of this shape takes as `dtype`; `None` where its rows are no whole blocks or the
    /// number does not fit.
    pub fn n_bytes(&self, dtype: DType) -> Option<u64> {
        let row = dtype.row_bytes(self.ne[0])?;
        Size(row).times(Size(self.n_rows())).map(|size| size.0)
    }
}

/// # Panics
/// Where a side is 0. Sides that come from a file go through [`Shape::new`].
impl<const N: usize> From<[u32; N]> for Shape {
    fn from(dims: [u32; N]) -> Self {
        const { assert!(N >= 1 && N <= Self::MAX_DIMS) }
        match Self::new(&dims.map(u64::from)) {
            Some(shape) => shape,
            None => panic!("a shape of {dims:?}"),
        }
    }
}

impl PartialEq for Shape {
    fn eq(&self, other: &Self) -> bool {
        self.ne == other.ne
    }
}

impl Eq for Shape {}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.dims()).finish()
    }
}

/// A tensor of a file. All of its bytes lie inside of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    pub name: String,
    pub dtype: DType,
    pub shape: Shape,
    /// Position of the first byte, counted from the start of the file; a multiple of the alignment.
    pub offset: u64,
    pub n_bytes: u64,
}
