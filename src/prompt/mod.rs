//! THE QUESTION: what a person sends, made ready for the network.
//!
//! Comes in: the bytes of pictures and the messages of a conversation. Goes out: `[n_px, n_px, 3]` floats a picture
//! ([`Pixels`]) and a list of token runs and picture slots ([`Chunk`]); on the way back, token ids become text
//! ([`Detokenizer`]). Text that a person typed never turns into a special token or a picture slot: those are placed by
//! [`render`] alone. This room computes no network and must not know `model/`.

pub mod chunks;
pub mod image;
pub mod template;
pub mod tokenizer;

pub use chunks::{Chunk, chunks, n_positions};
pub use image::{Limits, Picture, PictureFormat, Pixels, decode, preprocess, read_limited, resize};
pub use template::{ImageIndex, Message, Part, Role, Segment, render};
pub use tokenizer::{Detokenizer, Place, Tokenizer};
