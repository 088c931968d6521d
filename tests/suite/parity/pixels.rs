//! Pixels, bit for bit: resized up, down, one way and not at all.

use super::golden::{self, Case, Picture};
use super::subject::Subject;
use ggml::DType;
use sha2::{Digest, Sha256};

#[derive(serde::Deserialize)]
struct Golden {
    pictures: Vec<Picture>,
}

#[test]
fn are_the_reference_s_bit_for_bit() {
    let case = Case::read("base");
    let subject = Subject::new(&case, DType::F32);
    let Golden { mut pictures } = golden::facts("pixels");
    pictures.push(case.picture);
    for picture in pictures {
        let planes = subject.pixels(&picture).planes;
        let bytes: Vec<u8> = planes.iter().flat_map(|v| v.to_le_bytes()).collect();
        let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let Picture { name, width, height, pixels_sha256 } = picture;
        assert_eq!(hash, pixels_sha256, "{name}, {width} x {height}");
    }
}
