//! An embedding as bytes on disk, and back. Comes in: bytes from anywhere. Goes out: the floats that the tower
//! made, bit for bit, or why these bytes are none. Numbers are little endian:
//!
//! | bytes | |
//! |---|---|
//! | 8 | `owletimg` |
//! | 4 | version, 1 |
//! | 32 | the picture's key |
//! | 4, 4 | `n_embd`, `n_image_tokens` |
//! | 4 each | f32 `[n_embd, n_image_tokens]` |
//! | 32 | SHA-256 of all bytes before |

use sha2::{Digest, Sha256};

use super::ImageKey;

const MAGIC: &[u8; 8] = b"owletimg";
const VERSION: u32 = 1;
const N_HEADER_BYTES: usize = MAGIC.len() + 4 + ImageKey::N_BYTES + 2 * 4;
const N_CHECKSUM_BYTES: usize = 32;

/// `[n_embd, n_image_tokens]`: what every embedding of one model has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub n_embd: u32,
    pub n_tokens: u32,
}

impl Shape {
    pub fn n_values(self) -> usize {
        self.n_embd as usize * self.n_tokens as usize
    }

    /// Bytes of an entry.
    pub fn n_entry_bytes(self) -> usize {
        N_HEADER_BYTES + size_of::<f32>() * self.n_values() + N_CHECKSUM_BYTES
    }
}

/// The entry of `rows`, which are of `shape`.
pub fn encode(key: &ImageKey, shape: Shape, rows: &[f32]) -> Vec<u8> {
    let mut bytes = header(key, shape);
    bytes.reserve_exact(shape.n_entry_bytes() - bytes.len());
    bytes.extend(rows.iter().flat_map(|value| value.to_le_bytes()));
    let checksum = Sha256::digest(&bytes);
    bytes.extend(checksum);
    bytes
}

/// The floats of the entry `bytes`, if it is that of `key` in `shape`, and undamaged.
pub fn decode(bytes: &[u8], key: &ImageKey, shape: Shape) -> Result<Vec<f32>, Flaw> {
    if bytes.len() != shape.n_entry_bytes() {
        return Err(Flaw::Size);
    }
    let (content, checksum) = bytes.split_at(bytes.len() - N_CHECKSUM_BYTES);
    let (found, values) = content.split_at(N_HEADER_BYTES);
    if found != header(key, shape) {
        return Err(Flaw::Header);
    }
    if Sha256::digest(content)[..] != *checksum {
        return Err(Flaw::Checksum);
    }
    let rows: Vec<f32> = values.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect();
    // Whoever made up the checksum as well shall not poison a conversation.
    if rows.iter().all(|value| value.is_finite()) { Ok(rows) } else { Err(Flaw::Values) }
}

fn header(key: &ImageKey, shape: Shape) -> Vec<u8> {
    let numbers = [shape.n_embd, shape.n_tokens].map(u32::to_le_bytes);
    [&MAGIC[..], &VERSION.to_le_bytes(), key.bytes(), numbers.as_flattened()].concat()
}

/// What is wrong with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Too short or too long.
    Size,
    /// Of something else: another format, version, key or shape.
    Header,
    Checksum,
    /// Infinities or NaN.
    Values,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::Pixels;

    fn key(byte: u8) -> ImageKey {
        ImageKey::new(&Pixels { size_px: 1, rgb: vec![byte; 3].into(), planes: vec![] }, &[0; 32])
    }

    const SHAPE: Shape = Shape { n_embd: 3, n_tokens: 2 };

    #[test]
    fn what_goes_in_comes_out_bit_for_bit() {
        let rows = [1.0, -0.0, f32::MIN_POSITIVE / 2.0, f32::MAX, 0.1, -3.5];
        let bytes = encode(&key(1), SHAPE, &rows);
        assert_eq!(bytes.len(), SHAPE.n_entry_bytes());
        let back = decode(&bytes, &key(1), SHAPE).unwrap();
        assert_eq!(back.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), rows.map(f32::to_bits));
    }

    #[test]
    fn every_flipped_bit_and_every_other_length_is_found() {
        let good = encode(&key(1), SHAPE, &[1.0; 6]);
        for n_bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[n_bit / 8] ^= 1 << (n_bit % 8);
            assert!(decode(&bytes, &key(1), SHAPE).is_err(), "bit {n_bit}");
        }
        for n in 0..good.len() {
            assert_eq!(decode(&good[..n], &key(1), SHAPE), Err(Flaw::Size), "{n} bytes");
        }
        assert_eq!(decode(&[good.as_slice(), &[0]].concat(), &key(1), SHAPE), Err(Flaw::Size));
    }

    #[test]
    fn entries_of_something_else() {
        let good = encode(&key(1), SHAPE, &[1.0; 6]);
        let turned = Shape { n_embd: 2, n_tokens: 3 };
        let cases = [
            ("another key", decode(&good, &key(2), SHAPE), Flaw::Header),
            ("another shape of as many values", decode(&good, &key(1), turned), Flaw::Header),
            ("no numbers", decode(&encode(&key(1), SHAPE, &[f32::NAN; 6]), &key(1), SHAPE), Flaw::Values),
        ];
        for (name, found, expected) in cases {
            assert_eq!(found, Err(expected), "{name}");
        }
    }
}
