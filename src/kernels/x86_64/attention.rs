//! Attention, written once over [`Vector`]. What the bits are is said in [`super::super::attention`]: every sum goes
//! in one order, so lanes may be whatever lies side by side.
//!
//! Many queries are the lanes of a vector, sixteen a group, and a key's or a value's elements are broadcast to
//! them. A few queries go one by one, see [`super::attention_one`].

use std::arch::x86_64::{__m256, __m512};
use std::cell::RefCell;
use std::ops::Range;

use ggml::Tile;

use super::super::attention::{Cells, KEYS, LOWEST, Plane, Queries};
use super::super::passes::LANES;
use super::super::weights::WeightType;
use super::attention_one::one;
use super::functions::exp;
use super::vector::Vector;
use super::{Simd, stage};

/// Queries of one sequence from which on they are worth a group of lanes, by measurement.
const FEW: usize = 6;

thread_local! {
    static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch { values: Vec::new() }) };
}

/// Room for what a thread is at work with. Grows to the largest task.
pub(super) struct Scratch {
    values: Vec<f32>,
}

impl Scratch {
    /// Parts of so many elements each, in whole vectors.
    pub(super) fn parts<const N: usize>(&mut self, n: [usize; N]) -> [*mut f32; N] {
        let n = n.map(|n| n.next_multiple_of(LANES));
        let total = n.iter().sum();
        if self.values.len() < total {
            self.values.resize(total, 0.0);
        }
        let (start, mut at) = (self.values.as_mut_ptr(), 0);
        n.map(|n| {
            at += n;
            start.wrapping_add(at - n)
        })
    }
}

/// What a tile works with.
pub(super) struct Job<'a> {
    pub(super) queries: &'a Queries<'a>,
    pub(super) keys: &'a Cells<'a>,
    pub(super) values: &'a Cells<'a>,
    /// Queries.
    rows: Range<usize>,
}

impl Simd {
    /// `rows` of `queries`, each to its column of `to`, see [`super::super::attention`].
    ///
    /// # Panics
    /// When lengths don't belong together, or cells are neither f32 nor f16 nor q8_0.
    pub fn attend(
        self,
        queries: &Queries<'_>,
        [keys, values]: &[Cells<'_>; 2],
        rows: Range<usize>,
        to: &mut Tile<'_>,
    ) {
        let head_dim = queries.head_dim;
        assert!([keys, values].iter().all(|cells| cells.head_dim == head_dim), "expected one size of heads");
        let job = Job { queries, keys, values, rows };
        SCRATCH.with_borrow_mut(|scratch| {
            // SAFETY: the level says what the CPU has; planes, queries and tiles check who reads or writes them.
            unsafe { if self.has_512() { avx512(&job, scratch, to) } else { avx2(&job, scratch, to) } }
        });
    }
}

/// # Safety
/// AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn avx2(job: &Job<'_>, scratch: &mut Scratch, to: &mut Tile<'_>) {
    // SAFETY: the caller's promise. Six rows of two vectors are as many sums as there are registers for.
    unsafe { attend::<[__m256; 2], 6>(job, scratch, to) }
}

/// # Safety
/// As [`avx2`], and AVX-512 F.
#[target_feature(enable = "avx2,fma,f16c,avx512f")]
unsafe fn avx512(job: &Job<'_>, scratch: &mut Scratch, to: &mut Tile<'_>) {
    // SAFETY: the caller's promise. Twelve rows hide the time that a multiply-add takes.
    unsafe { attend::<__m512, 12>(job, scratch, to) }
}

// No closure below touches a vector: it would not have the instructions of the function that it is in.

#[inline(always)]
unsafe fn attend<V: Vector, const R: usize>(job: &Job<'_>, scratch: &mut Scratch, to: &mut Tile<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        if job.rows.len() < FEW {
            for row in job.rows.clone() {
                one::<V>(job, row, scratch, to.column_f32(row));
            }
        } else {
            many::<V, R>(job, scratch, to);
        }
    }
}

/// A group of lanes: queries at work.
struct Group {
    /// `[LANES, head_dim]`: queries, times their scale.
    query: *mut f32,
    /// `[LANES, head_dim]`: sums of values.
    sums: *mut f32,
    /// `[LANES]` each: the maximum so far, and the weight of what is in `sums`.
    maximum: *mut f32,
    weight: *mut f32,
    /// How many cells the query of a lane sees, as numbers to compare with.
    n_seen: [f32; LANES],
    /// The most and the least that one of them sees.
    most: usize,
    least: usize,
}

#[inline(always)]
unsafe fn many<V: Vector, const R: usize>(job: &Job<'_>, scratch: &mut Scratch, to: &mut Tile<'_>) {
    let head_dim = job.queries.head_dim;
    let n_groups = job.rows.len().div_ceil(LANES);
    let state = n_groups * LANES;
    let [query, sums, maximum, weight, shares, keys, values] = scratch.parts([
        state * head_dim,
        state * head_dim,
        state,
        state,
        KEYS * LANES,
        KEYS * head_dim,
        KEYS * head_dim,
    ]);
    let group = |g: usize| {
        let at = g * LANES * head_dim;
        let row = |lane: usize| (job.rows.start + g * LANES + lane).min(job.rows.end - 1);
        let n_seen: [usize; LANES] = std::array::from_fn(|lane| job.queries.n_seen(row(lane)));
        Group {
            query: query.wrapping_add(at),
            sums: sums.wrapping_add(at),
            maximum: maximum.wrapping_add(g * LANES),
            weight: weight.wrapping_add(g * LANES),
            n_seen: n_seen.map(|n| n as f32),
            most: n_seen.into_iter().max().unwrap_or(0),
            least: n_seen.into_iter().min().unwrap_or(0),
        }
    };
    let rows_of = |g: usize| job.rows.start + g * LANES..job.rows.end.min(job.rows.start + (g + 1) * LANES);
    // SAFETY: the caller's promise; all parts are as long as their shapes say.
    unsafe {
        for g in 0..n_groups {
            begin::<V>(job, rows_of(g), &group(g));
        }
        let n_seen = (0..n_groups).map(|g| group(g).most).max().unwrap_or(0);
        for b in 0..n_seen.div_ceil(KEYS) {
            let n = KEYS.min(n_seen - b * KEYS);
            let keys = in_order(&job.keys.block(b, n), keys);
            stage::turned(&job.values.block(b, n), values, KEYS);
            for g in 0..n_groups {
                let group = group(g);
                if group.most > b * KEYS {
                    let n = n.min(group.most - b * KEYS);
                    let share = share::<V, R>(&group, keys, b * KEYS..b * KEYS + n, head_dim, shares);
                    join::<V, R>(&group, share, (shares, n), (values, KEYS), head_dim);
                }
            }
        }
        for g in 0..n_groups {
            end::<V>(&group(g), rows_of(g), head_dim, to);
        }
    }
}

/// Where the rows of `plane` are in f32, and how far apart: in place if they can be, else in `room`.
#[inline(always)]
unsafe fn in_order(plane: &Plane<'_>, room: *mut f32) -> (*const f32, usize) {
    let size = size_of::<f32>();
    let at = plane.row(0).as_ptr().cast::<f32>();
    if plane.kind() == WeightType::F32 && plane.stride().is_multiple_of(size) && at.is_aligned() {
        return (at, plane.stride() / size);
    }
    // SAFETY: the caller's promise.
    unsafe { stage::in_order(plane, room, plane.width()) };
    (room, plane.width())
}

/// Packs the queries of a group, and sets its sums to nothing.
#[inline(always)]
unsafe fn begin<V: Vector>(job: &Job<'_>, rows: Range<usize>, group: &Group) {
    // SAFETY: the caller's promise.
    unsafe {
        for lane in 0..LANES {
            let row = job.queries.row((rows.start + lane).min(rows.end - 1));
            for (e, q) in row.iter().enumerate() {
                *group.query.add(e * LANES + lane) = q * job.queries.scale;
            }
        }
        for e in 0..job.queries.head_dim {
            V::of(0.0).store(group.sums.add(e * LANES));
        }
        V::of(LOWEST).store(group.maximum);
        V::of(0.0).store(group.weight);
    }
}

/// What a block's shares are worth.
struct Share<V> {
    /// What the sums so far, and those of the block, are multiplied by before they are added.
    keep: V,
    join: V,
}

/// Scores of a block of keys, the cells `cells` of the sequence, and from them its shares `[LANES, n]`.
#[inline(always)]
unsafe fn share<V: Vector, const R: usize>(
    group: &Group,
    (keys, stride): (*const f32, usize),
    cells: Range<usize>,
    head_dim: usize,
    shares: *mut f32,
) -> Share<V> {
    // SAFETY: the caller's promise.
    unsafe {
        let n = cells.len();
        let n_seen = (group.least < cells.end).then_some(group.n_seen.as_ptr());
        let mut scores = Scores { to: shares, highest: V::of(LOWEST), first: cells.start, n_seen };
        products::<V, R>((keys, stride), [n, head_dim], group.query, &mut scores);
        let highest = scores.highest;
        let zero = V::of(0.0);
        let mut share = zero;
        for c in 0..n {
            let at = shares.add(c * LANES);
            let power = exp(V::load(at).sub(highest), zero);
            power.store(at);
            share = share.add(power);
        }
        let before = V::load(group.maximum);
        let maximum = before.max(highest);
        let (keep, join) = (exp(before.sub(maximum), zero), exp(highest.sub(maximum), zero));
        maximum.store(group.maximum);
        share.mul_add(join, V::load(group.weight).mul(keep)).store(group.weight);
        Share { keep, join }
    }
}

/// Adds a block's values by their shares.
#[inline(always)]
unsafe fn join<V: Vector, const R: usize>(
    group: &Group,
    share: Share<V>,
    (shares, n): (*const f32, usize),
    values: (*const f32, usize),
    head_dim: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = Joined { to: group.sums, share };
        products::<V, R>(values, [head_dim, n], shares, &mut sums);
    }
}

/// What takes the rows of a product.
trait Take<V> {
    /// # Safety
    /// The CPU has the instructions of `V`; there is such a row.
    unsafe fn take(&mut self, row: usize, sum: V);
}

/// Scores go to their cells.
struct Scores<V> {
    to: *mut f32,
    highest: V,
    /// The cell of row 0.
    first: usize,
    /// `[LANES]`, where not every lane sees all cells.
    n_seen: Option<*const f32>,
}

impl<V: Vector> Take<V> for Scores<V> {
    #[inline(always)]
    unsafe fn take(&mut self, row: usize, score: V) {
        // SAFETY: the caller's promise.
        unsafe {
            let score = match self.n_seen {
                None => score,
                Some(n_seen) => {
                    let cell = V::of((self.first + row) as f32);
                    cell.where_below(V::load(n_seen), score, V::of(f32::NEG_INFINITY))
                }
            };
            score.store(self.to.add(row * LANES));
            self.highest = self.highest.max(score);
        }
    }
}

/// Sums of values are added to those of the blocks before.
struct Joined<V> {
    to: *mut f32,
    share: Share<V>,
}

impl<V: Vector> Take<V> for Joined<V> {
    #[inline(always)]
    unsafe fn take(&mut self, row: usize, sum: V) {
        // SAFETY: the caller's promise.
        unsafe {
            let to = self.to.add(row * LANES);
            sum.mul_add(self.share.join, V::load(to).mul(self.share.keep)).store(to);
        }
    }
}

/// Divides the sums of a group by their weights, and turns them to rows.
#[inline(always)]
unsafe fn end<V: Vector>(group: &Group, rows: Range<usize>, head_dim: usize, to: &mut Tile<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        let inverse = V::of(1.0).div(V::load(group.weight));
        for d in 0..head_dim {
            let at = group.sums.add(d * LANES);
            V::load(at).mul(inverse).store(at);
        }
        for (lane, row) in rows.enumerate() {
            for (d, to) in to.column_f32(row).iter_mut().enumerate() {
                *to = *group.sums.add(d * LANES + lane);
            }
        }
    }
}

/// Rows of a matrix `[n_k, n_rows]`, so many elements apart, times a panel `[LANES, n_k]`. `take` gets each row's
/// number and sums.
#[inline(always)]
unsafe fn products<V: Vector, const R: usize>(
    (matrix, stride): (*const f32, usize),
    [n_rows, n_k]: [usize; 2],
    panel: *const f32,
    take: &mut impl Take<V>,
) {
    let mut row = 0;
    // SAFETY: the caller's promise; only rows that are there.
    unsafe {
        while row < n_rows {
            let at = matrix.add(row * stride);
            let n = match n_rows - row {
                // Sums of two rows alone would wait for each other.
                left if left >= R && left != R + 2 => rows::<V, R>(at, stride, n_k, panel, row, take),
                4.. => rows::<V, 4>(at, stride, n_k, panel, row, take),
                2.. => rows::<V, 2>(at, stride, n_k, panel, row, take),
                _ => rows::<V, 1>(at, stride, n_k, panel, row, take),
            };
            row += n;
        }
    }
}

/// `R` rows of [`products`], the first of which is called `row`. Yields `R`.
#[inline(always)]
unsafe fn rows<V: Vector, const R: usize>(
    matrix: *const f32,
    stride: usize,
    n_k: usize,
    panel: *const f32,
    row: usize,
    take: &mut impl Take<V>,
) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [V::of(0.0); R];
        for k in 0..n_k {
            let lanes = V::load(panel.add(k * LANES));
            for (r, sum) in sums.iter_mut().enumerate() {
                *sum = V::of(*matrix.add(r * stride + k)).mul_add(lanes, *sum);
            }
        }
        for (r, sum) in sums.into_iter().enumerate() {
            take.take(row + r, sum);
        }
    }
    R
}
