//! What a conversion will do, before it does it: each tensor's source, shape, type and bytes. Pure and printable.
//!
//! In: a checkpoint directory and the options. Everything that can be known without reading a matrix is checked
//! here, so that a run fails early or not at all.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use ggml::DType;
use owlet_format::{ModelConfig, Part, Provenance, Strings, TensorSpec};

use crate::checkpoint::{Checkpoint, WeightFormat, shape_text};
use crate::error::{Error, Result};
use crate::family::{self, Skipped, Source, Transform};
use crate::fold::{self, fold_outliers};
use crate::hf::ConfigFiles;
use crate::input::Input;
use crate::mixture::{Size, TypeChoice};
use crate::outline::{Line, Outline, write_fallbacks, write_table};
use crate::planned::PlannedTensor;
use crate::recipe::Recipe;
use crate::rules::Rules;
use crate::weighting::{Weighted, Weighting};

/// A row is the unit that is read, converted and quantized at once.
const ROW_ELEMENTS_MAX: u64 = 1 << 22;
/// A position table is resized as a whole; the largest known one has 3.3 million elements.
const GRID_ELEMENTS_MAX: u64 = 1 << 25;

/// What the caller chooses.
#[derive(Debug, Clone)]
pub struct Options {
    /// The model's name; the directory's own without it.
    pub name: Option<String>,
    pub text: TypeChoice,
    pub vision: TypeChoice,
    /// As `vision` without it.
    pub projector: Option<TypeChoice>,
    /// Types of single tensors, before those of the parts.
    pub rules: Rules,
    pub importance: Option<Weighting>,
    /// The vision tower, for families whose checkpoints lack it.
    pub vision_tower: Option<Input>,
    /// `--set key=value`, see [`crate::settings_help`].
    pub set: Vec<(String, String)>,
    /// How long a file may be at most; one file without it.
    pub split_max_bytes: Option<u64>,
    /// Threads that quantize; every core without it.
    pub n_threads: Option<usize>,
}

impl Default for Options {
    /// The text half at 4 bits, the tower at 8: its authors warn that 4 bits harm it.
    fn default() -> Options {
        Options {
            name: None,
            text: TypeChoice::Mixture(DType::Q4_K, Size::Medium),
            vision: TypeChoice::Plain(DType::Q8_0),
            projector: None,
            rules: Rules::default(),
            importance: None,
            vision_tower: None,
            set: Vec::new(),
            split_max_bytes: None,
            n_threads: None,
        }
    }
}

/// A conversion that can run. `Display` is what `--dry-run` prints.
#[derive(Debug)]
pub struct Plan {
    pub config: ModelConfig,
    pub tensors: Vec<PlannedTensor>,
    pub skipped: Vec<Skipped>,
    pub notes: Vec<String>,
    pub recipe: Recipe,
    pub(crate) importance: Weighted,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) split_max_bytes: Option<u64>,
    pub(crate) n_threads: Option<usize>,
}

impl Plan {
    /// Reads configuration and headers of the checkpoint in `dir` and plans its conversion.
    ///
    /// # Errors
    /// For everything that is missing, surplus, of another shape, unknown or contradicts itself; the text names
    /// file, tensor, expected and found.
    pub fn from_dir(dir: &Path, options: &Options) -> Result<Plan> {
        Plan::of(&Input::of_dir(dir), options)
    }

    /// The same of an input that may lie elsewhere.
    ///
    /// # Errors
    /// As [`Plan::from_dir`], and where what is elsewhere can't be reached.
    pub fn of(input: &Input, options: &Options) -> Result<Plan> {
        let mut files = ConfigFiles::read(&input.dir)?;
        let mut checkpoint = Checkpoint::open_known(&input.dir, &input.known)?;
        let tower = options.vision_tower.as_ref();
        let mut reading = family::read(&mut files, &options.set, tower, &mut checkpoint)?;
        let recipe = Recipe {
            text: options.text,
            vision: options.vision.plain(),
            projector: options.projector.unwrap_or(options.vision).plain(),
            rules: options.rules.clone(),
            has_importance: options.importance.is_some(),
        };
        let origin = input.origin.clone();
        reading.config.name = options.name.clone().unwrap_or_else(|| origin.name.clone());
        let tower = tower.map(|tower| format!("vision tower {}", tower.origin));
        // no time, so that equal input gives equal bytes
        reading.config.provenance = Provenance {
            source: origin.name,
            revision: origin.revision,
            // their sums are known when all of them were read
            shards: Strings::default(),
            converter: format!("owlet {}", env!("CARGO_PKG_VERSION")),
            recipe: recipe
                .lines()
                .chain(tower)
                .chain(files.set.iter().map(|line| format!("set {line}")))
                .collect(),
            assumed: reading.assumed.iter().collect(),
        };

        let specs = reading.config.tensors();
        recipe.refuse_idle_rules(&specs)?;
        let mut tensors = Vec::with_capacity(specs.len());
        for (spec, source) in specs.into_iter().zip(reading.sources) {
            tensors.push(plan_tensor(&checkpoint, &recipe, &reading.config, spec, source)?);
        }
        refuse_surplus(&checkpoint, &tensors, &reading.skipped)?;
        fold_outliers(&checkpoint, &mut tensors)?;
        let importance = match &options.importance {
            Some(weighting) => {
                weighting.of(tensors.iter().map(|t| (&t.spec, t.chosen.dtype, t.fold.as_ref())))?
            }
            None => Weighted::default(),
        };
        let provenance = &mut reading.config.provenance;
        let folded = fold::line(&tensors);
        let more = folded.iter().chain(&importance.line).map(String::as_str);
        provenance.recipe = provenance.recipe.iter().chain(more).collect();
        reading.notes.extend(importance.note.clone());
        Ok(Plan {
            config: reading.config,
            tensors,
            skipped: reading.skipped,
            notes: reading.notes,
            recipe,
            importance,
            checkpoint,
            split_max_bytes: options.split_max_bytes,
            n_threads: options.n_threads,
        })
    }
}

fn plan_tensor(
    checkpoint: &Checkpoint,
    recipe: &Recipe,
    config: &ModelConfig,
    spec: TensorSpec,
    source: Source,
) -> Result<PlannedTensor> {
    let place = checkpoint.place(&source.name);
    let Some(found) = checkpoint.tensors.get(&source.name) else {
        let what =
            format!("expected shape {} for {}, found no such tensor", shape_text(&source.shape), spec.name);
        return Err(Error::format(place, what));
    };
    if found.shape != source.shape {
        let what =
            format!("expected shape {}, found {}", shape_text(&source.shape), shape_text(&found.shape));
        return Err(Error::format(place, what));
    }
    if !found.dtype.is_float() {
        let what = format!("expected weights of f64, f32, f16 or bf16, found {}", found.dtype);
        return Err(Error::unsupported(place, what));
    }
    let n_per_row = spec.ne.padded()[0];
    if n_per_row > ROW_ELEMENTS_MAX {
        return Err(Error::limit(place, format!("rows of {n_per_row} elements"), ROW_ELEMENTS_MAX));
    }
    if matches!(source.transform, Transform::ResizeGrid { .. })
        && found.n_elements().max(spec.ne.n_elements()) > GRID_ELEMENTS_MAX
    {
        return Err(Error::limit(place, "a position table of elements", GRID_ELEMENTS_MAX));
    }
    checkpoint.check_rows(&source.name, found, n_per_row)?;
    let chosen = recipe.choose(&spec, found.dtype, config);
    let n_bytes = spec.ne.n_bytes(chosen.dtype);
    let n_bytes =
        n_bytes.ok_or_else(|| Error::format(&place, format!("{} can't be {}", spec.ne, chosen.dtype)))?;
    Ok(PlannedTensor { source_type: found.dtype, spec, source, chosen, fold: None, n_bytes })
}

/// Every tensor of the checkpoint is used, or skipped for a reason.
fn refuse_surplus(checkpoint: &Checkpoint, tensors: &[PlannedTensor], skipped: &[Skipped]) -> Result<()> {
    let mut known: HashSet<&str> = tensors.iter().map(|t| t.source.name.as_str()).collect();
    known.extend(skipped.iter().flat_map(|group| &group.names).map(String::as_str));
    match checkpoint.tensors.iter().find(|(name, _)| !known.contains(name.as_str())) {
        None => Ok(()),
        Some((name, tensor)) => {
            let what = format!("expected no such tensor, found shape {}", shape_text(&tensor.shape));
            Err(Error::format(checkpoint.place(name), what))
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = match self.checkpoint.format {
            WeightFormat::Safetensors => "safetensors",
            WeightFormat::Torch => "torch",
        };
        let n_files = self.checkpoint.n_own_files();
        let files = if n_files == 1 { "file" } else { "files" };
        writeln!(f, "{}: {} from {n_files} {format} {files}", self.config.name, self.config.family)?;
        writeln!(f)?;
        let lines = self.lines();
        write_table(f, &lines, &|part| self.recipe.of(part).to_string())?;
        self.write_remarks(f, &lines)
    }
}

impl Plan {
    fn write_remarks(&self, f: &mut fmt::Formatter<'_>, lines: &[Line]) -> fmt::Result {
        let provenance = &self.config.provenance;
        for line in provenance.recipe.iter().skip(Part::ALL.len()) {
            writeln!(f, "{line}")?;
        }
        for line in provenance.assumed.iter() {
            writeln!(f, "assumed {line}")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        write_fallbacks(f, lines)?;
        for group in &self.skipped {
            writeln!(f, "skipped, {}: {}", group.reason, group.names.join(", "))?;
        }
        Ok(())
    }
}
