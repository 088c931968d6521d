//! JPEG through zune-jpeg, with what that decoder leaves open settled here.
//!
//! Comes in: a JPEG file. Goes out: gray or RGB samples. A first walk over the segments finds the frame header before
//! anything is allocated, refuses the rare kinds by name, estimates the decoder's memory (a progressive picture is kept
//! as 16-bit coefficients until its last scan) and makes sure that the file has its end: the decoder runs in strict mode,
//! where broken data is an error and not a half gray picture.

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;

use super::{Raster, Source, orient};
use crate::{Error, Result};

/// More scans than any encoder makes; each costs a pass over the whole picture.
const MAX_SCANS: usize = 100;

pub(super) fn decode(source: &Source) -> Result<Raster> {
    let layout = Layout::of(source)?;
    source.check_memory(layout.size, layout.decoder_bytes())?;
    let n_channels = if layout.components.len() == 1 { 1 } else { 3 };
    let colour = if n_channels == 1 { ColorSpace::Luma } else { ColorSpace::RGB };
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(super::MAX_SIDE_PX)
        .set_max_height(super::MAX_SIDE_PX)
        .jpeg_set_max_scans(MAX_SCANS)
        .jpeg_set_out_colorspace(colour);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(source.bytes), options);
    decoder.decode_headers().map_err(|error| broken(source, error))?;
    let [width, height] = layout.size;
    if decoder.dimensions() != Some((width, height)) {
        return Err(source.broken("its headers disagree"));
    }
    let mut samples = vec![0; width * height * n_channels];
    decoder.decode_into(&mut samples).map_err(|error| broken(source, error))?;
    let orientation = orient::of_exif(decoder.exif().map(Vec::as_slice));
    Ok(Raster { width, height, n_channels, samples, orientation })
}

fn broken(source: &Source, error: DecodeErrors) -> Error {
    match error {
        DecodeErrors::ExhaustedData => source.cut_off(),
        DecodeErrors::Unsupported(kind) => source.unsupported(format!("{kind:?} is not supported")),
        error => source.broken(format!("{error:?}")),
    }
}

/// What the segments announce.
struct Layout {
    size: [usize; 2],
    /// Sampling factors across and down.
    components: Vec<[usize; 2]>,
    is_progressive: bool,
    /// Components in the first scan.
    n_interleaved: usize,
}

impl Layout {
    /// Walks over all segments to the end of the picture.
    fn of(source: &Source) -> Result<Layout> {
        let mut walk = Walk { data: source.bytes, at: 2 };
        let mut layout = None;
        loop {
            let marker = walk.marker().ok_or_else(|| source.cut_off())?;
            if marker == 0xd9 {
                return layout.ok_or_else(|| source.broken("there is no picture in it"));
            }
            // Restart markers and TEM stand alone.
            if matches!(marker, 0x01 | 0xd0..=0xd7) {
                continue;
            }
            let body = walk.body().ok_or_else(|| source.cut_off())?;
            match (marker, &mut layout) {
                (0xc4 | 0xc8 | 0xcc, _) => {}
                (0xc0..=0xcf, None) => layout = Some(Layout::from_frame(source, marker, body)?),
                (0xc0..=0xcf, Some(_)) => return Err(source.broken("there is a second frame in it")),
                (0xda, None) => return Err(source.broken("a scan comes before the frame header")),
                (0xda, Some(layout)) if layout.n_interleaved == 0 => {
                    layout.n_interleaved = body.first().map_or(0, |&n| usize::from(n));
                }
                _ => {}
            }
        }
    }

    fn from_frame(source: &Source, marker: u8, body: &[u8]) -> Result<Layout> {
        if marker > 0xc2 {
            let kind = if marker >= 0xc9 { "arithmetic coding" } else { "lossless or hierarchical coding" };
            return Err(source.unsupported(format!("{kind} is not supported")));
        }
        let too_short = || source.broken("the frame header is too short");
        let &[precision, h1, h0, w1, w0, n, ref parts @ ..] = body else { return Err(too_short()) };
        if precision != 8 {
            return Err(source.unsupported(format!("{precision} bits a sample are not supported")));
        }
        let size = [[w1, w0], [h1, h0]].map(|bytes| usize::from(u16::from_be_bytes(bytes)));
        source.check_size(size[0], size[1])?;
        let n = usize::from(n);
        if !matches!(n, 1 | 3 | 4) {
            return Err(source.unsupported(format!("{n} components are not supported")));
        }
        let parts = parts.get(..3 * n).ok_or_else(too_short)?;
        let factors = |part: &[u8]| [usize::from(part[1] >> 4), usize::from(part[1] & 15)];
        let components: Vec<_> = parts.chunks_exact(3).map(factors).collect();
        if components.iter().flatten().any(|factor| !(1..=4).contains(factor)) {
            return Err(source.broken("sampling factors are not within 1 to 4"));
        }
        Ok(Layout { size, components, is_progressive: marker == 0xc2, n_interleaved: 0 })
    }

    /// Bytes that decoding takes at its peak: the samples that come out, and the whole picture as 16-bit values where its
    /// components do not arrive together.
    fn decoder_bytes(&self) -> u64 {
        let n_out = if self.components.len() == 1 { 1 } else { 3 };
        let samples = (self.size[0] * self.size[1] * n_out) as u64;
        if !self.is_progressive && self.n_interleaved == self.components.len() {
            return samples;
        }
        let max = [0, 1].map(|i| self.components.iter().map(|factors| factors[i]).max().unwrap_or(1));
        let n_mcus = self.size[0].div_ceil(8 * max[0]) * self.size[1].div_ceil(8 * max[1]);
        let n_blocks: usize = self.components.iter().map(|[h, v]| h * v).sum();
        samples + (n_mcus * n_blocks * 64 * 2) as u64
    }
}

struct Walk<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    /// The next marker; what lies before it, the data of a scan, is passed over.
    fn marker(&mut self) -> Option<u8> {
        loop {
            self.at += self.data.get(self.at..)?.iter().position(|&byte| byte == 0xff)? + 1;
            // Within a scan 0xff 0x00 is data; any number of 0xff may stand before a marker.
            match *self.data.get(self.at)? {
                0 => self.at += 1,
                0xff => {}
                marker => {
                    self.at += 1;
                    return Some(marker);
                }
            }
        }
    }

    /// The segment's bytes behind its length.
    fn body(&mut self) -> Option<&'a [u8]> {
        let rest = self.data.get(self.at..)?;
        let n = usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]));
        self.at += n;
        rest.get(2..n)
    }
}
