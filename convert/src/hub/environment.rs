//! Which hub, who asks, and where its own tool keeps what it downloaded: the variables that people have set for that
//! tool already.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::address::Address;
use crate::error::{Error, Result};

const ENDPOINT: &str = "https://huggingface.co";
/// How long a server may be silent.
const PATIENCE: Duration = Duration::from_secs(30);
const PATIENCE_SECONDS_MAX: u64 = 3600;
const TOKEN_BYTES_MAX: u64 = 4096;

#[derive(Debug, Clone)]
pub struct Environment {
    /// `HF_ENDPOINT`
    pub(super) endpoint: Address,
    /// `HF_TOKEN`, or what logging in left.
    pub(super) token: Option<Token>,
    /// `HF_HUB_CACHE`, else `hub` in `HF_HOME`; `None` where the system names no such place.
    pub(super) cache: Option<PathBuf>,
    /// `HF_HUB_OFFLINE`
    pub(super) is_offline: bool,
    /// `HF_HUB_DOWNLOAD_TIMEOUT`
    pub(super) patience: Duration,
}

/// What may be shown to the hub and to nobody else; `Debug` hides it.
#[derive(Clone)]
pub struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// As it stands in a request.
    pub fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl Environment {
    /// Reads the process's variables.
    ///
    /// # Errors
    /// For values that can't be meant.
    pub fn of_process() -> Result<Environment> {
        Environment::from(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    fn from(value: impl Fn(&str) -> Option<OsString>) -> Result<Environment> {
        let text = |name: &str| value(name).map(|value| value.to_string_lossy().trim().to_string());
        let path = |name: &str| value(name).map(PathBuf::from);
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_string());
        let endpoint = Address::parse(&endpoint).ok_or_else(|| {
            Error::Request(format!("HF_ENDPOINT: expected an https address, found {endpoint}"))
        })?;
        let home = path("HF_HOME").or_else(|| {
            let caches = path("XDG_CACHE_HOME").filter(|path| path.is_absolute());
            let caches =
                caches.or_else(|| Some(path("HOME").or_else(|| path("USERPROFILE"))?.join(".cache")));
            Some(caches?.join("huggingface"))
        });
        let token = match text("HF_TOKEN") {
            Some(token) => Some(("HF_TOKEN".to_string(), token)),
            None => path("HF_TOKEN_PATH")
                .or_else(|| Some(home.as_ref()?.join("token")))
                .and_then(|path| left_token(&path)),
        };
        let is_offline = text("HF_HUB_OFFLINE").is_some_and(|word| is_yes(&word));
        let patience = match text("HF_HUB_DOWNLOAD_TIMEOUT") {
            None => PATIENCE,
            Some(word) => match word.parse() {
                Ok(seconds @ 1..=PATIENCE_SECONDS_MAX) => Duration::from_secs(seconds),
                _ => {
                    let what = format!("expected seconds from 1 to {PATIENCE_SECONDS_MAX}, found {word}");
                    return Err(Error::Request(format!("HF_HUB_DOWNLOAD_TIMEOUT: {what}")));
                }
            },
        };
        Ok(Environment {
            endpoint,
            token: token.map(|(place, token)| sound(&place, token)).transpose()?,
            cache: path("HF_HUB_CACHE").or_else(|| Some(home?.join("hub"))),
            is_offline,
            patience,
        })
    }

    /// The hub's address, as people write it.
    pub fn endpoint(&self) -> String {
        self.endpoint.to_string()
    }
}

fn is_yes(word: &str) -> bool {
    ["1", "on", "yes", "true"].iter().any(|yes| yes.eq_ignore_ascii_case(word))
}

/// What `hf auth login` wrote, and where.
fn left_token(path: &Path) -> Option<(String, String)> {
    let is_short = fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= TOKEN_BYTES_MAX);
    let token = is_short.then(|| fs::read_to_string(path).ok()).flatten()?.trim().to_string();
    (!token.is_empty()).then(|| (path.display().to_string(), token))
}

/// The value itself is in no message.
fn sound(place: &str, token: String) -> Result<Token> {
    let is_sound = token.bytes().all(|byte| byte.is_ascii_graphic()) && token.len() as u64 <= TOKEN_BYTES_MAX;
    match is_sound {
        true => Ok(Token(token)),
        false => Err(Error::Request(format!(
            "{place}: expected a token of letters and digits, found other characters"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Environment> {
        Environment::from(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn places_are_those_of_the_hubs_tool() {
        for (variables, expected) in [
            (&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/h")][..], Some("/c")),
            (&[("HF_HOME", "/h"), ("XDG_CACHE_HOME", "/x")], Some("/h/hub")),
            (&[("XDG_CACHE_HOME", "/x"), ("HOME", "/u")], Some("/x/huggingface/hub")),
            (&[("XDG_CACHE_HOME", "relative"), ("HOME", "/u")], Some("/u/.cache/huggingface/hub")),
            (&[], None),
        ] {
            assert_eq!(of(variables).unwrap().cache, expected.map(PathBuf::from), "{variables:?}");
        }
        assert_eq!(of(&[]).unwrap().endpoint(), "https://huggingface.co/");
        assert!(of(&[("HF_HUB_OFFLINE", "True")]).unwrap().is_offline);
        assert!(!of(&[("HF_HUB_OFFLINE", "0")]).unwrap().is_offline);
    }

    #[test]
    fn the_token_comes_from_where_people_have_it_and_is_shown_to_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_str().unwrap();
        fs::write(dir.path().join("token"), "hf_left\n").unwrap();
        let token = |variables: &[(&str, &str)]| of(variables).unwrap().token.map(|token| token.header());
        assert_eq!(token(&[("HF_HOME", home)]).as_deref(), Some("Bearer hf_left"));
        assert_eq!(token(&[("HF_HOME", home), ("HF_TOKEN", " hf_own ")]).as_deref(), Some("Bearer hf_own"));
        assert_eq!(token(&[("HF_HOME", "/nowhere")]), None);
        let shown = format!("{:?}", of(&[("HF_TOKEN", "hf_own")]).unwrap());
        assert!(!shown.contains("hf_own"), "{shown}");
        let text = of(&[("HF_TOKEN", "hf own\r\nx: y")]).unwrap_err().to_string();
        assert_eq!(text, "HF_TOKEN: expected a token of letters and digits, found other characters");
    }

    #[test]
    fn what_cannot_be_meant_is_said() {
        for (name, value, expected) in [
            ("HF_ENDPOINT", "hub.example", "HF_ENDPOINT: expected an https address, found hub.example"),
            (
                "HF_HUB_DOWNLOAD_TIMEOUT",
                "soon",
                "HF_HUB_DOWNLOAD_TIMEOUT: expected seconds from 1 to 3600, found soon",
            ),
            (
                "HF_HUB_DOWNLOAD_TIMEOUT",
                "0",
                "HF_HUB_DOWNLOAD_TIMEOUT: expected seconds from 1 to 3600, found 0",
            ),
        ] {
            assert_eq!(of(&[(name, value)]).unwrap_err().to_string(), expected);
        }
    }
}
