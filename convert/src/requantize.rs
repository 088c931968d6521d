//! A model file made of another one: its tensors in other types, everything else as it is.
//!
//! Blocks whose type stays are copied. What is quantized already is not quantized again unless that is asked for,
//! since each time loses more.

use std::fmt;
use std::path::{Path, PathBuf};

use ggml::Cancel;
use owlet_format::{Gguf, ModelConfig, Part, Strings, TensorInfo, TensorPlan, TensorSpec};
use sha2::{Digest, Sha256 as Sum};

use crate::checkpoint::file::SourceFile;
use crate::checkpoint::{Sha256, SourceType};
use crate::error::{Error, Result};
use crate::job::{self, Chunk, Job};
use crate::mixture::TypeChoice;
use crate::outline::{Line, Outline, write_fallbacks, write_table};
use crate::recipe::{Chosen, Recipe};
use crate::report::Report;
use crate::rows::CHUNK_BYTES;
use crate::rules::Rules;
use crate::run::{Progress, files_of, report};
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
    config: ModelConfig,
    /// One file, or several.
    sources: Vec<SourceFile>,
    /// The tensors of the source, in the order of the file to be.
    tensors: Vec<Stored>,
    /// What they become.
    plan: Vec<TensorPlan>,
    importance: Weighted,
    /// The type asked for each part that does not stay.
    types: Vec<(Part, TypeChoice)>,
    rules: Rules,
    split_max_bytes: Option<u64>,
    n_threads: Option<usize>,
}

/// A tensor as the source has it.
#[derive(Debug)]
struct Stored {
    spec: TensorSpec,
    info: TensorInfo,
    chosen: Chosen,
    /// The SHA-256 that the source states.
    sum: [u8; 32],
    /// Which of the source's files has it, and at which byte.
    file: usize,
    start: u64,
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
        let or_any = |choice: Option<TypeChoice>| choice.unwrap_or(TypeChoice::Plain(ggml::DType::F32));
        let recipe = Recipe {
            text: or_any(options.text),
            vision: or_any(options.vision).plain(),
            projector: or_any(options.projector).plain(),
            rules: options.rules.clone(),
            has_importance: options.importance.is_some(),
        };
        recipe.refuse_idle_rules(&specs)?;
        let sums = file.checksums()?;
        let mut tensors = Vec::with_capacity(specs.len());
        let mut plan = Vec::with_capacity(specs.len());
        for spec in specs {
            let at = file.tensors().iter().position(|info| info.name == spec.name);
            // the check above has found every one of them
            let Some(at) = at else { continue };
            let info = file.tensors()[at].clone();
            let chosen = match options.of(spec.part).is_some() || options.rules.dtype(&spec.name).is_some() {
                true if Recipe::has_choice(&spec) => recipe.choose(&spec, SourceType::F32, &config),
                _ => Chosen { dtype: info.dtype, instead_of: None },
            };
            let dtype = chosen.dtype;
            if dtype != info.dtype && info.dtype.is_quantized() && !options.allow_requantize {
                let what = format!(
                    "{} already: quantizing it once more, to {dtype}, adds to what was lost; --allow-requantize does so",
                    info.dtype
                );
                return Err(Error::Request(format!("{}: tensor {}: is {what}", file.label(), spec.name)));
            }
            plan.push(TensorPlan { name: spec.name.clone(), dtype, shape: spec.ne });
            // the file was opened from a path
            let (file, start) = file.place(&info).unwrap_or_default();
            tensors.push(Stored { spec, info, chosen, sum: sums[at], file, start });
        }
        let importance = match &options.importance {
            Some(weighting) => {
                weighting.refuse_other_norms(&file, &config)?;
                let pairs = tensors.iter().zip(&plan);
                weighting.of(pairs.map(|(stored, plan)| (&stored.spec, plan.dtype, None)))?
            }
            None => Weighted::default(),
        };
        config.provenance.converter = format!("owlet {}", env!("CARGO_PKG_VERSION"));
        config.provenance.recipe =
            config.provenance.recipe.iter().map(str::to_string).chain(options.lines()).collect();
        let line = importance.line.iter().map(|line| format!("then {line}"));
        config.provenance.recipe = config.provenance.recipe.iter().map(str::to_string).chain(line).collect();
        Ok(Requantize {
            config,
            sources: file.files().map(SourceFile::open).collect::<Result<_>>()?,
            tensors,
            plan,
            importance,
            rules: options.rules.clone(),
            types: Part::ALL.iter().filter_map(|part| Some((*part, options.of(*part)?))).collect(),
            split_max_bytes: options.split_max_bytes,
            n_threads: options.n_threads,
        })
    }

    /// Writes the file, as [`Plan::run`](crate::Plan::run) does.
    ///
    /// # Errors
    /// As there; and where a tensor's bytes are not those that the file was written with.
    pub fn run(&self, out: &Path, progress: &mut dyn Progress, cancel: &Cancel) -> Result<Report> {
        report(self, out, progress, cancel)
    }

    /// As [`Plan::files`](crate::Plan::files).
    ///
    /// # Errors
    /// As there.
    pub fn files(&self, out: &Path) -> Result<Vec<PathBuf>> {
        files_of(self, out)
    }
}

impl RequantizeOptions {
    fn of(&self, part: Part) -> Option<TypeChoice> {
        match part {
            Part::Text => self.text,
            Part::Vision => self.vision.map(TypeChoice::plain),
            Part::Projector => self.projector.map(TypeChoice::plain),
        }
    }

    /// What provenance says of it, behind what it says of the source.
    fn lines(&self) -> impl Iterator<Item = String> {
        let parts = [Part::Text, Part::Vision, Part::Projector];
        let types =
            parts.into_iter().filter_map(|part| Some(format!("then {} = {}", part.word(), self.of(part)?)));
        types.chain(self.rules.lines().map(|line| format!("then {line}")))
    }
}

impl Job for Requantize {
    fn config(&self, _: Strings) -> ModelConfig {
        self.config.clone()
    }

    fn tensors(&self) -> Vec<TensorPlan> {
        self.plan.clone()
    }

    fn split_max_bytes(&self) -> Option<u64> {
        self.split_max_bytes
    }

    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.tensors.len()).collect();
        order.sort_by_key(|index| self.tensors[*index].info.offset);
        order
    }

    fn n_source_bytes(&self, index: usize) -> u64 {
        self.tensors[index].info.n_bytes
    }

    /// A tensor that is read from its first row on is compared with its SHA-256.
    fn read(&self, index: usize, first: u64, take: &mut dyn FnMut(Chunk) -> bool) -> Result<()> {
        let Stored { info, sum: expected, file, start, .. } = &self.tensors[index];
        let n_rows = info.shape.n_rows();
        let row_bytes = info.n_bytes / n_rows;
        let rows_per_chunk = (CHUNK_BYTES / row_bytes).clamp(1, n_rows);
        let mut sum = Sum::new();
        let mut row = first;
        while row < n_rows {
            let n = rows_per_chunk.min(n_rows - row);
            let mut bytes = vec![0; (n * row_bytes) as usize];
            self.sources[*file].read_at(start + row * row_bytes, &mut bytes)?;
            sum.update(&bytes);
            let is_last = row + n == n_rows;
            if is_last && first == 0 && <[u8; 32]>::from(sum.clone().finalize()) != *expected {
                return Err(Error::format(
                    self.place(index),
                    "expected the bytes that were written, found others",
                ));
            }
            let stored = job::Stored::Blocks(info.dtype);
            if !take(Chunk {
                tensor: index,
                row,
                stored,
                bytes,
                factors: None,
                n_source_bytes: n * row_bytes,
            }) {
                return Ok(());
            }
            row += n;
        }
        Ok(())
    }

    fn place(&self, index: usize) -> String {
        let Stored { info, file, .. } = &self.tensors[index];
        format!("{}: tensor {}", self.sources[*file].label(), info.name)
    }

    fn start(&self, _: usize, _: u64) -> Option<(usize, u64)> {
        None
    }

    fn hashed(&self) -> &[SourceFile] {
        &[]
    }

    fn n_read(&self) -> u64 {
        self.sources.iter().map(SourceFile::n_read).sum()
    }

    fn identify(&self, id: &mut Sha256) {
        for source in &self.sources {
            id.update(format!("{} {}\n", source.n_bytes(), source.state()).as_bytes());
        }
        for Stored { info, sum, .. } in &self.tensors {
            id.update(format!("{info:?}\n").as_bytes());
            id.update(sum);
        }
    }

    fn importance(&self, index: usize) -> Option<&[f32]> {
        self.importance.rows.get(index)?.as_deref()
    }

    fn n_threads(&self) -> Option<usize> {
        self.n_threads
    }
}

impl Outline for Requantize {
    fn lines(&self) -> Vec<Line> {
        let line = |stored: &Stored| {
            let Stored { spec, info, chosen, .. } = stored;
            let is_copied = chosen.dtype == info.dtype;
            let row_bytes = info.n_bytes / info.shape.n_rows();
            Line {
                spec: spec.clone(),
                from: info.dtype.to_string(),
                to: *chosen,
                // the plan was made of types that hold its rows
                n_bytes: spec.ne.n_bytes(chosen.dtype).unwrap_or(0),
                remarks: is_copied.then(|| "copied".to_string()).into_iter().collect(),
                is_copied,
                chunk_bytes: CHUNK_BYTES.max(row_bytes),
            }
        };
        self.tensors.iter().map(line).collect()
    }
}

/// What `--dry-run` prints.
impl fmt::Display for Requantize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n_files = self.sources.len();
        let files = if n_files == 1 { "file" } else { "files" };
        writeln!(f, "{}: {} from {n_files} {files} of a model", self.config.name, self.config.family)?;
        writeln!(f)?;
        let lines = self.lines();
        let choice = |part| self.types.iter().find(|(of, _)| *of == part).map(|(_, choice)| choice);
        let in_words = |part| choice(part).map_or("it is".to_string(), ToString::to_string);
        write_table(f, &lines, &in_words)?;
        for line in self.rules.lines().chain(self.importance.line.clone()) {
            writeln!(f, "{line}")?;
        }
        if let Some(note) = &self.importance.note {
            writeln!(f, "note: {note}")?;
        }
        write_fallbacks(f, &lines)
    }
}
