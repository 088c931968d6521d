//! From an engine to a file.

use super::head::{self, Head, ModelId};
use super::sums::Summed;
use super::{Conversation, MAGIC, MAX_HEAD_BYTES, NamedPicture, Saved, VERSION};
use crate::engine::loan::Loan;
use crate::engine::order::Wanted;
use crate::engine::part_file::PartFile;
use crate::engine::rows::pieces;
use crate::engine::scope::Scope;
use crate::engine::session::Cell;
use crate::engine::{Engine, image_cache::ImageKey};
use crate::error::{Error, Result};
use crate::model::kv_row_bytes;
use crate::prompt::Role;
use ggml::Cancel;
use owlet_format::hex;
use std::fs::{self, File};
use std::io::{BufWriter, Read};
use std::path::{Path, PathBuf};

/// What a file is written from.
struct Lines<'a> {
    conversation: &'a Conversation,
    /// One a picture.
    keys: Vec<ImageKey>,
    cells: Vec<Cell>,
}

impl Engine {
    /// Writes `conversation` to `path`, with whatever of it the engine has in its cache, and replaces a conversation that
    /// was saved there before. The file appears when it is whole; only its owner may read it. Waits for a slot that is
    /// free. `progress` hears how many of how many bytes are written.
    ///
    /// # Errors
    /// `Request`: the conversation contradicts itself, or something else stands at `path`; `Io`; `Cancelled`.
    pub fn save(
        &self,
        conversation: &Conversation,
        path: &Path,
        progress: impl FnMut(u64, u64),
        cancel: &Cancel,
    ) -> Result<Saved> {
        let target = target(path)?;
        let keys = self.checked_keys(conversation, Scope::SHARED)?;
        let last_question = conversation.messages.iter().rposition(|message| message.role == Role::User);
        let asked = &conversation.messages[..last_question.map_or(0, |last| last + 1)];
        // Without a question there is no prompt, and nothing of it in any slot.
        let prompt = if asked.is_empty() {
            Vec::new()
        } else {
            self.prompt(conversation.system.as_deref(), asked, &keys)?
        };
        let (loan, knows) = Loan::new(&self.orders, Wanted::Holding(prompt, Scope::SHARED))?;
        self.write(loan, &Lines { conversation, keys, cells: knows.cells }, &target, progress, cancel)
    }

    /// The same for what was said last in the slot `slot` by those of `scope`. Waits until that slot has nothing to do.
    ///
    /// # Errors
    /// As [`Engine::save`]; `Request` also where there is no such slot, or nothing to save in it.
    pub fn save_slot(&self, slot: u32, scope: Scope, path: &Path, cancel: &Cancel) -> Result<Saved> {
        let target = target(path)?;
        let (loan, knows) = Loan::new(&self.orders, Wanted::Slot(self.slot(slot)?))?;
        let Some(conversation) = knows.said.filter(|_| knows.scope == scope) else {
            return Err(Error::request(format!("slot {slot}: expected a conversation, found none")));
        };
        let keys = self.checked_keys(&conversation, scope)?;
        let lines = Lines { conversation: &conversation, keys, cells: knows.cells };
        self.write(loan, &lines, &target, |_, _| (), cancel)
    }

    fn write(
        &self,
        loan: Loan,
        lines: &Lines,
        target: &Path,
        mut progress: impl FnMut(u64, u64),
        cancel: &Cancel,
    ) -> Result<Saved> {
        let conversation = lines.conversation;
        let head = self.head(conversation, head::runs(&lines.cells, &lines.keys))?;
        let n_positions = head.n_positions();
        let head = bytes(&head)?;
        let (text, kv_type) = (&self.loaded.text, self.options.kv_type);
        let row_bytes = kv_row_bytes(text, kv_type);
        let n_bytes = head.len() as u64
            + conversation.pictures.iter().map(|picture| picture.pixels.rgb.len() as u64).sum::<u64>()
            + 2 * u64::from(text.n_layer) * n_positions as u64 * row_bytes;

        let failed = |cause| Error::io(target, cause);
        let part = PartFile::create(target).map_err(failed)?;
        let mut file = Summed::new(BufWriter::new(part));
        let mut done = 0;
        let mut put = |file: &mut Summed<_>, bytes: &[u8]| {
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            file.write(bytes).map_err(failed)?;
            done += bytes.len() as u64;
            progress(done, n_bytes);
            Ok(())
        };
        put(&mut file, &head)?;
        file.write_sum().map_err(failed)?;
        for picture in &conversation.pictures {
            put(&mut file, &picture.pixels.rgb)?;
        }
        loan.read(pieces(text.n_layer, 0..n_positions as u32, row_bytes), |bytes| put(&mut file, &bytes))?;
        // Nobody need wait for the disk.
        drop(loan);
        file.write_sum().map_err(failed)?;
        let part = file.into_inner().into_inner().map_err(|error| failed(error.into_error()))?;
        let n_bytes = part.n_bytes().map_err(failed)?;
        part.publish_durably().map_err(failed)?;
        Ok(Saved { n_positions, n_bytes })
    }

    /// The keys of a conversation's pictures, if messages and pictures agree with each other and with the model.
    fn checked_keys(&self, conversation: &Conversation, scope: Scope) -> Result<Vec<ImageKey>> {
        let pictures = &conversation.pictures;
        let keys = self.keys(scope, pictures.iter().map(|picture| picture.pixels.as_ref()))?;
        let size_px = self.loaded.config.image.as_ref().map_or(0, |image| image.size_px as usize);
        for NamedPicture { name, pixels } in pictures {
            if pixels.size_px != size_px || pixels.rgb.len() != size_px * size_px * 3 {
                let found = pixels.size_px;
                return Err(Error::request(format!(
                    "{name}: expected {size_px} pixels a side, found {found}"
                )));
            }
        }
        Ok(keys)
    }

    fn head(&self, conversation: &Conversation, positions: Vec<head::Run>) -> Result<Head> {
        let head = Head {
            written_by: concat!("owlet ", env!("CARGO_PKG_VERSION")).to_string(),
            model: ModelId { name: self.loaded.config.name.clone(), sha256: hex(&self.loaded.digest) },
            kv_type: self.options.kv_type.dtype().name().to_string(),
            exact: self.loaded.model.is_exact(),
            system: conversation.system.clone(),
            messages: head::said(&conversation.messages),
            pictures: conversation.pictures.iter().map(|picture| picture.name.clone()).collect(),
            positions,
        };
        head.check(self, "conversation")?;
        Ok(head)
    }
}

/// Prefix and head.
fn bytes(head: &Head) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(head).map_err(|error| Error::internal(format_args!("head: {error}")))?;
    if json.len() > MAX_HEAD_BYTES {
        return Err(Error::limit("bytes of a conversation's head", MAX_HEAD_BYTES as u64, json.len() as u64));
    }
    let n_bytes = json.len() as u32;
    Ok([&MAGIC[..], &VERSION.to_le_bytes(), &n_bytes.to_le_bytes(), &json].concat())
}

/// Where the file is to stand: through links, so that the file itself is replaced and not a link to it.
///
/// # Errors
/// `Request` where something else than a saved conversation stands there; `Io`.
fn target(path: &Path) -> Result<PathBuf> {
    let failed = |cause| Error::io(path, cause);
    match fs::metadata(path) {
        Err(_) => Ok(path.to_path_buf()),
        Ok(old) => {
            let mut magic = Vec::new();
            if old.is_file() {
                File::open(path)
                    .map_err(failed)?
                    .take(MAGIC.len() as u64)
                    .read_to_end(&mut magic)
                    .map_err(failed)?;
            }
            if magic != MAGIC {
                let place = path.display();
                return Err(Error::request(format!("{place}: exists and is no saved conversation")));
            }
            fs::canonicalize(path).map_err(failed)
        }
    }
}
