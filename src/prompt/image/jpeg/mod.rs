//! JPEG, decoded to exactly the pixels that libjpeg-turbo gives.
//!
//! Comes in: a baseline, extended or progressive Huffman-coded JPEG of 8 bits a sample. Goes out: gray or RGB samples.
//! Ours, because the models' own pipelines decode with libjpeg-turbo and other decoders differ from it by several levels,
//! show what is left of a cut-off file, or need more than eight bytes a pixel. Arithmetic coding, lossless and 12-bit
//! JPEGs are named and refused.

mod frame;
mod huffman;
mod idct;
mod output;
mod scan;

use frame::Frame;
use huffman::{Problem, Table};
use output::Colour;
use scan::{Pass, Scan, ScanComponent, ZIGZAG};

use super::decoders::orientation;
use super::{Raster, Source};

/// More scans than any encoder makes; each costs a pass over the whole picture.
const MAX_SCANS: usize = 100;

const CUT_OFF: Problem = "the file ends before the picture does";

pub(super) fn decode(source: &Source) -> crate::Result<Raster> {
    let mut decoder = Decoder { data: source.bytes, at: 2, ..Decoder::default() };
    let frame = loop {
        if let Some(frame) = decoder.next_segment(source)? {
            break frame;
        }
    };
    let colour = decoder.colour(&frame);
    let samples = output::samples(&frame, colour).map_err(|problem| source.unsupported(problem))?;
    let [width, height] = frame.size;
    let n_channels = if colour == Colour::Gray { 1 } else { 3 };
    Ok(Raster { width, height, n_channels, samples, orientation: decoder.orientation.unwrap_or(1) })
}

/// Everything that segments have set so far.
#[derive(Default)]
struct Decoder<'a> {
    data: &'a [u8],
    at: usize,
    quant: [Option<[u16; 64]>; 4],
    dc: [Option<Table>; 4],
    ac: [Option<Table>; 4],
    restart_interval: usize,
    has_jfif: bool,
    /// The colour transform that Adobe's segment names.
    adobe_transform: Option<u8>,
    orientation: Option<u8>,
    frame: Option<Frame>,
    n_scans: usize,
}

impl<'a> Decoder<'a> {
    /// Takes one segment. Returns the frame once the last one is in.
    fn next_segment(&mut self, source: &Source) -> crate::Result<Option<Frame>> {
        let broken = |problem: Problem| source.broken(problem);
        let marker = self.marker().map_err(broken)?;
        match marker {
            0xd9 => return self.end().map(Some).map_err(broken),
            // Stray restart markers and TEM have no body.
            0x01 | 0xd0..=0xd7 => return Ok(None),
            0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                let kind =
                    if marker >= 0xc9 { "arithmetic coding" } else { "lossless or hierarchical coding" };
                return Err(source.unsupported(format!("{kind} is not supported")));
            }
            _ => {}
        }
        let body = self.body().map_err(broken)?;
        match marker {
            0xc0..=0xc2 => {
                let [precision, h1, h0, w1, w0, n, parts @ ..] = body else {
                    return Err(broken("a frame header that is too short"));
                };
                if *precision != 8 {
                    return Err(source.unsupported(format!("{precision} bits a sample are not supported")));
                }
                let size = [u16::from_be_bytes([*w1, *w0]), u16::from_be_bytes([*h1, *h0])].map(usize::from);
                source.check_size(size[0], size[1])?;
                if !matches!(n, 1 | 3 | 4) {
                    return Err(source.unsupported(format!("{n} components are not supported")));
                }
                self.frame_header(size, marker == 0xc2, usize::from(*n), parts).map_err(broken)?;
            }
            0xc4 => self.huffman_tables(body).map_err(broken)?,
            0xda => return self.scan(body).map_err(broken),
            0xdb => self.quant_tables(body).map_err(broken)?,
            0xdd => match body {
                [high, low] => self.restart_interval = usize::from(u16::from_be_bytes([*high, *low])),
                _ => return Err(broken("a restart interval of the wrong length")),
            },
            0xe0 => self.has_jfif |= body.starts_with(b"JFIF\0"),
            0xe1 => {
                if let Some(exif) = body.strip_prefix(b"Exif\0\0") {
                    self.orientation.get_or_insert(orientation(Some(exif)));
                }
            }
            0xee if body.starts_with(b"Adobe") && body.len() >= 12 => self.adobe_transform = Some(body[11]),
            _ => {}
        }
        Ok(None)
    }

    /// The next marker. What lies before it, after a scan, is skipped.
    fn marker(&mut self) -> Result<u8, Problem> {
        loop {
            let n_before = self.data.get(self.at..).and_then(|rest| rest.iter().position(|&b| b == 0xff));
            self.at += n_before.ok_or(CUT_OFF)? + 1;
            match self.data.get(self.at) {
                None => return Err(CUT_OFF),
                Some(0) => self.at += 1,
                Some(0xff) => {}
                Some(&marker) => {
                    self.at += 1;
                    return Ok(marker);
                }
            }
        }
    }

    /// The segment's bytes behind its length.
    fn body(&mut self) -> Result<&'a [u8], Problem> {
        let rest = self.data.get(self.at..).unwrap_or_default();
        let [high, low, ..] = rest else { return Err(CUT_OFF) };
        let n = usize::from(u16::from_be_bytes([*high, *low]));
        if n < 2 {
            return Err("a segment of impossible length");
        }
        let body = rest.get(2..n).ok_or(CUT_OFF)?;
        self.at += n;
        Ok(body)
    }

    fn quant_tables(&mut self, mut body: &[u8]) -> Result<(), Problem> {
        while let [kind, rest @ ..] = body {
            let (n_bytes, index) = (usize::from(kind >> 4) + 1, usize::from(kind & 15));
            if n_bytes > 2 || index > 3 {
                return Err("a quantization table of unknown kind");
            }
            let values = rest.get(..64 * n_bytes).ok_or("a quantization table that is too short")?;
            let mut table = [0; 64];
            for (value, &position) in values.chunks_exact(n_bytes).zip(&ZIGZAG) {
                table[usize::from(position)] = value.iter().fold(0, |sum, &b| sum << 8 | u16::from(b));
            }
            self.quant[index] = Some(table);
            body = &rest[64 * n_bytes..];
        }
        Ok(())
    }

    fn huffman_tables(&mut self, mut body: &[u8]) -> Result<(), Problem> {
        const SHORT: Problem = "a Huffman table that is too short";
        while let [kind, rest @ ..] = body {
            let (counts, rest) = rest.split_first_chunk::<16>().ok_or(SHORT)?;
            let n: usize = counts.iter().map(|&count| usize::from(count)).sum();
            let table = Table::new(counts, rest.get(..n).ok_or(SHORT)?)?;
            let tables = if kind >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            if kind >> 4 > 1 {
                return Err("a Huffman table of unknown kind");
            }
            *tables.get_mut(usize::from(kind & 15)).ok_or("a Huffman table of unknown kind")? = Some(table);
            body = &rest[n..];
        }
        Ok(())
    }

    fn frame_header(
        &mut self,
        size: [usize; 2],
        is_progressive: bool,
        n: usize,
        parts: &[u8],
    ) -> Result<(), Problem> {
        if self.frame.is_some() {
            return Err("a second frame header");
        }
        if parts.len() != n * 3 {
            return Err("a frame header of the wrong length");
        }
        let part = |p: &[u8]| (p[0], [usize::from(p[1] >> 4), usize::from(p[1] & 15)], usize::from(p[2]));
        let parts: Vec<_> = parts.chunks_exact(3).map(part).collect();
        self.frame = Some(Frame::new(size, is_progressive, &parts)?);
        Ok(())
    }

    /// A scan's header and data. A sequential picture is whole once all components had their scan.
    fn scan(&mut self, header: &[u8]) -> Result<Option<Frame>, Problem> {
        let mut frame = self.frame.take().ok_or("a scan before the frame header")?;
        self.n_scans += 1;
        if self.n_scans > MAX_SCANS {
            return Err("more than 100 scans");
        }
        let scan = self.scan_header(header, &mut frame)?;
        self.at = scan.decode(self.data, self.at, &mut frame)?;
        if !frame.is_progressive && frame.is_complete() {
            return Ok(Some(frame));
        }
        self.frame = Some(frame);
        Ok(None)
    }

    fn scan_header(&self, header: &[u8], frame: &mut Frame) -> Result<Scan<'_>, Problem> {
        let n = header.first().map_or(0, |&n| usize::from(n));
        if !(1..=4).contains(&n) || header.len() != 4 + 2 * n {
            return Err("a scan header of the wrong length");
        }
        let mut components: Vec<ScanComponent> = Vec::with_capacity(n);
        for selector in header[1..1 + 2 * n].chunks_exact(2) {
            let index = frame.components.iter().position(|part| part.id == selector[0]);
            let index = index.ok_or("a scan of a component that the frame lacks")?;
            if components.iter().any(|component| component.index == index) {
                return Err("a scan that names a component twice");
            }
            if frame.components[index].quant.is_none() {
                let quant = self.quant[frame.components[index].quant_index];
                frame.components[index].quant =
                    Some(quant.ok_or("a component without a quantization table")?);
                frame.allocate(index);
            }
            let [dc, ac] = [(&self.dc, selector[1] >> 4), (&self.ac, selector[1] & 15)]
                .map(|(tables, index)| tables.get(usize::from(index)).and_then(Option::as_ref));
            let blocks = if n == 1 { [1, 1] } else { frame.components[index].sampling };
            components.push(ScanComponent { index, blocks, dc, ac });
        }
        let [start, end, bits] = [header[1 + 2 * n], header[2 + 2 * n], header[3 + 2 * n]];
        let pass = pass(frame.is_progressive, [start, end].map(usize::from), bits, n)?;
        let mcus = if n == 1 { frame.components[components[0].index].blocks() } else { frame.mcus() };
        Ok(Scan { pass, components, mcus, restart_interval: self.restart_interval })
    }

    fn end(&mut self) -> Result<Frame, Problem> {
        let mut frame = self.frame.take().ok_or("no picture in it")?;
        if !frame.is_complete() {
            return Err(CUT_OFF);
        }
        frame.finish();
        Ok(frame)
    }

    /// The rules by which libjpeg guesses what components mean.
    fn colour(&self, frame: &Frame) -> Colour {
        let ids: Vec<u8> = frame.components.iter().map(|part| part.id).collect();
        match (ids.as_slice(), self.adobe_transform) {
            ([_], _) => Colour::Gray,
            ([_, _, _], _) if self.has_jfif => Colour::YCbCr,
            ([_, _, _], Some(0)) => Colour::Rgb,
            ([_, _, _], Some(_)) => Colour::YCbCr,
            (b"RGB", None) => Colour::Rgb,
            ([_, _, _], None) => Colour::YCbCr,
            (_, None | Some(0)) => Colour::Cmyk,
            _ => Colour::Ycck,
        }
    }
}

/// What a scan header's last three bytes ask for; `bits` has the point transforms before and after.
fn pass(is_progressive: bool, [start, end]: [usize; 2], bits: u8, n: usize) -> Result<Pass, Problem> {
    if !is_progressive {
        return Ok(Pass::Sequential);
    }
    let (before, shift) = (u32::from(bits >> 4), u32::from(bits & 15));
    if shift > 13 || (before != 0 && before != shift + 1) {
        return Err("a progressive scan of impossible precision");
    }
    match (start, before) {
        (0, _) if end != 0 => Err("a progressive scan that mixes DC and AC"),
        (0, 0) => Ok(Pass::DcFirst { shift }),
        (0, _) => Ok(Pass::DcRefine { shift }),
        _ if end < start || end > 63 || n != 1 => Err("a progressive scan of an impossible band"),
        (_, 0) => Ok(Pass::AcFirst { start, end, shift }),
        _ => Ok(Pass::AcRefine { start, end, shift }),
    }
}
