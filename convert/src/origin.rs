//! What a directory tells about where it comes from: the name of the model, and the commit at the hub. Downloads by
//! the hub's own tools say both: its cache in the names of directories, `--local-dir` in a file beside the download.

use std::fmt;
use std::path::Path;

use crate::checkpoint::file::read_small;
use crate::hub::is_commit;

/// Far above what such a file has: a commit, a tag, a time.
const DOWNLOAD_NOTE_BYTES_MAX: u64 = 4096;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// `OpenGVLab/InternVL-Chat-V1-1` in the hub's cache, the directory's own name elsewhere.
    pub name: String,
    /// 40 hexadecimal digits; empty where nothing tells.
    pub revision: String,
}

/// `openai/clip-vit-large-patch14-336 at COMMIT`
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.revision.is_empty() { Ok(()) } else { write!(f, " at {}", self.revision) }
    }
}

impl Origin {
    pub fn of(dir: &Path) -> Origin {
        // "." and ".." have no name of their own
        let full = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let own = name(&full).unwrap_or_else(|| "model".to_string());
        cached(&full, &own)
            .unwrap_or_else(|| Origin { revision: downloaded(&full).unwrap_or_default(), name: own })
    }
}

/// `models--OpenGVLab--InternVL-Chat-V1-1/snapshots/<commit>`
fn cached(full: &Path, own: &str) -> Option<Origin> {
    let snapshots = full.parent().filter(|parent| parent.ends_with("snapshots") && is_commit(own))?;
    let repository = snapshots.parent()?.file_name()?.to_str()?.strip_prefix("models--")?;
    Some(Origin { name: repository.replace("--", "/"), revision: own.to_string() })
}

/// The first line of what `hf download --local-dir` leaves about config.json.
fn downloaded(full: &Path) -> Option<String> {
    let note = full.join(".cache/huggingface/download/config.json.metadata");
    let text = String::from_utf8(read_small(&note, DOWNLOAD_NOTE_BYTES_MAX).ok()?).ok()?;
    text.lines().next().filter(|line| is_commit(line)).map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn the_hubs_tools_leave_their_traces() {
        let root = tempfile::tempdir().unwrap();
        let origin = |dir: &str, note: Option<&str>| {
            let dir = root.path().join(dir);
            let notes = dir.join(".cache/huggingface/download");
            fs::create_dir_all(&notes).unwrap();
            if let Some(note) = note {
                fs::write(notes.join("config.json.metadata"), note).unwrap();
            }
            let Origin { name, revision } = Origin::of(&dir);
            (name, revision)
        };
        let plain = |name: &str| (name.to_string(), String::new());
        let cache = format!("models--Open--My-Chat/snapshots/{COMMIT}");
        assert_eq!(origin(&cache, None), ("Open/My-Chat".to_string(), COMMIT.to_string()));
        assert_eq!(origin("models--Open--My-Chat/snapshots/main", None), plain("main"));
        assert_eq!(origin(&format!("a/{COMMIT}"), None), plain(COMMIT));
        let note = format!("{COMMIT}\n\"etag\"\n1700000000.0\n");
        assert_eq!(origin("chat", Some(&note)), ("chat".to_string(), COMMIT.to_string()));
        assert_eq!(origin("bad", Some("\u{1b}[2J\n")), plain("bad"));
        assert_eq!(origin("long", Some(&"a".repeat(5000))), plain("long"));
    }
}
