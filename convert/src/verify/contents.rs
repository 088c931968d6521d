//! A file by itself: every tensor's bytes against its SHA-256, and every number, block by block.

use std::sync::mpsc::{Sender, channel};

use ggml::Cancel;
use ggml::quantize::dequantize;
use owlet_format::{Gguf, TensorInfo};
use rayon::ThreadPool;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::NotFinite;
use crate::error::{Error, Result};
use crate::run::Progress;

/// Elements that are looked at at once, in whole rows.
const PIECE_ELEMENTS: u64 = 1 << 18;

/// What one tensor has, and whether it should.
struct Found {
    is_damaged: bool,
    not_finite: Option<NotFinite>,
}

/// The tensors that are damaged, and those with numbers that are none; in the order of the file.
pub fn check(
    file: &Gguf,
    pool: &ThreadPool,
    progress: &mut dyn Progress,
    cancel: &Cancel,
) -> Result<(Vec<String>, Vec<NotFinite>)> {
    let sums = file.checksums()?;
    let tensors: Vec<_> = file.tensors().iter().zip(&sums).collect();
    let (send, receive) = channel();
    let look = |(tensor, sum): &(&TensorInfo, &[u8; 32]), send: &Sender<_>| {
        look(file, tensor, sum, &mut |n_bytes| {
            // whoever counts may have gone
            let _ = send.send((tensor.name.clone(), n_bytes));
            !cancel.is_cancelled()
        })
    };
    let found: Vec<Found> = std::thread::scope(|scope| {
        let found = scope.spawn(|| {
            pool.install(|| {
                tensors.par_iter().map_with(send, |send, tensor| look(tensor, send)).collect::<Result<_>>()
            })
        });
        for (name, n_bytes) in receive {
            progress.advance(&name, n_bytes);
        }
        found.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let damaged = tensors.iter().zip(&found).filter(|(_, found)| found.is_damaged);
    let damaged = damaged.map(|((tensor, _), _)| tensor.name.clone()).collect();
    Ok((damaged, found.into_iter().filter_map(|found| found.not_finite).collect()))
}

/// Reads `tensor` once; `advance` hears how many bytes are done and says whether to go on.
fn look(
    file: &Gguf,
    tensor: &TensorInfo,
    sum: &[u8; 32],
    advance: &mut dyn FnMut(u64) -> bool,
) -> Result<Found> {
    let n_per_row = tensor.shape.dims()[0];
    let n_rows = tensor.shape.n_rows();
    let row_bytes = tensor.n_bytes / n_rows;
    let rows_per_piece = (PIECE_ELEMENTS / n_per_row).clamp(1, n_rows);
    let mut sha = Sha256::new();
    let mut values = vec![0.0; (n_per_row * rows_per_piece) as usize];
    let (mut n, mut row) = (0, None);
    let data = file.data(tensor);
    for (piece, bytes) in data.chunks((rows_per_piece * row_bytes) as usize).enumerate() {
        sha.update(bytes);
        let n_values = bytes.len() as u64 / row_bytes * n_per_row;
        let values = &mut values[..n_values as usize];
        dequantize(tensor.dtype, bytes, values)
            .map_err(|error| Error::format(format!("{}: tensor {}", file.label(), tensor.name), error))?;
        for (i, values) in values.chunks_exact(n_per_row as usize).enumerate() {
            let in_row = values.iter().filter(|value| !value.is_finite()).count() as u64;
            if in_row > 0 {
                n += in_row;
                row.get_or_insert(piece as u64 * rows_per_piece + i as u64);
            }
        }
        if !advance(bytes.len() as u64) {
            return Err(Error::Cancelled);
        }
    }
    Ok(Found {
        is_damaged: <[u8; 32]>::from(sha.finalize()) != *sum,
        not_finite: row.map(|row| NotFinite { tensor: tensor.name.clone(), n, row }),
    })
}
