//! What a server is started with: where and for whom it answers, and what requests may take.

use super::keys::Keys;
use super::tls::Tls;
use crate::error::{Error, Result};
use crate::fetch::Policy;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Where and for whom to answer, and how much of it.
#[derive(Clone, Debug)]
pub struct Options {
    pub address: SocketAddr,
    /// Who may ask; everybody where there are none.
    pub keys: Keys,
    /// Serve other machines without keys.
    pub is_insecure: bool,
    /// Names besides those of [`origin`](super::origin) by which clients may call this machine.
    pub hosts: Vec<String>,
    /// From where pictures are fetched, if they are.
    pub urls: Option<Policy>,
    pub limits: Limits,
    /// Who the server is by TLS; without it nothing is encrypted.
    pub tls: Option<Arc<Tls>>,
    /// Requests of one key do not find what those of another left in caches.
    pub is_scoped: bool,
    /// Where conversations of slots are kept; without it none are.
    pub slot_dir: Option<PathBuf>,
    /// After so long without a request the model's memory is given back; never where that is not said.
    pub idle_unload: Option<Duration>,
    /// Where metrics are to be had without a key, and nothing else; not among the other paths then.
    pub metrics: Option<SocketAddr>,
    /// The log says what was asked and answered.
    pub logs_prompts: bool,
}

/// What requests may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at the same time.
    pub n_connections: u32,
    /// Requests that wait for a slot of the engine.
    pub n_queued: u32,
    /// Requests of one key that wait or are answered.
    pub n_of_key: u32,
    /// Bytes of a request's body.
    pub max_body_bytes: u64,
    /// Of a picture, width times height.
    pub max_pixels: u64,
    pub n_pictures: u32,
    /// Tokens of an answer.
    pub max_tokens: u32,
    /// From the end of a request to the end of its answer.
    pub answer: Duration,
    /// For a request's head, and as long again for its body; for a peer to read on; for a connection without a request.
    pub peer: Duration,
    /// For answers that are being written when the program is told to end.
    pub drain: Duration,
}

impl Options {
    /// For everybody on this machine who asks at `address`, in the plainest way.
    pub fn new(address: SocketAddr, limits: Limits) -> Options {
        Options {
            address,
            keys: Keys::default(),
            is_insecure: false,
            hosts: Vec::new(),
            urls: None,
            limits,
            tls: None,
            is_scoped: false,
            slot_dir: None,
            idle_unload: None,
            metrics: None,
            logs_prompts: false,
        }
    }

    /// # Errors
    /// `Request` where other machines could ask and nobody would check who they are, or keys are to be told apart and there are none.
    pub fn check(&self) -> Result<()> {
        if self.is_scoped && self.keys.is_empty() {
            return Err(Error::request("--cache-scope key has no effect without --api-keys"));
        }
        if self.address.ip().is_loopback() || !self.keys.is_empty() || self.is_insecure {
            return Ok(());
        }
        let reach = match self.address.ip() {
            ip if ip.is_unspecified() => "every machine that reaches this one".to_string(),
            ip => format!("every machine that reaches {ip}"),
        };
        Err(Error::request(format!(
            "{reach} could ask without a key; --api-keys FILE says who may, --insecure lets everybody"
        )))
    }
}

/// The address that `host`, an IP address or `localhost`, and `port` stand for.
///
/// # Errors
/// `Request` where it is neither.
pub fn address(host: &str, port: u16) -> Result<SocketAddr> {
    let ip: IpAddr = match host {
        "localhost" => [127, 0, 0, 1].into(),
        host => host.trim_start_matches('[').trim_end_matches(']').parse().map_err(|_| {
            Error::request(format!("host: expected an IP address or localhost, found {host}"))
        })?,
    };
    Ok(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (host, expected) in [
            ("127.0.0.1", Ok("127.0.0.1:80")),
            ("localhost", Ok("127.0.0.1:80")),
            ("::1", Ok("[::1]:80")),
            ("[::]", Ok("[::]:80")),
            ("example.org", Err("host: expected an IP address or localhost, found example.org")),
        ] {
            let found = address(host, 80).map(|a| a.to_string()).map_err(|e| e.to_string());
            assert_eq!(found, expected.map(String::from).map_err(String::from));
        }
    }
}
