//! Names that come from outside: of models, revisions and files. Each becomes part of an address and of a path, so it
//! may consist of few characters and lead nowhere else.

use std::fmt;

use crate::error::{Error, Result};

/// Longer names are nobody's.
const NAME_BYTES_MAX: usize = 96;
/// A commit, a tag, a branch.
const REVISION_BYTES_MAX: usize = 200;

/// `OpenGVLab/InternVL-Chat-V1-1`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelName {
    organization: String,
    model: String,
}

impl ModelName {
    pub fn parse(text: &str) -> Option<ModelName> {
        let (organization, model) = text.split_once('/')?;
        let is_name = |word: &str| is_plain(word) && !word.contains("--");
        (is_name(organization) && is_name(model))
            .then(|| ModelName { organization: organization.to_string(), model: model.to_string() })
    }

    /// Takes the address of its page at `endpoint`, too.
    pub fn parse_at(text: &str, endpoint: &str) -> Option<ModelName> {
        let below = text.strip_prefix(endpoint.trim_end_matches('/')).and_then(|rest| rest.strip_prefix('/'));
        ModelName::parse(below.map_or(text, |name| name.trim_end_matches('/')))
    }

    /// The part behind the slash.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// What the hub's own tool calls its directory.
    pub fn directory(&self) -> String {
        format!("models--{}--{}", self.organization, self.model)
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.organization, self.model)
    }
}

/// Letters, digits, `.`, `_` and `-`, the first one no dot: a name that is safe in a path and in an address.
pub fn is_plain(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// 40 hexadecimal digits.
pub fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// `revision` as it stands in an address.
///
/// # Errors
/// For what can be no branch, tag or commit.
pub fn revision_in_address(revision: &str) -> Result<String> {
    let is_sound = revision.len() <= REVISION_BYTES_MAX && revision.split('/').all(is_plain);
    if is_sound {
        return Ok(revision.replace('/', "%2F"));
    }
    Err(Error::Request(format!(
        "--revision {}: expected a branch, a tag or a commit",
        revision.escape_debug()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_models() {
        const HUB: &str = "https://hub.example";
        for (text, expected) in [
            ("OpenGVLab/InternVL-Chat-V1-1", Some("OpenGVLab/InternVL-Chat-V1-1")),
            ("https://hub.example/Open/x.y_z/", Some("Open/x.y_z")),
            ("a", None),
            ("a/b/", None),
            ("a/b/c", None),
            ("/a", None),
            ("../a", None),
            ("a/..", None),
            ("./a", None),
            ("a/.b", None),
            ("a/b c", None),
            ("a/b--c", None),
            ("a\\b", None),
            ("a/b?c", None),
            ("https://other.example/a/b", None),
            ("ä/b", None),
        ] {
            assert_eq!(
                ModelName::parse_at(text, HUB).map(|name| name.to_string()).as_deref(),
                expected,
                "{text}"
            );
        }
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        assert_eq!(ModelName::parse(&format!("a/{long}")), None);
        assert_eq!(ModelName::parse("A/b-c").map(|name| name.directory()).as_deref(), Some("models--A--b-c"));
    }

    #[test]
    fn revisions() {
        for (text, expected) in
            [("main", Some("main")), ("refs/pr/1", Some("refs%2Fpr%2F1")), ("v1.0", Some("v1.0"))]
        {
            assert_eq!(revision_in_address(text).ok().as_deref(), expected);
        }
        for bad in ["", "..", "a/../b", "/a", "a b", "a?b", "a%2e", "a\n", &"a".repeat(300)] {
            let text = revision_in_address(bad).unwrap_err().to_string();
            assert!(text.ends_with("expected a branch, a tag or a commit"), "{text}");
        }
    }
}
