//! The GGUF container: a file or bytes in, checked keys and tensors out; and the writer of such files.
//! Knows no model: which keys and tensors there must be is the schema's to say.
//!
//! Everything read from a file is untrusted. Lengths are [`size::Size`], which has no unchecked operation, and
//! clippy refuses plain arithmetic in this room. A mapped file may change underneath: what is parsed is copied,
//! and tensor bytes are numbers whatever they are.
#![deny(clippy::arithmetic_side_effects)]

mod checksum;
mod cursor;
mod encode;
mod gguf;
mod header;
mod header_bytes;
mod in_place;
mod layout;
mod limits;
mod map;
mod metadata;
mod number;
mod pages;
mod parse_value;
mod size;
mod split;
mod strings;
mod tensor;
mod value;
mod write;

pub use checksum::{CHECKSUM_BYTES, CHECKSUMS_KEY, hex};
pub use encode::Encoder;
pub use gguf::Gguf;
pub use header_bytes::TensorPlan;
pub(crate) use in_place::InPlace;
pub use layout::Layout;
pub use limits::Limits;
pub use metadata::Metadata;
pub use pages::Pages;
pub use split::{MAX_FILES, mark_split, split_path};
pub use strings::Strings;
pub use tensor::{Shape, TensorInfo};
pub use value::{Array, Value, ValueType};
pub use write::{Writer, Written};
