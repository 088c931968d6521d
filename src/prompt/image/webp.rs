//! What a WebP file will cost, read off its chunks before the decoder sees it.
//!
//! Comes in: a WebP file. Goes out: nothing, or an error: the decoder trusts the sizes of a frame within the file more than
//! the file's own, and keeps many more bytes a pixel where animation and transparency come together.

use super::Source;
use crate::Result;

/// Bytes a pixel that image-webp holds at its peak, beside the samples it yields: the planes of a lossy frame, its alpha
/// unpacked as a picture of its own, a lossless frame before its alpha is dropped, an animation's canvas and frame.
const LOSSY: f64 = 1.6;
const LOSSY_ALPHA: f64 = 5.0;
const LOSSLESS: f64 = 4.0;
const ANIMATION: f64 = 8.0;

/// Checks the frame's size against the picture's, and the memory that decoding takes.
pub(super) fn check(source: &Source, [width, height]: [usize; 2], n_channels: usize) -> Result<()> {
    let mut per_pixel = n_channels as f64;
    for (kind, mut body) in Chunks(source.bytes.get(12..).unwrap_or_default()) {
        let is_animated = kind == b"ANMF";
        let mut kind = *kind;
        if is_animated {
            per_pixel += ANIMATION;
            let mut inner = Chunks(body.get(16..).unwrap_or_default());
            let Some((&inner_kind, inner_body)) = inner.find(|(kind, _)| matches!(*kind, b"VP8 " | b"VP8L"))
            else {
                break;
            };
            (kind, body) = (inner_kind, inner_body);
        }
        let frame = match &kind {
            b"VP8 " => {
                per_pixel += LOSSY + if n_channels == 4 { LOSSY_ALPHA } else { 0.0 };
                lossy_size(body)
            }
            b"VP8L" => {
                per_pixel += if n_channels == 3 { LOSSLESS } else { 0.0 };
                lossless_size(body)
            }
            _ => continue,
        };
        if frame.is_some_and(|frame| frame[0] > width || frame[1] > height) {
            return Err(source.broken("a frame is larger than the picture"));
        }
        break;
    }
    source.check_memory([width, height], (per_pixel * (width * height) as f64) as u64)
}

/// Sides in a VP8 key frame's header (RFC 6386, 9.1).
fn lossy_size(body: &[u8]) -> Option<[usize; 2]> {
    let sides = body.get(6..10)?;
    Some(
        [[sides[0], sides[1]], [sides[2], sides[3]]]
            .map(|side| usize::from(u16::from_le_bytes(side) & 0x3fff)),
    )
}

/// Sides in a VP8L header: two of 14 bits, less one, behind the signature byte.
fn lossless_size(body: &[u8]) -> Option<[usize; 2]> {
    let bits = u32::from_le_bytes(body.get(1..5)?.try_into().ok()?);
    Some([bits, bits >> 14].map(|side| (side & 0x3fff) as usize + 1))
}

/// The chunks of a RIFF body: four letters, a length, bytes padded to an even number.
struct Chunks<'a>(&'a [u8]);

impl<'a> Iterator for Chunks<'a> {
    type Item = (&'a [u8; 4], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (kind, rest) = self.0.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let n = u32::from_le_bytes(*length) as usize;
        let body = &rest[..n.min(rest.len())];
        self.0 = rest.get(n.saturating_add(n % 2)..).unwrap_or_default();
        Some((kind, body))
    }
}
