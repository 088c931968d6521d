//! Where a file comes from. No time stamps, so that equal input gives equal bytes.

use crate::{Metadata, Result, Strings};

/// Source, converter and recipe; for people and for `inspect`, never read by the graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// Name of the checkpoint, as the converter was given it.
    pub source: String,
    /// What wrote the file, with versions.
    pub converter: String,
    /// The types asked for, a line each: `text = q4_k_m`.
    pub recipe: Strings,
    /// Facts that the checkpoint left out, a line each: `vision.select_layer = -4`.
    pub assumed: Strings,
}

const SOURCE: &str = "owlet.provenance.source";
const CONVERTER: &str = "owlet.provenance.converter";
const RECIPE: &str = "owlet.provenance.recipe";
const ASSUMED: &str = "owlet.provenance.assumed";

impl Provenance {
    /// # Errors
    /// Where a key is missing or of another type.
    pub(super) fn read(metadata: &Metadata) -> Result<Self> {
        Ok(Self {
            source: metadata.str(SOURCE)?.to_owned(),
            converter: metadata.str(CONVERTER)?.to_owned(),
            recipe: metadata.strings(RECIPE)?.clone(),
            assumed: metadata.strings(ASSUMED)?.clone(),
        })
    }

    pub(super) fn write(&self, metadata: &mut Metadata) {
        metadata.put(SOURCE, self.source.as_str());
        metadata.put(CONVERTER, self.converter.as_str());
        metadata.put(RECIPE, self.recipe.clone());
        metadata.put(ASSUMED, self.assumed.clone());
    }
}
