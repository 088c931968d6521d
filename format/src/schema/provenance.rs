//! Where a file comes from. No time stamps, so that equal input gives equal bytes. What a source doesn't tell, and
//! what files from before did not state, is empty and not in the file.

use crate::{Metadata, Result, Strings};

/// Source, converter and recipe; for people and for `inspect`, never read by the graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// Name of the checkpoint, as the converter was given it.
    pub source: String,
    /// Which state of the source: the commit at the hub. Empty where it isn't known.
    pub revision: String,
    /// The files that the weights came from, a line each as sha256sum prints it. Empty where it isn't known.
    pub shards: Strings,
    /// What wrote the file, with versions.
    pub converter: String,
    /// The types asked for, a line each: `text = q4_k_m`.
    pub recipe: Strings,
    /// Facts that the checkpoint left out, a line each: `vision.select_layer = -4`.
    pub assumed: Strings,
}

const SOURCE: &str = "owlet.provenance.source";
const REVISION: &str = "owlet.provenance.revision";
const SHARDS: &str = "owlet.provenance.shards";
const CONVERTER: &str = "owlet.provenance.converter";
const RECIPE: &str = "owlet.provenance.recipe";
const ASSUMED: &str = "owlet.provenance.assumed";

impl Provenance {
    /// # Errors
    /// Where a key is of another type, or one that every file has is missing.
    pub(super) fn read(metadata: &Metadata) -> Result<Self> {
        let has = |key| metadata.get(key).is_some();
        Ok(Self {
            source: metadata.str(SOURCE)?.to_owned(),
            revision: if has(REVISION) { metadata.str(REVISION)?.to_owned() } else { String::new() },
            shards: if has(SHARDS) { metadata.strings(SHARDS)?.clone() } else { Strings::default() },
            converter: metadata.str(CONVERTER)?.to_owned(),
            recipe: metadata.strings(RECIPE)?.clone(),
            assumed: metadata.strings(ASSUMED)?.clone(),
        })
    }

    pub(super) fn write(&self, metadata: &mut Metadata) {
        metadata.put(SOURCE, self.source.as_str());
        if !self.revision.is_empty() {
            metadata.put(REVISION, self.revision.as_str());
        }
        if !self.shards.is_empty() {
            metadata.put(SHARDS, self.shards.clone());
        }
        metadata.put(CONVERTER, self.converter.as_str());
        metadata.put(RECIPE, self.recipe.clone());
        metadata.put(ASSUMED, self.assumed.clone());
    }
}
