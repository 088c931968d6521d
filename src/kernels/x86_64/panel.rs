//! A panel: a few rows of weights over one chunk, taken apart for the inner loops. Codes lie in steps of four
//! elements: for every step four bytes of each row, so that one vector holds the same elements of
//! neighbouring rows and one broadcast of four activations meets them all. Scales lie a block at a time, one
//! a row. A thread has one panel and uses it again and again.

use super::super::packed::BLOCK;
use super::super::plain::{CHUNK, FLOAT_CHUNK};
use super::tile::MAX_COLUMNS;

/// Rows of the largest panel.
pub(super) const MAX_ROWS: usize = 32;
/// Rows that are taken apart together.
pub(super) const GROUP: usize = 8;
const MAX_BLOCKS: usize = CHUNK / BLOCK;

#[repr(C, align(64))]
pub(super) struct Panel {
    /// `[4, n_rows, 8 steps, n_blocks]` codes, or `[n_rows, n_elements]` floats.
    codes: [u8; MAX_ROWS * FLOAT_CHUNK * 4],
    /// `[n_rows, n_blocks]`
    scales: [f32; MAX_ROWS * MAX_BLOCKS],
    minimums: [f32; MAX_ROWS * MAX_BLOCKS],
    /// `[n_rows, 2, n_blocks]`: the integer scale of 16 elements, twice, as two i16.
    whole: [u32; MAX_ROWS * MAX_BLOCKS * 2],
    /// `[n_rows, n_blocks]`, `[n_rows, 2, n_blocks]` for 6 bits: what sums of 16 bits start at, two of them.
    starts: [u32; MAX_ROWS * MAX_BLOCKS * 2],
    /// `[n_rows, n_columns]` results of rows that are no whole vector.
    pub(super) edge: [f32; MAX_ROWS * MAX_COLUMNS],
}

const _: () = assert!(CHUNK <= FLOAT_CHUNK * 4);

impl Panel {
    pub(super) fn boxed() -> Box<Panel> {
        Box::new(Panel {
            codes: [0; MAX_ROWS * FLOAT_CHUNK * 4],
            scales: [0.0; MAX_ROWS * MAX_BLOCKS],
            minimums: [0.0; MAX_ROWS * MAX_BLOCKS],
            whole: [0; MAX_ROWS * MAX_BLOCKS * 2],
            starts: [0; MAX_ROWS * MAX_BLOCKS * 2],
            edge: [0.0; MAX_ROWS * MAX_COLUMNS],
        })
    }

    /// Where group `g` of a panel of `n_rows` begins.
    pub(super) fn group(&mut self, g: usize, n_rows: usize) -> Group {
        let first = g * GROUP;
        assert!(n_rows <= MAX_ROWS && first + GROUP <= n_rows);
        Group {
            codes: self.codes[4 * first..].as_mut_ptr(),
            scales: self.scales[first..].as_mut_ptr(),
            minimums: self.minimums[first..].as_mut_ptr(),
            whole: self.whole[first..].as_mut_ptr(),
            starts: self.starts[first..].as_mut_ptr(),
            n_rows,
        }
    }

    pub(super) fn parts(&self) -> Parts {
        Parts {
            codes: self.codes.as_ptr(),
            scales: self.scales.as_ptr(),
            minimums: self.minimums.as_ptr(),
            whole: self.whole.as_ptr(),
            starts: self.starts.as_ptr(),
        }
    }
}

/// Eight neighbouring rows of a panel, to be written. Valid for a chunk of the panel it came from.
pub(super) struct Group {
    pub(super) codes: *mut u8,
    pub(super) scales: *mut f32,
    pub(super) minimums: *mut f32,
    pub(super) whole: *mut u32,
    pub(super) starts: *mut u32,
    /// Of the whole panel: the distance of steps and blocks.
    pub(super) n_rows: usize,
}

/// A panel to be read.
#[derive(Clone, Copy)]
pub(super) struct Parts {
    pub(super) codes: *const u8,
    pub(super) scales: *const f32,
    pub(super) minimums: *const f32,
    pub(super) whole: *const u32,
    pub(super) starts: *const u32,
}
