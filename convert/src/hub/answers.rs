//! What the hub's API says of a model, which is as hostile as any file. In: JSON, of whatever shape. Out: what of it can be
//! used here, and nothing else. Pure; who asks for it is the repository's business.

use serde_json::Value;

use super::name::{is_commit, is_plain};
use super::sum::{HubFile, Sum};

const LICENCE_CHARS_MAX: usize = 80;
/// Longer ones are no links.
pub(super) const LINK_BYTES_MAX: usize = 4096;

/// The answer about a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// 40 hexadecimal digits.
    pub commit: String,
    /// What its authors say: a short line without control characters.
    pub licence: Option<String>,
}

impl About {
    /// `None` where it names no commit.
    pub fn read(json: &Value) -> Option<About> {
        let commit = json["sha"].as_str().filter(|commit| is_commit(commit))?;
        Some(About { commit: commit.to_string(), licence: licence(json) })
    }
}

/// The files of a page of the list, those that have names to be used here; `None` where it is no list.
pub fn files_of(page: &Value) -> Option<Vec<HubFile>> {
    Some(page.as_array()?.iter().filter_map(file_of).collect())
}

/// The link to the page behind one: `<ADDRESS>; rel="next"` among others.
pub fn next_link(header: &str) -> Option<&str> {
    if header.len() > LINK_BYTES_MAX {
        return None;
    }
    header.split(',').find_map(|link| {
        let (address, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
        rest.split(';').any(|word| matches!(word.trim(), "rel=\"next\"" | "rel=next")).then_some(address)
    })
}

/// A directory, a file of another name, and one without a sum are none that could be needed.
fn file_of(entry: &Value) -> Option<HubFile> {
    let name = entry["path"].as_str().filter(|name| entry["type"] == "file" && is_plain(name))?;
    let large = &entry["lfs"];
    let (sum, n_bytes) = match large.is_object() {
        true => (Sum::sha256(large["oid"].as_str()?)?, large["size"].as_u64()?),
        false => (Sum::git(entry["oid"].as_str()?)?, entry["size"].as_u64()?),
    };
    // far above any disk, and far below where sums of lengths end
    (n_bytes < 1 << 48).then(|| HubFile { name: name.to_string(), n_bytes, sum })
}

fn licence(info: &Value) -> Option<String> {
    let stated = info["cardData"]["license"].as_str();
    let tags = info["tags"].as_array().into_iter().flatten();
    let tag = || tags.filter_map(Value::as_str).find_map(|tag| tag.strip_prefix("license:"));
    let text = stated.or_else(tag)?;
    Some(text.chars().filter(|c| !c.is_control()).take(LICENCE_CHARS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_plain_files_with_sums_are_taken() {
        let (git, sha256) = ("a".repeat(40), "b".repeat(64));
        let small = |path: &str| json!({"type": "file", "path": path, "size": 3, "oid": git});
        let large = |size: Value, oid: &str| json!({"type": "file", "path": "w.bin", "size": 3, "oid": git, "lfs": {"oid": oid, "size": size}});
        let file = file_of(&small("config.json")).unwrap();
        assert_eq!((file.n_bytes, file.sum), (3, Sum::git(&git).unwrap()));
        let file = file_of(&large(json!(9), &sha256)).unwrap();
        assert_eq!((file.n_bytes, file.sum), (9, Sum::sha256(&sha256).unwrap()));
        let bad = [
            small("../config.json"),
            small("/etc/passwd"),
            small("a/b"),
            small("a\\b"),
            small(".."),
            small(".hidden"),
            small("a\nb"),
            small(""),
            json!({"type": "directory", "path": "a", "size": 0, "oid": git}),
            json!({"type": "file", "path": "a", "size": 3, "oid": "../x"}),
            json!({"type": "file", "path": "a", "size": -3, "oid": git}),
            json!({"type": "file", "path": "a", "size": 3}),
            large(json!(9), "../../x"),
            large(json!(u64::MAX), &sha256),
            large(json!("9"), &sha256),
            json!(null),
            json!([]),
        ];
        for entry in bad {
            assert_eq!(file_of(&entry), None, "{entry}");
        }
    }

    #[test]
    fn licences() {
        for (info, expected) in [
            (json!({"cardData": {"license": "mit"}}), Some("mit")),
            (json!({"cardData": null, "tags": ["x", "license:llama2"]}), Some("llama2")),
            (json!({"cardData": {"license": "\u{1b}[2Jmit"}}), Some("[2Jmit")),
            (json!({"tags": 3}), None),
            (json!([]), None),
        ] {
            assert_eq!(licence(&info).as_deref(), expected, "{info}");
        }
    }

    #[test]
    fn the_next_page_is_found_among_links() {
        for (header, expected) in [
            ("<https://h/x?cursor=1>; rel=\"next\"", Some("https://h/x?cursor=1")),
            ("<a>; rel=\"prev\", <b>; rel=next", Some("b")),
            ("<a>; rel=\"prev\"", None),
            ("a; rel=\"next\"", None),
            ("<a", None),
            ("", None),
        ] {
            assert_eq!(next_link(header), expected, "{header}");
        }
    }
}
