//! EXIF orientation: how a stored picture is turned to stand upright.

use image::metadata::Orientation;

/// The orientation, 1 to 8, in an EXIF block that begins with its TIFF header.
pub(super) fn of_exif(exif: Option<&[u8]>) -> u8 {
    exif.and_then(Orientation::from_exif_chunk).map_or(1, Orientation::to_exif)
}

/// Where the camera's top-left corner lies decides which way rows and columns run (EXIF 2.3, tag 0x0112).
/// `orientation` is 1 to 8; anything else counts as 1. Returns the upright sides `[width, height]` and pixels.
pub(super) fn upright(
    mut rgb: Vec<u8>,
    [width, height]: [usize; 2],
    orientation: u8,
) -> ([usize; 2], Vec<u8>) {
    match orientation {
        2 => rgb.chunks_exact_mut(width * 3).for_each(mirror),
        3 => mirror(&mut rgb),
        4 => {
            mirror(&mut rgb);
            rgb.chunks_exact_mut(width * 3).for_each(mirror);
        }
        5..=8 => {
            // The upright picture's rows are the stored one's columns: left to right for 5 and 6, each of them
            // from the top for 5 and 8.
            let (from_left, from_top) = (matches!(orientation, 5 | 6), matches!(orientation, 5 | 8));
            let mut turned = Vec::with_capacity(rgb.len());
            for row in 0..width {
                let x = if from_left { row } else { width - 1 - row };
                for column in 0..height {
                    let y = if from_top { column } else { height - 1 - column };
                    let at = (y * width + x) * 3;
                    turned.extend_from_slice(&rgb[at..at + 3]);
                }
            }
            return ([height, width], turned);
        }
        _ => {}
    }
    ([width, height], rgb)
}

/// Reverses the order of pixels.
fn mirror(rgb: &mut [u8]) {
    let n = rgb.len() / 3;
    for i in 0..n / 2 {
        let j = n - 1 - i;
        for c in 0..3 {
            rgb.swap(i * 3 + c, j * 3 + c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_eight() {
        // Stored: a b c / d e f
        let cases: &[(u8, [usize; 2], &str)] = &[
            (1, [3, 2], "abcdef"),
            (2, [3, 2], "cbafed"),
            (3, [3, 2], "fedcba"),
            (4, [3, 2], "defabc"),
            (5, [2, 3], "adbecf"),
            (6, [2, 3], "daebfc"),
            (7, [2, 3], "fcebda"),
            (8, [2, 3], "cfbead"),
            (9, [3, 2], "abcdef"),
        ];
        for &(orientation, size, expected) in cases {
            let stored = "abcdef".bytes().flat_map(|b| [b, 1, b]).collect();
            let expected: Vec<u8> = expected.bytes().flat_map(|b| [b, 1, b]).collect();
            assert_eq!(upright(stored, [3, 2], orientation), (size, expected), "orientation {orientation}");
        }
    }
}
