//! The GGUF container.

mod strings;

pub use strings::Strings;
