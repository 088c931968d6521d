//! The container and the schema against files that are right, wrong and hostile.
#![allow(clippy::unwrap_used)]

mod alone;
mod hostile;
mod memory;
mod model;
#[path = "../../../tests/fuzz/src/mutate.rs"]
mod mutate;
mod mutations;
mod raw;
mod schema;
mod write;
