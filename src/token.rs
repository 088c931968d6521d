//! The word that tokenizer, engine and network share.

/// Index of a token in the vocabulary: row of the embedding table, row of the output head.
pub type TokenId = u32;
