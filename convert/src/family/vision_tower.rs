//! A vision tower in a directory of its own, beside a checkpoint that only names it, or that has its weights without the
//! facts about them.

use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::hf::json::JsonFile;
use crate::input::Input;

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
