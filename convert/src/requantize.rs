//! A model file made of another one: its tensors in other types, everything else as it is.
//!
//! Blocks whose type stays are copied. What is quantized already is not quantized again unless that is asked for,
//! since each time loses more.

use std::fmt;
use std::path::{Path, PathBuf};

use ggml::{Cancel, DType};
use owlet_format::{Gguf, ModelConfig, Part, TensorSpec};

use crate::blocks::{Blocks, Moved, Piece};
use crate::checkpoint::SourceType;
use crate::checkpoint::file::SourceFile;
use crate::error::{Error, Result};
use crate::estimate::Estimate;
use crate::mixture::TypeChoice;
use crate::outline::{Outline, write_fallbacks, write_table};
use crate::recipe::{Chosen, Recipe};
use crate::report::Report;
use crate::rules::Rules;
use crate::run::Progress;
use crate::weighting::{Weighted, Weighting};

/// What the caller chooses. A part without a type, and no rule about it, stays as it is.
#[derive(Debug, Clone, Default)]
pub struct RequantizeOptions {
    pub text: Option<TypeChoice>,
    pub vision: Option<TypeChoice>,
    pub projector: Option<TypeChoice>,
    pub rules: Rules,
    pub importance: Option<Weighting>,
    /// Quantize again what is quantized.
    pub allow_requantize: bool,
    /// How long a file may be at most; one file without it.
    pub split_max_bytes: Option<u64>,
    /// Threads that quantize; every core without it.
    pub n_threads: Option<usize>,
}

/// A file that can be made.
#[derive(Debug)]
pub struct Requantize {
    pub(crate) blocks: Blocks,
    options: RequantizeOptions,
}

impl Requantize {
    /// Reads the header of the model file at `path` and plans.
    ///
    /// # Errors
    /// Where it is no model that owlet runs, for a rule without effect, and for a tensor that is quantized already.
    pub fn from_file(path: &Path, options: &RequantizeOptions) -> Result<Requantize> {
        let file = Gguf::open(path)?;
        let mut config = ModelConfig::read(&file)?;
        config.check(&file)?;
        let specs = config.tensors();
        let recipe = options.recipe();
        recipe.refuse_idle_rules(&specs)?;
        let sums = file.checksums()?;
        let mut tensors = Vec::with_capacity(specs.len());
        for spec in specs {
            let at = file.tensors().iter().position(|info| info.name == spec.name);
            // the check above has found every one of them
            let Some(at) = at else { continue };
            let info = &file.tensors()[at];
            let kept = Chosen::kept(info.dtype);
            let chosen = options.asked(&spec, &recipe, &config).unwrap_or(kept);
            let place = format!("{}: tensor {}", file.label(), spec.name);
            options.refuse_twice(&place, info.dtype, chosen.dtype, "--allow-requantize does so")?;
            // the file was opened from a path
            let (file, start) = file.place(info).unwrap_or_default();
            let (n_rows, n_bytes) = (info.shape.n_rows(), info.n_bytes);
            let (name, sum) = (info.name.clone(), Some(sums[at]));
            let piece = Piece { name, dtype: info.dtype, n_rows, n_bytes, file, start, sum };
            tensors.push(Moved { spec, chosen, pieces: vec![piece] });
        }
        if let Some(weighting) = &options.importance {
            weighting.refuse_other_norms(&file, &config)?;
        }
        let importance = options.weighted(&tensors)?;
        config.provenance.converter = format!("owlet {}", env!("CARGO_PKG_VERSION"));
        let lines = options.lines().chain(importance.line.clone()).map(|line| format!("then {line}"));
        config.provenance.recipe = config.provenance.recipe.iter().map(str::to_string).chain(lines).collect();
        let blocks = Blocks {
            config,
            sources: file.files().map(SourceFile::open).collect::<Result<_>>()?,
            states_sums: false,
            tensors,
            importance,
            split_max_bytes: options.split_max_bytes,
            n_threads: options.n_threads,
        };
        Ok(Requantize { blocks, options: options.clone() })
    }

    /// Writes the file, as [`Plan::run`](crate::Plan::run) does.
    ///
    /// # Errors
    /// As there; and where a tensor's bytes are not those that the file was written with.
    pub fn run(&self, out: &Path, progress: &mut dyn Progress, cancel: &Cancel) -> Result<Report> {
        self.blocks.run(out, progress, cancel)
    }

    /// What running it will take.
    pub fn estimate(&self) -> Estimate {
        Estimate::of(&self.blocks)
    }

    /// As [`Plan::files`](crate::Plan::files).
    ///
    /// # Errors
    /// As there.
    pub fn files(&self, out: &Path) -> Result<Vec<PathBuf>> {
        self.blocks.files(out)
    }
}

impl RequantizeOptions {
    /// What they say of types; what they say nothing of is not to be looked up there.
    pub(crate) fn recipe(&self) -> Recipe {
        let or_any = |choice: Option<TypeChoice>| choice.unwrap_or(TypeChoice::Plain(DType::F32));
        Recipe {
            text: or_any(self.text),
            vision: or_any(self.vision).plain(),
            projector: or_any(self.projector).plain(),
            rules: self.rules.clone(),
            has_importance: self.importance.is_some(),
        }
    }

    /// The type that `spec` is to have, if they say one.
    pub(crate) fn asked(&self, spec: &TensorSpec, recipe: &Recipe, config: &ModelConfig) -> Option<Chosen> {
        let says = self.of(spec.part).is_some() || self.rules.dtype(&spec.name).is_some();
        (says && Recipe::has_choice(spec)).then(|| recipe.choose(spec, SourceType::F32, config))
    }

    /// # Errors
    /// Where a tensor that is quantized would be quantized again and nobody insists; `way_out` says what to do about it.
    pub(crate) fn refuse_twice(&self, place: &str, found: DType, wanted: DType, way_out: &str) -> Result<()> {
        if wanted == found || !found.is_quantized() || self.allow_requantize {
            return Ok(());
        }
        let what = format!(
            "is {found} already: quantizing it once more, to {wanted}, adds to what was lost; {way_out}"
        );
        Err(Error::Request(format!("{place}: {what}")))
    }

    /// What an importance matrix says of `tensors`.
    ///
    /// # Errors
    /// Where it is that of another model.
    pub(crate) fn weighted(&self, tensors: &[Moved]) -> Result<Weighted> {
        match &self.importance {
            Some(weighting) => {
                weighting.of(tensors.iter().map(|moved| (&moved.spec, moved.chosen.dtype, None)))
            }
            None => Ok(Weighted::default()),
        }
    }

    fn of(&self, part: Part) -> Option<TypeChoice> {
        match part {
            Part::Text => self.text,
            Part::Vision => self.vision.map(TypeChoice::plain),
            Part::Projector => self.projector.map(TypeChoice::plain),
        }
    }

    /// The type asked for `part`.
    pub(crate) fn in_words(&self, part: Part) -> String {
        self.of(part).map_or("it is".to_string(), |choice| choice.to_string())
    }

    /// What provenance says of them.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        let parts = [Part::Text, Part::Vision, Part::Projector];
        let types =
            parts.into_iter().filter_map(|part| Some(format!("{} = {}", part.word(), self.of(part)?)));
        types.chain(self.rules.lines())
    }
}

/// What `--dry-run` prints.
impl fmt::Display for Requantize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Blocks { config, sources, importance, .. } = &self.blocks;
        let files = if sources.len() == 1 { "file" } else { "files" };
        writeln!(f, "{}: {} from {} {files} of a model", config.name, config.family, sources.len())?;
        writeln!(f)?;
        let lines = self.blocks.lines();
        write_table(f, &lines, &|part| self.options.in_words(part))?;
        for line in self.options.rules.lines().chain(importance.line.clone()) {
            writeln!(f, "{line}")?;
        }
        if let Some(note) = &importance.note {
            writeln!(f, "note: {note}")?;
        }
        write_fallbacks(f, &lines)
    }
}
