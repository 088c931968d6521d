//! Which web pages and names a request may come through. A page of somebody else's can make a browser send requests to this machine:
//! under a name of its own that it has pointed here (DNS rebinding), or across origins. Neither is answered.

use super::fault::{Fault, Kind, Result};
use axum::http::{HeaderMap, Uri, header};
use std::net::IpAddr;

/// Endings of names that no one can register on the internet.
const LOCAL_ENDINGS: [&str; 4] = [".local", ".localhost", ".internal", ".home.arpa"];

/// Refuses a request that names this machine otherwise than by an address, a local name or one of `hosts`, or that a page of
/// another origin makes.
///
/// # Errors
/// `Forbidden`, `Request`.
pub fn check(headers: &HeaderMap, uri: &Uri, hosts: &[String]) -> Result<()> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let Some(authority) = uri.authority().map(|authority| authority.as_str()).or(text(header::HOST)) else {
        return Err(Fault::request("host: expected a Host header, found none"));
    };
    let host = host_of(authority);
    if !is_local(host) && !hosts.iter().any(|known| known.eq_ignore_ascii_case(host)) {
        let message =
            format!("host: {host} is no name of this server; its operator can add it by --allow-host");
        return Err(Fault::new(Kind::Forbidden, message));
    }
    match text(header::ORIGIN) {
        Some(origin)
            if origin.split_once("://").is_none_or(|(_, from)| !from.eq_ignore_ascii_case(authority)) =>
        {
            Err(Fault::new(Kind::Forbidden, "origin: pages of other sites may not ask this server"))
        }
        _ => Ok(()),
    }
}

/// Without the port.
fn host_of(authority: &str) -> &str {
    if let Some((host, _)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return host;
    }
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

fn is_local(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let is_single = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    host.parse::<IpAddr>().is_ok() || is_single || LOCAL_ENDINGS.iter().any(|ending| host.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_origins() {
        let check = |host: &str, origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert("host", host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert("origin", origin.parse().unwrap());
            }
            super::check(&headers, &Uri::from_static("/v1/models"), &["owlet.example.org".into()])
                .map_err(|fault| fault.kind)
        };
        for host in
            ["127.0.0.1:8080", "[::1]:8080", "localhost", "nas:8080", "nas.local", "Owlet.Example.org:443"]
        {
            assert_eq!(check(host, None), Ok(()), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example", "nas.local.evil.example", "", ".", "a b"] {
            assert_eq!(check(host, None), Err(Kind::Forbidden), "{host}");
        }
        assert_eq!(check("nas:8080", Some("http://nas:8080")), Ok(()));
        for origin in ["http://nas:8081", "https://evil.example", "null", "http://nas:8080.evil.example"] {
            assert_eq!(check("nas:8080", Some(origin)), Err(Kind::Forbidden), "{origin}");
        }
        let none = super::check(&HeaderMap::new(), &Uri::from_static("/"), &[]);
        assert_eq!(none.map_err(|fault| fault.kind), Err(Kind::Request));
    }
}
