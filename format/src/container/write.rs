//! A GGUF on disk that is there whole or not at all: written beside its place under a name of its own, put
//! down safely, then renamed. Whatever goes wrong before that, an error, a panic or a drop, removes what was
//! written, and a file that stood in the place before is not touched.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::encode::Encoder;
use super::header_bytes::TensorPlan;
use super::{Metadata, TensorInfo};
use crate::error::{Error, Result};

/// A file that is being written: header first, then each tensor of the plan in order.
pub struct Writer {
    encoder: Encoder<File>,
    part: Part,
}

impl Writer {
    /// Opens the part file beside `target` and writes the header; see [`Encoder::new`].
    ///
    /// # Errors
    /// Where `target` is a directory or a device, its directory is missing or not writable, the disk is full,
    /// or the plan contradicts itself. All messages name `target`.
    pub fn create(target: &Path, metadata: &Metadata, plan: &[TensorPlan]) -> Result<Self> {
        let (part, file) = Part::create(target)?;
        let metadata = metadata.clone().with_label(target.display().to_string());
        Ok(Self { encoder: Encoder::new(file, &metadata, plan)?, part })
    }

    /// The tensors, with the places that they will have.
    pub fn tensors(&self) -> &[TensorInfo] {
        self.encoder.tensors()
    }

    /// As [`Encoder::begin`].
    pub fn begin(&mut self, name: &str) -> Result<()> {
        self.encoder.begin(name)
    }

    /// As [`Encoder::write`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.encoder.write(bytes)
    }

    /// Completes the file and waits until the disk has it. It still stands under its part name, to be read
    /// and judged before [`Written::publish`].
    ///
    /// # Errors
    /// As [`Encoder::finish`].
    pub fn finish(self) -> Result<Written> {
        let Self { encoder, part } = self;
        let file = encoder.finish()?;
        file.sync_all().map_err(|error| Error::io(part.target.display(), "cannot write", error))?;
        Ok(Written { part })
    }
}

/// A file that is complete, but not yet under its name. Dropping it removes it.
pub struct Written {
    part: Part,
}

impl Written {
    /// Where the bytes are.
    pub fn path(&self) -> &Path {
        &self.part.path
    }

    /// Renames the file to its target, replacing what stood there.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn publish(self) -> Result<()> {
        let mut part = self.part;
        fs::rename(&part.path, &part.target)
            .map_err(|error| Error::io(part.target.display(), "cannot rename to", error))?;
        part.published = true;
        // The new name is an entry of the directory, which has to reach the disk as well. A system that can't
        // do that for a directory has no other way either, so its answer changes nothing.
        #[cfg(unix)]
        if let Some(directory) = part.path.parent() {
            let _ = File::open(directory).and_then(|directory| directory.sync_all());
        }
        Ok(())
    }
}

/// The name beside the target; removes the file that has it.
struct Part {
    path: PathBuf,
    target: PathBuf,
    published: bool,
}

impl Part {
    fn create(target: &Path) -> Result<(Self, File)> {
        let unusable = |found: &str| {
            Error::unsupported(
                &target.display().to_string(),
                format!("expected a file to write, found {found}"),
            )
        };
        // through links, so that the file itself is replaced and not a link to it
        let target = match fs::metadata(target) {
            Ok(old) if old.is_file() => {
                fs::canonicalize(target).map_err(|error| Error::io(target.display(), "cannot open", error))?
            }
            Ok(old) if old.is_dir() => return Err(unusable("a directory")),
            Ok(_) => return Err(unusable("a pipe, socket or device")),
            Err(_) => target.to_path_buf(),
        };
        let name = target.file_name().ok_or_else(|| unusable("no file name"))?;
        let mut tries = 0u32..1000;
        loop {
            let mut part_name = OsString::from(".");
            part_name.push(name);
            part_name.push(format!(".{}.{}.part", std::process::id(), tries.next().unwrap_or_default()));
            let path = target.with_file_name(part_name);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok((Self { path, target, published: false }, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !tries.is_empty() => {}
                Err(error) => return Err(Error::io(target.display(), "cannot create", error)),
            }
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.published {
            // whoever removed it already did what was wanted
            let _ = fs::remove_file(&self.path);
        }
    }
}
