//! owlet: answers questions about pictures on the computer you already have.
pub mod error;
pub mod model;
pub mod prompt;
pub mod token;

pub mod engine;

pub mod cli;

pub use error::{Error, Result};
