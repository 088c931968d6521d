//! Whether a library is there to its end. The system's loader maps what the file's header counts on without a look at the file's
//! length, and a page that is not there ends the process: a copy that was cut off must be refused before.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Of the header of an ELF file of 64 bits, and of a segment in its table (gABI, chapters 4 and 5).
const HEADER_BYTES: usize = 64;
const SEGMENT_BYTES: usize = 56;
const LOAD: u32 = 1;

/// # Errors
/// One line, for a file of `n_bytes` that has segments beyond them. What is no library of this machine's kind is the loader's
/// to refuse.
pub fn check(path: &Path, n_bytes: u64) -> Result<(), String> {
    let cut_off = |expected: u64| format!("expected {expected} bytes, found {n_bytes}: it is cut off");
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    let mut header = [0; HEADER_BYTES];
    if file.read_exact(&mut header).is_err() || !header.starts_with(b"\x7fELF\x02") {
        return Ok(());
    }
    let (table, n_segments) = (u64_at(&header, 32), usize::from(u16_at(&header, 56)));
    let mut segments = vec![0; n_segments * SEGMENT_BYTES];
    let read = file.seek(SeekFrom::Start(table)).and_then(|_| file.read_exact(&mut segments));
    if read.is_err() {
        return Err(cut_off(table.saturating_add(segments.len() as u64)));
    }
    let end = |segment: &[u8]| u64_at(segment, 8).saturating_add(u64_at(segment, 32));
    let loaded = segments.chunks(SEGMENT_BYTES).filter(|segment| u32_at(segment, 0) == LOAD);
    match loaded.map(end).max() {
        Some(expected) if expected > n_bytes => Err(cut_off(expected)),
        _ => Ok(()),
    }
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut found = [0; N];
    found.copy_from_slice(&bytes[at..at + N]);
    found
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes(bytes_at(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes_at(bytes, at))
}
