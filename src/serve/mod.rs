//! THE NETWORK DOOR: HTTP requests in; answers, whole or as they are written, out.
//!
//! A request passes, in this order: connection ([`connections`]: time limits) -> [`entry`]: who may come in, what is logged -> a dialect
//! ([`openai`]): what is asked -> [`gate`]: whose turn it is -> the engine, which holds the loop over tokens -> a dialect again.
//! Nothing that a peer sends, or fails to read, holds a slot of the engine or more memory than was said. Must not know the terminal,
//! and must not print but for its log.

mod answering;
mod anthropic;
mod app;
mod base64;
mod body;
mod connections;
mod dialect;
mod document;
mod entry;
mod exchange;
mod facts;
mod fault;
mod fields;
mod format;
mod gate;
mod health;
mod keeper;
mod keys;
mod log;
mod looking;
mod metrics;
mod ollama;
mod openai;
mod origin;
mod page;
mod patient;
mod picture;
mod question;
mod ready;
mod receipt;
mod slots;
mod spoken;
mod stream;
mod time;
mod tls;
mod transcript;
mod validity;
mod voice;

use crate::error::{Error, Result};
use crate::fetch::Policy;
use app::App;
use ggml::Cancel;
use serde_json::json;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keeper::Keeper;

pub use keeper::{SelfTest, Source};
pub use keys::Keys;
pub use tls::Tls;

/// Where and for whom to answer, and how much of it.
#[derive(Clone, Debug)]
pub struct Options {
    pub address: SocketAddr,
    /// Who may ask; everybody where there are none.
    pub keys: Keys,
    /// Serve other machines without keys.
    pub is_insecure: bool,
    /// Names besides those of [`origin`] by which clients may call this machine.
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

/// Answers requests with the model of `source` until the program is told to end, by a signal or by `stop`, and what was under way is done.
/// `tell` hears the model's name and where the server is once somebody can connect.
///
/// # Errors
/// `Request` as [`Options::check`]; what is wrong with the model; `Backend` where an address is taken or the system gives no thread.
pub fn serve(
    source: Source,
    options: Options,
    stop: &Cancel,
    tell: impl FnOnce(&str, &Addresses),
) -> Result<()> {
    options.check()?;
    if options.logs_prompts {
        log::write("warning", json!({"text": transcript::WARNING}));
    }
    if let Some(dir) = &options.slot_dir {
        slots::sweep(dir);
    }
    let end = Cancel::new();
    let keeper = Keeper::open(source, options.idle_unload, end.clone())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // One follows each answer, few get requests ready or fetch pictures, one sees to the model.
        .max_blocking_threads(keeper.facts().n_slots as usize + app::N_PREPARED + app::N_FETCHED + 1)
        .build()
        .map_err(|error| Error::Backend(format!("the server's runtime: {error}")))?;
    let app = Arc::new(App::new(keeper, options, end));
    let served = runtime.block_on(connections::serve(Arc::clone(&app), stop, |addresses| {
        tell(&app.facts().config.name, addresses);
    }));
    // What did not end by itself is cancelled, and waited for with the engine.
    app.cancel_all();
    runtime.shutdown_timeout(Duration::from_secs(5));
    served
}

/// Where a server is to be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    pub server: SocketAddr,
    /// Where metrics have a listener of their own.
    pub metrics: Option<SocketAddr>,
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
