//! The order of patches. Comes in: a normalised picture `[n_px, n_px, 3]`, or the side of a patch grid. Goes
//! out: one column a patch as the patch matrix wants it, or the order in which the projector gathers patches.
//! Pure index work on plain slices: no graph.
//!
//! Everywhere patches stand row by row from the top left: patch `p` is row `p / grid`, column `p % grid`.

use owlet_format::Shuffle;

/// Cuts a picture `[n_px, n_px, 3]` (x innermost, channels outermost) into patches, a column each:
/// `[patch_px * patch_px * 3, n_patches]`. A column holds its pixels in the order of a row of
/// `v.patch_embd.weight`: x, then y, then channel.
pub(super) fn patch_columns(pixels: &[f32], n_px: usize, patch_px: usize) -> Vec<f32> {
    let grid = n_px / patch_px;
    let mut columns = Vec::with_capacity(grid * grid * patch_px * patch_px * 3);
    for (row, column) in (0..grid * grid).map(|p| (p / grid, p % grid)) {
        for (channel, y) in (0..3 * patch_px).map(|i| (i / patch_px, i % patch_px)) {
            let start = (channel * n_px + row * patch_px + y) * n_px + column * patch_px;
            columns.extend_from_slice(&pixels[start..start + patch_px]);
        }
    }
    columns
}

/// The pixel shuffle as an order of patches: taken in this order, every `ratio * ratio` patches that follow
/// each other are, end to end, one column of the projector's input.
///
/// Both versions put the patches of a block row by row; V2 walks over the blocks row by row, V1 column by
/// column (`pixel_shuffle` of InternVL's modeling_internvl_chat.py). `ratio` divides `grid`.
pub(super) fn shuffle_order(grid: u32, ratio: u32, shuffle: Shuffle) -> Vec<u32> {
    let side = grid / ratio;
    let mut order = Vec::with_capacity((grid * grid) as usize);
    for (outer, inner) in (0..side * side).map(|t| (t / side, t % side)) {
        let (i, j) = match shuffle {
            Shuffle::V1 => (inner, outer),
            Shuffle::V2 | Shuffle::None => (outer, inner),
        };
        for (a, b) in (0..ratio * ratio).map(|k| (k / ratio, k % ratio)) {
            order.push((ratio * i + a) * grid + ratio * j + b);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked by hand for patches numbered row by row.
    #[test]
    fn shuffle_orders_patches_as_the_reference_does() {
        let cases: &[(u32, u32, Shuffle, &[u32])] = &[
            (4, 2, Shuffle::V2, &[0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]),
            (4, 2, Shuffle::V1, &[0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15]),
            (2, 1, Shuffle::None, &[0, 1, 2, 3]),
            (3, 3, Shuffle::V1, &[0, 1, 2, 3, 4, 5, 6, 7, 8]),
            (3, 1, Shuffle::V1, &[0, 3, 6, 1, 4, 7, 2, 5, 8]),
        ];
        for (grid, ratio, shuffle, expected) in cases {
            assert_eq!(
                shuffle_order(*grid, *ratio, *shuffle),
                *expected,
                "grid {grid}, ratio {ratio}, {shuffle}"
            );
        }
    }

    /// A 4 x 4 picture of 2 x 2 patches whose value says where it was: 100 * channel + 10 * y + x.
    #[test]
    fn patches_are_cut_in_the_order_of_the_weight() {
        let pixels: Vec<f32> = (0..48).map(|i| (100 * (i / 16) + 10 * (i / 4 % 4) + i % 4) as f32).collect();
        let columns = patch_columns(&pixels, 4, 2);
        assert_eq!(columns.len(), 48);
        assert_eq!(columns[..12], [0., 1., 10., 11., 100., 101., 110., 111., 200., 201., 210., 211.]);
        assert_eq!(columns[12..24], [2., 3., 12., 13., 102., 103., 112., 113., 202., 203., 212., 213.]);
        assert_eq!(columns[24..28], [20., 21., 30., 31.]);
    }
}
