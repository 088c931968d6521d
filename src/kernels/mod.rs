//! The arithmetic that owlet owns: products of quantized weights and activations, working from ggml's blocks
//! where they lie in the map, the passes between products: norms, activations, residual joins, and attention. Comes in:
//! types of weights. Goes out: operations for a graph. Knows no network.
//!
//! The law here: the bits of a column depend on nothing but the column and the weights; not on the columns
//! beside it, the threads, or the instructions that the CPU happens to have. `plain` says what the bits are,
//! and a kernel that disagrees with it on this machine is not used.

mod attention;
mod functions;
mod ops;
mod packed;
mod passes;
mod plain;
mod rotary;
mod self_check;
mod weights;

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
#[path = "x86_64/mod.rs"]
mod simd;
#[cfg(not(target_arch = "x86_64"))]
#[path = "none.rs"]
mod simd;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, LazyLock};

use ggml::{CustomOp, DType};

use crate::error::{Error, Result};

pub use attention::Heads;
use attention::{AttendAll, AttendCells, KEYS};
pub use ops::Work;
use ops::{Against, Multiply, Pack, Pass};
use packed::Layout;
pub use passes::{Curve, Statistics};
pub use rotary::{Rotate, Turns};
use simd::Simd;
use weights::{Class, WeightType};

/// The kernels that this machine can use; none where ggml serves alone.
#[derive(Clone, Copy, Debug)]
pub struct Kernels {
    simd: Option<Simd>,
    arithmetic: Arithmetic,
    /// Faster instructions than those of `simd` are there, but their kernels compute something else.
    disagreed: Option<Simd>,
}

/// The name of having none.
const GGML: &str = "ggml";

/// What activations are before quantized weights are multiplied with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arithmetic {
    /// Integers of eight bits with a scale for every 32.
    #[default]
    Packed,
    /// What they are, f32.
    Exact,
}

/// How a weight is multiplied.
pub enum Product {
    /// The operation's arguments are the weight and the activations in f32.
    OfFloats(Arc<dyn CustomOp>),
    /// The operation's arguments are the weight and packed activations.
    OfPacked(Arc<dyn CustomOp>),
}

/// What yields packed columns.
pub struct Columns {
    pub op: Arc<dyn CustomOp>,
    /// Of one column.
    pub column_bytes: u64,
}

impl Kernels {
    /// The fastest kernels whose results are right on this machine, found once: a check of a few
    /// milliseconds.
    pub fn of_this_machine(arithmetic: Arithmetic) -> Kernels {
        static FOUND: LazyLock<Kernels> = LazyLock::new(|| {
            let mut found = Kernels::none();
            for simd in Simd::available() {
                if self_check::agrees(simd) {
                    found.simd = Some(simd);
                } else {
                    found.disagreed = Some(simd);
                }
            }
            found
        });
        Kernels { arithmetic, ..*FOUND }
    }

    /// Those that are called `name`, or none where that is `ggml`, whatever else there is.
    ///
    /// # Errors
    /// `Unsupported` where this machine has no such kernels, or theirs fail the self-check.
    pub fn named(name: &str, arithmetic: Arithmetic) -> Result<Kernels> {
        let none = Kernels { arithmetic, ..Kernels::none() };
        if name == GGML {
            return Ok(none);
        }
        let place = "kernels";
        let Some(simd) = Simd::available().into_iter().find(|simd| simd.name() == name) else {
            let there = Kernels::names().join(", ");
            return Err(Error::unsupported(place, format_args!("expected one of {there}, found {name}")));
        };
        if !self_check::agrees(simd) {
            return Err(Error::unsupported(place, format_args!("{name} failed its self-check")));
        }
        Ok(Kernels { simd: Some(simd), ..none })
    }

    /// What kernels this machine has.
    pub fn names() -> Vec<&'static str> {
        [GGML].into_iter().chain(Simd::available().into_iter().map(Simd::name)).collect()
    }

    /// ggml's products everywhere.
    pub fn none() -> Kernels {
        Kernels { simd: None, arithmetic: Arithmetic::Packed, disagreed: None }
    }

    pub fn arithmetic(&self) -> Arithmetic {
        self.arithmetic
    }

    /// Whether activations stay what they are before weights of this type: ggml's own products of quantized weights
    /// round them.
    pub fn is_exact(&self, dtype: DType) -> bool {
        let is_ours = self.simd.is_some() && WeightType::of(dtype).is_some();
        !dtype.is_quantized() || is_ours && self.arithmetic == Arithmetic::Exact
    }

    /// What multiplies weights of this type in rows of `n_in` elements; none where ggml does.
    pub fn product(&self, dtype: DType, n_in: u64) -> Option<Product> {
        let (simd, kind) = (self.simd?, WeightType::of(dtype)?);
        if kind.class() == Class::Float || self.arithmetic == Arithmetic::Exact {
            return Some(Product::OfFloats(Arc::new(Multiply { simd, kind, against: Against::F32 })));
        }
        Layout::new(usize::try_from(n_in).ok()?)?;
        Some(Product::OfPacked(Arc::new(Multiply { simd, kind, against: Against::Packed })))
    }

    /// What packs columns of `n` f32.
    pub fn pack(&self, n: u64) -> Option<Columns> {
        self.packed(n, Arc::new(Pack { simd: self.simd? }))
    }

    /// What computes columns of `n` f32.
    pub fn pass(&self, work: Work) -> Option<Arc<dyn CustomOp>> {
        Some(Arc::new(Pass { simd: self.simd?, work, is_packed: false }))
    }

    /// What computes columns of `n` elements and packs them, none of which is stored in f32.
    pub fn packed_pass(&self, work: Work, n: u64) -> Option<Columns> {
        self.packed(n, Arc::new(Pass { simd: self.simd?, work, is_packed: true }))
    }

    /// What lets every row attend to every row: queries, keys and values of `heads` begin at `first` in the rows of
    /// the operation's three arguments.
    pub fn attend_all(&self, heads: Heads, first: [u64; 3]) -> Option<Arc<dyn CustomOp>> {
        let first = first.map(|first| first as usize);
        Some(Arc::new(AttendAll { simd: Some(self.simd?), heads, first }))
    }

    /// What lets rows attend to the cells of their sequences. The operation's arguments are queries, keys, values,
    /// positions and places, see [`AttendCells`].
    pub fn attend_cells(&self, heads: Heads) -> Option<Arc<dyn CustomOp>> {
        Some(Arc::new(AttendCells { simd: Some(self.simd?), heads }))
    }

    /// Whether there is an [`attend_cells`](Self::attend_cells).
    pub fn attend_over_cells(&self) -> bool {
        self.simd.is_some()
    }

    /// How rows attend, in words.
    pub fn attention(&self) -> String {
        match self.simd {
            Some(_) => format!("attention by blocks of {KEYS} keys"),
            None => "attention by ggml".into(),
        }
    }

    fn packed(&self, n: u64, op: Arc<dyn CustomOp>) -> Option<Columns> {
        let layout = Layout::new(usize::try_from(n).ok()?)?;
        Some(Columns { op, column_bytes: layout.column_bytes() as u64 })
    }
}

impl fmt::Display for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.simd {
            Some(simd) => write!(f, "owlet {}", simd.name())?,
            None => write!(f, "{GGML}")?,
        }
        if self.arithmetic == Arithmetic::Exact {
            write!(f, ", activations in f32")?;
        }
        match self.disagreed {
            Some(simd) => write!(f, " ({} failed its self-check)", simd.name()),
            None => Ok(()),
        }
    }
}
