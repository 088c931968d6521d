//! Pictures from where the user has them: files by path, or standard input as `-`.

use super::mentions::{self, Place};
use crate::engine::Loaded;
use crate::error::{Error, Result};
use crate::prompt::{Limits, Picture, Pixels, decode, preprocess, read_limited};
use std::env;
use std::fs::{self, File};
use std::io::{ErrorKind, stdin};
use std::path::{Path, PathBuf};
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
    of_bytes(&bytes, source)
}

/// Decodes the picture that `bytes` are; `source` is what messages call it.
///
/// # Errors
/// As [`find`].
pub fn of_bytes(bytes: &[u8], source: String) -> Result<Found> {
    let picture = decode(bytes, &source, &Limits::default())?;
    Ok(Found { source, picture })
}

/// Reads and decodes the picture in a file that somebody typed the place of.
///
/// # Errors
/// As [`find`], and what helps where there is no such file; `Request` for an address on the network.
pub fn find_at(place: &Place) -> Result<Found> {
    let (typed, remedy) = match place {
        Place::File(path) => (path, ""),
        Place::Loose(path) => (path, "a path with spaces is put in quotes, and "),
        Place::Glued(path) => (path, "a space parts a path from words before it, and "),
        Place::Url(url) => return Err(Error::request(format!("{url}: an address, not a file"))),
    };
    let path = local(typed);
    match fs::metadata(&path) {
        Ok(there) if there.is_dir() => {
            let all = format!("/image {}/*.jpg", typed.trim_end_matches('/'));
            Err(Error::request(format!("{typed}: a directory; {all} takes the JPEGs in it")))
        }
        Err(cause) if cause.kind() == ErrorKind::NotFound => {
            Err(Error::request(format!("{typed}: no such file; {remedy}a backslash before it makes it text")))
        }
        _ => find(&path),
    }
}

/// The files that `place` names: those that fit where it is a pattern, in order of their names.
///
/// # Errors
/// `Request` where nothing fits, or the pattern is none.
pub fn matching(place: Place) -> Result<Vec<Place>> {
    let Place::File(typed) = &place else { return Ok(vec![place]) };
    let path = local(typed);
    if path.exists() || !typed.contains(['*', '?', '[']) {
        return Ok(vec![place]);
    }
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..Default::default() };
    let found = glob::glob_with(&path.to_string_lossy(), options)
        .map_err(|error| Error::request(format!("{typed}: {}", error.msg)))?;
    // Directories that cannot be read hide what is in them.
    let files = found.flatten().filter(|path| path.is_file());
    let files: Vec<_> = files.map(|path| Place::File(path.display().to_string())).collect();
    if files.is_empty() { Err(Error::request(format!("{typed}: no file fits"))) } else { Ok(files) }
}

/// Whether a path that somebody typed is a file's.
pub fn is_there(typed: &str) -> bool {
    local(typed).is_file()
}

/// Whether `word` alone is a picture's path.
pub fn is_named(word: &str) -> bool {
    let name = Path::new(word).file_name().and_then(|name| name.to_str());
    name.is_some_and(mentions::is_bare_name)
}

/// Names of pictures among the words of `text` that somebody may have meant as pictures, since there are such files here.
pub fn named_in(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| c.is_whitespace() || ",;?!()".contains(c));
    words.filter(|word| mentions::is_bare_name(word) && is_there(word))
}

/// A path as people type it: `~` is the home directory.
pub fn local(typed: &str) -> PathBuf {
    let home = || env::var_os("HOME").or_else(|| env::var_os("USERPROFILE")).filter(|home| !home.is_empty());
    match typed.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with(['/', '\\'])) {
        Some(rest) => match home() {
            Some(home) => Path::new(&home).join(rest.trim_start_matches(['/', '\\'])),
            None => PathBuf::from(typed),
        },
        None => PathBuf::from(typed),
    }
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
