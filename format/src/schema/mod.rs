//! What an owlet file says about its model: one struct a part, each with its `read` and `write`, and the tensors
//! that they imply. In comes the metadata of a file or a config of the converter's; out goes the other one. Every
//! number that graph code will compute with is bounded here, so that no file can lead it out of range.
//!
//! Nothing is optional and nothing has a default: a key that is missing is an error that names it.

mod generation;
mod image;
mod projector;
mod prompt;
mod provenance;
mod self_test;
mod tensors;
mod text;
mod tokenizer;
mod vision;
mod words;

use std::ops::RangeInclusive;

pub use generation::GenerationConfig;
pub use image::{Fit, ImageConfig};
pub use projector::{ProjectorConfig, ProjectorKind, Shuffle};
pub use prompt::{PromptConfig, Template};
pub use provenance::Provenance;
pub use self_test::{SELF_TEST_KEY, SelfTest, SelfTestRoom};
pub use tensors::{Role, TensorSpec};
pub use text::TextConfig;
pub use tokenizer::{TokenKind, TokenizerConfig};
pub use vision::{Activation, NormKind, QkNorm, VisionConfig};

use crate::error::{Error, Shown};
use crate::{Gguf, Metadata, Result, Strings};

words::words! {
    /// A part of the model that a file may have.
    pub enum Part {
        Vision = "vision",
        Projector = "projector",
        Text = "text",
    }
}

/// A whole model, or the half of one.
///
/// `vision` and `image` come together, and so do `text`, `tokenizer`, `prompt` and `generation`;
/// a projector needs the tower, and a model with both halves needs the projector.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    pub name: String,
    /// Which family of checkpoints this one belongs to: `internvl-chat-v1-1`.
    pub family: String,
    pub vision: Option<VisionConfig>,
    pub projector: Option<ProjectorConfig>,
    pub image: Option<ImageConfig>,
    pub text: Option<TextConfig>,
    pub tokenizer: Option<TokenizerConfig>,
    pub prompt: Option<PromptConfig>,
    pub generation: Option<GenerationConfig>,
    pub provenance: Provenance,
}

const ARCHITECTURE: &str = "general.architecture";
const OWLET: &str = "owlet";
const ALIGNMENT_KEY: &str = "general.alignment";
/// A cache line: what wide loads and the copies of a GPU like best.
const ALIGNMENT: u32 = 64;
const QUANTIZATION_VERSION: &str = "general.quantization_version";
const NAME: &str = "general.name";
const VERSION: &str = "owlet.version";
/// What this program writes, and all that it reads.
const CURRENT_VERSION: u32 = 1;
const FAMILY: &str = "owlet.family";
const PARTS: &str = "owlet.parts";

/// What the epsilon of a norm may be.
const EPS: RangeInclusive<f32> = 1e-12..=0.1;

impl ModelConfig {
    /// A model of which nothing is known but its family.
    pub fn of_family(family: &str) -> ModelConfig {
        ModelConfig {
            name: String::new(),
            family: family.to_string(),
            vision: None,
            projector: None,
            image: None,
            text: None,
            tokenizer: None,
            prompt: None,
            generation: None,
            provenance: Provenance::default(),
        }
    }

    /// What the keys of `file` say; its tensors are for [`ModelConfig::check`].
    ///
    /// # Errors
    /// Where the file is no owlet file or of a newer version, and where a key is missing, of another type, out of
    /// its range or contradicts another. The message names file and key.
    pub fn read(file: &Gguf) -> Result<Self> {
        Self::from_metadata(file.metadata())
    }

    /// The keys that say what this config says, in a fixed order.
    pub fn write(&self, metadata: &mut Metadata) {
        metadata.put(ARCHITECTURE, OWLET);
        metadata.put(NAME, self.name.as_str());
        metadata.put(ALIGNMENT_KEY, ALIGNMENT);
        metadata.put(QUANTIZATION_VERSION, 2u32);
        metadata.put(VERSION, CURRENT_VERSION);
        metadata.put(FAMILY, self.family.as_str());
        let parts: Strings = self.parts().map(Part::word).collect();
        metadata.put(PARTS, parts);
        self.provenance.write(metadata);
        if let Some(vision) = &self.vision {
            vision.write(metadata);
        }
        if let Some(projector) = &self.projector {
            projector.write(metadata);
        }
        if let Some(image) = &self.image {
            image.write(metadata);
        }
        if let Some(text) = &self.text {
            text.write(metadata);
        }
        if let Some(prompt) = &self.prompt {
            prompt.write(metadata);
        }
        if let Some(generation) = &self.generation {
            generation.write(metadata);
        }
        // last, because it is long
        if let Some(tokenizer) = &self.tokenizer {
            tokenizer.write(metadata);
        }
    }

    /// Whether a file of this config would be read: what the converter asks before it reads a weight.
    ///
    /// # Errors
    /// As [`ModelConfig::read`]; `label` stands for the file.
    pub fn validate(&self, label: &str) -> Result<()> {
        let mut metadata = Metadata::new(label);
        self.write(&mut metadata);
        if Self::from_metadata(&metadata)? != *self {
            let problem =
                "expected vision with image, text with tokenizer, prompt and generation, found others";
            return Err(metadata.wrong(PARTS, problem));
        }
        Ok(())
    }

    /// The parts that the model has.
    pub fn parts(&self) -> impl Iterator<Item = Part> {
        let has = |part: &Part| match part {
            Part::Vision => self.vision.is_some(),
            Part::Projector => self.projector.is_some(),
            Part::Text => self.text.is_some(),
        };
        Part::ALL.iter().copied().filter(has)
    }

    /// As [`ModelConfig::read`], of keys that are in no file yet.
    ///
    /// # Errors
    /// As there; messages call the file what the keys are labelled.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self> {
        check_kind(metadata)?;
        let parts = read_parts(metadata)?;
        let has = |part| parts.contains(&part);
        let vision = has(Part::Vision).then(|| VisionConfig::read(metadata)).transpose()?;
        let text = has(Part::Text).then(|| TextConfig::read(metadata)).transpose()?;
        let projector = vision.as_ref().filter(|_| has(Part::Projector));
        let projector = projector.map(|vision| ProjectorConfig::read(metadata, vision)).transpose()?;
        let image = vision.as_ref().map(|vision| ImageConfig::read(metadata, vision, projector.as_ref()));
        if let (Some(projector), Some(text)) = (&projector, &text) {
            projector.check_text(metadata, text)?;
        }
        let text_ref = text.as_ref();
        Ok(Self {
            name: metadata.str(NAME)?.to_owned(),
            family: metadata.str(FAMILY)?.to_owned(),
            image: image.transpose()?,
            tokenizer: text_ref.map(|text| TokenizerConfig::read(metadata, text)).transpose()?,
            prompt: text_ref.map(|text| PromptConfig::read(metadata, text)).transpose()?,
            generation: text_ref.map(|_| GenerationConfig::read(metadata)).transpose()?,
            provenance: Provenance::read(metadata)?,
            vision,
            projector,
            text,
        })
    }
}

/// Refuses what is no owlet file, or one of a version that is not known here.
fn check_kind(metadata: &Metadata) -> Result<()> {
    let architecture = metadata.str(ARCHITECTURE)?;
    if architecture != OWLET {
        let problem = format!("not an owlet file but one of {}: use `owlet convert`", Shown(architecture));
        return Err(Error::unsupported(metadata.label(), problem));
    }
    let version = metadata.u32(VERSION)?;
    if version > CURRENT_VERSION {
        let problem =
            format!("owlet file version {version}, this program reads {CURRENT_VERSION}: upgrade owlet");
        return Err(Error::unsupported(metadata.label(), problem));
    }
    metadata.u32_in(VERSION, CURRENT_VERSION..=CURRENT_VERSION)?;
    metadata.u32_in(ALIGNMENT_KEY, ALIGNMENT..=ALIGNMENT)?;
    Ok(())
}

fn read_parts(metadata: &Metadata) -> Result<Vec<Part>> {
    let words = metadata.strings(PARTS)?;
    let mut parts = Vec::new();
    for word in words.iter() {
        match Part::from_word(word) {
            Some(part) if !parts.contains(&part) => parts.push(part),
            _ => {
                let problem = format!("expected vision, projector or text once each, found {}", Shown(word));
                return Err(metadata.wrong(PARTS, problem));
            }
        }
    }
    let has = |part| parts.contains(&part);
    match (has(Part::Vision), has(Part::Projector), has(Part::Text)) {
        (true, true, _) | (true, false, false) | (false, false, true) => Ok(parts),
        (false, true, _) => Err(metadata.wrong(PARTS, "expected vision beside the projector, found none")),
        (true, false, true) => {
            Err(metadata.wrong(PARTS, "expected a projector between vision and text, found none"))
        }
        (false, false, false) => Err(metadata.wrong(PARTS, "expected vision or text, found neither")),
    }
}

/// The token id that `key` holds, inside of the vocabulary.
fn id_in(metadata: &Metadata, key: &str, text: &TextConfig) -> Result<u32> {
    let id = metadata.u32(key)?;
    check_id(metadata, key, id, text)?;
    Ok(id)
}

fn check_id(metadata: &Metadata, key: &str, id: u32, text: &TextConfig) -> Result<()> {
    match id < text.n_vocab {
        true => Ok(()),
        false => Err(metadata.wrong(key, format!("expected a token id below {}, found {id}", text.n_vocab))),
    }
}
