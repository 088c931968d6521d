//! Packs a checkpoint into one GGUF.
