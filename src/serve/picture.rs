//! A picture of a request: with it, or at an address, from where it is fetched only if the server's operator has named its host.

use super::app::App;
use super::base64;
use super::fault::{Fault, Result};
use super::fields::{Fields, wrong};
use crate::fetch::{Policy, fetch};
use crate::prompt::{self, PictureFormat, Pixels, decode, preprocess};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::time::Instant;

#[derive(Debug)]
pub struct Picture {
    /// Where it stands in the request.
    pub place: String,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Base64(String),
    Url(String),
    /// A file, as it was fetched.
    File(Vec<u8>),
}

/// What may bring pictures.
pub trait Pictures {
    fn pictures(&mut self) -> Vec<&mut Picture> {
        Vec::new()
    }
}

impl Pictures for () {}

/// What the model got to see of a picture.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub format: PictureFormat,
    pub width: usize,
    pub height: usize,
    pub orientation: u8,
    pub had_alpha: bool,
    pub size_px: usize,
    /// Where the log is to name it.
    pub file: Option<FileId>,
}

/// What tells a picture's file from others.
#[derive(Clone, Copy, Debug)]
pub struct FileId {
    pub n_bytes: usize,
    pub sha256: [u8; 32],
}

impl Picture {
    /// One that is there in base64.
    pub fn of_base64(place: String, base64: String) -> Picture {
        Picture { place, source: Source::Base64(base64) }
    }

    /// The picture that `url` in the field `place` is or names.
    ///
    /// # Errors
    /// `Request` where it is neither a data URI in base64 nor base64 nor an address on the web.
    pub fn new(place: String, url: String) -> Result<Picture> {
        let scheme = url.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
        let source = match scheme.as_deref() {
            None => Source::Base64(url),
            Some("data") => match url.split_once(',') {
                Some((head, data)) if head.to_ascii_lowercase().ends_with(";base64") => {
                    Source::Base64(data.to_string())
                }
                _ => {
                    let message = "expected a data URI in base64, `data:image/png;base64,...`";
                    return Err(Fault::of(&place, message));
                }
            },
            Some("https" | "http") => Source::Url(url),
            Some(scheme) => return Err(fetches_nothing(&place, scheme)),
        };
        Ok(Picture { place, source })
    }

    /// The picture that OpenAI's field `image_url`, which stands at `place`, names: a text, or an object with one.
    ///
    /// # Errors
    /// As [`Picture::new`].
    pub fn of_image_url(place: String, value: Value) -> Result<Picture> {
        let url = match value {
            Value::String(url) => url,
            value @ Value::Object(_) => {
                let mut image = Fields::of(&place, value)?;
                let url = image.text("url")?;
                // The model sees one square of one size.
                image.finish(&[("detail", &[])])?;
                url.unwrap_or_default()
            }
            other => return Err(wrong(&place, "text or an object", &other)),
        };
        Picture::new(place, url)
    }

    /// It has to be fetched.
    pub fn is_elsewhere(&self) -> bool {
        matches!(self.source, Source::Url(_))
    }

    /// What the model sees of it.
    ///
    /// # Errors
    /// `Request`, naming the place.
    pub fn see(&self, app: &App) -> Result<(Seen, Pixels)> {
        let place = &self.place;
        let Some(config) = &app.facts().config.image else {
            return Err(Fault::of(place, "this model takes no pictures"));
        };
        let decoded;
        let bytes = match &self.source {
            Source::File(bytes) => bytes,
            Source::Url(_) => return Err(fetches_nothing(place, "https")),
            Source::Base64(text) => {
                decoded = base64::decode(text).map_err(|at| {
                    Fault::of(place, format_args!("expected base64, found something else at character {at}"))
                })?;
                &decoded
            }
        };
        let limits =
            prompt::Limits { max_pixels: app.limits().max_pixels, max_bytes: app.limits().max_body_bytes };
        let refused = |error| Fault { param: Some(place.clone()), ..Fault::of_request(error) };
        let picture = decode(bytes, place, &limits).map_err(refused)?;
        let pixels = preprocess(&picture, config).map_err(refused)?;
        let seen = Seen {
            format: picture.format,
            width: picture.width,
            height: picture.height,
            orientation: picture.orientation,
            had_alpha: picture.had_alpha,
            size_px: pixels.size_px,
            file: app.options.logs_prompts.then(|| FileId::of(bytes)),
        };
        Ok((seen, pixels))
    }
}

impl FileId {
    fn of(bytes: &[u8]) -> FileId {
        FileId { n_bytes: bytes.len(), sha256: Sha256::digest(bytes).into() }
    }
}

/// Fetches those of `pictures` that are elsewhere: all of them within the time of one by `policy`, and at most `max_bytes` together.
///
/// # Errors
/// `Request`, naming the place.
pub fn fetch_all(pictures: Vec<&mut Picture>, policy: &Policy, max_bytes: u64) -> Result<()> {
    let (started, mut n_left) = (Instant::now(), max_bytes);
    for picture in pictures {
        let Source::Url(url) = &picture.source else { continue };
        let patience = policy.patience.saturating_sub(started.elapsed());
        let mut policy = policy.clone();
        (policy.max_bytes, policy.patience) = (policy.max_bytes.min(n_left), patience);
        let bytes = fetch(url, &policy).map_err(|error| Fault::of(&picture.place, error))?;
        n_left -= bytes.len() as u64;
        picture.source = Source::File(bytes);
    }
    Ok(())
}

fn fetches_nothing(place: &str, scheme: &str) -> Fault {
    let message = format_args!(
        "this server fetches nothing, also not by {scheme:.16}; expected the picture itself, as a data URI or in base64"
    );
    Fault::of(place, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_come_with_the_request() {
        let picture = |url: &str| match Picture::new("url".into(), url.into()) {
            Ok(Picture { source: Source::Base64(base64), .. }) => Ok(base64),
            Ok(picture) => panic!("{picture:?}"),
            Err(fault) => Err(fault.message),
        };
        for (url, expected) in [
            ("Zm9v", "Zm9v"),
            ("data:image/png;base64,Zm9v", "Zm9v"),
            ("DATA:;charset=utf-8;BASE64,Zm9v", "Zm9v"),
        ] {
            assert_eq!(picture(url).as_deref(), Ok(expected));
        }
        let no_base64 = "url: expected a data URI in base64, `data:image/png;base64,...`";
        assert_eq!(picture("data:image/png,Zm9v").as_ref().map_err(String::as_str), Err(no_base64));
        assert_eq!(picture("data:image/png;base64").as_ref().map_err(String::as_str), Err(no_base64));
        for scheme in ["file", "ftp"] {
            let text = format!("url: this server fetches nothing, also not by {scheme}; ");
            assert!(picture(&format!("{scheme}:///etc/passwd")).unwrap_err().starts_with(&text), "{scheme}");
        }
        for url in ["https://169.254.169.254/x", "HTTP://example.org"] {
            assert!(Picture::new("url".into(), url.into()).unwrap().is_elsewhere(), "{url}");
        }
    }
}
