//! What a job will make, before it does: a line a tensor, sums by part. Pure and printable; what `--dry-run` shows.

use std::fmt;

use ggml::DType;
use owlet_format::{Part, TensorSpec};

use crate::job::Job;
use crate::recipe::Chosen;

/// One tensor of the file to be.
#[derive(Debug, Clone)]
pub struct Line {
    pub spec: TensorSpec,
    /// The type that its source has.
    pub from: String,
    pub to: Chosen,
    /// Bytes in the file.
    pub n_bytes: u64,
    /// What else happens to it.
    pub remarks: Vec<String>,
    /// Blocks go over as they are.
    pub is_copied: bool,
    /// Memory that reading a piece of it takes.
    pub chunk_bytes: u64,
}

/// A job that can be shown.
pub trait Outline: Job {
    /// The tensors, in the order of the file.
    fn lines(&self) -> Vec<Line>;
}

/// Count, elements and bytes of tensors.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct PartSize {
    pub n_tensors: usize,
    pub n_elements: u64,
    pub n_bytes: u64,
}

impl PartSize {
    fn of<'a>(lines: impl Iterator<Item = &'a Line>) -> PartSize {
        lines.fold(PartSize::default(), |size, line| PartSize {
            n_tensors: size.n_tensors + 1,
            n_elements: size.n_elements + line.spec.ne.n_elements(),
            n_bytes: size.n_bytes + line.n_bytes,
        })
    }
}

/// Each part that has tensors, with their size.
pub fn part_sizes(lines: &[Line]) -> Vec<(Part, PartSize)> {
    let of = |part: &Part| (*part, PartSize::of(lines.iter().filter(|line| line.spec.part == *part)));
    Part::ALL.iter().map(of).filter(|(_, size)| size.n_tensors > 0).collect()
}

/// A row a tensor, then a row a part and their sum; `choice` says which type was asked for a part.
pub fn write_table(f: &mut fmt::Formatter, lines: &[Line], choice: &dyn Fn(Part) -> String) -> fmt::Result {
    let width = lines.iter().map(|line| line.spec.name.len()).max().unwrap_or(0);
    for line in lines {
        let ne = line.spec.ne.to_string();
        let Line { spec, from, to, n_bytes, .. } = line;
        write!(f, "{:<width$}  {ne:<18}  {from:>4} -> {:<4} {n_bytes:>12}", spec.name, to.dtype)?;
        for remark in &line.remarks {
            write!(f, "  {remark}")?;
        }
        if let Some(wanted) = to.instead_of {
            write!(f, "  instead of {wanted}")?;
        }
        writeln!(f)?;
    }
    writeln!(f)?;
    for (part, size) in part_sizes(lines) {
        writeln!(f, "{:<10} {size} as {}", part.word(), choice(part))?;
    }
    writeln!(f, "{:<10} {}", "total", PartSize::of(lines.iter()))
}

/// A line for each type that rows did not allow.
pub fn write_fallbacks(f: &mut fmt::Formatter, lines: &[Line]) -> fmt::Result {
    let mut fallbacks: Vec<((DType, DType, u64), usize)> = Vec::new();
    for line in lines {
        let Some(wanted) = line.to.instead_of else { continue };
        let fallback = (line.to.dtype, wanted, line.spec.ne.padded()[0]);
        match fallbacks.iter_mut().find(|(known, _)| *known == fallback) {
            Some((_, n)) => *n += 1,
            None => fallbacks.push((fallback, 1)),
        }
    }
    for ((dtype, wanted, n_per_row), n) in fallbacks {
        let why = format!("whose blocks don't divide rows of {n_per_row}");
        writeln!(f, "fallback: {n} tensors as {dtype} instead of {wanted}, {why}")?;
    }
    Ok(())
}

impl fmt::Display for PartSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.n_bytes as f64 * 8.0 / (self.n_elements.max(1) as f64);
        write!(
            f,
            "{:>4} tensors {:>12} weights {:>12} bytes, {bits:.2} bits a weight",
            self.n_tensors, self.n_elements, self.n_bytes
        )
    }
}
