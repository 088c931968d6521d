//! From a file to an engine.

use super::head::{self, Head};
use super::sums::{N_SUM_BYTES, Summed};
use super::{Conversation, MAGIC, MAX_HEAD_BYTES, N_PREFIX_BYTES, NamedPicture, Restored, VERSION};
use crate::engine::Engine;
use crate::engine::loan::Loan;
use crate::engine::order::Wanted;
use crate::engine::rows::pieces;
use crate::engine::scope::Scope;
use crate::engine::slot::Holding;
use crate::error::{Error, Result};
use crate::model::kv_row_bytes;
use crate::prompt::Pixels;
use ggml::Cancel;
use std::fs::{self, File};
use std::io::{BufReader, ErrorKind};
use std::path::Path;
use std::sync::Arc;

impl Engine {
    /// Brings back what [`Engine::save`] wrote to `path`, and puts what was cached of it into a slot: the next request that
    /// begins with this conversation computes only what is new. Waits for a slot that is free. `progress` hears how many of
    /// how many bytes are read.
    ///
    /// # Errors
    /// `Format`: no such file, or a damaged one. `Unsupported`: of another model, or with another type of cache. `Limit`: longer
    /// than this engine's context. `Io`, `Backend`, `Cancelled`. After an error every slot is as it was, or empty.
    pub fn restore(&self, path: &Path, progress: impl FnMut(u64, u64), cancel: &Cancel) -> Result<Restored> {
        self.restore_into((None, Scope::SHARED), path, progress, cancel)
    }

    /// The same into the slot `slot`, for those of `scope`. Waits until that slot has nothing to do.
    ///
    /// # Errors
    /// As [`Engine::restore`]; `Request` where there is no such slot.
    pub fn restore_slot(&self, slot: u32, scope: Scope, path: &Path, cancel: &Cancel) -> Result<Restored> {
        self.restore_into((Some(self.slot(slot)?), scope), path, |_, _| (), cancel)
    }

    fn restore_into(
        &self,
        (slot, scope): (Option<usize>, Scope),
        path: &Path,
        progress: impl FnMut(u64, u64),
        cancel: &Cancel,
    ) -> Result<Restored> {
        let mut file = Reading::open(path, progress, cancel)?;
        let head = file.head()?;
        head.check(self, &file.place)?;
        // No more than the context has, so this fits.
        let n_positions = head.n_positions() as u32;
        let (text, row_bytes) = (&self.loaded.text, kv_row_bytes(&self.loaded.text, self.options.kv_type));
        let n_picture_bytes =
            self.loaded.config.image.as_ref().map_or(0, |image| 3 * image.size_px.pow(2)) as usize;
        file.expect_rest(
            head.pictures.len() as u64 * n_picture_bytes as u64
                + 2 * u64::from(text.n_layer) * u64::from(n_positions) * row_bytes,
        )?;

        let mut pictures = Vec::new();
        for name in &head.pictures {
            let rgb = file.take(n_picture_bytes)?;
            if let Some(config) = &self.loaded.config.image {
                let pixels = Arc::new(Pixels::new(rgb, config)?);
                pictures.push(NamedPicture { name: name.clone(), pixels });
            }
        }
        let keys = self.keys(scope, pictures.iter().map(|picture| picture.pixels.as_ref()))?;
        let (messages, system) = (head.messages(), head.system.clone());
        let conversation = Conversation { system, messages, pictures };
        if n_positions == 0 {
            file.check_sum()?;
        } else {
            let (loan, _) = Loan::new(&self.orders, Wanted::Room(slot, n_positions))?;
            let pieces = pieces(text.n_layer, 0..n_positions, row_bytes);
            let written = loan.write(pieces, |rows| file.take(rows.n as usize * row_bytes as usize));
            written.map_err(|error| match error {
                Error::Format { place, problem } if place != file.place => {
                    Error::format(&file.place, format_args!("{place}: {problem}"))
                }
                error => error,
            })?;
            file.check_sum()?;
            let said = Some(Arc::new(conversation.clone().for_file()));
            loan.keep(Holding { cells: head.cells(&keys), scope, said });
        }
        Ok(Restored { conversation, n_positions: n_positions as usize })
    }
}

/// A file on its way in.
struct Reading<'a, P> {
    /// What messages call it.
    place: String,
    bytes: Summed<BufReader<File>>,
    n_bytes: u64,
    done: u64,
    progress: P,
    cancel: &'a Cancel,
}

impl<'a, P: FnMut(u64, u64)> Reading<'a, P> {
    fn open(path: &Path, progress: P, cancel: &'a Cancel) -> Result<Reading<'a, P>> {
        let failed = |cause| Error::io(path, cause);
        // Asked first: opening a pipe waits for whoever writes to it.
        if !fs::metadata(path).map_err(failed)?.is_file() {
            return Err(Error::unsupported(path.display(), "expected a file, found something else"));
        }
        let file = File::open(path).map_err(failed)?;
        let n_bytes = file.metadata().map_err(failed)?.len();
        let bytes = Summed::new(BufReader::new(file));
        Ok(Reading { place: path.display().to_string(), bytes, n_bytes, done: 0, progress, cancel })
    }

    /// Prefix and head.
    fn head(&mut self) -> Result<Head> {
        let prefix = self.take(N_PREFIX_BYTES)?;
        let (magic, numbers) = prefix.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(self.broken("expected a saved conversation, found something else"));
        }
        let number = |at| numbers.as_chunks().0.get(at).map_or(0, |&bytes| u32::from_le_bytes(bytes));
        let (version, n_head_bytes) = (number(0), number(1) as usize);
        if version != VERSION {
            let problem = format!("version {version} of saved conversations; this program knows {VERSION}");
            return Err(Error::unsupported(&self.place, problem));
        }
        if n_head_bytes > MAX_HEAD_BYTES {
            let what = format_args!("{}: bytes of the head", self.place).to_string();
            return Err(Error::limit(what, MAX_HEAD_BYTES as u64, n_head_bytes as u64));
        }
        let json = self.take(n_head_bytes)?;
        self.check_sum()?;
        serde_json::from_slice(&json)
            .map_err(|error| self.broken(format_args!("head: {}", head::shown(&error.to_string()))))
    }

    /// The next `n` bytes.
    fn take(&mut self, n: usize) -> Result<Vec<u8>> {
        if self.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if n as u64 > self.n_bytes - self.done {
            return Err(self.cut_off());
        }
        let bytes = self.bytes.read(n).map_err(|cause| self.failed(cause))?;
        self.done += n as u64;
        (self.progress)(self.done, self.n_bytes);
        Ok(bytes)
    }

    /// The next bytes are the sum of all before.
    fn check_sum(&mut self) -> Result<()> {
        let is_right = self.bytes.read_sum().map_err(|cause| self.failed(cause))?;
        self.done = self.n_bytes.min(self.done + N_SUM_BYTES as u64);
        if is_right { Ok(()) } else { Err(self.broken("checksum: the file is damaged")) }
    }

    /// `n` bytes and their sum are to follow, and nothing else.
    fn expect_rest(&self, n: u64) -> Result<()> {
        let expected = self.done.saturating_add(n).saturating_add(N_SUM_BYTES as u64);
        if self.n_bytes == expected {
            return Ok(());
        }
        Err(self.broken(format_args!("expected {expected} bytes, found {}", self.n_bytes)))
    }

    fn failed(&self, cause: std::io::Error) -> Error {
        match cause.kind() {
            ErrorKind::UnexpectedEof => self.cut_off(),
            _ => Error::io(&self.place, cause),
        }
    }

    fn cut_off(&self) -> Error {
        self.broken(format_args!("cut off after {} bytes", self.n_bytes))
    }

    fn broken(&self, problem: impl std::fmt::Display) -> Error {
        Error::format(&self.place, problem)
    }
}
