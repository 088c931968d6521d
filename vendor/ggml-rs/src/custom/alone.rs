//! Operations without a graph.

use std::thread;

use super::{Arg, CustomOp, Grid, NextTile};

/// What the elements of a result can be.
pub trait Element: sealed::Element {}

impl Element for f32 {}
impl Element for i8 {}

mod sealed {
    use crate::DType;

    pub trait Element: Send {
        const DTYPE: DType;
    }

    impl Element for f32 {
        const DTYPE: DType = DType::F32;
    }

    impl Element for i8 {
        const DTYPE: DType = DType::I8;
    }
}

/// Runs an operation on `n_threads` threads, the caller's among them, outside of any graph: for tests and for
/// checks of a kernel before it is used. `ne` is rows and columns of the result.
///
/// # Panics
/// When `result` has another size, when the operation panics, and when the system gives no thread.
pub fn run_alone<T: Element>(
    op: &dyn CustomOp,
    args: &[Arg<'_>],
    ne: [usize; 2],
    result: &mut [T],
    n_threads: usize,
) {
    assert!(
        ne[0].checked_mul(ne[1]) == Some(result.len()),
        "run_alone: expected a result of {ne:?}, found {} elements",
        result.len()
    );
    if result.is_empty() {
        return;
    }
    let grid = Grid::new(T::DTYPE, ne, op.tile(ne));
    let next = NextTile::default();
    let result = Shared(result.as_mut_ptr().cast());
    let work = || {
        let Shared(result) = &result;
        // SAFETY: a slice of this size that is borrowed exclusively; all threads end before this function.
        unsafe { grid.share(&next, op, args, *result, || false) }
    };
    thread::scope(|scope| {
        for _ in 1..n_threads.min(grid.n_tiles()) {
            scope.spawn(work);
        }
        work();
    });
}

struct Shared(*mut u8);

// SAFETY: threads make disjoint tiles of it.
unsafe impl Sync for Shared {}
