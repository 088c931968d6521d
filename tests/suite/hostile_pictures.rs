//! Broken, oversized and unknown pictures: an error in one line, never a panic, a half picture or more memory than said.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use owlet::Error;
use owlet::prompt::{Limits, Picture, decode};

fn goldens() -> Vec<(String, Vec<u8>)> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pictures/files");
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .filter(|(name, _)| !name.starts_with("flat"))
        .collect();
    files.sort();
    assert!(files.len() > 60);
    files
}

fn decoded(bytes: &[u8]) -> owlet::Result<Picture> {
    decode(bytes, "p", &Limits::default())
}

fn rejection(bytes: &[u8]) -> Error {
    decoded(bytes).map(|picture| (picture.width, picture.height)).unwrap_err()
}

#[test]
fn a_cut_off_picture_is_no_picture() {
    for (name, bytes) in goldens() {
        let whole = decoded(&bytes).unwrap();
        let step = (bytes.len() / 60).max(1);
        for n in (0..bytes.len()).step_by(step).chain(bytes.len().saturating_sub(8)..bytes.len()) {
            // What lies behind the pixels (a checksum, a second frame, a terminator) may be missing.
            if let Ok(picture) = decoded(&bytes[..n]) {
                assert!(picture.rgb == whole.rgb, "{name}: half a picture from {n} of {} bytes", bytes.len());
            }
        }
    }
}

#[test]
fn mutated_pictures() {
    let limits = Limits { max_pixels: 1 << 20, ..Limits::default() };
    let files = goldens();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below.max(1)
    };
    let start = Instant::now();
    let mut n_tried = 0;
    while start.elapsed() < Duration::from_secs(8) && n_tried < 20_000 {
        let (name, bytes) = &files[random(files.len())];
        let mut bytes = bytes.clone();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(5) {
                0 => bytes[at] ^= 1 << random(8),
                1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random(5)],
                2 => bytes.truncate(at.max(1)),
                3 => bytes.insert(at, random(256) as u8),
                _ => {
                    bytes.remove(at);
                    bytes.push(0);
                }
            }
        }
        let one = Instant::now();
        if let Ok(picture) = decode(&bytes, name, &limits) {
            assert_eq!(picture.rgb.len(), picture.width * picture.height * 3);
        }
        assert!(one.elapsed() < Duration::from_secs(5), "{name}: {:?}", one.elapsed());
        n_tried += 1;
    }
    println!("{n_tried} mutated pictures");
    assert!(n_tried > 100);
}

#[test]
fn limits_come_before_decoding() {
    let limits = Limits { max_bytes: 3000, max_pixels: 1000 };
    let error = |bytes: &[u8]| decode(bytes, "p", &limits).unwrap_err();
    let found = error(&flat_jpeg([640, 480], &[[1, 1]], false));
    assert_eq!(found.to_string(), "p: pixels of a picture: at most 1000, found 307200");
    assert!(matches!(found, Error::Limit { .. }));
    assert_eq!(error(&[0; 3001]).to_string(), "p: bytes of a picture: at most 3000, found 3001");

    // Headers of a hundred bytes that claim to be huge.
    let png = png_header(60_000, 60_000);
    assert_eq!(rejection(&png).to_string(), "p: pixels of a picture: at most 67108864, found 3600000000");
    let png = png_header(70_000, 1);
    assert_eq!(rejection(&png).to_string(), "p: pixels on a side of a picture: at most 65535, found 70000");
    let jpeg = flat_jpeg([65_500, 65_500], &[[1, 1]], false);
    let jpeg = [&jpeg[..200], &[0xff, 0xd9]].concat();
    assert_eq!(rejection(&jpeg).to_string(), "p: pixels of a picture: at most 67108864, found 4290250000");
    let gif = b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\0;";
    assert_eq!(rejection(gif).to_string(), "p: pixels of a picture: at most 67108864, found 4294836225");
    let bmp = bmp(30_000, 30_000, 0);
    assert_eq!(rejection(&bmp).to_string(), "p: pixels of a picture: at most 67108864, found 900000000");

    // A progressive picture is kept whole until its last scan: in CMYK 11 bytes a pixel.
    let cmyk = flat_jpeg([8000, 8000], &[[1, 1]; 4], true);
    assert_eq!(
        rejection(&cmyk).to_string(),
        "p: bytes of memory to decode this JPEG: at most 579108864, found 704000000"
    );
    // An animation with transparency takes two canvases, the planes of a frame and its alpha unpacked.
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pictures/files");
    let mut webp = fs::read(folder.join("flat_animated.webp")).unwrap();
    webp[24..30].copy_from_slice(&[0x3f, 0x1f, 0, 0x3f, 0x1f, 0]);
    assert_eq!(
        rejection(&webp).to_string(),
        "p: bytes of memory to decode this WebP: at most 579108864, found 1190400000"
    );
}

#[test]
fn refusals_name_the_fault() {
    let arithmetic = changed(&flat_jpeg([8, 8], &[[1, 1]], false), &[0xff, 0xc0], &[0xff, 0xc9]);
    let twelve_bits = changed(&flat_jpeg([8, 8], &[[1, 1]], false), &[0xc0, 0, 11, 8], &[0xc0, 0, 11, 12]);
    let cases: &[(&[u8], &str)] = &[
        (b"", "p: the picture is empty (0 bytes); owlet reads JPEG, PNG, WebP, GIF and BMP"),
        (
            b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
            "p: this is a HEIC picture; owlet reads JPEG, PNG, WebP, GIF and BMP",
        ),
        (&arithmetic, "p: JPEG: arithmetic coding is not supported"),
        (&twelve_bits, "p: JPEG: 12 bits a sample are not supported"),
        (b"\xff\xd8\xff\xd9", "p: broken JPEG: there is no picture in it"),
        (b"\xff\xd8\xff", "p: broken JPEG: the file ends before the picture does"),
        (&png_header(0, 5), "p: broken PNG"),
        (&png_header(5, 5), "p: broken PNG: the file ends before the picture does"),
        (b"GIF89a\x01\0\x01\0\0\0\0;", "p: broken GIF"),
    ];
    for (bytes, expected) in cases {
        let found = rejection(bytes).to_string();
        assert!(
            found.starts_with(expected) && !found.contains('\n'),
            "expected {expected}\n   found {found}"
        );
    }
}

/// What one decode costs, measured in a process of its own: `peak_memory` runs this test alone.
#[test]
fn decode_in_a_process() {
    let Some(path) = std::env::var_os("OWLET_TEST_PICTURE") else { return };
    let bytes = fs::read(path).unwrap();
    let before = peak_kib();
    let picture = decoded(&bytes).unwrap();
    println!("grew {} for {}", peak_kib() - before, picture.width * picture.height);
}

/// The most memory that this process ever held, in KiB.
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn peak_memory() {
    let dir = tempfile::tempdir().unwrap();
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pictures/files");
    let read = |name: &str| fs::read(golden.join(name)).unwrap();
    let rgb = [[1, 1]; 3];
    let half = [[2, 2], [1, 1], [1, 1]];
    let size = [2048, 1024];
    // Bytes a pixel that each may take. The law is 8 and 64 MiB: those that take more are refused where that is less.
    let cases: &[(&str, Vec<u8>, f64)] = &[
        ("baseline.jpg", flat_jpeg(size, &rgb, false), 3.0),
        ("progressive_420.jpg", flat_jpeg(size, &half, true), 6.0),
        ("progressive_444.jpg", flat_jpeg(size, &rgb, true), 9.0),
        ("progressive_cmyk.jpg", flat_jpeg(size, &[[1, 1]; 4], true), 11.0),
        ("rgba16.png", flat_png(size), 4.0),
        ("flat.bmp", bmp(2048, 1024, 2048 * 1024 * 3), 3.0),
        ("flat.gif", read("flat.gif"), 4.0),
        ("flat_lossy.webp", read("flat_lossy.webp"), 4.6),
        ("flat_lossy_alpha.webp", read("flat_lossy_alpha.webp"), 10.6),
        ("flat_lossless.webp", flat_webp(size), 4.0),
        ("flat_animated.webp", read("flat_animated.webp"), 14.0),
        ("flat_lossless_animated.webp", read("flat_lossless_animated.webp"), 12.0),
    ];
    for (name, bytes, bytes_a_pixel) in cases {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        let grew = grown_in_a_process(&path);
        let n_pixels = (size[0] * size[1]) as f64;
        println!("{name}: {:.1} bytes a pixel", grew / n_pixels);
        // Two bytes a pixel, 4 MiB here, for rows, tables and the allocator's rounding.
        assert!(grew <= (bytes_a_pixel + 2.0) * n_pixels, "{name}: {:.1} bytes a pixel", grew / n_pixels);
    }
}

fn grown_in_a_process(picture: &Path) -> f64 {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hostile_pictures::decode_in_a_process", "--nocapture"])
        .env("OWLET_TEST_PICTURE", picture)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let grew = text.split("grew ").nth(1).unwrap_or_else(|| panic!("{picture:?}: {text}"));
    grew.split(' ').next().unwrap().parse::<f64>().unwrap() * 1024.0
}

/// A gray JPEG of any size: its Huffman tables have one code of one bit, 0, that means "no change" or "end of block".
fn flat_jpeg(size: [usize; 2], components: &[[u8; 2]], is_progressive: bool) -> Vec<u8> {
    let n = components.len() as u8;
    let mut out = vec![0xff, 0xd8];
    let mut segment = |marker: u8, body: &[u8]| {
        out.extend([0xff, marker]);
        out.extend((body.len() as u16 + 2).to_be_bytes());
        out.extend(body);
    };
    if n == 4 {
        segment(0xee, b"Adobe\0\x64\0\0\0\0\0");
    }
    segment(0xdb, &[&[0][..], &[1; 64]].concat());
    let sides = [(size[1] as u16).to_be_bytes(), (size[0] as u16).to_be_bytes()].concat();
    let parts = components.iter().zip(1..).flat_map(|(&[h, v], id)| [id, h << 4 | v, 0]);
    let frame: Vec<u8> = [8].into_iter().chain(sides).chain([n]).chain(parts).collect();
    segment(if is_progressive { 0xc2 } else { 0xc0 }, &frame);
    for class in [0x00, 0x10] {
        segment(0xc4, &[&[class, 1][..], &[0; 15], &[0]].concat());
    }
    let parts = (1..=n).flat_map(|id| [id, 0]);
    let spectrum = if is_progressive { [0, 0, 0] } else { [0, 63, 0] };
    let scan: Vec<u8> = [n].into_iter().chain(parts).chain(spectrum).collect();
    segment(0xda, &scan);
    let max = [0, 1].map(|i| components.iter().map(|factors| usize::from(factors[i])).max().unwrap());
    let n_mcus = size[0].div_ceil(8 * max[0]) * size[1].div_ceil(8 * max[1]);
    let n_blocks: usize = components.iter().map(|&[h, v]| usize::from(h * v)).sum();
    let n_bits = n_mcus * n_blocks * if is_progressive { 1 } else { 2 };
    out.resize(out.len() + n_bits.div_ceil(8), 0);
    out.extend([0xff, 0xd9]);
    out
}

fn flat_png([width, height]: [usize; 2]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, width as u32, height as u32);
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_depth(png::BitDepth::Sixteen);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&vec![99; width * height * 8]).unwrap();
    writer.finish().unwrap();
    out
}

fn flat_webp([width, height]: [usize; 2]) -> Vec<u8> {
    let mut out = Vec::new();
    let samples = vec![120; width * height * 4];
    image::codecs::webp::WebPEncoder::new_lossless(&mut out)
        .encode(&samples, width as u32, height as u32, image::ExtendedColorType::Rgba8)
        .unwrap();
    out
}

fn bmp(width: u32, height: u32, n_bytes: usize) -> Vec<u8> {
    let mut out = b"BM".to_vec();
    for word in [0, 0, 54, 40, width, height, 1 | 24 << 16, 0, 0, 0, 0, 0, 0] {
        out.extend(u32::to_le_bytes(word));
    }
    out.resize(out.len() + n_bytes, 77);
    out
}

/// The first chunk of a PNG, with a right checksum, and the beginning of its pixels.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut chunk = b"IHDR".to_vec();
    chunk.extend([width.to_be_bytes(), height.to_be_bytes()].concat());
    chunk.extend([8, 2, 0, 0, 0]);
    let crc = !chunk.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    });
    let mut out = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    out.extend(chunk);
    out.extend(crc.to_be_bytes());
    out.extend(b"\0\0\x10\0IDAT\x78\x9c");
    out
}

fn changed(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|part| part == from).unwrap();
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}
