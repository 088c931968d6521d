//! Attention of one query head over the keys and values of a sequence, where they lie. Comes in: queries in f32,
//! keys and values in f32, f16 or q8_0. Goes out: a row of f32 a query.
//!
//! The plain loops here say what every SIMD form must yield, bit for bit. Keys are taken in blocks of
//! [`KEYS`], each with a maximum and sums of its own, and blocks are joined in order (Milakov and Gimelshein
//! 2018). So the bits of a query depend on the cells that it sees and on nothing else, whoever computes which
//! queries together; but for keys and values that are no numbers, which may reach the queries before theirs in the
//! same sequence, whose answers are lost anyway.

mod check;
mod ops;
#[cfg(test)]
mod tests;

use super::functions::exp;
use super::packed::BLOCK;
use super::weights::{WeightType, f16_to_f32, value_plain};

pub use check::agrees;
pub use ops::{AttendAll, AttendCells, Heads};

/// Keys of a block.
pub const KEYS: usize = 256;

/// Where maxima start: below every score, but a number, so that nothing is taken from infinity.
pub const LOWEST: f32 = f32::MIN;

/// A matrix whose rows may lie apart.
#[derive(Clone, Copy)]
pub struct Plane<'a> {
    kind: WeightType,
    bytes: &'a [u8],
    stride: usize,
    n_rows: usize,
    width: usize,
}

/// The keys, or the values, of a head in the cells that a query looks at.
#[derive(Clone, Copy)]
pub struct Cells<'a> {
    pub kind: WeightType,
    /// From the first element of the first cell on.
    pub bytes: &'a [u8],
    /// Bytes from a cell to the next.
    pub stride: usize,
    pub head_dim: usize,
}

/// Queries of one head, rows of a matrix `[width, n]`.
#[derive(Clone, Copy)]
pub struct Queries<'a> {
    pub values: &'a [f32],
    pub width: usize,
    /// Where the head begins in a row.
    pub first: usize,
    pub head_dim: usize,
    /// What a query is multiplied by.
    pub scale: f32,
    pub seen: Seen<'a>,
}

/// How many cells a query sees.
#[derive(Clone, Copy)]
pub enum Seen<'a> {
    All(usize),
    /// The cells up to its own position and that one.
    UpTo(&'a [i32]),
}

impl<'a> Plane<'a> {
    /// `n_rows` rows of `width` elements, `stride` bytes apart.
    ///
    /// # Panics
    /// When `bytes` does not hold them.
    pub fn new(kind: WeightType, bytes: &'a [u8], stride: usize, [width, n_rows]: [usize; 2]) -> Plane<'a> {
        let row_bytes = kind.row_bytes(width).filter(|&n| n > 0 && n <= stride);
        let needed = row_bytes.and_then(|n| stride.checked_mul(n_rows.checked_sub(1)?)?.checked_add(n));
        assert!(
            needed.is_some_and(|n| n <= bytes.len()),
            "expected {n_rows} rows of {width} {kind:?}, found {} bytes in steps of {stride}",
            bytes.len()
        );
        Plane { kind, bytes, stride, n_rows, width }
    }

    pub fn kind(&self) -> WeightType {
        self.kind
    }

    pub fn stride(&self) -> usize {
        self.stride
    }

    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    pub fn width(&self) -> usize {
        self.width
    }

    /// The bytes from row `r` on.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, r: usize) -> &'a [u8] {
        assert!(r < self.n_rows, "expected a row below {}, found {r}", self.n_rows);
        &self.bytes[r * self.stride..]
    }

    /// Element `i` of row `r`.
    pub fn value(&self, r: usize, i: usize) -> f32 {
        assert!(i < self.width, "expected an element below {}, found {i}", self.width);
        let row = self.row(r);
        match self.kind {
            // As `value_plain`, which takes a whole block apart for it.
            WeightType::Q8_0 => {
                let block = &row[i / BLOCK * (2 + BLOCK)..][..2 + BLOCK];
                f32::from(block[2 + i % BLOCK] as i8) * f16_to_f32(u16::from_le_bytes([block[0], block[1]]))
            }
            kind => value_plain(kind, row, i),
        }
    }
}

impl<'a> Cells<'a> {
    /// The first `n` cells of block `b`, `[head_dim, n]`.
    ///
    /// # Panics
    /// When they are not there.
    pub fn block(&self, b: usize, n: usize) -> Plane<'a> {
        let bytes = self.bytes.get(b * KEYS * self.stride..).unwrap_or_default();
        Plane::new(self.kind, bytes, self.stride, [self.head_dim, n])
    }
}

impl<'a> Queries<'a> {
    /// Of row `r`.
    ///
    /// # Panics
    /// When there is none.
    pub fn row(&self, r: usize) -> &'a [f32] {
        &self.values[r * self.width..][..self.width][self.first..][..self.head_dim]
    }

    /// Cells that row `r` sees, at least one.
    ///
    /// # Panics
    /// When there is no such row, or its position is below zero.
    pub fn n_seen(&self, r: usize) -> usize {
        match self.seen {
            Seen::All(n) => n,
            Seen::UpTo(positions) => {
                let last = usize::try_from(positions[r]);
                last.unwrap_or_else(|_| panic!("expected a position, found {}", positions[r])) + 1
            }
        }
    }
}

/// Row `r` of `queries`.
///
/// # Panics
/// When lengths don't belong together.
pub fn attend_plain(queries: &Queries<'_>, r: usize, [keys, values]: &[Cells<'_>; 2], to: &mut [f32]) {
    let (n_seen, head_dim) = (queries.n_seen(r), queries.head_dim);
    assert_eq!(to.len(), head_dim, "elements of a head");
    let query: Vec<f32> = queries.row(r).iter().map(|q| q * queries.scale).collect();
    let (mut maximum, mut weight, mut sums) = (LOWEST, 0f32, vec![0f32; head_dim]);
    for b in 0..n_seen.div_ceil(KEYS) {
        let n = KEYS.min(n_seen - b * KEYS);
        let (keys, values) = (keys.block(b, n), values.block(b, n));
        let scores: Vec<f32> = (0..n)
            .map(|c| (0..head_dim).fold(0.0, |sum: f32, e| keys.value(c, e).mul_add(query[e], sum)))
            .collect();
        let highest = scores.iter().fold(LOWEST, |m, &score| larger(m, score));
        let shares: Vec<f32> = scores.iter().map(|score| exp(score - highest, 0.0)).collect();
        let share = shares.iter().fold(0.0, |sum, share| sum + share);

        let before = maximum;
        maximum = larger(before, highest);
        let (keep, join) = (exp(before - maximum, 0.0), exp(highest - maximum, 0.0));
        weight = share.mul_add(join, weight * keep);
        for (d, to) in sums.iter_mut().enumerate() {
            let sum = (0..n).fold(0.0, |sum: f32, c| values.value(c, d).mul_add(shares[c], sum));
            *to = sum.mul_add(join, *to * keep);
        }
    }
    let inverse = 1.0 / weight;
    for (to, sum) in to.iter_mut().zip(sums) {
        *to = sum * inverse;
    }
}

/// `b` where the two cannot be compared.
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}
