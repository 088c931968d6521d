//! The model inside of the program: so small that it rides along, so that the first minute needs no download.

use crate::error::Result;
use owlet_format::Gguf;

/// Tensors are used where they lie, so the file has to lie as ggml wants its tensors to.
#[repr(align(64))]
struct Aligned<T: ?Sized>(T);

static FILE: &Aligned<[u8]> = &Aligned(*include_bytes!("../../demo/owlet-demo.gguf"));

/// # Errors
/// `Format`: the file is damaged, which a test would have shown.
pub fn open() -> Result<Gguf> {
    Ok(Gguf::from_static(&FILE.0, "built-in model")?)
}
