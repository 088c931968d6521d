//! One way in for each picture format.
//!
//! Comes in: bytes whose format is known. Goes out: 8-bit samples as they are stored. Text and colour profiles are never
//! read, so they cannot unpack into memory.

use std::io::Cursor;

use image::codecs::bmp::BmpDecoder;
use image::codecs::gif::GifDecoder;
use image::codecs::webp::WebPDecoder;
use image::{ColorType, ImageDecoder, ImageError};

use super::{PictureFormat, Raster, Source, jpeg, orient, webp};
use crate::{Error, Result};

impl Source<'_> {
    pub(super) fn decode(&self) -> Result<Raster> {
        let reader = Cursor::new(self.bytes);
        match self.format {
            PictureFormat::Jpeg => jpeg::decode(self),
            PictureFormat::Png => self.png(),
            PictureFormat::WebP => self.through_image(WebPDecoder::new(reader)),
            PictureFormat::Gif => self.through_image(GifDecoder::new(reader)),
            PictureFormat::Bmp => self.through_image(BmpDecoder::new(reader)),
        }
    }

    /// PNG straight through its crate: `image` would keep 16-bit samples and unpack text.
    fn png(&self) -> Result<Raster> {
        let limits = png::Limits { bytes: 32 << 20 };
        let mut decoder = png::Decoder::new_with_limits(Cursor::new(self.bytes), limits);
        decoder.set_ignore_text_chunk(true);
        decoder.set_ignore_iccp_chunk(true);
        decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
        let header = decoder.read_header_info().map_err(|error| self.png_error(error))?;
        let (width, height) = (header.width as usize, header.height as usize);
        self.check_size(width, height)?;
        let mut reader = decoder.read_info().map_err(|error| self.png_error(error))?;
        let (color_type, _) = reader.output_color_type();
        let n_channels = color_type.samples();
        let mut samples = vec![0; width * height * n_channels];
        let frame = reader.next_frame(&mut samples).map_err(|error| self.png_error(error))?;
        if (frame.width as usize, frame.height as usize) != (width, height) {
            return Err(self.broken("the first frame does not fill the picture"));
        }
        let exif = reader.info().exif_metadata.as_deref();
        Ok(Raster { width, height, n_channels, samples, orientation: orient::of_exif(exif) })
    }

    fn png_error(&self, error: png::DecodingError) -> Error {
        match error {
            png::DecodingError::LimitsExceeded => self.unsupported("rows or metadata of more than 32 MiB"),
            png::DecodingError::IoError(cause) if cause.kind() == std::io::ErrorKind::UnexpectedEof => {
                self.cut_off()
            }
            error => self.broken(error),
        }
    }

    fn through_image<D: ImageDecoder>(&self, decoder: image::ImageResult<D>) -> Result<Raster> {
        let mut decoder = decoder.map_err(|error| self.image_error(error))?;
        let (width, height) = decoder.dimensions();
        let (width, height) = (width as usize, height as usize);
        self.check_size(width, height)?;
        let n_channels = match decoder.color_type() {
            ColorType::L8 => 1,
            ColorType::La8 => 2,
            ColorType::Rgb8 => 3,
            ColorType::Rgba8 => 4,
            other => return Err(self.unsupported(format!("samples of type {other:?}"))),
        };
        if self.format == PictureFormat::WebP {
            webp::check(self, [width, height], n_channels)?;
        }
        let exif = decoder.exif_metadata().map_err(|error| self.image_error(error))?;
        // Some writers of WebP keep the prefix that EXIF has within a JPEG.
        let exif = exif.as_deref().map(|exif| exif.strip_prefix(b"Exif\0\0").unwrap_or(exif));
        let mut samples = vec![0; width * height * n_channels];
        decoder.read_image(&mut samples).map_err(|error| self.image_error(error))?;
        Ok(Raster { width, height, n_channels, samples, orientation: orient::of_exif(exif) })
    }

    fn image_error(&self, error: ImageError) -> Error {
        match error {
            ImageError::IoError(cause) if cause.kind() == std::io::ErrorKind::UnexpectedEof => self.cut_off(),
            ImageError::Unsupported(error) => self.unsupported(error),
            ImageError::Limits(error) => self.unsupported(error),
            error => self.broken(error),
        }
    }
}
