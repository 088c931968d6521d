//! The rows of a planned tensor as raw source bytes, in the order in which the file has them, in chunks of bounded
//! size.

use crate::checkpoint::dtype::widen;
use crate::checkpoint::{Checkpoint, SourceTensor, SourceType};
use crate::error::Result;
use crate::family::Transform;
use crate::job::{Chunk, Stored};
use crate::planned::PlannedTensor;
use crate::position_grid;

/// Source bytes of a chunk; two wait while one is worked on.
pub const CHUNK_BYTES: u64 = 4 << 20;

/// Reads tensor `index` of the plan from row `row` on, and hands each chunk to `take` until that says false.
///
/// # Errors
/// Where the checkpoint can't be read.
pub fn read_chunks(
    checkpoint: &Checkpoint,
    index: usize,
    planned: &PlannedTensor,
    mut row: u64,
    take: &mut dyn FnMut(Chunk) -> bool,
) -> Result<()> {
    let tensor = &checkpoint.tensors[&planned.source.name];
    let n_per_row = planned.spec.ne.padded()[0];
    let n_rows = planned.spec.ne.n_rows();
    if let Transform::ResizeGrid { from, to } = planned.source.transform {
        let bytes = resized_positions(checkpoint, tensor, n_per_row, from, to)?;
        let n_source_bytes = tensor.n_bytes();
        let stored = Stored::Numbers(SourceType::F32);
        take(Chunk { tensor: index, row: 0, stored, bytes, factors: None, n_source_bytes });
        return Ok(());
    }
    let row_bytes = n_per_row * tensor.dtype.n_bytes();
    let rows_per_chunk = (CHUNK_BYTES / row_bytes).clamp(1, n_rows);
    while row < n_rows {
        let n = rows_per_chunk.min(n_rows - row);
        let mut bytes = vec![0; (n * row_bytes) as usize];
        match planned.source.transform {
            Transform::PairRows { n_head } => {
                let head_dim = n_rows / u64::from(n_head);
                for (i, out) in bytes.chunks_exact_mut(row_bytes as usize).enumerate() {
                    checkpoint.read_rows(tensor, n_per_row, paired_row(row + i as u64, head_dim), out)?;
                }
            }
            _ => checkpoint.read_rows(tensor, n_per_row, row, &mut bytes)?,
        }
        let stored = Stored::Numbers(tensor.dtype);
        let factors = planned.fold.as_ref().map(|fold| fold.factors.clone());
        if !take(Chunk { tensor: index, row, stored, bytes, factors, n_source_bytes: n * row_bytes }) {
            return Ok(());
        }
        row += n;
    }
    Ok(())
}

/// Which source row becomes row `row`. Hugging Face rotates element i of a head together with element
/// i + head_dim / 2, llama.cpp elements 2 i and 2 i + 1: pairs come together. (llama.cpp, LlamaModel.permute of its
/// converter.)
fn paired_row(row: u64, head_dim: u64) -> u64 {
    let (head, at) = (row / head_dim, row % head_dim);
    head * head_dim + at % 2 * (head_dim / 2) + at / 2
}

/// The position table on another grid, as f32 bytes; the class token's row stays the first.
fn resized_positions(
    checkpoint: &Checkpoint,
    tensor: &SourceTensor,
    n_embd: u64,
    from: u32,
    to: u32,
) -> Result<Vec<u8>> {
    let mut raw = vec![0; tensor.n_bytes() as usize];
    checkpoint.read_rows(tensor, n_embd, 0, &mut raw)?;
    let mut rows = vec![0.0; tensor.n_elements() as usize];
    widen(tensor.dtype, &raw, &mut rows);
    let (class, patches) = rows.split_at(n_embd as usize);
    let resized = position_grid::resize(patches, n_embd as usize, from as usize, to as usize);
    Ok(class.iter().chain(&resized).flat_map(|x| x.to_le_bytes()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_become_pairs_inside_each_head() {
        let order: Vec<u64> = (0..16).map(|row| paired_row(row, 8)).collect();
        assert_eq!(order, [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]);
    }

    #[test]
    fn pairing_loses_no_row() {
        for head_dim in [2, 6, 64, 128] {
            let mut rows: Vec<u64> = (0..3 * head_dim).map(|row| paired_row(row, head_dim)).collect();
            // undone by taking even places first: row h d + 2 i + j came from h d + j d / 2 + i
            for row in 0..3 * head_dim {
                let (head, at) = (row / head_dim, row % head_dim);
                let (j, i) = (at / (head_dim / 2), at % (head_dim / 2));
                assert_eq!(rows[(head * head_dim + 2 * i + j) as usize], row, "head_dim {head_dim}");
            }
            rows.sort_unstable();
            assert!(rows.iter().copied().eq(0..3 * head_dim));
        }
    }
}
