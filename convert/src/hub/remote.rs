//! A file of weights that is read where it lies, at the hub. While a plan is made, single spots of it are fetched; during
//! the run one connection brings it from somewhere to its end, and the last bytes that came are kept in memory, since
//! rows are read in an order of their own.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::client::Client;
use super::ranges::{Opened, Ranges};
use super::tries::Tries;
use crate::checkpoint::file::Far;
use crate::error::{Error, Result};

/// What is fetched at least where a spot is read. Headers of tensors and small tensors lie side by side.
const SPOT_BYTES: u64 = 32 << 10;
/// Spots are kept up to this.
const SPOTS_BYTES_MAX: u64 = 64 << 20;
/// Longer pieces are not kept.
const PIECE_BYTES_MAX: usize = 1 << 20;
/// How far back in the stream rows can be read; the pairs of rotary positions lie in one head, 2 MB at most.
const KEPT_BYTES: usize = 16 << 20;

/// A file at the hub as the checkpoint's reader sees it.
#[derive(Debug)]
pub struct Remote {
    n_bytes: u64,
    place: String,
    client: Arc<Client>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ranges: Ranges,
    /// By number: which stretch of [`SPOT_BYTES`].
    spots: BTreeMap<u64, Vec<u8>>,
    is_streaming: bool,
    opened: Option<Opened>,
    /// The last bytes that the stream brought, the first of them at `kept_start` in the file.
    kept: Vec<u8>,
    kept_start: u64,
}

impl Remote {
    pub fn new(ranges: Ranges) -> Remote {
        let (n_bytes, place, client) = (ranges.file.n_bytes, ranges.place(), ranges.client.clone());
        let state = State {
            ranges,
            spots: BTreeMap::new(),
            is_streaming: false,
            opened: None,
            kept: Vec::new(),
            kept_start: 0,
        };
        Remote { n_bytes, place, client, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Far for Remote {
    fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    fn place(&self) -> &str {
        &self.place
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let mut state = self.state();
        match state.is_streaming {
            true => state.read_along(offset, buf),
            false => state.read_spot(offset, buf),
        }
    }

    fn begin_stream(&self) {
        let mut state = self.state();
        state.is_streaming = true;
        state.spots = BTreeMap::new();
    }

    fn end_stream(&self) {
        let mut state = self.state();
        state.is_streaming = false;
        state.opened = None;
        state.kept = Vec::new();
    }

    fn notes(&self) -> Vec<String> {
        self.client.contact.notes()
    }
}

impl State {
    /// Out of the spots that are there, or a new one.
    fn read_spot(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        if buf.len() > PIECE_BYTES_MAX {
            return self.fetch(offset, buf);
        }
        let mut at = offset;
        let end = offset + buf.len() as u64;
        while at < end {
            let spot = at / SPOT_BYTES;
            if !self.spots.contains_key(&spot) {
                self.fetch_spots(spot, end.div_ceil(SPOT_BYTES))?;
            }
            let start = spot * SPOT_BYTES;
            let stop = end.min(start + SPOT_BYTES);
            let bytes = &self.spots[&spot][(at - start) as usize..(stop - start) as usize];
            buf[(at - offset) as usize..(stop - offset) as usize].copy_from_slice(bytes);
            at = stop;
        }
        Ok(())
    }

    /// Those from `first` on that are not there, up to the first one that is, in one request.
    fn fetch_spots(&mut self, first: u64, end: u64) -> Result<()> {
        if self.spots.len() as u64 * SPOT_BYTES >= SPOTS_BYTES_MAX {
            self.spots.clear();
        }
        let end = (first + 1..end).find(|spot| self.spots.contains_key(spot)).unwrap_or(end).max(first + 1);
        let n_bytes = (end * SPOT_BYTES).min(self.ranges.file.n_bytes) - first * SPOT_BYTES;
        let mut bytes = vec![0; n_bytes as usize];
        self.fetch(first * SPOT_BYTES, &mut bytes)?;
        let spots = bytes.chunks(SPOT_BYTES as usize).map(<[u8]>::to_vec);
        self.spots.extend((first..end).zip(spots));
        Ok(())
    }

    /// One piece by a request of its own.
    fn fetch(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let client = self.ranges.client.clone();
        let mut tries = Tries::new(&client.contact);
        let mut n = 0;
        while n < buf.len() {
            let start = offset + n as u64;
            let opened = self.ranges.open(start, Some(offset + buf.len() as u64));
            let mut opened = match opened {
                Ok(opened) if opened.start == start => opened,
                Ok(_) => return Err(self.needs_parts()),
                Err(failure) => {
                    tries.again(failure)?;
                    continue;
                }
            };
            n += fill(&self.ranges, &mut opened, &mut buf[n..], &mut tries)?;
        }
        Ok(())
    }

    /// Out of the stream, which goes on as far as that takes.
    fn read_along(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = offset + buf.len() as u64;
        if self.opened.is_none() && self.kept.is_empty() {
            self.kept_start = offset;
        }
        let is_far = offset < self.kept_start || end > self.stream_end() + KEPT_BYTES as u64;
        if is_far || buf.len() > KEPT_BYTES {
            return self.fetch(offset, buf);
        }
        self.go_on_to(end)?;
        let from = (offset - self.kept_start) as usize;
        buf.copy_from_slice(&self.kept[from..from + buf.len()]);
        Ok(())
    }

    /// The first byte of the file that the stream has not brought.
    fn stream_end(&self) -> u64 {
        self.kept_start + self.kept.len() as u64
    }

    fn go_on_to(&mut self, end: u64) -> Result<()> {
        let client = self.ranges.client.clone();
        let mut tries = Tries::new(&client.contact);
        // twice as long, so that bytes are moved now and then only
        if self.kept.len() > 2 * KEPT_BYTES {
            let n_gone = self.kept.len() - KEPT_BYTES;
            self.kept.drain(..n_gone);
            self.kept_start += n_gone as u64;
        }
        loop {
            let at = self.stream_end();
            if at >= end {
                return Ok(());
            }
            let mut opened = match self.opened.take() {
                Some(opened) => opened,
                None => match self.ranges.open(at, None) {
                    Ok(opened) if opened.start == at => opened,
                    Ok(_) => return Err(self.needs_parts()),
                    Err(failure) => {
                        tries.again(failure)?;
                        continue;
                    }
                },
            };
            let n_known = self.kept.len();
            self.kept.resize(n_known + (end - at) as usize, 0);
            let filled = fill(&self.ranges, &mut opened, &mut self.kept[n_known..], &mut tries);
            self.kept.truncate(n_known + *filled.as_ref().unwrap_or(&0));
            filled?;
            self.opened = (self.stream_end() == end).then_some(opened);
        }
    }

    fn needs_parts(&self) -> Error {
        let what = "the server sends files as a whole only, and parts are needed to read one where it lies";
        Error::network(self.ranges.place(), what)
    }
}

/// Reads `buf` full, or as much as comes before `opened` breaks and another try is due.
fn fill(ranges: &Ranges, opened: &mut Opened, buf: &mut [u8], tries: &mut Tries) -> Result<usize> {
    let mut n = 0;
    while n < buf.len() {
        let failure = match opened.body.read(&mut buf[n..]) {
            Ok(0) => ranges.broken(None),
            Ok(more) => {
                tries.arrived(more as u64);
                n += more;
                continue;
            }
            Err(error) => ranges.broken(Some(&error)),
        };
        tries.again(failure)?;
        break;
    }
    Ok(n)
}
