//! `owlet rpc-worker`: lends this machine's memory and processors to owlet on another one.

use super::backends::BackendsFlag;
use super::devices::chosen;
use super::flags::n_threads;
use super::quantity::parse_bytes;
use super::screen::{Screen, note};
use super::wrong_usage;
use crate::engine::DeviceChoice;
use crate::error::{Error, Result};
use crate::measure::{self, bytes_in_words};
use clap::value_parser;
use ggml::{Device, DeviceMemory, Worker};
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::process::ExitCode;

/// Lend memory and processors to owlet on another machine (--rpc), one program at a time
///
/// Whoever reaches the address can read, change and end what this program does: there is no password, and nothing is encrypted.
/// Only for a network whose every machine you trust.
#[derive(clap::Args)]
pub struct RpcWorker {
    /// Where to listen: an address of this machine, loopback or of a private network; port 0 is any free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:50052")]
    listen: String,
    /// Threads that compute, where the CPU is lent [default: one for each physical core]
    #[arg(short, long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    threads: Option<u32>,
    /// Bytes of memory to lend, where the CPU is lent [default: what is available when a program comes]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    memory: Option<u64>,
    /// GPUs to lend, as --list-devices names them, with commas, or none for the CPU [default: all]
    #[arg(long, value_name = "NAMES", hide = !Device::GPUS_ARE_BUILT_IN)]
    device: Option<String>,
    #[command(flatten)]
    backends: BackendsFlag,
}

impl RpcWorker {
    pub fn run(self) -> Result<ExitCode> {
        let address = self.address()?;
        let worker = Worker::new(&self.devices()?, n_threads(self.threads))?;
        let failed = |error: std::io::Error| Error::Backend(format!("--listen {address}: {error}"));
        let listener = TcpListener::bind(address).map_err(failed)?;
        let at = listener.local_addr().map_err(failed)?;
        note(
            "owlet: whoever reaches this address can read, change and end what this program does: \
             only for a network that you trust",
        );
        let mut screen = Screen::new();
        screen.say(&format!("listening on {at}, lending {}\n", worker.lends().join(", ")))?;
        let memory = || self.memory();
        worker
            .serve(&listener, memory, |client, has_left| {
                note(&format!("{client} {}", if has_left { "left" } else { "came" }));
            })
            .map_err(failed)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Where to listen.
    fn address(&self) -> Result<SocketAddr> {
        let found = self.listen.to_socket_addrs().map(|mut addresses| addresses.next());
        let Ok(Some(address)) = found else {
            wrong_usage("rpc-worker", format!("--listen: expected HOST:PORT, found {}", self.listen))
        };
        if is_private(address.ip()) {
            return Ok(address);
        }
        Err(Error::unsupported(
            format_args!("--listen {}", self.listen),
            "expected one address of loopback or of a private network: the protocol trusts whoever reaches it",
        ))
    }

    fn devices(&self) -> Result<Vec<Device>> {
        let choice = self.device.as_deref().map_or(DeviceChoice::All, chosen);
        self.backends.load_for(&choice)?;
        choice.devices()
    }

    fn memory(&self) -> DeviceMemory {
        /// Where the system does not tell, a program is given what it asks for as long as there is some.
        const UNKNOWN: u64 = 1 << 40;
        let available = measure::available().unwrap_or(UNKNOWN);
        let free = self.memory.map_or(available, |wanted| wanted.min(available));
        note(&format!("{} are lent", bytes_in_words(free)));
        DeviceMemory { free, total: free }
    }
}

/// Whether only machines of one's own network reach an address.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_private_addresses_are_listened_on() {
        let cases = [
            ("127.0.0.1", true),
            ("127.8.9.10", true),
            ("10.1.2.3", true),
            ("172.16.0.1", true),
            ("192.168.178.20", true),
            ("169.254.1.1", true),
            ("::1", true),
            ("fd12::1", true),
            ("fe80::1", true),
            ("::ffff:10.0.0.1", true),
            ("0.0.0.0", false),
            ("::", false),
            ("8.8.8.8", false),
            ("172.32.0.1", false),
            ("100.64.0.1", false),
            ("2001:db8::1", false),
            ("::ffff:8.8.8.8", false),
        ];
        for (address, expected) in cases {
            assert_eq!(is_private(address.parse().unwrap()), expected, "{address}");
        }
    }
}
