//! Pictures from where the user has them: files by path, or standard input as `-`.

use crate::engine::Loaded;
use crate::error::{Error, Result};
use crate::prompt::{Limits, Picture, Pixels, decode, preprocess, read_limited};
use std::fs::File;
use std::io::stdin;
use std::path::Path;
use std::sync::Arc;

/// A picture that was read and decoded, and nothing more: possible before any model is open.
pub struct Found {
    /// The path, or `standard input`.
    pub source: String,
    pub picture: Picture,
}

/// A picture as the model gets it, with what there is to tell about it.
pub struct Attached {
    pub source: String,
    pub width: usize,
    pub height: usize,
    pub format: String,
    /// EXIF orientation that was applied, 1 to 8.
    pub orientation: u8,
    /// Transparency was laid over white.
    pub alpha: bool,
    pub n_tokens: usize,
    pub pixels: Arc<Pixels>,
}

/// Reads and decodes the picture at `path`, `-` being standard input.
///
/// # Errors
/// `Io` where it cannot be read; `Limit`, `Unsupported`, `Format` by what is wrong with the picture.
pub fn find(path: &Path) -> Result<Found> {
    let limits = Limits::default();
    let (source, bytes) = if path.as_os_str() == "-" {
        let source = "standard input".to_string();
        let bytes = read_limited(stdin().lock(), &source, &limits)?;
        (source, bytes)
    } else {
        let source = path.display().to_string();
        let file = File::open(path).map_err(|cause| Error::io(path, cause))?;
        let bytes = read_limited(file, &source, &limits)?;
        (source, bytes)
    };
    let picture = decode(&bytes, &source, &limits)?;
    Ok(Found { source, picture })
}

impl Found {
    /// Makes the picture ready for `model`.
    ///
    /// # Errors
    /// `Unsupported` where the model takes no pictures, or wants them in a way that this program does not know.
    pub fn attach(self, model: &Loaded) -> Result<Attached> {
        let Some(config) = &model.config.image else {
            return Err(Error::unsupported(
                &self.source,
                format!("{} has no vision half", model.config.name),
            ));
        };
        let pixels = Arc::new(preprocess(&self.picture, config)?);
        let Picture { width, height, format, orientation, had_alpha, .. } = self.picture;
        Ok(Attached {
            source: self.source,
            width,
            height,
            format: format.to_string(),
            orientation,
            alpha: had_alpha,
            n_tokens: config.n_tokens as usize,
            pixels,
        })
    }
}
