//! What an inner loop is given: a panel, a few columns, and where the sums go.

use std::arch::x86_64::{__m256, _mm256_add_ps, _mm256_loadu_ps, _mm256_storeu_ps};

use ggml::Tile;

use super::super::weights::WeightType;
use super::activations::Activations;
use super::panel::Parts;

/// Most columns of one tile, of any class and instruction set.
pub(super) const MAX_COLUMNS: usize = 8;

/// A panel times `n` packed columns.
#[derive(Clone, Copy)]
pub(super) struct Packed {
    pub(super) panel: Parts,
    pub(super) n_blocks: usize,
    /// Codes of the first column at the first block of the chunk; scales and sums of that block.
    pub(super) codes: *const i8,
    pub(super) scales: *const f32,
    pub(super) sums: *const f32,
    pub(super) pairs: *const i32,
    pub(super) half_pairs: *const i32,
    /// From a column to the next.
    pub(super) column_bytes: usize,
    /// What is taken from every code of a low type.
    pub(super) offset: i16,
    pub(super) out: Out,
}

/// A panel times columns over a chunk: what registers of 256 bits take.
#[derive(Clone, Copy)]
pub(super) struct Chunk<'a> {
    pub(super) panel: Parts,
    pub(super) n_blocks: usize,
    pub(super) activations: &'a [Activations],
    /// `[n_rows, n_columns]`: sums of the first chunk are stored, those of later chunks added.
    pub(super) to: *mut f32,
    pub(super) is_first: bool,
}

impl Chunk<'_> {
    /// Stores or adds eight sums, the elements from `at` on.
    ///
    /// # Safety
    /// AVX; they are there.
    #[inline(always)]
    pub(super) unsafe fn store(&self, at: usize, sums: __m256) {
        // SAFETY: the caller's promise.
        unsafe {
            let at = self.to.add(at);
            let total = if self.is_first { sums } else { _mm256_add_ps(_mm256_loadu_ps(at), sums) };
            _mm256_storeu_ps(at, total);
        }
    }
}

/// A panel times `n` columns of f32.
#[derive(Clone, Copy)]
pub(super) struct Floats {
    pub(super) panel: Parts,
    pub(super) n_in: usize,
    pub(super) columns: *const f32,
    /// Elements from a column to the next.
    pub(super) stride: usize,
    pub(super) out: Out,
}

/// A column as loops over rows read it.
#[derive(Clone, Copy)]
pub(super) struct Column {
    pub(super) codes: *const i8,
    pub(super) scales: *const f32,
    pub(super) sums: *const f32,
    pub(super) pairs: *const i32,
    pub(super) half_pairs: *const i32,
}

/// `N` rows, each `row_bytes` long. Those beyond the last are the last one again.
#[derive(Clone, Copy)]
pub(super) struct Rows<const N: usize> {
    pub(super) at: [*const u8; N],
    pub(super) row_bytes: usize,
    pub(super) n_blocks: usize,
}

/// `[n_rows, n]`: sums of the first chunk are stored, those of later chunks added.
#[derive(Clone, Copy)]
pub(super) struct Out {
    pub(super) to: *mut f32,
    /// Elements from a column to the next.
    pub(super) stride: usize,
    pub(super) is_first: bool,
}

impl Out {
    /// Where the sums of `row` and `column` are, and those behind them.
    pub(super) fn of(sums: &mut Tile<'_>, row: usize, column: usize, is_first: bool) -> Out {
        let (rows, columns) = (sums.rows(), sums.columns());
        assert!(rows.contains(&row) && columns.contains(&column), "expected a place within the tile");
        let bytes = sums.column_stride();
        let at = (column - columns.start) * bytes + (row - rows.start) * size_of::<f32>();
        let (to, stride) = (sums.as_mut_ptr().wrapping_add(at).cast(), bytes / size_of::<f32>());
        Out { to, stride, is_first }
    }
}

/// `N` rows of a type times `C` columns.
///
/// # Safety
/// The CPU has what its module says; rows and columns are whole and of one length.
pub(super) type RowsLoop<const N: usize, const C: usize> =
    unsafe fn(WeightType, &Rows<N>, &[Column; C]) -> [[f32; N]; C];

/// An inner loop.
///
/// # Safety
/// The CPU has what its module says; all that the tile points at is there.
pub(super) type ChunkLoop = unsafe fn(&Chunk<'_>);
/// For a number of columns.
pub(super) type PackedTile = unsafe fn(&Packed);
pub(super) type FloatTile = unsafe fn(&Floats);

/// `$function::<1>` to `$function::<N>`, by number of columns.
macro_rules! by_columns {
    ($function:ident, $($n:literal)*) => { &[$($function::<$n>),*] };
    ($function:ident, $flag:literal, $($n:literal)*) => { &[$($function::<$n, $flag>),*] };
}
pub(super) use by_columns;
