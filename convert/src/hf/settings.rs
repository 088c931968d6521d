//! `--set key=value`: facts that a user puts in the place of those in a checkpoint's configuration. Each family says where
//! in which file it has them; a key that it has no use for is refused, since it would change nothing.

use std::fmt;

use serde_json::Value;

use super::ConfigFiles;
use crate::error::{Error, Result};

#[derive(Clone, Copy)]
enum Kind {
    Integer,
    Number,
    Bool,
    Text,
}

struct Setting {
    key: &'static str,
    kind: Kind,
    about: &'static str,
}

const fn row(key: &'static str, kind: Kind, about: &'static str) -> Setting {
    Setting { key, kind, about }
}

/// What `--set key=value` may say.
const SETTINGS: &[Setting] = &[
    row(
        "select_layer",
        Kind::Integer,
        "which hidden state of the tower is read out, from the end where negative",
    ),
    row("ps_version", Kind::Text, "order of the pixel shuffle, v1 or v2"),
    row("downsample_ratio", Kind::Number, "side of the grid behind the pixel shuffle over that before it"),
    row("template", Kind::Text, "form of a conversation"),
    row("system", Kind::Text, "system message"),
    row(
        "image_size",
        Kind::Integer,
        "side of a picture in pixels, to which an InternViT's positions are interpolated",
    ),
    row("pad2square", Kind::Bool, "whether pictures are padded"),
    row("rms_norm_eps", Kind::Number, "of the text half's norms"),
    row("rope_theta", Kind::Number, "base of the rotary positions"),
    row("n_head_kv", Kind::Integer, "heads of keys and values"),
    row("n_ctx", Kind::Integer, "positions that the text half was trained for"),
    row("legacy", Kind::Bool, "whether the tokenizer puts a space before every segment"),
    row("add_bos", Kind::Bool, "whether a prompt begins with the begin-of-text token"),
];

/// Where a family has a fact: a dotted path in one of its files.
#[derive(Debug, Clone, Copy)]
pub enum Place {
    Config(&'static str),
    TokenizerConfig(&'static str),
}

/// The keys that a family takes, each with its place.
pub type Places = [(&'static str, Place)];

/// The keys of `--set` with what each stands for, a line each.
pub fn settings_help() -> String {
    SETTINGS.iter().map(|s| format!("{}: {}", s.key, s.about)).collect::<Vec<_>>().join("\n")
}

impl ConfigFiles {
    /// Puts the values of `set`, pairs of key and value, in the `places` that `family` has for them.
    ///
    /// # Errors
    /// For a key that there is not, one that the family has no place for, and a value of another kind.
    pub fn apply(&mut self, set: &[(String, String)], family: &str, places: &Places) -> Result<()> {
        for (key, text) in set {
            let refused = |what: String| Err(Error::Request(format!("--set {key}: {what}")));
            let Some(setting) = SETTINGS.iter().find(|s| s.key == key) else {
                let keys: Vec<&str> = SETTINGS.iter().map(|s| s.key).collect();
                return refused(format!("expected one of {}", keys.join(", ")));
            };
            let Some((_, place)) = places.iter().find(|(known, _)| known == key) else {
                let keys: Vec<&str> = places.iter().map(|(key, _)| *key).collect();
                return refused(format!("{family} takes {}", keys.join(", ")));
            };
            let Some(value) = parse(setting.kind, text) else {
                return refused(format!("expected {}, found {text:?}", setting.kind));
            };
            match place {
                Place::Config(path) => self.config.set(path, value),
                Place::TokenizerConfig(path) => self.tokenizer_config.set(path, value),
            }
        }
        // in the table's order, so that the order of the flags leaves no trace in the file
        for setting in SETTINGS {
            let last = set.iter().rev().find(|(key, _)| key == setting.key);
            self.set.extend(last.map(|(key, text)| format!("{key} = {text}")));
        }
        Ok(())
    }

    /// Whether `--set` said `key`.
    pub fn has_set(&self, key: &str) -> bool {
        self.set.iter().any(|line| line.split_once(" = ").is_some_and(|(set, _)| set == key))
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

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

    const PLACES: &Places = &[
        ("select_layer", Place::Config("select_layer")),
        ("rope_theta", Place::Config("llm_config.rope_theta")),
        ("legacy", Place::TokenizerConfig("legacy")),
    ];

    fn read(set: &[(&str, &str)]) -> Result<ConfigFiles> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), r#"{"llm_config": {"rope_theta": 1}}"#).unwrap();
        let set: Vec<_> = set.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let mut files = ConfigFiles::read(dir.path())?;
        files.apply(&set, "a-family", PLACES)?;
        Ok(files)
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
        assert!(files.has_set("legacy") && !files.has_set("n_ctx"));
    }

    #[test]
    fn refuses_unknown_keys_and_values() {
        let cases = [
            ("layer", "1", "--set layer: expected one of select_layer, ps_version, "),
            ("n_ctx", "1", "--set n_ctx: a-family takes select_layer, rope_theta, legacy"),
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
