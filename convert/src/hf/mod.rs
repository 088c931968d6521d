//! The configuration files of a checkpoint as Hugging Face lays it out, with what `--set` puts in their place.

pub mod image;
pub mod json;
pub mod protobuf;
pub mod sentencepiece;
pub mod tokenizer;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};
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

#[derive(Clone, Copy)]
enum File {
    Config,
    TokenizerConfig,
}

#[derive(Clone, Copy)]
enum Kind {
    Integer,
    Number,
    Bool,
    Text,
}

struct Setting {
    key: &'static str,
    file: File,
    path: &'static str,
    kind: Kind,
}

const fn row(key: &'static str, file: File, path: &'static str, kind: Kind) -> Setting {
    Setting { key, file, path, kind }
}

/// What `--set key=value` may say, and whose place in which file it takes.
const SETTINGS: &[Setting] = &[
    row("select_layer", File::Config, "select_layer", Kind::Integer),
    row("ps_version", File::Config, "ps_version", Kind::Text),
    row("downsample_ratio", File::Config, "downsample_ratio", Kind::Number),
    row("template", File::Config, "template", Kind::Text),
    row("system", File::Config, "system_message", Kind::Text),
    row("image_size", File::Config, "force_image_size", Kind::Integer),
    row("pad2square", File::Config, "pad2square", Kind::Bool),
    row("rms_norm_eps", File::Config, "llm_config.rms_norm_eps", Kind::Number),
    row("rope_theta", File::Config, "llm_config.rope_theta", Kind::Number),
    row("n_head_kv", File::Config, "llm_config.num_key_value_heads", Kind::Integer),
    row("n_ctx", File::Config, "llm_config.max_position_embeddings", Kind::Integer),
    row("legacy", File::TokenizerConfig, "legacy", Kind::Bool),
    row("add_bos", File::TokenizerConfig, "add_bos_token", Kind::Bool),
];

/// The keys of `--set` with what each stands for, a line each.
pub fn settings_help() -> String {
    let line = |s: &Setting| {
        let file = match s.file {
            File::Config => "config.json",
            File::TokenizerConfig => "tokenizer_config.json",
        };
        format!("{}: {} of {file}", s.key, s.path)
    };
    SETTINGS.iter().map(line).collect::<Vec<_>>().join("\n")
}

impl ConfigFiles {
    /// Reads the files of `dir` and applies `set`, pairs of key and value.
    ///
    /// # Errors
    /// Without a config.json, for files that are no JSON objects, and for a key or value that `--set` doesn't take.
    pub fn read(dir: &Path, set: &[(String, String)]) -> Result<ConfigFiles> {
        let mut files = ConfigFiles {
            dir: dir.to_path_buf(),
            config: JsonFile::read(&dir.join("config.json"))?,
            tokenizer_config: JsonFile::read_or_empty(&dir.join("tokenizer_config.json"))?,
            special_tokens_map: JsonFile::read_or_empty(&dir.join("special_tokens_map.json"))?,
            added_tokens: JsonFile::read_or_empty(&dir.join("added_tokens.json"))?,
            preprocessor: JsonFile::read_or_empty(&dir.join("preprocessor_config.json"))?,
            set: Vec::new(),
        };
        for (key, text) in set {
            let Some(setting) = SETTINGS.iter().find(|s| s.key == key) else {
                let keys: Vec<&str> = SETTINGS.iter().map(|s| s.key).collect();
                return Err(Error::Request(format!("--set {key}: expected one of {}", keys.join(", "))));
            };
            let value = parse(setting.kind, text).ok_or_else(|| {
                Error::Request(format!("--set {key}: expected {}, found {text:?}", setting.kind))
            })?;
            match setting.file {
                File::Config => files.config.set(setting.path, value),
                File::TokenizerConfig => files.tokenizer_config.set(setting.path, value),
            }
        }
        // in the table's order, so that the order of the flags leaves no trace in the file
        for setting in SETTINGS {
            let last = set.iter().rev().find(|(key, _)| key == setting.key);
            files.set.extend(last.map(|(key, text)| format!("{key} = {text}")));
        }
        Ok(files)
    }
}

fn parse(kind: Kind, text: &str) -> Option<Value> {
    match kind {
        Kind::Integer => text.parse::<i64>().ok().map(Value::from),
        Kind::Number => text.parse::<f64>().ok().filter(|x| x.is_finite()).map(Value::from),
        Kind::Bool => text.parse::<bool>().ok().map(Value::from),
        Kind::Text => Some(Value::from(text)),
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Integer => "an integer",
            Kind::Number => "a number",
            Kind::Bool => "true or false",
            Kind::Text => "a text",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(set: &[(&str, &str)]) -> Result<ConfigFiles> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), r#"{"llm_config": {"rope_theta": 1}}"#).unwrap();
        let set: Vec<_> = set.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        ConfigFiles::read(dir.path(), &set)
    }

    #[test]
    fn settings_take_the_place_of_what_the_files_say() {
        let files =
            read(&[("legacy", "false"), ("rope_theta", "5e5"), ("select_layer", "-4"), ("legacy", "true")])
                .unwrap();
        let llm = files.config.root().need("llm_config").unwrap();
        assert_eq!(llm.need("rope_theta").unwrap().f64().unwrap(), 5e5);
        assert_eq!(files.config.root().need("select_layer").unwrap().i64().unwrap(), -4);
        assert!(files.tokenizer_config.root().need("legacy").unwrap().bool().unwrap());
        assert_eq!(files.set, ["select_layer = -4", "rope_theta = 5e5", "legacy = true"]);
    }

    #[test]
    fn refuses_unknown_keys_and_values() {
        let cases = [
            ("layer", "1", "--set layer: expected one of select_layer, ps_version, "),
            ("select_layer", "x", "--set select_layer: expected an integer, found \"x\""),
            ("legacy", "yes", "--set legacy: expected true or false, found \"yes\""),
            ("rope_theta", "inf", "--set rope_theta: expected a number, found \"inf\""),
        ];
        for (key, value, expected) in cases {
            let text = read(&[(key, value)]).unwrap_err().to_string();
            assert!(text.starts_with(expected), "expected {expected}\n   found {text}");
        }
    }
}
