//! Pictures from the network, for whoever allows that: https addresses beside paths.

use super::interrupt::Interruptible;
use super::mentions::{Place, is_url};
use super::pictures::{self, Found};
use super::progress::{Progress, Unit};
use crate::error::{Error, Result};
use crate::fetch::{Fetching, Policy, Step};
use clap::Args;
use ggml::Cancel;
use std::path::Path;
use std::time::Duration;

/// How often is looked for Ctrl-C while a server says nothing.
const TICK: Duration = Duration::from_millis(100);

#[derive(Args, Clone, Copy, Debug, Default)]
pub struct UrlFlags {
    /// Take https addresses as pictures, too: of public servers, up to 10 MB, within 10 seconds
    #[arg(long)]
    allow_url: bool,
}

impl UrlFlags {
    /// Reads and decodes the picture at `place`: a path, `-`, or an address. Ctrl-C ends the wait for a server; `is_quiet`
    /// shows nothing of it.
    ///
    /// # Errors
    /// As [`pictures::find`]; `Request` for an address that is not allowed, `Cancelled`, or what the fetch fails with.
    pub fn find(self, place: &Path, is_quiet: bool) -> Result<Found> {
        match place.to_str().filter(|text| is_url(text)) {
            Some(url) => self.fetch(url, is_quiet),
            None => pictures::find(place),
        }
    }

    /// The same at a place that somebody typed.
    ///
    /// # Errors
    /// As [`pictures::find_at`] and [`UrlFlags::find`].
    pub fn find_at(self, place: &Place, is_quiet: bool) -> Result<Found> {
        match place {
            Place::Url(url) => self.fetch(url, is_quiet),
            place => pictures::find_at(place),
        }
    }

    fn fetch(self, url: &str, is_quiet: bool) -> Result<Found> {
        if !self.allow_url {
            let remedy = "start owlet with --allow-url, or save the picture and give its path";
            return Err(Error::request(format!("{url}: not fetched from the network; {remedy}")));
        }
        let cancel = Cancel::new();
        let _interruptible = Interruptible::by(&cancel);
        let bytes = bytes_of(url, &Policy::default(), &cancel, &mut Progress::new(Unit::Bytes, is_quiet))?;
        pictures::of_bytes(&bytes, url.to_string())
    }
}

/// The bytes at `url`, until `cancel` says that nobody waits for them any more.
fn bytes_of(url: &str, policy: &Policy, cancel: &Cancel, progress: &mut Progress) -> Result<Vec<u8>> {
    let fetching = Fetching::begin(url, policy)?;
    let (mut n_bytes, mut n_all) = (0, None);
    let what = format!("fetching {url}");
    loop {
        match fetching.next_within(TICK) {
            Some(Step::Done(fetched)) => return fetched,
            Some(Step::Bytes(now, all)) => (n_bytes, n_all) = (now, all),
            None => {}
        }
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        progress.show(&what, n_bytes, n_all.unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;
    use std::time::Instant;

    /// A server that says `text`, then nothing more, and its address.
    fn server(text: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/cat.png", listener.local_addr().unwrap());
        thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let _ = peer.read(&mut [0; 1024]);
            peer.write_all(text).unwrap();
            // until the other side has gone
            let _ = peer.read(&mut [0; 1]);
        });
        address
    }

    /// Whatever the server keeps the program waiting with.
    #[test]
    fn ctrl_c_ends_the_wait_for_a_server() {
        for text in [&b""[..], b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"] {
            let address = server(text);
            let cancel = Cancel::new();
            let raised = cancel.clone();
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(300));
                raised.cancel();
            });
            let since = Instant::now();
            let mut policy = Policy::loopback();
            policy.patience = Duration::from_secs(60);
            let mut progress = Progress::new(Unit::Bytes, true);
            let fetched = bytes_of(&address, &policy, &cancel, &mut progress);
            assert!(matches!(fetched, Err(Error::Cancelled)), "{fetched:?}");
            assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
        }
    }
}
