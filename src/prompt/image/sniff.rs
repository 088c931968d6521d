//! What kind of picture some bytes are, by their first bytes.
//!
//! Comes in: the beginning of a file. Goes out: one of the five formats that owlet decodes, or one line that names what
//! was found instead.

use std::fmt;

/// The formats that owlet decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PictureFormat {
    Jpeg,
    Png,
    WebP,
    Gif,
    Bmp,
}

impl fmt::Display for PictureFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PictureFormat::Jpeg => "JPEG",
            PictureFormat::Png => "PNG",
            PictureFormat::WebP => "WebP",
            PictureFormat::Gif => "GIF",
            PictureFormat::Bmp => "BMP",
        })
    }
}

const SUPPORTED: &str = "owlet reads JPEG, PNG, WebP, GIF and BMP";

/// Offset, bytes that stand there, format.
const DECODED: &[(usize, &[u8], PictureFormat)] = &[
    (0, b"\xff\xd8\xff", PictureFormat::Jpeg),
    (0, b"\x89PNG\r\n\x1a\n", PictureFormat::Png),
    (8, b"WEBP", PictureFormat::WebP),
    (0, b"GIF87a", PictureFormat::Gif),
    (0, b"GIF89a", PictureFormat::Gif),
    (0, b"BM", PictureFormat::Bmp),
];

/// What people send that is not decoded. The first match counts: brands of the ISO container come before it.
const NAMED: &[(usize, &[u8], &str)] = &[
    (8, b"avif", "an AVIF picture"),
    (8, b"avis", "an AVIF picture"),
    (8, b"heic", "a HEIC picture"),
    (8, b"heix", "a HEIC picture"),
    (8, b"hevc", "a HEIC picture"),
    (8, b"hevx", "a HEIC picture"),
    (8, b"heim", "a HEIC picture"),
    (8, b"heis", "a HEIC picture"),
    (8, b"mif1", "a HEIF picture"),
    (8, b"msf1", "a HEIF picture"),
    (8, b"crx ", "a camera raw picture"),
    (4, b"ftyp", "a video"),
    (4, b"JXL ", "a JPEG XL picture"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (4, b"jP  ", "a JPEG 2000 picture"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (0, b"II*\0", "a TIFF or camera raw picture"),
    (0, b"MM\0*", "a TIFF or camera raw picture"),
    (0, b"II+\0", "a TIFF picture"),
    (0, b"MM\0+", "a TIFF picture"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"\0\0\x01\0", "an icon"),
    (0, b"qoif", "a QOI picture"),
    (0, b"DDS ", "a DDS texture"),
    (0, b"v/1\x01", "an OpenEXR picture"),
    (0, b"#?RADIANCE", "a Radiance HDR picture"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"<?xml", "an SVG drawing or other XML"),
    (0, b"<!DOCTYPE", "a web page"),
    (0, b"<html", "a web page"),
    (0, b"\x1aE\xdf\xa3", "a video"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"GGUF", "a model file"),
    (0, b"P1", "a PBM picture"),
    (0, b"P2", "a PGM picture"),
    (0, b"P3", "a PPM picture"),
    (0, b"P4", "a PBM picture"),
    (0, b"P5", "a PGM picture"),
    (0, b"P6", "a PPM picture"),
];

/// The format of `bytes`, or what is wrong with them.
pub(super) fn format(bytes: &[u8]) -> Result<PictureFormat, String> {
    let stands_at = |offset: usize, magic: &[u8]| bytes.get(offset..).is_some_and(|b| b.starts_with(magic));
    if bytes.is_empty() {
        return Err(format!("the picture is empty (0 bytes); {SUPPORTED}"));
    }
    let is_riff = bytes.starts_with(b"RIFF");
    for &(offset, magic, format) in DECODED {
        if stands_at(offset, magic) && (format != PictureFormat::WebP || is_riff) {
            return Ok(format);
        }
    }
    match NAMED.iter().find(|&&(offset, magic, _)| stands_at(offset, magic)) {
        Some((_, _, what)) => Err(format!("this is {what}; {SUPPORTED}")),
        None => Err(format!("no picture format is known that begins with {}; {SUPPORTED}", hex(bytes))),
    }
}

fn hex(bytes: &[u8]) -> String {
    let bytes: Vec<String> = bytes.iter().take(8).map(|b| format!("{b:02x}")).collect();
    bytes.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_content() {
        let heic = b"\0\0\0\x18ftypheic\0\0\0\0";
        let cases: &[(&[u8], Result<PictureFormat, &str>)] = &[
            (b"\xff\xd8\xff\xe0", Ok(PictureFormat::Jpeg)),
            (b"RIFF\0\0\0\0WEBPVP8 ", Ok(PictureFormat::WebP)),
            (b"GIF89a", Ok(PictureFormat::Gif)),
            (heic, Err("this is a HEIC picture; owlet reads JPEG, PNG, WebP, GIF and BMP")),
            (b"\0\0\0\x1cftypavif", Err("this is an AVIF picture; owlet reads JPEG, PNG, WebP, GIF and BMP")),
            (b"II*\0", Err("this is a TIFF or camera raw picture; owlet reads JPEG, PNG, WebP, GIF and BMP")),
            (b"", Err("the picture is empty (0 bytes); owlet reads JPEG, PNG, WebP, GIF and BMP")),
            (
                b"hi there",
                Err(
                    "no picture format is known that begins with 68 69 20 74 68 65 72 65; owlet reads JPEG, PNG, WebP, GIF and BMP",
                ),
            ),
        ];
        for (bytes, expected) in cases {
            assert_eq!(format(bytes), expected.map_err(str::to_owned));
        }
    }
}
