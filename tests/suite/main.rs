//! The integration tests: the real binary, real files, the models' own figures.
#![allow(clippy::unwrap_used)]

mod arrows;
mod checkpoint;
mod convert;
mod hostile_pictures;
mod pictures;
mod tokenizer;
