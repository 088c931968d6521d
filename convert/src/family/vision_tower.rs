//! A vision tower in a directory of its own, beside a checkpoint that only names it, or that has its weights without the
//! facts about them.

use std::path::Path;

use super::Family;
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::hf::json::JsonFile;
use crate::plan::Input;

/// The directory's files, headers read.
pub struct VisionTower {
    pub config: JsonFile,
    pub preprocessor: JsonFile,
    /// None: the directory has no weights.
    pub checkpoint: Option<Checkpoint>,
}

impl VisionTower {
    /// # Errors
    /// Without a config.json, and for every file that lies.
    pub fn open(Input { dir, known, .. }: &Input) -> Result<VisionTower> {
        let has_weights = Checkpoint::is_in(dir, known);
        Ok(VisionTower {
            config: JsonFile::read(&dir.join("config.json"))?,
            preprocessor: JsonFile::read_or_empty(&dir.join("preprocessor_config.json"))?,
            checkpoint: has_weights.then(|| Checkpoint::open_known(dir, known)).transpose()?,
        })
    }
}

/// The vision tower that config.json in `dir` names, where its family's own loader takes the tower from there: a name at
/// the hub, or whatever its authors wrote.
///
/// # Errors
/// For a family that is not known.
pub fn named_vision_tower(dir: &Path) -> Result<Option<String>> {
    let config = JsonFile::read(&dir.join("config.json"))?;
    let root = config.root();
    match (Family::of(&root)?, root.key("mm_vision_tower")) {
        (Family::LlavaOfAuthors, Some(name)) => Ok(Some(name.str()?.to_string())),
        _ => Ok(None),
    }
}
