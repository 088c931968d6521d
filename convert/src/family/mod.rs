//! Families of checkpoints, one file each: how to know one, what its configuration means, which tensor of it
//! becomes which, and which it does not need.
//!
//! In: the configuration files and the names and shapes of the weights. Out: the model's config and a source for
//! every tensor that it implies. No weight is read here.

mod clip_vit;
mod intern_vit;
mod intern_vit_alone;
mod internvl_chat;
mod llama;
pub(crate) mod llava;
mod reading;
mod vision_tower;

use std::path::Path;

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::hf::ConfigFiles;
use crate::hf::json::{Json, JsonFile};
use crate::hf::settings::Places;
use crate::input::Input;
pub use reading::{Reading, Skipped, Source, Transform};
use vision_tower::VisionTower;

/// What a directory's config.json says that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    InternVlChat,
    InternVit,
    LlavaOfAuthors,
    LlavaOfTransformers,
}

/// What `architectures` may say.
const KNOWN: [(&str, Family); 4] = [
    ("InternVLChatModel", Family::InternVlChat),
    ("InternVisionModel", Family::InternVit),
    ("LlavaLlamaForCausalLM", Family::LlavaOfAuthors),
    ("LlavaForConditionalGeneration", Family::LlavaOfTransformers),
];

impl Family {
    fn of(root: &Json) -> Result<Family> {
        let name = architecture(root)?;
        // V1-1's type says it where the architecture is left out
        let kind = root.key("model_type").map_or(Ok("nothing"), |t| t.str());
        let found = match name {
            "" if kind.as_ref().is_ok_and(|kind| *kind == "internvl_chat") => Some(Family::InternVlChat),
            name => KNOWN.iter().find(|(known, _)| *known == name).map(|(_, family)| *family),
        };
        if let Some(family) = found {
            return Ok(family);
        }
        let known = KNOWN.map(|(name, _)| name).join(" or ");
        let found = if name.is_empty() { kind? } else { name };
        let what = format!("expected {known}, found {}", found.escape_debug());
        Err(Error::unsupported(format!("{}: architectures", root.place()), what))
    }

    /// As messages call it, and what `--set` may say of it.
    fn settings(self) -> (&'static str, &'static Places) {
        match self {
            Family::InternVlChat => ("InternVL-Chat", internvl_chat::PLACES),
            Family::InternVit => ("InternViT", intern_vit_alone::PLACES),
            Family::LlavaOfAuthors => ("LLaVA", llava::PLACES_OF_AUTHORS),
            Family::LlavaOfTransformers => ("LLaVA of transformers", llava::PLACES_OF_TRANSFORMERS),
        }
    }
}

/// Reads the checkpoint as the family that its config.json names, with `set` in the place of what it says.
///
/// # Errors
/// For a family that is not known, for what `set` can't change in it, and for a checkpoint that contradicts its family.
pub fn read(
    files: &mut ConfigFiles,
    set: &[(String, String)],
    vision_tower: Option<&Input>,
    checkpoint: &mut Checkpoint,
) -> Result<Reading> {
    let family = Family::of(&files.config.root())?;
    let (name, places) = family.settings();
    files.apply(set, name, places)?;
    if let (Some(Input { dir, .. }), Family::InternVlChat | Family::InternVit) = (vision_tower, family) {
        let what = format!("{name} has its own tower");
        return Err(Error::Request(format!("--vision-tower {}: {what}", dir.display())));
    }
    match family {
        Family::InternVlChat => internvl_chat::read(files, checkpoint),
        Family::InternVit => intern_vit_alone::read(files, checkpoint),
        Family::LlavaOfAuthors => {
            let tower = vision_tower.map(VisionTower::open).transpose()?;
            llava::read_of_authors(files, tower, checkpoint)
        }
        Family::LlavaOfTransformers => llava::read_of_transformers(files, vision_tower.is_some(), checkpoint),
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

/// The first of `architectures` in config.json, empty where there is none.
fn architecture<'a>(root: &Json<'a>) -> Result<&'a str> {
    let names = root.key("architectures").map_or(Ok(Vec::new()), |list| list.array())?;
    names.first().map_or(Ok(""), |name| name.str())
}
