//! Arithmetic that ggml does not have: what a kernel of ours is to a graph, and what it sees when it runs.
//!
//! In: tensors as plain bytes ([`Arg`]). Out: a matrix, cut into tiles that threads take one after another, so
//! that a slow core does not stall a fast one. [`crate::GraphBuilder::custom`] makes a node of an operation,
//! [`run_alone`] runs it without a graph. Knows no operation and no C.

mod alone;
mod tile;

use std::fmt;

pub use alone::{Element, run_alone};
pub(crate) use tile::{Grid, NextTile};
pub use tile::{Tile, TileShape};

use crate::DType;

/// An operation of ours, with everything it knows beside its arguments.
///
/// Whoever makes the node chooses the arguments, so an implementation whose unsafe code relies on their types
/// and shapes checks them in [`CustomOp::run`]. Panics are caught: the computation ends in
/// [`crate::Error::Kernel`].
pub trait CustomOp: Send + Sync {
    /// How a result of `ne` rows and columns is cut. Asked once, when the node is made. Many small tiles even out the
    /// speed of the cores, each costs about a function call; a result of one tile needs one thread.
    fn tile(&self, ne: [usize; 2]) -> TileShape;

    /// Computes one tile of the result, all of it: what is not written holds leftovers. Tiles are computed in
    /// any order, by any thread, at the same time. The backend is busy with this very call: what waits for it
    /// here waits for ever.
    fn run(&self, args: &[Arg<'_>], tile: &mut Tile<'_>);
}

/// Most arguments of one operation.
pub const MAX_ARGS: usize = 9;

/// A contiguous tensor that an operation reads.
#[derive(Clone, Copy)]
pub struct Arg<'a> {
    dtype: DType,
    ne: [u64; 4],
    bytes: &'a [u8],
}

impl<'a> Arg<'a> {
    pub(crate) const NONE: Arg<'static> = Arg { dtype: DType::I8, ne: [0; 4], bytes: &[] };

    /// A tensor outside of a graph, for [`run_alone`]. Shape padded with 1.
    ///
    /// # Panics
    /// When `bytes` are not those of this type and shape.
    pub fn new(dtype: DType, ne: [u64; 4], bytes: &'a [u8]) -> Arg<'a> {
        assert!(
            dtype.tensor_bytes(ne) == Some(bytes.len() as u64),
            "argument: expected the bytes of {dtype} {ne:?}, found {}",
            bytes.len()
        );
        Arg { dtype, ne, bytes }
    }

    /// As [`Arg::new`], of f32.
    pub fn of_f32(ne: [u64; 4], values: &'a [f32]) -> Arg<'a> {
        // SAFETY: numbers are bytes.
        Arg::new(DType::F32, ne, unsafe { view(values) })
    }

    /// As [`Arg::new`], of i32.
    pub fn of_i32(ne: [u64; 4], values: &'a [i32]) -> Arg<'a> {
        // SAFETY: numbers are bytes.
        Arg::new(DType::I32, ne, unsafe { view(values) })
    }

    /// As [`Arg::new`], of i64.
    pub fn of_i64(ne: [u64; 4], values: &'a [i64]) -> Arg<'a> {
        // SAFETY: numbers are bytes.
        Arg::new(DType::I64, ne, unsafe { view(values) })
    }

    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Padded with 1.
    pub fn ne(&self) -> [u64; 4] {
        self.ne
    }

    /// Everything, in the order of `ne`, blocks as ggml lays them out. In a graph it begins at a multiple of
    /// the type's own alignment at least.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// # Panics
    /// When these are not f32.
    pub fn f32s(&self) -> &'a [f32] {
        self.expect(&[DType::F32]);
        // SAFETY: every pattern of bits is a number.
        unsafe { view(self.bytes) }
    }

    /// # Panics
    /// When these are not i32.
    pub fn i32s(&self) -> &'a [i32] {
        self.expect(&[DType::I32]);
        // SAFETY: as above.
        unsafe { view(self.bytes) }
    }

    /// # Panics
    /// When these are not i64.
    pub fn i64s(&self) -> &'a [i64] {
        self.expect(&[DType::I64]);
        // SAFETY: as above.
        unsafe { view(self.bytes) }
    }

    /// The bits of each number.
    ///
    /// # Panics
    /// When these are neither f16 nor bf16.
    pub fn u16s(&self) -> &'a [u16] {
        self.expect(&[DType::F16, DType::BF16]);
        // SAFETY: as above.
        unsafe { view(self.bytes) }
    }

    fn expect(&self, dtypes: &[DType]) {
        assert!(dtypes.contains(&self.dtype), "expected an argument of {}, found {self:?}", dtypes[0]);
    }
}

impl fmt::Debug for Arg<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.dtype, self.ne)
    }
}

/// The same bytes as other numbers.
///
/// # Safety
/// Every pattern of bits is a `U`, and a `T` has no padding.
unsafe fn view<T, U>(values: &[T]) -> &[U] {
    // SAFETY: the caller vouches for the bits; align_to sees to alignment and length.
    let (before, values, after) = unsafe { values.align_to::<U>() };
    assert!(before.is_empty() && after.is_empty(), "expected whole, aligned numbers");
    values
}
