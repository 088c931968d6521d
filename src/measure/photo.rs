//! A photo of a telephone's size as a JPEG file: 4,032 x 3,024 pixels in 3.2 MB, what decoding and resizing are
//! measured on.
//!
//! It is one tile of 192 x 16 pixels, soft colours with grain at two bits a pixel, over and over: with a restart marker
//! behind each, the coded tile can be repeated as it is, so that the program carries 1.4 kB.

use crate::error::{Error, Result};

pub const WIDTH: usize = 4032;
pub const HEIGHT: usize = 3024;

/// 192 x 16 pixels, baseline, 4:2:0: twelve units of 16 x 16 in one scan.
const TILE: &[u8] = include_bytes!("tile.jpg");
const TILE_WIDTH: usize = 192;
const TILE_HEIGHT: usize = 16;
const UNIT_PX: usize = 16;

const FRAME: [u8; 2] = [0xff, 0xc0];
const SCAN: [u8; 2] = [0xff, 0xda];
const END: [u8; 2] = [0xff, 0xd9];

/// The file's bytes.
///
/// # Errors
/// `Internal`: the tile is not what this module expects, which a test would have shown.
pub fn photo() -> Result<Vec<u8>> {
    assemble().ok_or_else(|| Error::internal("the tile of the photo is no such JPEG"))
}

fn assemble() -> Option<Vec<u8>> {
    let frame = segment(FRAME)?;
    let scan = segment(SCAN)?;
    // A segment says its own length, behind its marker.
    let scan_header_bytes = 2 + usize::from(u16::from_be_bytes([*TILE.get(scan + 2)?, *TILE.get(scan + 3)?]));
    let (header, coded) = TILE.split_at_checked(scan + scan_header_bytes)?;
    let coded = coded.strip_suffix(&END)?;

    let mut out = header.get(..scan)?.to_vec();
    // Marker, length and precision stand before the height and the width.
    out.get_mut(frame + 5..frame + 7)?.copy_from_slice(&(HEIGHT as u16).to_be_bytes());
    out.get_mut(frame + 7..frame + 9)?.copy_from_slice(&(WIDTH as u16).to_be_bytes());
    out.extend([0xff, 0xdd, 0, 4]);
    out.extend(((TILE_WIDTH / UNIT_PX) as u16).to_be_bytes());
    out.extend(header.get(scan..)?);
    let n_tiles = (WIDTH / TILE_WIDTH) * (HEIGHT / TILE_HEIGHT);
    for n in 0..n_tiles {
        out.extend(coded);
        if n + 1 < n_tiles {
            out.extend([0xff, 0xd0 + (n % 8) as u8]);
        }
    }
    out.extend(END);
    Some(out)
}

/// Where the first segment of this marker begins.
fn segment(marker: [u8; 2]) -> Option<usize> {
    TILE.windows(2).position(|bytes| bytes == marker)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::{Limits, decode};

    /// Decoders may resynchronise by them, so they have to count.
    #[test]
    fn restart_markers_count_to_eight() {
        let bytes = photo().unwrap();
        let restarts = bytes.windows(2).filter(|pair| pair[0] == 0xff && (0xd0..=0xd7).contains(&pair[1]));
        let numbers: Vec<_> = restarts.map(|pair| usize::from(pair[1] - 0xd0)).collect();
        assert_eq!(numbers, (0..21 * 189 - 1).map(|n| n % 8).collect::<Vec<_>>());
    }

    #[test]
    fn every_tile_is_the_first_one() {
        let tile = decode(TILE, "tile", &Limits::default()).unwrap();
        assert_eq!((tile.width, tile.height), (TILE_WIDTH, TILE_HEIGHT));
        let bytes = photo().unwrap();
        assert!((3_000_000..3_400_000).contains(&bytes.len()), "{} bytes", bytes.len());
        let photo = decode(&bytes, "photo", &Limits::default()).unwrap();
        assert_eq!((photo.width, photo.height), (WIDTH, HEIGHT));
        // Inside of a tile: at its edges colours are smoothed over to the neighbour.
        for (column, row) in [(0, 0), (20, 0), (7, 100), (20, 188)] {
            for y in 2..TILE_HEIGHT - 2 {
                let at = ((row * TILE_HEIGHT + y) * WIDTH + column * TILE_WIDTH + 2) * 3;
                let in_tile = (y * TILE_WIDTH + 2) * 3;
                let n = (TILE_WIDTH - 4) * 3;
                assert!(photo.rgb[at..at + n] == tile.rgb[in_tile..in_tile + n], "{column} {row} {y}");
            }
        }
    }
}
