//! The configuration files of a checkpoint as Hugging Face lays it out, with what `--set` puts in their place.

pub mod image;
pub mod json;
pub mod protobuf;
pub mod sentencepiece;
pub mod settings;
pub mod tokenizer;

use std::path::{Path, PathBuf};

use crate::error::Result;
use json::JsonFile;

/// Every JSON file that a family may ask. Files that a checkpoint may lack are empty objects then.
#[derive(Debug, Clone)]
pub struct ConfigFiles {
    pub dir: PathBuf,
    pub config: JsonFile,
    pub tokenizer_config: JsonFile,
    pub special_tokens_map: JsonFile,
    pub added_tokens: JsonFile,
    pub preprocessor: JsonFile,
    /// What `--set` said, `key = value` a line, in the order of the table.
    pub set: Vec<String>,
}

impl ConfigFiles {
    /// Reads the files of `dir`.
    ///
    /// # Errors
    /// Without a config.json, and for files that are no JSON objects.
    pub fn read(dir: &Path) -> Result<ConfigFiles> {
        Ok(ConfigFiles {
            dir: dir.to_path_buf(),
            config: JsonFile::read(&dir.join("config.json"))?,
            tokenizer_config: JsonFile::read_or_empty(&dir.join("tokenizer_config.json"))?,
            special_tokens_map: JsonFile::read_or_empty(&dir.join("special_tokens_map.json"))?,
            added_tokens: JsonFile::read_or_empty(&dir.join("added_tokens.json"))?,
            preprocessor: JsonFile::read_or_empty(&dir.join("preprocessor_config.json"))?,
            set: Vec::new(),
        })
    }
}
