//! Where what was fetched is kept: in the cache of the hub's own tool, laid out as that tool does it, so that both find
//! what the other one has; or as plain files in a directory.
//!
//! The cache: `models--ORG--NAME/blobs/SUM` are the files, `snapshots/COMMIT/NAME` links to them, `refs/BRANCH` holds a
//! commit. What is on its way stands beside the blob under a name of ours.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::name::{ModelName, is_commit, is_plain};
use super::sum::HubFile;
use crate::error::{Error, Result};

const REF_BYTES_MAX: u64 = 64;

#[derive(Debug, Clone)]
pub enum Store {
    /// The model's directory in the cache.
    Cache {
        model: PathBuf,
        commit: String,
    },
    Plain(PathBuf),
}

impl Store {
    /// Where a checkpoint's reader finds the files.
    pub fn dir(&self) -> PathBuf {
        match self {
            Store::Cache { model, commit } => model.join("snapshots").join(commit),
            Store::Plain(dir) => dir.clone(),
        }
    }

    /// Whether the file is there as far as its length tells. A blob that no snapshot names yet gets its name.
    pub fn holds(&self, file: &HubFile) -> bool {
        let is_whole =
            |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == file.n_bytes);
        if is_whole(&self.dir().join(&file.name)) {
            return true;
        }
        match self {
            Store::Cache { model, .. } => is_whole(&blob(model, file)) && self.link(file).is_ok(),
            Store::Plain(_) => false,
        }
    }

    /// Where the file stands while it is on its way; the directory is made.
    ///
    /// # Errors
    /// Where it can't be, and where another file has the name in a plain directory.
    pub fn part(&self, file: &HubFile) -> Result<PathBuf> {
        let path = match self {
            Store::Cache { model, .. } => blob(model, file),
            Store::Plain(dir) => {
                let path = dir.join(&file.name);
                if fs::symlink_metadata(&path).is_ok() {
                    let what = "exists, and is not the hub's file of this name: remove it, or choose another directory";
                    return Err(Error::Request(format!("{}: {what}", path.display())));
                }
                path
            }
        };
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(|error| Error::doing(dir, "cannot create", error))?;
        }
        let mut name = path.into_os_string();
        name.push(".owlet-part");
        Ok(name.into())
    }

    /// Gives a file that is whole its name.
    ///
    /// # Errors
    /// What the system says.
    pub fn keep(&self, file: &HubFile, part: &Path) -> Result<()> {
        let whole = match self {
            Store::Cache { model, .. } => blob(model, file),
            Store::Plain(dir) => dir.join(&file.name),
        };
        fs::rename(part, &whole).map_err(|error| Error::doing(&whole, "cannot rename to", error))?;
        match self {
            Store::Cache { .. } => self.link(file),
            Store::Plain(_) => Ok(()),
        }
    }

    /// Notes that `revision` is this commit, as far as the cache has a place for that.
    pub fn note_revision(&self, revision: &str) {
        let Store::Cache { model, commit } = self else { return };
        if is_plain(revision) && !is_commit(revision) {
            // it only helps when there is no network another time
            let refs = model.join("refs");
            let _ = fs::create_dir_all(&refs).and_then(|()| fs::write(refs.join(revision), commit));
        }
    }

    fn link(&self, file: &HubFile) -> Result<()> {
        let Store::Cache { model, .. } = self else { return Ok(()) };
        let dir = self.dir();
        fs::create_dir_all(&dir).map_err(|error| Error::doing(&dir, "cannot create", error))?;
        let name = dir.join(&file.name);
        if fs::symlink_metadata(&name).is_ok() {
            fs::remove_file(&name).map_err(|error| Error::doing(&name, "cannot replace", error))?;
        }
        let linked = name_blob(&blob(model, file), &name);
        linked.map_err(|error| Error::doing(&name, "cannot create", error))
    }
}

fn blob(model: &Path, file: &HubFile) -> PathBuf {
    model.join("blobs").join(file.sum.hex())
}

/// Gives a blob its name in a snapshot.
#[cfg(unix)]
fn name_blob(blob: &Path, name: &Path) -> io::Result<()> {
    // relative, so that a cache can be moved
    std::os::unix::fs::symlink(Path::new("../../blobs").join(blob.file_name().unwrap_or_default()), name)
}

/// Links need a privilege there.
#[cfg(not(unix))]
fn name_blob(blob: &Path, name: &Path) -> io::Result<()> {
    fs::rename(blob, name)
}

/// The snapshot of `revision` that the cache has without asking anybody.
pub fn cached(cache: &Path, name: &ModelName, revision: &str) -> Option<PathBuf> {
    let model = cache.join(name.directory());
    let commit = if is_commit(revision) {
        revision.to_string()
    } else {
        let path = Some(revision)
            .filter(|revision| is_plain(revision))
            .map(|revision| model.join("refs").join(revision))?;
        let is_short = fs::metadata(&path).is_ok_and(|meta| meta.len() <= REF_BYTES_MAX);
        is_short.then(|| fs::read_to_string(path).ok()).flatten()?.trim().to_string()
    };
    let dir = model.join("snapshots").join(Some(commit).filter(|commit| is_commit(commit))?);
    dir.join("config.json").is_file().then_some(dir)
}
