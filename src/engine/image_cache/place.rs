//! Where the embeddings of pictures are kept unless somebody says otherwise.

use std::env::var_os;
use std::ffi::OsString;
use std::path::PathBuf;

/// Names the directory of everything that owlet caches; `off` is none.
pub const CACHE_VARIABLE: &str = "OWLET_CACHE";

/// `$OWLET_CACHE/images`, or `owlet/images` where the caches of programs belong; `None` where that is nowhere, or off.
pub fn default_dir() -> Option<PathBuf> {
    dir(var_os)
}

fn dir(variable: impl Fn(&'static str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|value| !value.is_empty());
    match set(CACHE_VARIABLE) {
        Some(value) if value == "off" => return None,
        Some(own) => return Some(PathBuf::from(own).join("images")),
        None => {}
    }
    // Relative ones are to be ignored, says the XDG Base Directory Specification.
    let absolute = |name| set(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let below_home = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
    let caches = absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(below_home)))
        .or_else(|| absolute("LOCALAPPDATA"))?;
    Some(caches.join("owlet").join("images"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(all(unix, not(target_os = "macos")))]
    #[test]
    fn the_first_one_that_says_where() {
        type Variables = &'static [(&'static str, &'static str)];
        let cases: [(Variables, Option<&str>); 9] = [
            (&[("HOME", "/h")], Some("/h/.cache/owlet/images")),
            (&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")], Some("/c/owlet/images")),
            (&[("HOME", "/h"), ("XDG_CACHE_HOME", "c")], Some("/h/.cache/owlet/images")),
            (&[("HOME", "/h"), ("XDG_CACHE_HOME", "")], Some("/h/.cache/owlet/images")),
            (&[("XDG_CACHE_HOME", "/c"), ("OWLET_CACHE", "/o")], Some("/o/images")),
            (&[("HOME", "/h"), ("OWLET_CACHE", "o")], Some("o/images")),
            (&[("HOME", "/h"), ("OWLET_CACHE", "")], Some("/h/.cache/owlet/images")),
            (&[("HOME", "/h"), ("OWLET_CACHE", "off")], None),
            (&[("HOME", "")], None),
        ];
        for (variables, expected) in cases {
            let set = |name: &str| {
                let found = variables.iter().find(|(variable, _)| *variable == name);
                found.map(|(_, value)| OsString::from(value))
            };
            assert_eq!(dir(set), expected.map(PathBuf::from), "{variables:?}");
        }
    }
}
