//! Which hosts may be asked, where not all may.

use crate::error::{Error, Result};

/// Names of hosts, and what names may end with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// Of `patterns`: a host's name, an address, or `*.example.org` for all names below one.
    ///
    /// # Errors
    /// `Request` where a pattern is neither.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Hosts> {
        let pattern = |pattern: &S| {
            let text = pattern.as_ref().trim().trim_end_matches('.').to_ascii_lowercase();
            let name = text.strip_prefix("*.").unwrap_or(&text);
            let is_address = name.strip_prefix('[').is_some_and(|rest| rest.ends_with(']'));
            let is_name =
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
            match is_name || is_address {
                true => Ok(text),
                false => Err(Error::request(format!(
                    "expected names of hosts, or *.example.org for all below one, found {}",
                    pattern.as_ref()
                ))),
            }
        };
        patterns.iter().map(pattern).collect::<Result<_>>().map(Hosts)
    }

    /// Whether `host` may be asked.
    pub fn allows(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        self.0.iter().any(|pattern| match pattern.strip_prefix('*') {
            Some(ending) => host.strip_suffix(ending).is_some_and(|name| !name.is_empty()),
            None => host == *pattern,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_what_is_below_them() {
        let hosts = Hosts::new(&["Pictures.example.org", "*.example.com", "127.0.0.1", "[::1]"]).unwrap();
        for host in [
            "pictures.example.org",
            "PICTURES.example.org.",
            "a.example.com",
            "a.b.Example.com",
            "127.0.0.1",
            "[::1]",
        ] {
            assert!(hosts.allows(host), "{host}");
        }
        for host in [
            "example.org",
            "a.pictures.example.org",
            "example.com",
            ".example.com",
            "evilexample.com",
            "a.example.com.evil.example",
            "127.0.0.2",
            "",
        ] {
            assert!(!hosts.allows(host), "{host}");
        }
        for pattern in
            ["", "*", "*.", "a*.example.org", "https://example.org", "example.org:443", "a/b", "a b"]
        {
            assert!(Hosts::new(&[pattern]).is_err(), "{pattern}");
        }
    }
}
