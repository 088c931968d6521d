//! `owlet serve`: flags for the network door.

use super::flags::ModelFlags;
use super::interrupt::Interruptible;
use super::quantity::parse_bytes;
use super::screen::note;
use super::wrong_usage;
use crate::error::Result;
use crate::fetch::{Hosts, Policy};
use crate::serve::{self, Keys, Limits, Options, SelfTest, Source, Tls};
use clap::value_parser;
use ggml::Cancel;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Answer over the network, to clients of OpenAI, Ollama and Anthropic
///
/// OpenAI's clients take http://HOST:PORT/v1 as their base URL, the others http://HOST:PORT; docs/server.md shows some. Ctrl-C or SIGTERM ends the
/// server when what it is answering is done, a second Ctrl-C at once. Standard error is a log of JSON lines, without
/// questions, answers and pictures unless --log-prompts asks for them.
#[derive(clap::Args)]
pub struct Serve {
    /// Address to listen on: an IP address or localhost; others than this machine's own need --api-keys
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,
    /// File of the keys that clients may use, a line each
    #[arg(long, value_name = "FILE")]
    api_keys: Option<PathBuf>,
    /// Let other machines ask without a key
    #[arg(long)]
    insecure: bool,
    /// Encrypt, as the server of this certificate: PEM, with those that it rests on behind it. SIGHUP reads both files again
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key: PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Another name by which clients call this machine; may be given several times. Addresses and local names need none
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
    /// Hosts from which pictures may be fetched by https: names, or `*.example.org` for all below one. Addresses that are not the
    /// whole world's are refused
    #[arg(long, value_name = "HOST,...", value_delimiter = ',')]
    allow_url: Vec<String>,
    /// Requests that are answered at the same time; each has a context of its own
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = value_parser!(u32).range(1..=64))]
    slots: u32,
    /// Whose requests share what was computed of prompts and pictures: `shared`, all; `key`, those of one key, so that the time of an
    /// answer tells nothing about what others asked
    #[arg(long, value_name = "WHOSE", default_value = "shared", value_parser = ["shared", "key"])]
    cache_scope: String,
    /// Let clients save slots with their pictures to files in this directory, and restore them [default: they cannot]
    #[arg(long, value_name = "DIR")]
    slot_dir: Option<PathBuf>,
    /// Give the model's memory back after so long without a request; the next one loads it again [default: never]
    #[arg(long, value_name = "SECONDS", value_parser = value_parser!(u32).range(1..))]
    idle_unload: Option<u32>,
    /// Answer at once, without computing first what the model's file has recorded
    #[arg(long)]
    skip_self_test: bool,
    /// Address and port where /metrics is to be read, without a key [default: with the other paths, with a key]
    #[arg(long, value_name = "ADDR:PORT")]
    metrics_listen: Option<SocketAddr>,
    /// Log what is asked and answered, too; of pictures, their size and digest
    #[arg(long)]
    log_prompts: bool,
    #[command(flatten)]
    limits: LimitFlags,
    #[command(flatten)]
    model: ModelFlags,
}

#[derive(clap::Args)]
#[command(next_help_heading = "Limits")]
struct LimitFlags {
    /// Requests that wait for a slot; further ones are sent away with status 429
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = value_parser!(u32).range(0..=4096))]
    queue: u32,
    /// Requests of one key that wait or are answered
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = value_parser!(u32).range(1..))]
    max_per_key: u32,
    /// Connections at the same time; further ones wait
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = value_parser!(u32).range(1..=65536))]
    max_connections: u32,
    /// Bytes of a request
    #[arg(long, value_name = "SIZE", default_value = "32MB", value_parser = parse_bytes)]
    max_body: u64,
    /// Pixels of a picture
    #[arg(long, value_name = "N", default_value_t = 64 << 20, value_parser = value_parser!(u64).range(1..))]
    max_pixels: u64,
    /// Pictures of a request
    #[arg(long, value_name = "N", default_value_t = 16)]
    max_images: u32,
    /// Tokens of an answer [default: as many as the context has]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    max_tokens: Option<u32>,
    /// Seconds that a request may wait and be answered
    #[arg(long, value_name = "SECONDS", default_value_t = 1800, value_parser = value_parser!(u32).range(1..))]
    answer_timeout: u32,
    /// Seconds that a client may take to send a request, or to read on
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = value_parser!(u32).range(1..))]
    peer_timeout: u32,
    /// Seconds that answers may go on when the server is told to end
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain: u32,
}

impl Serve {
    pub fn run(self) -> Result<ExitCode> {
        let address =
            serve::address(&self.host, self.port).unwrap_or_else(|error| wrong_usage("serve", error));
        let keys = self.api_keys.as_deref().map(Keys::read).transpose()?.unwrap_or_default();
        let tls = self.tls_cert.zip(self.tls_key);
        let tls = tls.map(|(certificate, key)| Tls::read(certificate, key).map(Arc::new)).transpose()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let hosts = Hosts::new(&self.allow_url)
            .unwrap_or_else(|error| wrong_usage("serve", format_args!("--allow-url: {error}")));
        let urls = (!self.allow_url.is_empty()).then(|| Policy::of(hosts));
        let options = Options {
            urls,
            address,
            keys,
            is_insecure: self.insecure,
            hosts: self.allow_host,
            limits: self.limits.limits(),
            tls,
            is_scoped: self.cache_scope == "key",
            slot_dir: self.slot_dir,
            idle_unload: self.idle_unload.map(|seconds| Duration::from_secs(seconds.into())),
            metrics: self.metrics_listen,
            logs_prompts: self.log_prompts,
        };
        if let Err(error) = options.check() {
            wrong_usage("serve", error);
        }
        let source = source(self.model, self.slots, self.skip_self_test);
        let stop = Cancel::new();
        let _interruptible = Interruptible::by(&stop);
        serve::serve(source, options, &stop, |name, addresses| {
            if let Some(address) = addresses.metrics {
                note(&format!("metrics at http://{address}/metrics"));
            }
            note(&format!("{name} answers at {scheme}://{}/v1", addresses.server));
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Opens the model that `flags` say; what there is to note about its memory is noted the first time.
fn source(flags: ModelFlags, n_slots: u32, skip_self_test: bool) -> Source {
    let (flags, is_again) = (Arc::new(flags), AtomicBool::new(false));
    let of_test = Arc::clone(&flags);
    let self_test: SelfTest = Box::new(move |cancel| of_test.self_test(n_slots, cancel));
    Source {
        open: Box::new(move || flags.start_slots(n_slots, is_again.swap(true, Ordering::Relaxed))),
        self_test: (!skip_self_test).then_some(self_test),
    }
}

impl LimitFlags {
    fn limits(&self) -> Limits {
        let seconds = |n: u32| Duration::from_secs(n.into());
        Limits {
            n_connections: self.max_connections,
            n_queued: self.queue,
            n_of_key: self.max_per_key,
            max_body_bytes: self.max_body,
            max_pixels: self.max_pixels,
            n_pictures: self.max_images,
            max_tokens: self.max_tokens.unwrap_or(u32::MAX),
            answer: seconds(self.answer_timeout),
            peer: seconds(self.peer_timeout),
            drain: seconds(self.drain),
        }
    }
}
