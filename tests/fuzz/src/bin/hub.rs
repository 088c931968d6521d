//! What a hub says of a model: a revision, a page of files, a link to the next one. Whatever it says, what is taken from it leads
//! nowhere and can be printed.

use std::process::ExitCode;

use owlet_convert::hub::answers::{About, files_of, next_link};
use owlet_convert::hub::is_commit;
use owlet_fuzz::Target;
use serde_json::Value;

/// As the hub answers, cut to what matters.
const GOOD: &[&str] = &[
    r#"{"_id":"65","id":"Open/chat","sha":"0123456789abcdef0123456789abcdef01234567","gated":false,
"cardData":{"license":"mit"},"tags":["license:mit","region:us"],"siblings":[{"rfilename":"config.json"}]}"#,
    r#"{"sha":"0123456789abcdef0123456789abcdef01234567","cardData":null,"tags":["x","license:llama2"]}"#,
    r#"[{"type":"directory","oid":"f","size":0,"path":"examples"},
{"type":"file","oid":"0123456789abcdef0123456789abcdef01234567","size":5,"path":"config.json"},
{"type":"file","oid":"0123456789abcdef0123456789abcdef01234567","size":9976570304,"path":"a-00001-of-00002.bin",
"lfs":{"oid":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","size":9976570304,"pointerSize":135}}]"#,
    r#"<https://hub.example/api/models/a/b/tree/main?limit=2&cursor=Zm9v>; rel="next", <a>; rel=prev"#,
];

fn main() -> ExitCode {
    let corpus = GOOD.iter().map(|text| (text.as_bytes().to_vec(), text.len())).collect();
    Target { name: "hub", corpus, run }.main()
}

fn run(bytes: &[u8]) {
    if let Ok(header) = std::str::from_utf8(bytes)
        && let Some(link) = next_link(header)
    {
        assert!(!link.contains([',', '>']), "{link}");
    }
    let Ok(json) = serde_json::from_slice::<Value>(bytes) else { return };
    if let Some(About { commit, licence }) = About::read(&json) {
        assert!(is_commit(&commit), "{commit}");
        let licence = licence.unwrap_or_default();
        assert!(licence.chars().count() <= 80 && !licence.chars().any(char::is_control), "{licence:?}");
    }
    let files = files_of(&json).unwrap_or_default();
    for file in &files {
        let is_plain = file.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        assert!(is_plain && !file.name.starts_with('.') && !file.name.is_empty(), "{:?}", file.name);
        assert!(matches!(file.sum.hex().len(), 40 | 64), "{file:?}");
    }
    let n_bytes = files.iter().try_fold(0u64, |sum, file| sum.checked_add(file.n_bytes));
    assert!(n_bytes.is_some(), "lengths have no sum");
}
