//! Pictures by their addresses on the network, for whoever allows that.

use super::pictures::{self, Found};
use crate::error::{Error, Result};
use crate::fetch::{Policy, fetch};
use std::path::Path;

/// Reads and decodes the picture at `place`: a path, `-`, or an https address if `is_allowed`.
///
/// # Errors
/// As [`pictures::find`] and [`fetch`]; `Request` for an address that is not allowed.
pub fn find(place: &Path, is_allowed: bool) -> Result<Found> {
    let Some(url) = place.to_str().filter(|text| is_url(text)) else { return pictures::find(place) };
    if !is_allowed {
        return Err(Error::request(format!("{url}: only --allow-url fetches pictures from the network")));
    }
    let bytes = fetch(url, &Policy::default())?;
    pictures::of_bytes(&bytes, url.to_string())
}

fn is_url(text: &str) -> bool {
    let is = |scheme: &str| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    is("https://") || is("http://")
}
