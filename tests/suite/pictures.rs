//! Pictures against Pillow: what is decoded, how it is resized, what is refused, and what it costs.

use std::fs;
use std::path::PathBuf;

use owlet::prompt::{Limits, Picture, PictureFormat, decode, preprocess, resize};
use owlet_format::{Fit, ImageConfig};
use sha2::{Digest, Sha256};

/// Most levels between zune-jpeg's pixels and libjpeg-turbo's, and most on average, over the JPEG goldens: their chroma
/// interpolation and inverse DCT round differently. Measured: 4 and 0.47.
const JPEG_MAX: u8 = 4;
const JPEG_MEAN: f64 = 0.5;
/// Pictures narrower than this have one or two columns of chroma, which libjpeg repeats and zune-jpeg interpolates
/// downwards. Measured there: 27.
const JPEG_NARROW: usize = 5;
const JPEG_NARROW_MAX: u8 = 30;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pictures").join(name)
}

fn lines(name: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(golden(name)).unwrap();
    text.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

fn sha(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn number(text: &str) -> usize {
    text.parse().unwrap()
}

fn picture(name: &str) -> Picture {
    let bytes = fs::read(golden("files").join(name)).unwrap();
    decode(&bytes, name, &Limits::default()).unwrap()
}

/// The picture that record_pictures.py computes: noise on the left, a slope on the right.
fn noise(width: usize, height: usize) -> Vec<u8> {
    let byte = |i: usize| {
        let mut z = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        let (x, y, c) = (i / 3 % width, i / 3 / width, i % 3);
        if x * 2 < width { (z >> 56) as u8 } else { (x * 5 + y * 3 + c * 60) as u8 }
    };
    (0..width * height * 3).map(byte).collect()
}

#[test]
fn resize_equals_pillow() {
    let cases = lines("resize.txt");
    assert!(cases.len() > 35);
    for case in cases {
        let [w, h, to_w, to_h] = [0, 1, 2, 3].map(|i| number(&case[i]));
        let resized = resize(&noise(w, h), [w, h], [to_w, to_h]);
        assert_eq!(sha(&resized), case[4], "{w} x {h} to {to_w} x {to_h}");
    }
    for case in lines("resize_tiny.txt") {
        let [w, h, to_w, to_h] = [0, 1, 2, 3].map(|i| number(&case[i]));
        let resized = resize(&noise(w, h), [w, h], [to_w, to_h]);
        let hex: String = resized.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, case[4], "{w} x {h} to {to_w} x {to_h}");
    }
}

#[test]
fn planes_equal_torchvision() {
    let config = |size_px: usize| ImageConfig {
        size_px: size_px as u32,
        fit: Fit::Squash,
        pad_rgb: [0; 3],
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
        n_tokens: 16,
    };
    let picture = |width: usize, height: usize| Picture {
        width,
        height,
        rgb: noise(width, height),
        format: PictureFormat::Png,
        orientation: 1,
        had_alpha: false,
    };
    for case in lines("planes.txt") {
        let [w, h, side] = [0, 1, 2].map(|i| number(&case[i]));
        let pixels = preprocess(&picture(w, h), &config(side)).unwrap();
        let bytes: Vec<u8> = pixels.planes.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(sha(&bytes), case[3], "{w} x {h} to {side}");
        assert_eq!(*pixels.rgb, resize(&noise(w, h), [w, h], [side, side]));
    }
}

#[test]
fn decoded_pictures_equal_pillow() {
    let cases = lines("files.txt");
    assert!(cases.len() > 60);
    for case in cases {
        let found = picture(&case[0]);
        let about = [found.width, found.height, found.orientation.into(), found.had_alpha.into()];
        assert_eq!(about, [1, 2, 3, 4].map(|i| number(&case[i])), "{}", case[0]);
        let is_same = sha(&found.rgb) == case[5];
        assert!(is_same || case[0].ends_with(".jpg"), "{}: other pixels than Pillow's", case[0]);
    }
}

#[test]
fn jpegs_are_near_libjpeg() {
    for case in lines("files.txt").iter().filter(|case| case[0].ends_with(".jpg")) {
        let name = case[0].as_str();
        let expected = fs::read(golden("decoded").join(format!("{name}.png"))).unwrap();
        let expected = decode(&expected, name, &Limits::default()).unwrap();
        let found = picture(name);
        let apart = || found.rgb.iter().zip(&expected.rgb).map(|(a, b)| a.abs_diff(*b));
        let max = apart().max().unwrap();
        let mean = apart().map(f64::from).sum::<f64>() / expected.rgb.len() as f64;
        if found.width < JPEG_NARROW {
            assert!(max <= JPEG_NARROW_MAX, "{name}: {max} levels apart");
        } else {
            assert!(max <= JPEG_MAX && mean <= JPEG_MEAN, "{name}: {max} levels apart, {mean} on average");
        }
    }
}
