//! What a bench measures: a model from a file, the built-in one, or one of random weights, loaded and ready.

use std::collections::BTreeMap;
use std::path::Path;

use ggml::DType;
use owlet_format::{Gguf, ModelConfig, Part, Role};

use super::report::ModelFacts;
use super::synthetic::Synthetic;
use super::watch::Watch;
use super::work::Typed;
use super::{available, bytes_in_words};
use crate::engine::{self, Setup};
use crate::error::{Error, Result};
use crate::model::Model;

/// Where a model to be measured comes from.
pub enum Source<'a> {
    /// A file, or the built-in model.
    File(Option<&'a Path>),
    /// Random weights; `full` is the model at its full depth, where `model` has fewer layers.
    Random { model: Box<Synthetic>, full: Option<Box<Synthetic>> },
}

/// A model, loaded, and what is known about it.
pub(super) struct Subject<'a> {
    source: &'a Source<'a>,
    file: Gguf,
    pub config: ModelConfig,
    pub tensors: Vec<Typed>,
    pub model: Model,
}

impl<'a> Subject<'a> {
    /// Opens or makes the model; `n_spare_bytes` is what running it will take beside the weights.
    ///
    /// # Errors
    /// What is wrong with the file; `Backend` where memory is too small for random weights; `Cancelled`.
    pub fn load(
        source: &'a Source<'a>,
        setup: &Setup,
        n_spare_bytes: impl Fn(&ModelConfig) -> u64,
        watch: &mut Watch,
    ) -> Result<Subject<'a>> {
        let file = match source {
            Source::File(path) => engine::open_file(*path)?,
            Source::Random { model, .. } => {
                check_memory(model.n_bytes()?, n_spare_bytes(model.config()))?;
                let tell = |done: u64, of: u64| (watch.progress)("drawing weights", done >> 20, of >> 20);
                model.in_memory(watch.cancel, tell)?
            }
        };
        let config = ModelConfig::read(&file)?;
        let model = setup.load(&file, &config)?;
        let tensors = typed(&config, &file);
        Ok(Subject { source, file, config, tensors, model })
    }

    /// The file, opened once more, as the start of a program does.
    ///
    /// # Errors
    /// As the first time.
    pub fn reopen(&self) -> Result<Gguf> {
        match self.source {
            Source::File(path) => engine::open_file(*path),
            Source::Random { .. } => Ok(Gguf::from_bytes(self.file.bytes(), self.file.label())?),
        }
    }

    /// The same model at its full depth, where this one has fewer layers.
    pub fn full(&self) -> Option<&Synthetic> {
        match self.source {
            Source::File(_) => None,
            Source::Random { full, .. } => full.as_deref(),
        }
    }

    pub fn facts(&self) -> ModelFacts {
        facts(&self.file, &self.config, &self.tensors)
    }

    /// The types of a part's matrices, the one with most bytes first: `q4_k+q6_k`.
    pub fn types(&self, part: Part) -> String {
        types(&self.tensors, part)
    }
}

/// The tensors that `config` implies with the types that they have in `file`, which was checked.
pub(super) fn typed(config: &ModelConfig, file: &Gguf) -> Vec<Typed> {
    let typed = |spec: owlet_format::TensorSpec| {
        let dtype = file.tensor(&spec.name)?.dtype;
        Some((spec, dtype))
    };
    config.tensors().into_iter().filter_map(typed).collect()
}

/// What reports know a model by.
pub(super) fn facts(file: &Gguf, config: &ModelConfig, tensors: &[Typed]) -> ModelFacts {
    ModelFacts {
        name: config.name.clone(),
        family: config.family.clone(),
        n_bytes: file.bytes().len() as u64,
        n_parameters: tensors.iter().map(|(spec, _)| spec.ne.n_elements()).sum(),
        vision_layers: config.vision.as_ref().map(|vision| vision.n_layer),
        text_layers: config.text.as_ref().map(|text| text.n_layer),
    }
}

fn types(tensors: &[Typed], part: Part) -> String {
    let mut n_bytes: BTreeMap<DType, u64> = BTreeMap::new();
    for (spec, dtype) in tensors {
        if spec.part == part && matches!(spec.role, Role::Matrix | Role::Output) {
            *n_bytes.entry(*dtype).or_default() += spec.ne.n_bytes(*dtype).unwrap_or(0);
        }
    }
    let all: u64 = n_bytes.values().sum();
    // What is less than a hundredth of the bytes says nothing about the time.
    let mut most: Vec<_> = n_bytes.into_iter().filter(|(_, n)| n * 100 >= all).collect();
    most.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    most.iter().map(|(dtype, _)| dtype.name()).collect::<Vec<_>>().join("+")
}

fn check_memory(n_weight_bytes: u64, n_spare_bytes: u64) -> Result<()> {
    let needed = n_weight_bytes.saturating_add(n_spare_bytes);
    match available() {
        Some(available) if available < needed => Err(Error::Backend(format!(
            "random weights: {} of memory are needed ({needed} bytes), {} are available; fewer layers need less",
            bytes_in_words(needed),
            bytes_in_words(available)
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use owlet_format::{Shape, TensorSpec};

    use super::*;

    #[test]
    fn types_are_named_by_their_weight() {
        let tensor = |part, role, n: u64, dtype| {
            (TensorSpec { name: "t".into(), ne: Shape::new(&[256, n]).unwrap(), part, role }, dtype)
        };
        let tensors = [
            tensor(Part::Text, Role::Matrix, 1000, DType::Q6_K),
            tensor(Part::Text, Role::Matrix, 3000, DType::Q4_K),
            tensor(Part::Text, Role::Output, 10, DType::Q8_0),
            tensor(Part::Text, Role::Embedding, 9000, DType::F16),
            tensor(Part::Vision, Role::Matrix, 5, DType::Q5_1),
        ];
        assert_eq!(types(&tensors, Part::Text), "q4_k+q6_k");
        assert_eq!(types(&tensors, Part::Vision), "q5_1");
        assert_eq!(types(&tensors, Part::Projector), "");
    }

    #[test]
    fn too_much_is_refused_with_what_is_needed() {
        assert!(check_memory(0, 0).is_ok());
        if available().is_none() {
            println!("not run: this system does not say what memory is available");
            return;
        }
        let error = check_memory(1 << 60, 1 << 60).unwrap_err().to_string();
        let start = "random weights: 2305843009.21 GB of memory are needed (2305843009213693952 bytes), ";
        assert!(error.starts_with(start) && error.ends_with("available; fewer layers need less"), "{error}");
    }
}
