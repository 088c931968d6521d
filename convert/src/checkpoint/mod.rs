//! The weights of a checkpoint directory as named tensors with places in files.
//!
//! In: safetensors or torch's zip files, one file or shards with an index. Out: each tensor's type, shape in
//! PyTorch order, and f32 or raw rows by position. Not known here: what a tensor is for.

pub mod dtype;
pub mod file;
mod file_hash;
mod joined;
pub mod pickle;
mod rows;
pub mod safetensors;
mod sha256;
mod tensor;
pub mod torch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

pub use dtype::SourceType;
use file::{Known, SourceFile};
pub use sha256::{SAVED_BYTES, Sha256};
pub use tensor::SourceTensor;
pub(crate) use tensor::shape_text;

use crate::error::{Error, Result};

const INDEX_BYTES_MAX: u64 = 64 << 20;

/// What the names of tensors out of a second directory begin with. No text that people see has it.
pub const BESIDE: &str = "beside/";

/// How the weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightFormat {
    Safetensors,
    Torch,
}

/// All weights of a directory, headers read and checked.
#[derive(Debug)]
pub struct Checkpoint {
    pub dir: PathBuf,
    pub format: WeightFormat,
    pub files: Vec<SourceFile>,
    pub tensors: BTreeMap<String, SourceTensor>,
    /// A directory beside this one, whose files are the last ones.
    beside: Option<Beside>,
}

/// A second directory, and how many files come before its own.
#[derive(Debug)]
struct Beside {
    dir: PathBuf,
    n_own_files: usize,
}

/// Index, single file and format, in the order of preference; safetensors first, as transformers prefers them.
pub(crate) const LAYOUTS: [(&str, &str, WeightFormat); 2] = [
    ("model.safetensors.index.json", "model.safetensors", WeightFormat::Safetensors),
    ("pytorch_model.bin.index.json", "pytorch_model.bin", WeightFormat::Torch),
];

impl Checkpoint {
    /// Finds the weights of `dir` and reads every header.
    ///
    /// # Errors
    /// Without weights, with a shard or a tensor missing or twice, and for every header that lies.
    pub fn open(dir: &Path) -> Result<Checkpoint> {
        Checkpoint::open_known(dir, &Known::new())
    }

    /// The same, with what is `known` of its files of weights.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open_known(dir: &Path, known: &Known) -> Result<Checkpoint> {
        for (index, single, format) in LAYOUTS {
            if dir.join(index).is_file() {
                return Checkpoint::sharded(dir, &dir.join(index), format, known);
            }
            if is_there(dir, single, known) {
                let mut checkpoint = Checkpoint::empty(dir, format);
                checkpoint.add(single, known)?;
                return Ok(checkpoint);
            }
        }
        let names = LAYOUTS.map(|(index, single, _)| format!("{single}, {index}")).join(", ");
        Err(Error::format(dir.display(), format!("expected weights in one of {names}; found none of them")))
    }

    /// Whether there are weights in `dir`, or known to be elsewhere, sound or not.
    pub fn is_in(dir: &Path, known: &Known) -> bool {
        LAYOUTS.iter().any(|(index, single, _)| dir.join(index).is_file() || is_there(dir, single, known))
    }

    fn empty(dir: &Path, format: WeightFormat) -> Checkpoint {
        Checkpoint {
            dir: dir.to_path_buf(),
            format,
            files: Vec::new(),
            tensors: BTreeMap::new(),
            beside: None,
        }
    }

    fn sharded(dir: &Path, index: &Path, format: WeightFormat, known: &Known) -> Result<Checkpoint> {
        let shard_of = read_index(index)?;
        let shards: BTreeSet<&String> = shard_of.values().collect();
        let mut checkpoint = Checkpoint::empty(dir, format);
        for shard in shards {
            if !is_there(dir, shard, known) {
                let what = format!("expected shard {shard} beside it, found no such file");
                return Err(Error::format(index.display(), what));
            }
            checkpoint.add(shard, known)?;
        }
        for (name, shard) in &shard_of {
            let found = checkpoint.tensors.get(name).map(|t| checkpoint.files[t.file].path());
            if found.and_then(Path::file_name).is_none_or(|file| file != shard.as_str()) {
                let place = format!("{}: tensor {name}", dir.join(shard).display());
                return Err(Error::format(
                    place,
                    format!("expected in this shard by {}, not found", name_of(index)),
                ));
            }
        }
        Ok(checkpoint)
    }

    fn add(&mut self, name: &str, known: &Known) -> Result<()> {
        let file = SourceFile::open_known(&self.dir, name, known)?;
        let index = self.files.len();
        let tensors = match self.format {
            WeightFormat::Safetensors => safetensors::read(&file, index)?,
            WeightFormat::Torch => torch::read(&file, index)?,
        };
        for (name, tensor) in tensors {
            if let Some(first) = self.tensors.insert(name.clone(), tensor) {
                let first = self.files.get(first.file).unwrap_or(&file).label();
                return Err(Error::format(
                    format!("{}: tensor {name}", file.label()),
                    format!("also in {first}"),
                ));
            }
        }
        self.files.push(file);
        Ok(())
    }

    /// The file and the name, as error texts name a tensor.
    pub fn place(&self, name: &str) -> String {
        let shown = name.strip_prefix(BESIDE).unwrap_or(name);
        match (self.tensors.get(name), &self.beside) {
            (Some(tensor), _) => format!("{}: tensor {shown}", self.files[tensor.file].label()),
            (None, Some(beside)) if name.starts_with(BESIDE) => {
                format!("{}: tensor {shown}", beside.dir.display())
            }
            (None, _) => format!("{}: tensor {shown}", self.dir.display()),
        }
    }
}

fn is_there(dir: &Path, name: &str, known: &Known) -> bool {
    dir.join(name).is_file() || known.get(name).is_some_and(|file| file.far.is_some())
}

/// The index's `weight_map`: tensor name to file name.
pub(crate) fn read_index(path: &Path) -> Result<BTreeMap<String, String>> {
    let bytes = file::read_small(path, INDEX_BYTES_MAX)?;
    let json: Value =
        serde_json::from_slice(&bytes).map_err(|e| Error::format(path.display(), e.to_string()))?;
    let Some(map) = json.get("weight_map").and_then(Value::as_object) else {
        return Err(Error::format(path.display(), "expected an object weight_map, found none"));
    };
    let mut shard_of = BTreeMap::new();
    for (name, shard) in map {
        let plain = shard.as_str().filter(|s| !s.is_empty() && !s.contains(['/', '\\']) && *s != "..");
        let Some(shard) = plain else {
            let place = format!("{}: weight_map.{name}", path.display());
            return Err(Error::format(
                place,
                format!("expected the name of a file beside it, found {shard}"),
            ));
        };
        shard_of.insert(name.clone(), shard.to_string());
    }
    Ok(shard_of)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
