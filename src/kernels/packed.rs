//! Activations as the integer kernels read them. Comes in: columns of f32, `[n_in, n_columns]`. Goes out: for
//! every column its codes, one byte each, and for every 32 of them a scale and sums, so that a weight's
//! constant offset or minimum costs one step a block. The plain loop here says what every SIMD form must
//! yield, bit for bit.

/// Elements that share a scale.
pub const BLOCK: usize = 32;

/// Magnitudes below this are taken for zero: the reciprocal of a smaller scale would overflow.
const LEAST: f32 = 1e-30;

/// Where the parts of a packed column lie, in bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    n_in: usize,
}

impl Layout {
    /// None unless `n_in` is whole blocks.
    pub const fn new(n_in: usize) -> Option<Layout> {
        if n_in == 0 || !n_in.is_multiple_of(BLOCK) { None } else { Some(Layout { n_in }) }
    }

    pub const fn n_in(self) -> usize {
        self.n_in
    }

    pub const fn n_blocks(self) -> usize {
        self.n_in / BLOCK
    }

    /// Codes from -127 to 127, in order, are at 0. Behind them an f32 a block: value = scale * code.
    pub const fn scales(self) -> usize {
        self.n_in
    }

    /// An f32 a block: scale * (sum of its codes).
    pub const fn sums(self) -> usize {
        self.n_in + 4 * self.n_blocks()
    }

    /// Two i16 a block: sums of the codes whose place modulo 4 is 0 or 1, and of those where it is 2 or 3.
    pub const fn pairs(self) -> usize {
        self.n_in + 8 * self.n_blocks()
    }

    /// The same as [`pairs`](Self::pairs) over the first 16 codes of a block.
    pub const fn half_pairs(self) -> usize {
        self.n_in + 12 * self.n_blocks()
    }

    /// Bytes of a column, a multiple of 16.
    pub const fn column_bytes(self) -> usize {
        self.n_in + 16 * self.n_blocks()
    }
}

/// Packs one column.
///
/// A block whose values are not all finite gets a scale that is not finite, so that products with it say so.
///
/// # Panics
/// When `column` is not `n_in` long or `packed` not a column.
pub fn pack_plain(column: &[f32], packed: &mut [u8]) {
    let layout = Layout::new(column.len()).expect("a column is whole blocks");
    assert_eq!(packed.len(), layout.column_bytes(), "bytes of a packed column");
    for (b, values) in column.chunks_exact(BLOCK).enumerate() {
        let (codes, scale) = codes_of(values);
        let sum = |range: std::ops::Range<usize>, pair: usize| -> i16 {
            range.filter(|i| (i % 4) / 2 == pair).map(|i| i16::from(codes[i])).sum()
        };
        let total: i32 = codes.iter().map(|&c| i32::from(c)).sum();
        for (at, &code) in packed[b * BLOCK..].iter_mut().zip(&codes) {
            *at = code as u8;
        }
        let pair = |n: usize| [sum(0..n, 0).to_le_bytes(), sum(0..n, 1).to_le_bytes()].concat();
        packed[layout.scales() + 4 * b..][..4].copy_from_slice(&scale.to_le_bytes());
        packed[layout.sums() + 4 * b..][..4].copy_from_slice(&(scale * total as f32).to_le_bytes());
        packed[layout.pairs() + 4 * b..][..4].copy_from_slice(&pair(BLOCK));
        packed[layout.half_pairs() + 4 * b..][..4].copy_from_slice(&pair(BLOCK / 2));
    }
}

/// Codes and scale of one block.
fn codes_of(values: &[f32]) -> ([i8; BLOCK], f32) {
    // As integers, so that the largest magnitude is NaN as soon as one value is.
    let largest = values.iter().map(|v| v.abs().to_bits()).max().unwrap_or(0);
    let largest = f32::from_bits(largest);
    let mut codes = [0; BLOCK];
    if largest < LEAST {
        return (codes, 0.0);
    }
    let inverse = 127.0 / largest;
    for (code, value) in codes.iter_mut().zip(values) {
        let scaled = (value * inverse).round_ties_even();
        *code = if scaled.is_nan() { -127 } else { scaled as i8 };
    }
    (codes, largest / 127.0)
}
