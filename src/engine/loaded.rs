//! A model file, opened and checked: what it says, its network, its tokenizer.

use super::builtin;
use super::image_cache::Shape;
use super::setup::Setup;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::prompt::Tokenizer;
use owlet_format::{GenerationConfig, Gguf, ModelConfig, Pages, Part, PromptConfig, TextConfig};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::path::Path;

/// Everything read-only about a model that can answer. Cloning shares it.
#[derive(Clone)]
pub struct Loaded {
    pub config: ModelConfig,
    pub text: TextConfig,
    pub prompt: PromptConfig,
    pub generation: GenerationConfig,
    pub tokenizer: Tokenizer,
    pub eos_id: u32,
    pub model: Model,
    /// What pictures need of the file, and words do not.
    pub vision_pages: Pages,
    /// Of the file, or of all of several.
    pub n_file_bytes: u64,
    /// [`Gguf::identity`]
    pub digest: [u8; 32],
    /// SHA-256 of `digest` and of what computes: what the bits of an embedding depend on besides its picture.
    pub encoder_digest: [u8; 32],
}

impl Loaded {
    /// Opens the model at `path`, or the built-in one.
    ///
    /// # Errors
    /// `Io`, `Format`, `Unsupported` by what is wrong with the file; `Unsupported` where it has no text half.
    pub fn open(path: Option<&Path>, n_threads: usize) -> Result<Loaded> {
        Loaded::open_with(path, &Setup::cpu(n_threads))
    }

    /// The same as `setup` says.
    ///
    /// # Errors
    /// As [`Loaded::open`]; `Unsupported` where this machine cannot do it; `Backend` where a device has no room.
    pub fn open_with(path: Option<&Path>, setup: &Setup) -> Result<Loaded> {
        Loaded::from_file(&open_file(path)?, setup)
    }

    /// The model in `file`; its tensors are used where they lie.
    ///
    /// # Errors
    /// As [`Loaded::open_with`].
    pub fn from_file(file: &Gguf, setup: &Setup) -> Result<Loaded> {
        let config = ModelConfig::read(file)?;
        let lacking = || {
            Error::unsupported(
                file.label(),
                "this model has no text half, so it cannot answer; owlet embed writes what its tower sees",
            )
        };
        let (text, prompt) =
            (config.text.clone().ok_or_else(lacking)?, config.prompt.clone().ok_or_else(lacking)?);
        let generation = config.generation.clone().ok_or_else(lacking)?;
        let vocabulary = config.tokenizer.as_ref().ok_or_else(lacking)?;
        let tokenizer = Tokenizer::new(vocabulary)?;
        let model = setup.load(file, &config)?;
        let vision_pages = vision_pages(file, &config);
        let eos_id = vocabulary.eos_id;
        let digest = file.identity();
        let encoder_digest = encoder_digest(&digest, &model);
        Ok(Loaded {
            config,
            text,
            prompt,
            generation,
            tokenizer,
            eos_id,
            model,
            vision_pages,
            n_file_bytes: file.bytes().len() as u64,
            digest,
            encoder_digest,
        })
    }

    /// Positions that a picture takes, where the model takes pictures.
    pub fn n_image_tokens(&self) -> Option<usize> {
        self.config.image.as_ref().map(|image| image.n_tokens as usize)
    }

    /// What every embedding of a picture has.
    pub fn embedding_shape(&self) -> Shape {
        Shape { n_embd: self.text.n_embd, n_tokens: self.n_image_tokens().unwrap_or(0) as u32 }
    }
}

/// The model file at `path`, or the one that is built in.
///
/// # Errors
/// `Io`, `Format`, `Unsupported` by what is wrong with it.
pub fn open_file(path: Option<&Path>) -> Result<Gguf> {
    match path {
        Some(path) => Ok(Gguf::open(path)?),
        None => builtin::open(),
    }
}

fn vision_pages(file: &Gguf, config: &ModelConfig) -> Pages {
    let of_vision = |part| matches!(part, Part::Vision | Part::Projector);
    let names: HashSet<String> =
        config.tensors().into_iter().filter(|spec| of_vision(spec.part)).map(|spec| spec.name).collect();
    file.pages(|name| names.contains(name))
}

/// Another program may round otherwise, or correct a mistake.
fn encoder_digest(model_digest: &[u8; 32], model: &Model) -> [u8; 32] {
    let program =
        [env!("CARGO_PKG_VERSION"), option_env!("OWLET_REVISION").unwrap_or_default(), &model.arithmetic()];
    let mut hash = Sha256::new_with_prefix(model_digest);
    program.iter().for_each(|part| hash.update([part.as_bytes(), &[0]].concat()));
    hash.finalize().into()
}
