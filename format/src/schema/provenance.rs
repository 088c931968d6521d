//! Where a file comes from. No time stamps, so that equal input gives equal bytes.

/// Source, converter and recipe; for people and for `inspect`, never read by the graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// Name of the checkpoint, as the converter was given it.
    pub source: String,
    /// What wrote the file, with versions.
    pub converter: String,
    /// The types asked for, a line each: `text = q4_k_m`.
    pub recipe: Vec<String>,
    /// Facts that the checkpoint left out, a line each: `vision.select_layer = -4`.
    pub assumed: Vec<String>,
}
