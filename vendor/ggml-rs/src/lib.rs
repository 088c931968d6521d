//! ggml behind safe Rust.
