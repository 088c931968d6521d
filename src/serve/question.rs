//! A question as every dialect has it, and what the engine makes of it: pictures are decoded, settings checked, turns put in order.

use super::app::App;
use super::base64;
use super::fault::{Fault, Result};
use crate::engine::{Request, Sampling};
use crate::prompt::{self, Message, Part, PictureFormat, Pixels, Role, decode, preprocess};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

/// What somebody asks.
#[derive(Debug)]
pub struct Question {
    pub system: Option<String>,
    pub turns: Vec<Turn>,
    pub settings: Settings,
}

/// What one side says.
#[derive(Debug)]
pub struct Turn {
    pub role: Role,
    /// In the order in which they were given.
    pub pieces: Vec<Piece>,
}

#[derive(Debug)]
pub enum Piece {
    Text(String),
    /// Base64 of a picture's file.
    Picture {
        place: String,
        base64: String,
    },
}

/// How to answer; what is not said is as the model's file says.
#[derive(Debug, Default)]
pub struct Settings {
    pub temperature: Option<f32>,
    pub top_k: Option<u32>,
    pub top_p: Option<f32>,
    pub min_p: Option<f32>,
    pub repeat_penalty: Option<f32>,
    pub seed: Option<u64>,
    pub max_tokens: Option<u32>,
    pub stop: Vec<String>,
}

/// A question that the engine can take.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub request: Request,
    /// Positions of its prompt.
    pub n_prompt: usize,
    pub pictures: Vec<Seen>,
}

/// What the model got to see of a picture.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub format: PictureFormat,
    pub width: usize,
    pub height: usize,
    pub orientation: u8,
    pub had_alpha: bool,
    pub size_px: usize,
}

impl Piece {
    /// The picture that `url` in the field `place` is or names.
    ///
    /// # Errors
    /// `Request` where it would have to be fetched.
    pub fn picture(place: String, url: String) -> Result<Piece> {
        let scheme = url.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
        let base64 = match scheme.as_deref() {
            None => url,
            Some("data") => match url.split_once(',') {
                Some((head, data)) if head.to_ascii_lowercase().ends_with(";base64") => data.to_string(),
                _ => {
                    return Err(Fault::of(
                        &place,
                        "expected a data URI in base64, `data:image/png;base64,...`",
                    ));
                }
            },
            Some(scheme) => {
                let message = format_args!(
                    "this server fetches nothing, also not by {scheme:.16}; expected the picture itself, as a data URI or in base64"
                );
                return Err(Fault::of(&place, message));
            }
        };
        Ok(Piece::Picture { place, base64 })
    }
}

impl Question {
    /// Makes all of it ready. Takes as long as its pictures take to decode.
    ///
    /// # Errors
    /// `Request`, naming what is wrong.
    pub fn prepare(self, app: &App) -> Result<Prepared> {
        let n_pictures = self
            .turns
            .iter()
            .flat_map(|turn| &turn.pieces)
            .filter(|piece| matches!(piece, Piece::Picture { .. }));
        let (n_pictures, max) = (n_pictures.count(), app.limits().n_pictures as usize);
        if n_pictures > max {
            return Err(Fault::of(
                "pictures",
                format_args!("at most {max} in a request, found {n_pictures}"),
            ));
        }
        let (mut images, mut pictures, mut messages) = (Vec::new(), Vec::new(), Vec::new());
        for Turn { role, pieces } in self.turns {
            let mut parts = Vec::new();
            for piece in pieces {
                parts.push(match piece {
                    Piece::Text(text) => Part::Text(text),
                    Piece::Picture { place, base64 } => {
                        let (seen, pixels) = see(app, &place, &base64)?;
                        pictures.push(seen);
                        images.push(Arc::new(pixels));
                        Part::Image(images.len() - 1)
                    }
                });
            }
            messages.push(Message { role, parts });
        }
        let max_tokens = self.settings.max_tokens(app)?;
        let sampling = self.settings.sampling(app)?;
        let stop = self.settings.stop;
        let request = Request::new(messages, images);
        let request = Request { system: self.system, sampling, max_tokens, stop, ..request };
        // Whoever streams has to hear of it before the response begins.
        let n_prompt = app.engine.check(&request).map_err(Fault::of_request)?;
        Ok(Prepared { request, n_prompt, pictures })
    }
}

fn see(app: &App, place: &str, base64: &str) -> Result<(Seen, Pixels)> {
    let Some(config) = &app.loaded().config.image else {
        return Err(Fault::of(place, "this model takes no pictures"));
    };
    let bytes = base64::decode(base64).map_err(|at| {
        Fault::of(place, format_args!("expected base64, found something else at character {at}"))
    })?;
    let limits =
        prompt::Limits { max_pixels: app.limits().max_pixels, max_bytes: app.limits().max_body_bytes };
    let refused = |error| Fault { param: Some(place.into()), ..Fault::of_request(error) };
    let picture = decode(&bytes, place, &limits).map_err(refused)?;
    let pixels = preprocess(&picture, config).map_err(refused)?;
    let seen = Seen {
        format: picture.format,
        width: picture.width,
        height: picture.height,
        orientation: picture.orientation,
        had_alpha: picture.had_alpha,
        size_px: pixels.size_px,
    };
    Ok((seen, pixels))
}

impl Settings {
    fn max_tokens(&self, app: &App) -> Result<u32> {
        let max = app.limits().max_tokens;
        match self.max_tokens {
            Some(n) if n > max => Err(Fault::of("max_tokens", format_args!("at most {max}, found {n}"))),
            Some(n) => Ok(n),
            None => Ok(app.loaded().generation.max_tokens.min(max)),
        }
    }

    fn sampling(&self, app: &App) -> Result<Sampling> {
        let sampling = Sampling {
            temperature: self.temperature.unwrap_or(app.loaded().generation.temperature),
            top_k: self.top_k.unwrap_or(0),
            top_p: self.top_p.unwrap_or(1.0),
            min_p: self.min_p.unwrap_or(0.0),
            repeat_penalty: self.repeat_penalty.unwrap_or(1.0),
            // The hasher's keys are the system's random numbers, which is all that a seed needs.
            seed: self.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish()),
        };
        sampling.check().map_err(Fault::of_request)?;
        Ok(sampling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_come_with_the_request() {
        let picture = |url: &str| match Piece::picture("url".into(), url.into()) {
            Ok(Piece::Picture { base64, .. }) => Ok(base64),
            Ok(piece) => panic!("{piece:?}"),
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
        for scheme in ["https", "http", "file", "ftp"] {
            let text = format!("url: this server fetches nothing, also not by {scheme}; ");
            assert!(
                picture(&format!("{scheme}://169.254.169.254/x")).unwrap_err().starts_with(&text),
                "{scheme}"
            );
        }
    }
}
