//! Samples of one to four channels become opaque RGB.
//!
//! Comes in: 8-bit gray or RGB, with or without straight (not premultiplied) alpha. Goes out: RGB, and whether anything
//! was not opaque. White is what most viewers and printed pages lay behind a picture, so people and model see the same.

/// RGB of `samples`, in the same memory where that suffices.
pub(super) fn over_white(mut samples: Vec<u8>, n_channels: usize) -> (Vec<u8>, bool) {
    let mut had_alpha = false;
    match n_channels {
        1 => {
            let mut rgb = Vec::with_capacity(samples.len() * 3);
            rgb.extend(samples.iter().flat_map(|&v| [v; 3]));
            (rgb, false)
        }
        2 => {
            let mut rgb = Vec::with_capacity(samples.len() / 2 * 3);
            for pixel in samples.chunks_exact(2) {
                had_alpha |= pixel[1] != 255;
                rgb.extend([blend(pixel[0], pixel[1]); 3]);
            }
            (rgb, had_alpha)
        }
        4 => {
            let n_pixels = samples.len() / 4;
            for i in 0..n_pixels {
                let alpha = samples[i * 4 + 3];
                had_alpha |= alpha != 255;
                for c in 0..3 {
                    samples[i * 3 + c] = blend(samples[i * 4 + c], alpha);
                }
            }
            samples.truncate(n_pixels * 3);
            samples.shrink_to_fit();
            (samples, had_alpha)
        }
        _ => (samples, false),
    }
}

/// `(value * alpha + 255 * (255 - alpha)) / 255`, rounded to the nearest.
fn blend(value: u8, alpha: u8) -> u8 {
    let (value, alpha) = (u32::from(value), u32::from(alpha));
    ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layout() {
        let cases: &[(usize, &[u8], &[u8], bool)] = &[
            (1, &[0, 7], &[0, 0, 0, 7, 7, 7], false),
            (2, &[10, 255, 10, 0, 0, 128], &[10, 10, 10, 255, 255, 255, 127, 127, 127], true),
            (2, &[10, 255], &[10, 10, 10], false),
            (3, &[1, 2, 3], &[1, 2, 3], false),
            (4, &[1, 2, 3, 255, 0, 100, 200, 51], &[1, 2, 3, 204, 224, 244], true),
            (4, &[1, 2, 3, 255], &[1, 2, 3], false),
        ];
        for &(n_channels, samples, rgb, had_alpha) in cases {
            assert_eq!(over_white(samples.to_vec(), n_channels), (rgb.to_vec(), had_alpha), "{samples:?}");
        }
    }

    #[test]
    fn blend_is_the_nearest_level() {
        for value in 0..=255u8 {
            for alpha in 0..=255u8 {
                let (v, a) = (f64::from(value), f64::from(alpha));
                let exact = (v * a + 255.0 * (255.0 - a)) / 255.0;
                assert!((f64::from(blend(value, alpha)) - exact).abs() <= 0.5, "{value} {alpha}");
            }
        }
    }
}
