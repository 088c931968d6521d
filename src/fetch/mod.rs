//! FETCHING: the bytes behind an https address that somebody named, and nothing that a house keeps to itself.
//!
//! In: an address, a policy. Out: bytes, bounded in number and time; what they are is for others to find out. Every name
//! is looked up once; addresses that are not the whole world's are refused, and the connection goes to one of those that
//! were looked at, so that no second answer of a name server can lead elsewhere. Each redirect is judged like the first
//! address. Proxies are not used, since a proxy would look the name up again. [`Fetching`] is the same on a thread of its own,
//! for whoever wants to see bytes arrive and to leave before they are all there.

mod addresses;
mod fetching;
mod hosts;

use crate::error::{Error, Result};
pub use addresses::is_global;
pub use fetching::{Fetching, Step};
pub use hosts::Hosts;
use std::io::{ErrorKind, Read};
use std::net::IpAddr;
use std::time::Duration;
use ureq::Agent;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

/// How much is read at once.
const PIECE_BYTES: usize = 16 << 10;

/// Who may be asked, and for how much.
#[derive(Clone, Debug)]
pub struct Policy {
    pub max_bytes: u64,
    /// For everything, from the name to the last byte.
    pub patience: Duration,
    pub max_redirects: u32,
    /// All where there is none.
    pub hosts: Option<Hosts>,
    reach: Reach,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// https, to addresses of the whole world.
    World,
    /// http, to this machine.
    Loopback,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            max_bytes: 10_000_000,
            patience: Duration::from_secs(10),
            max_redirects: 3,
            hosts: None,
            reach: Reach::World,
        }
    }
}

impl Policy {
    /// The usual limits, and these hosts alone.
    pub fn of(hosts: Hosts) -> Policy {
        Policy { hosts: Some(hosts), ..Policy::default() }
    }

    /// The same limits for servers of tests: plain http, to this machine only.
    pub fn loopback() -> Policy {
        Policy { reach: Reach::Loopback, ..Policy::default() }
    }
}

/// The bytes at `url`.
///
/// # Errors
/// `Request` for what is no https address, leads to a private one, or redirects too often; `Limit` beyond the policy's
/// bytes; `Format` where the server or the way to it fails.
pub fn fetch(url: &str, policy: &Policy) -> Result<Vec<u8>> {
    fetch_watched(url, policy, |_, _| true)
}

/// As [`fetch`]; `goes_on` hears how many bytes are there, and of how many where the server said so, and ends it with `false`.
///
/// # Errors
/// As [`fetch`], and `Cancelled`.
fn fetch_watched(
    url: &str,
    policy: &Policy,
    mut goes_on: impl FnMut(u64, Option<u64>) -> bool,
) -> Result<Vec<u8>> {
    let wrong = |problem: &str| Error::request(format!("{url}: {problem}"));
    let uri: Uri = url.parse().map_err(|_| wrong("expected an https address"))?;
    let scheme = if policy.reach == Reach::World { "https" } else { "http" };
    if uri.scheme_str() != Some(scheme) || uri.host().is_none_or(str::is_empty) {
        return Err(wrong("expected an https address"));
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(wrong("expected an address without a name and a password in it"));
    }
    let config = Agent::config_builder()
        .https_only(policy.reach == Reach::World)
        .proxy(None)
        .max_redirects(policy.max_redirects)
        .timeout_global(Some(policy.patience))
        .accept_encoding("identity")
        .user_agent(concat!("owlet/", env!("CARGO_PKG_VERSION")))
        .build();
    let agent = Agent::with_parts(config, DefaultConnector::new(), Guard(policy.clone()));
    let mut response = agent.get(uri).call().map_err(|error| failed(url, policy, error))?;
    let body = response.body_mut();
    if let Some(found) = body.content_length().filter(|n| *n > policy.max_bytes) {
        return Err(Error::limit(format_args!("{url}: bytes"), policy.max_bytes, found));
    }
    let n_announced = body.content_length();
    // one more than allowed tells an end from a limit
    let mut reader = body.with_config().limit(policy.max_bytes.saturating_add(1)).reader();
    let mut bytes = Vec::new();
    let mut piece = [0; PIECE_BYTES];
    loop {
        if !goes_on(bytes.len() as u64, n_announced) {
            return Err(Error::Cancelled);
        }
        match reader.read(&mut piece) {
            Ok(0) => return Ok(bytes),
            Ok(n) => bytes.extend_from_slice(&piece[..n]),
            Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
            Err(cause) => return Err(failed(url, policy, cause.into())),
        }
        if bytes.len() as u64 > policy.max_bytes {
            return Err(too_long(url, policy));
        }
    }
}

fn too_long(url: &str, policy: &Policy) -> Error {
    Error::limit(format_args!("{url}: bytes"), policy.max_bytes, policy.max_bytes.saturating_add(1))
}

fn failed(url: &str, policy: &Policy, error: ureq::Error) -> Error {
    let problem = match &error {
        ureq::Error::Other(inner) if inner.is::<Refused>() => {
            return Error::request(format!("{url}: {inner}"));
        }
        ureq::Error::RequireHttpsOnly(_) => {
            return Error::request(format!("{url}: redirects to an address that is not https"));
        }
        ureq::Error::TooManyRedirects => {
            return Error::request(format!("{url}: redirects more than {} times", policy.max_redirects));
        }
        ureq::Error::BodyExceedsLimit(_) => return too_long(url, policy),
        ureq::Error::Timeout(_) => {
            format!("not there within {} s", (policy.patience.as_secs_f64() * 10.0).round() / 10.0)
        }
        ureq::Error::StatusCode(status) => format!("the server answers {status}"),
        ureq::Error::HostNotFound => "no such server, or no network".to_string(),
        error => format!("the server cannot be reached or breaks off ({error})"),
    };
    Error::format(url, problem)
}

/// Looks names up and lets only such addresses through as may be connected to.
#[derive(Debug)]
struct Guard(Policy);

impl Guard {
    fn may_reach(&self, address: IpAddr) -> bool {
        match self.0.reach {
            Reach::World => is_global(address),
            Reach::Loopback => address.is_loopback(),
        }
    }
}

impl Resolver for Guard {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> std::result::Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().unwrap_or_default();
        let refused = |why| ureq::Error::Other(Box::new(Refused { host: host.to_string(), why }));
        if self.0.hosts.as_ref().is_some_and(|hosts| !hosts.allows(host)) {
            return Err(refused("--allow-url does not name it"));
        }
        let found =
            DefaultResolver::default().resolve(uri, config, timeout).map_err(|error| match error {
                // What the system says of that is long and says no more.
                ureq::Error::Io(_) => ureq::Error::HostNotFound,
                error => error,
            })?;
        let mut reachable = self.empty();
        found
            .iter()
            .filter(|address| self.may_reach(address.ip()))
            .for_each(|address| reachable.push(*address));
        match reachable.first() {
            Some(_) => Ok(reachable),
            None => Err(refused("owlet fetches from public addresses only")),
        }
    }
}

/// Why nobody was asked.
#[derive(Debug, thiserror::Error)]
#[error("{host} is out of bounds: {why}")]
struct Refused {
    host: String,
    why: &'static str,
}
