//! A JSON file of a checkpoint, read by key path; every error names the file and the path.

use std::path::Path;

use serde_json::Value;

use crate::checkpoint::file::read_small;
use crate::error::{Error, Result};

const FILE_BYTES_MAX: u64 = 32 << 20;

/// A whole file: an object.
#[derive(Debug, Clone)]
pub struct JsonFile {
    label: String,
    root: Value,
}

/// A value inside a file.
#[derive(Debug, Clone)]
pub struct Json<'a> {
    label: &'a str,
    path: String,
    value: &'a Value,
}

impl JsonFile {
    pub fn read(path: &Path) -> Result<JsonFile> {
        let label = path.display().to_string();
        let bytes = read_small(path, FILE_BYTES_MAX)?;
        let root: Value = serde_json::from_slice(&bytes).map_err(|e| Error::format(&label, e.to_string()))?;
        if !root.is_object() {
            return Err(Error::format(&label, format!("expected an object, found {}", kind(&root))));
        }
        Ok(JsonFile { label, root })
    }

    /// As [`JsonFile::read`], an empty object where there is no such file.
    pub fn read_or_empty(path: &Path) -> Result<JsonFile> {
        if path.exists() {
            return JsonFile::read(path);
        }
        Ok(JsonFile { label: path.display().to_string(), root: Value::Object(serde_json::Map::new()) })
    }

    pub fn root(&self) -> Json<'_> {
        Json { label: &self.label, path: String::new(), value: &self.root }
    }

    /// Puts `value` at a dotted path, making the objects on the way.
    pub fn set(&mut self, path: &str, value: Value) {
        let mut at = &mut self.root;
        for key in path.split('.') {
            if !at.is_object() {
                *at = Value::Object(serde_json::Map::new());
            }
            at = &mut at[key];
        }
        *at = value;
    }
}

impl<'a> Json<'a> {
    /// File and key path, as error texts name them.
    pub fn place(&self) -> String {
        if self.path.is_empty() { self.label.to_string() } else { format!("{}: {}", self.label, self.path) }
    }

    /// The value under `key`; `None` where it is absent or null.
    pub fn key(&self, key: &str) -> Option<Json<'a>> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        Some(Json { label: self.label, path: self.path_of(key), value })
    }

    /// The value under `key`.
    ///
    /// # Errors
    /// Where it is absent or null.
    pub fn need(&self, key: &str) -> Result<Json<'a>> {
        self.key(key).ok_or_else(|| {
            Error::format(format!("{}: {}", self.label, self.path_of(key)), "expected a value, found none")
        })
    }

    /// Where `key` of this value stands: `llm_config.rope_theta`.
    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_string() } else { format!("{}.{key}", self.path) }
    }

    pub fn bool(&self) -> Result<bool> {
        self.value.as_bool().ok_or_else(|| self.wrong("true or false"))
    }

    pub fn str(&self) -> Result<&'a str> {
        self.value.as_str().ok_or_else(|| self.wrong("a string"))
    }

    pub fn i64(&self) -> Result<i64> {
        self.value.as_i64().ok_or_else(|| self.wrong("an integer"))
    }

    pub fn u32(&self) -> Result<u32> {
        let n = self.value.as_u64().and_then(|n| u32::try_from(n).ok());
        n.ok_or_else(|| self.wrong("an integer from 0 to 4294967295"))
    }

    /// A count: an integer from 1 on.
    pub fn n(&self) -> Result<u32> {
        self.u32().ok().filter(|n| *n > 0).ok_or_else(|| self.wrong("an integer from 1 on"))
    }

    pub fn f64(&self) -> Result<f64> {
        self.value.as_f64().filter(|x| x.is_finite()).ok_or_else(|| self.wrong("a number"))
    }

    /// A number that is above zero as f32, too.
    pub fn positive_f32(&self) -> Result<f32> {
        let x = self.f64().map_err(|_| self.wrong("a positive number"))? as f32;
        if x > 0.0 && x.is_finite() { Ok(x) } else { Err(self.wrong("a positive number")) }
    }

    pub fn array(&self) -> Result<Vec<Json<'a>>> {
        let items = self.value.as_array().ok_or_else(|| self.wrong("an array"))?;
        let item = |(i, value)| Json { label: self.label, path: format!("{}[{i}]", self.path), value };
        Ok(items.iter().enumerate().map(item).collect())
    }

    /// Keys and values of an object, without the null ones.
    pub fn entries(&self) -> Result<Vec<(&'a str, Json<'a>)>> {
        let map = self.value.as_object().ok_or_else(|| self.wrong("an object"))?;
        Ok(map.keys().filter_map(|key| self.key(key).map(|value| (key.as_str(), value))).collect())
    }

    /// "expected X, found Y" at this place.
    pub fn wrong(&self, expected: &str) -> Error {
        Error::format(self.place(), format!("expected {expected}, found {}", self.found()))
    }

    /// As [`Json::wrong`], for a sound value that is not known here.
    pub fn unsupported(&self, expected: &str) -> Error {
        Error::unsupported(self.place(), format!("expected {expected}, found {}", self.found()))
    }

    fn found(&self) -> String {
        match self.value {
            Value::Array(_) | Value::Object(_) => kind(self.value).to_string(),
            Value::String(text) if text.len() > 100 => "a long string".to_string(),
            other => other.to_string(),
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a bool",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> JsonFile {
        JsonFile { label: "config.json".into(), root: serde_json::from_str(text).unwrap() }
    }

    #[test]
    fn errors_name_file_path_expected_and_found() {
        let file = file(r#"{"a": {"n": -1, "x": 0, "s": [true], "z": null, "big": 4294967296}, "v": 1.5}"#);
        let root = file.root();
        let a = root.need("a").unwrap();
        let cases: Vec<(Error, &str)> = vec![
            (a.need("q").unwrap_err(), "config.json: a.q: expected a value, found none"),
            (a.need("z").unwrap_err(), "config.json: a.z: expected a value, found none"),
            (
                a.need("n").unwrap().u32().unwrap_err(),
                "a.n: expected an integer from 0 to 4294967295, found -1",
            ),
            (a.need("big").unwrap().u32().unwrap_err(), "found 4294967296"),
            (a.need("x").unwrap().n().unwrap_err(), "a.x: expected an integer from 1 on, found 0"),
            (a.need("x").unwrap().positive_f32().unwrap_err(), "a.x: expected a positive number, found 0"),
            (
                a.need("s").unwrap().array().unwrap()[0].str().unwrap_err(),
                "a.s[0]: expected a string, found true",
            ),
            (root.need("v").unwrap().i64().unwrap_err(), "config.json: v: expected an integer, found 1.5"),
            (a.bool().unwrap_err(), "config.json: a: expected true or false, found an object"),
        ];
        for (error, expected) in cases {
            assert!(error.to_string().contains(expected), "expected {expected}\n   found {error}");
        }
    }

    #[test]
    fn set_makes_its_way() {
        let mut file = file(r#"{"a": 1}"#);
        file.set("b.c", 2.into());
        file.set("a", 3.into());
        assert_eq!(file.root().need("a").unwrap().u32().unwrap(), 3);
        assert_eq!(file.root().need("b").unwrap().need("c").unwrap().u32().unwrap(), 2);
    }
}
