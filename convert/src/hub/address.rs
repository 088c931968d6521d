//! Addresses of servers: enough of a URL to follow a redirect, and to know whether it leaves the server that may see the
//! token.

use std::fmt;
use std::net::IpAddr;

use ureq::http::Uri;
use ureq::http::uri::Scheme;

/// `http` or `https`, a host, a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    is_https: bool,
    host: String,
    port: u16,
    /// With its query, from the first slash on.
    path: String,
}

impl Address {
    /// `None` for what is no such address, and for one with a name and a password in it.
    pub fn parse(text: &str) -> Option<Address> {
        let uri: Uri = text.parse().ok()?;
        let is_https = match uri.scheme()? {
            scheme if *scheme == Scheme::HTTPS => true,
            scheme if *scheme == Scheme::HTTP => false,
            _ => return None,
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
        let host = Some(authority.host().to_ascii_lowercase()).filter(|host| !host.is_empty())?;
        let port = authority.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = if path.starts_with('/') { path.to_string() } else { format!("/{path}") };
        Some(Address { is_https, host, port, path })
    }

    /// `path` below this address.
    pub fn below(&self, path: &str) -> Address {
        Address { path: format!("{}/{path}", self.path.trim_end_matches('/')), ..self.clone() }
    }

    /// Where `location`, as a server says it, leads from here.
    pub fn to(&self, location: &str) -> Option<Address> {
        let scheme = if self.is_https { "https" } else { "http" };
        if location.contains("://") {
            return Address::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Address::parse(&format!("{scheme}://{rest}"));
        }
        let path = match location.strip_prefix('/') {
            Some(rest) => format!("/{rest}"),
            None => {
                let own = self.path.split('?').next().unwrap_or("/");
                let directory = own.rsplit_once('/').map_or("", |(directory, _)| directory);
                format!("{directory}/{location}")
            }
        };
        Address::parse(&Address { path, ..self.clone() }.to_string())
    }

    /// Whether both are answered by one server, over one protocol.
    pub fn is_of_server(&self, other: &Address) -> bool {
        (self.is_https, self.port, &self.host) == (other.is_https, other.port, &other.host)
    }

    /// Nobody on the way can read what is sent: it is sealed, or does not leave this machine.
    pub fn is_private(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        let is_loopback = bare.parse::<IpAddr>().map_or(bare == "localhost", |ip| ip.is_loopback());
        self.is_https || is_loopback
    }

    pub fn is_https(&self) -> bool {
        self.is_https
    }

    /// The server without a path, as messages name it.
    pub fn server(&self) -> String {
        Address { path: String::new(), ..self.clone() }.to_string()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, usual) = if self.is_https { ("https", 443) } else { ("http", 80) };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port != usual {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Address {
        Address::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn only_plain_addresses_are_taken() {
        for bad in [
            "",
            "a/b",
            "/a",
            "ftp://h/",
            "file:///etc/passwd",
            "https://",
            "https://u:p@h/",
            "http://@h/",
            "https:///a",
        ] {
            assert_eq!(Address::parse(bad), None, "{bad:?}");
        }
        for (text, shown) in [
            ("https://Hub.example", "https://hub.example/"),
            ("https://hub.example:443/a?b=c", "https://hub.example/a?b=c"),
            ("http://hub.example:8080/a", "http://hub.example:8080/a"),
            ("http://[::1]:80/", "http://[::1]/"),
        ] {
            assert_eq!(at(text).to_string(), shown);
        }
    }

    #[test]
    fn redirects_are_read_as_browsers_read_them() {
        let from = at("https://hub.example/api/models/x?y=z");
        for (location, expected) in [
            ("https://cdn.example/f?sig=1", Some("https://cdn.example/f?sig=1")),
            ("http://cdn.example/f", Some("http://cdn.example/f")),
            ("//cdn.example/f", Some("https://cdn.example/f")),
            ("/other/x", Some("https://hub.example/other/x")),
            ("y", Some("https://hub.example/api/models/y")),
            ("ftp://cdn.example/f", None),
            ("https://user@cdn.example/f", None),
        ] {
            assert_eq!(from.to(location).map(|to| to.to_string()).as_deref(), expected, "{location}");
        }
    }

    #[test]
    fn paths_go_below_what_a_mirror_has() {
        assert_eq!(at("https://hub.example").below("api/x").to_string(), "https://hub.example/api/x");
        assert_eq!(at("http://mirror:80/hf/").below("api/x").to_string(), "http://mirror/hf/api/x");
        assert_eq!(at("http://mirror:8080/hf").server(), "http://mirror:8080");
    }

    #[test]
    fn a_server_is_protocol_host_and_port() {
        let hub = at("https://hub.example/a");
        for (other, same) in [
            ("https://hub.example:443/b", true),
            ("https://HUB.example/b", true),
            ("http://hub.example/a", false),
            ("https://hub.example:444/a", false),
            ("https://hub.example.evil/a", false),
            ("https://evil.hub.example/a", false),
        ] {
            assert_eq!(hub.is_of_server(&at(other)), same, "{other}");
        }
        for (text, private) in [
            ("https://hub.example/", true),
            ("http://127.0.0.1:1/", true),
            ("http://[::1]/", true),
            ("http://localhost/", true),
            ("http://hub.example/", false),
            ("http://10.0.0.1/", false),
            ("http://localhost.evil/", false),
        ] {
            assert_eq!(at(text).is_private(), private, "{text}");
        }
    }
}
