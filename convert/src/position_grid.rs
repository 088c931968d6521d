//! Position rows for another grid than the one they were trained on.
//!
//! Comes in: the patches' position rows, row-major over a square grid, without the class token's. Goes out: the same
//! for another grid, as torch's `interpolate(mode="bicubic", align_corners=False)` yields them: cubic convolution with
//! a = -0.75, half-pixel centres, edges repeated, no antialias. (Pictures are resized with another kernel.)

/// `rows` holds `from * from` rows of `n_embd`; what comes back holds `to * to` of them.
///
/// # Panics
/// `rows` has another length, or a side is 0.
pub fn resize(rows: &[f32], n_embd: usize, from: usize, to: usize) -> Vec<f32> {
    assert!(from > 0 && to > 0, "position grids of {from} and {to} rows a side");
    assert_eq!(rows.len(), from * from * n_embd, "position rows of a {from} x {from} grid");
    let taps: Vec<[Tap; 4]> = (0..to).map(|i| taps(i, from, to)).collect();
    let mut resized = Vec::with_capacity(to * to * n_embd);
    for down in &taps {
        for across in &taps {
            resized.extend((0..n_embd).map(|column| {
                let line = |y: &Tap| -> f64 {
                    let at =
                        |x: &Tap| x.weight * f64::from(rows[(y.index * from + x.index) * n_embd + column]);
                    across.iter().map(at).sum()
                };
                down.iter().map(|y| y.weight * line(y)).sum::<f64>() as f32
            }));
        }
    }
    resized
}

/// A place on one axis of the old grid, and what it counts.
struct Tap {
    index: usize,
    weight: f64,
}

fn taps(i: usize, from: usize, to: usize) -> [Tap; 4] {
    const A: f64 = -0.75;
    let near = |d: f64| ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0;
    let far = |d: f64| ((A * d - 5.0 * A) * d + 8.0 * A) * d - 4.0 * A;
    let centre = (i as f64 + 0.5) * (from as f64 / to as f64) - 0.5;
    let first = centre.floor();
    let t = centre - first;
    let weights = [far(1.0 + t), near(t), near(1.0 - t), far(2.0 - t)];
    let index = |offset: f64| (first + offset).clamp(0.0, (from - 1) as f64) as usize;
    let mut offset = -2.0;
    weights.map(|weight| {
        offset += 1.0;
        Tap { index: index(offset), weight }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_of_the_same_side_stays_as_it_is() {
        let rows: Vec<f32> = (0..5 * 5 * 3).map(|i| (i as f32).sin()).collect();
        assert_eq!(resize(&rows, 3, 5, 5), rows);
    }

    #[test]
    fn one_row_fills_any_grid() {
        assert_eq!(resize(&[0.25, -3.0], 2, 1, 2), [0.25, -3.0, 0.25, -3.0, 0.25, -3.0, 0.25, -3.0]);
    }

    #[test]
    fn doubling_by_hand() {
        // The outer outputs lie a quarter outside the grid: their far taps repeat the edge, the last one undershoots.
        let expected = [-0.10546875, 0.2265625, 0.7734375, 1.105_468_8];
        assert_eq!(resize(&[0.0, 1.0, 0.0, 1.0], 1, 2, 4), expected.repeat(4));
    }
}
