//! The model inside of the program: so small that it rides along, so that the first minute needs no download.

use crate::error::{Error, Result};
use owlet_format::Gguf;

/// # Errors
/// `Unsupported`: this build has none.
pub fn open() -> Result<Gguf> {
    Err(Error::unsupported("built-in model", "this build has none; give a model file with -m"))
}
