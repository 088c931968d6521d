//! One file at the hub, opened at any byte. The hub sends on to the server that has the bytes; where that was is
//! remembered as long as it answers.

use std::io::{self, Read};
use std::sync::Arc;

use super::address::Address;
use super::client::{Answer, Client, Wanted};
use super::sum::HubFile;
use super::tries::Failure;
use crate::error::Error;

#[derive(Debug)]
pub struct Ranges {
    pub client: Arc<Client>,
    pub file: HubFile,
    address: Address,
    /// Where the hub sent us.
    direct: Option<Address>,
    /// What the server called the state of the file.
    etag: Option<String>,
}

/// Bytes of a file on their way.
pub struct Opened {
    /// The first one: what was asked for, or 0 where the server sends files as a whole only.
    pub start: u64,
    /// No more than what was announced.
    pub body: Box<dyn Read + Send + Sync>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opened at {}", self.start)
    }
}

impl Ranges {
    pub fn new(client: Arc<Client>, file: HubFile, commit: &str) -> Ranges {
        let address = client.at(&format!("{}/resolve/{commit}/{}", client.name, file.name));
        Ranges { client, file, address, direct: None, etag: None }
    }

    /// As messages name the file.
    pub fn place(&self) -> String {
        format!("{}: {}", self.client.name, self.file.name)
    }

    /// Asks for the bytes from `start` on, up to `end` if there is one.
    ///
    /// # Errors
    /// Where they don't come, and where the server has another file than the hub announced.
    pub fn open(&mut self, start: u64, end: Option<u64>) -> Result<Opened, Failure> {
        let n_bytes = self.file.n_bytes;
        let from = self.direct.as_ref().unwrap_or(&self.address);
        let whole = start == 0 && end.is_none();
        let wanted = Wanted { start, end, etag: self.etag.as_deref() };
        let answer = self.client.get(from, (!whole).then_some(wanted))?;
        let found = match answer.status() {
            206 => range(&answer).ok_or_else(|| self.other("a part of a file without its place"))?,
            200 if start > 0 && self.etag.take().is_some() => {
                // another server of the same file may call its state otherwise; its sum decides in the end
                return Err(Failure::passing(self.other("another state of the file").error));
            }
            200 => (0, answer.response.body().content_length().unwrap_or(n_bytes)),
            401 | 403 | 404 | 410 if answer.address != self.address => {
                // addresses that the hub sends on to are good for a while only
                self.direct = None;
                let what =
                    format!("{}, where the hub has it, answers {}", answer.address.server(), answer.status());
                return Err(Failure::passing(Error::network(self.place(), what)));
            }
            416 => return Err(self.other("fewer bytes")),
            _ => return Err(self.client.refused(&answer, &self.place())),
        };
        if found.1 != n_bytes || (found.0 != start && found.0 != 0) {
            return Err(self.other(&format!("bytes from {} on of {}", found.0, found.1)));
        }
        self.etag = answer.header("etag").filter(|etag| !etag.starts_with("W/")).map(str::to_string);
        self.direct = (answer.address != self.address).then_some(answer.address);
        let n_left = end.filter(|_| found.0 == start).unwrap_or(n_bytes).min(n_bytes) - found.0;
        let body = answer.response.into_body().into_reader().take(n_left);
        Ok(Opened { start: found.0, body: Box::new(body) })
    }

    fn other(&self, found: &str) -> Failure {
        let expected = format!("expected the {} bytes that the hub announced", self.file.n_bytes);
        Failure::lasting(Error::network(self.place(), format!("{expected}, found {found}")))
    }

    /// What stopped a body, or that it ended early where that is `None`.
    pub fn broken(&self, error: Option<&io::Error>) -> Failure {
        let inner = error.and_then(|error| error.get_ref()?.downcast_ref::<ureq::Error>());
        let what = match (inner, error) {
            (Some(ureq::Error::Timeout(_)), _) => "the server has stopped sending".to_string(),
            (_, Some(error)) if error.kind() == io::ErrorKind::TimedOut => {
                "the server has stopped sending".to_string()
            }
            (_, Some(error)) => format!("the connection broke ({error})"),
            (_, None) => "the connection was cut".to_string(),
        };
        Failure::passing(Error::network(self.place(), what))
    }
}

/// First byte and length of all in `bytes 5-9/100`.
fn range(answer: &Answer) -> Option<(u64, u64)> {
    content_range(answer.header("content-range")?)
}

fn content_range(text: &str) -> Option<(u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, total): (u64, u64, u64) =
        (first.parse().ok()?, last.parse().ok()?, total.parse().ok()?);
    (first <= last && last < total).then_some((first, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_part() {
        for (text, expected) in [
            ("bytes 5-9/100", Some((5, 100))),
            ("bytes 0-0/1", Some((0, 1))),
            ("bytes 9-5/100", None),
            ("bytes 5-100/100", None),
            ("bytes 5-9/*", None),
            ("bytes */100", None),
            ("5-9/100", None),
            ("bytes 5-9/18446744073709551616", None),
            ("", None),
        ] {
            assert_eq!(content_range(text), expected, "{text}");
        }
    }
}
