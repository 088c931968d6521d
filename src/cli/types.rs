//! What a model's tensors are to become, and how large its files may be: flags of commands that quantize.

use super::quantity::parse_bytes;
use crate::error::Result;
use owlet_convert::{Rules, TypeChoice, Weighting};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct TypeFlags {
    /// Type of the text half [default: q4_k_m from a checkpoint, else as it is]
    #[arg(long = "type", value_name = "TYPE", long_help = types())]
    pub text: Option<TypeChoice>,
    /// Type of the vision tower [default: q8_0 from a checkpoint, else as it is]
    #[arg(long, value_name = "TYPE")]
    pub vision_type: Option<TypeChoice>,
    /// Type of the projector [default: as the vision tower; of a model file as it is]
    #[arg(long, value_name = "TYPE")]
    pub projector_type: Option<TypeChoice>,
    /// File of lines `regex = type`: the first line that is found in a tensor's name chooses its type, before --type and
    /// the others
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Importance matrix of the same model, as `owlet imatrix` writes it: spends precision where it matters
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
    /// Write files of at most so many bytes each: OUT-00001-of-00003.gguf and so on. The first one stands for all
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub split_max_size: Option<u64>,
}

impl TypeFlags {
    /// # Errors
    /// What is wrong with the recipe.
    pub fn rules(&self) -> Result<Rules> {
        Ok(self.recipe.as_deref().map_or_else(|| Ok(Rules::default()), Rules::read)?)
    }

    /// # Errors
    /// What is wrong with the matrix.
    pub fn importance(&self) -> Result<Option<Weighting>> {
        Ok(self.imatrix.as_deref().map(Weighting::read).transpose()?)
    }
}

/// What `--type` takes.
fn types() -> String {
    let names: Vec<_> = owlet_convert::TYPE_CHOICES.iter().map(|(name, _)| *name).collect();
    let names = names.join(" ");
    format!("Type of the text half, in any case: {names} [default: q4_k_m from a checkpoint, else as it is]")
}
