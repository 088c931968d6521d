//! Cached rows on their way: layer by layer, in pieces, to files and from them, and from one slot to another.

use crate::error::Result;
use crate::model::{Decoder, KvHalf, KvRows};
use std::ops::Range;

/// Cached rows go through memory in pieces of at most this size, or one row.
const MAX_PIECE_BYTES: u64 = 4 << 20;

/// The rows of `positions` in the order of files: layer by layer keys, then values, in pieces.
pub fn pieces(n_layer: u32, positions: Range<u32>, row_bytes: u64) -> impl Iterator<Item = KvRows> {
    let n_rows = (MAX_PIECE_BYTES / row_bytes.max(1)).clamp(1, u32::MAX.into()) as u32;
    let halves = (0..n_layer).flat_map(|layer| [KvHalf::Keys, KvHalf::Values].map(|half| (layer, half)));
    halves.flat_map(move |(layer, half)| {
        let firsts = positions.clone().step_by(n_rows as usize);
        let end = positions.end;
        firsts.map(move |first| KvRows { layer, half, first, n: n_rows.min(end - first) })
    })
}

/// Puts what `from` holds of `pieces`, which end before position `n_past`, into `to`. A row's bits depend on what stands before it and on
/// nothing else, so they are those that `to` would have computed.
///
/// # Errors
/// What the cache says; then `to` holds no numbers that count.
pub fn copy(
    decoder: &mut Decoder,
    from: u32,
    (to, n_past): (u32, u32),
    pieces: impl Iterator<Item = KvRows>,
) -> Result<()> {
    decoder.assume(to, n_past)?;
    for rows in pieces {
        let bytes = decoder.read_rows(from, rows)?;
        decoder.write_rows(to, rows, &bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Loaded;
    use crate::model::{Input, KvType, Row, kv_row_bytes};
    use ggml::Cancel;

    #[test]
    fn pieces_cover_everything_once_and_in_order() {
        let rows_of_a_mib = 1 << 20;
        for (positions, row_bytes, sizes) in [
            (0..9, rows_of_a_mib, vec![4, 4, 1]),
            (0..8, rows_of_a_mib, vec![4, 4]),
            (3..9, rows_of_a_mib, vec![4, 2]),
            (0..2, 1 << 30, vec![1, 1]),
            (5..5, 8, vec![]),
        ] {
            let pieces: Vec<_> = pieces(2, positions.clone(), row_bytes).collect();
            let halves = [(0, KvHalf::Keys), (0, KvHalf::Values), (1, KvHalf::Keys), (1, KvHalf::Values)];
            assert_eq!(pieces.len(), halves.len() * sizes.len());
            for (pieces, half) in pieces.chunks(sizes.len().max(1)).zip(halves) {
                assert!(pieces.iter().all(|piece| (piece.layer, piece.half) == half));
                assert_eq!(pieces.iter().map(|piece| piece.n).collect::<Vec<_>>(), sizes);
                let firsts: Vec<_> = sizes
                    .iter()
                    .scan(positions.start, |at, n| Some(std::mem::replace(at, *at + n)))
                    .collect();
                assert_eq!(pieces.iter().map(|piece| piece.first).collect::<Vec<_>>(), firsts);
            }
        }
    }

    /// Logits behind copied rows have the bits of those behind computed ones, in every type of cache, and beside others.
    #[test]
    fn what_is_copied_is_what_would_be_computed() {
        let loaded = Loaded::open(None, 1).unwrap();
        let token = |seq, pos: u32| Row { input: Input::Token(3 + pos % 11), seq, pos, want_logits: true };
        for kv_type in [KvType::F16, KvType::F32, KvType::Q8_0] {
            let mut decoder = Decoder::new(&loaded.model, 512, 3, kv_type).unwrap();
            let run = |decoder: &mut Decoder, rows: Vec<Row>| {
                let logits = decoder.forward(&rows, &[], &Cancel::new()).unwrap();
                logits.rows().map(<[f32]>::to_vec).collect::<Vec<_>>()
            };
            // Across a step of cells.
            run(&mut decoder, (0..290).map(|pos| token(0, pos)).collect());
            run(&mut decoder, (0..7).map(|pos| token(2, pos)).collect());
            let computed = run(&mut decoder, (290..300).map(|pos| token(0, pos)).collect());
            for (start, end) in [(0, 290), (7, 290), (255, 257)] {
                let (to, row_bytes) = (2 - u32::from(start != 7), kv_row_bytes(&loaded.text, kv_type));
                decoder.truncate(to, start);
                let pieces = pieces(loaded.text.n_layer, start..end, row_bytes);
                copy(&mut decoder, 0, (to, end), pieces).unwrap();
                let rest = run(&mut decoder, (end..300).map(|pos| token(to, pos)).collect());
                assert!(rest.ends_with(&computed), "{kv_type:?}, {start}..{end}");
                decoder.truncate(to, 290);
            }
        }
    }
}
