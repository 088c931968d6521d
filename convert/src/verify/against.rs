//! A file beside its source: the checkpoint goes through the same transforms once more, and every row is compared with
//! what the file has of it.

use ggml::quantize::dequantize;
use ggml::{Cancel, DType};
use owlet_format::{Gguf, ModelConfig, Provenance, Strings};
use rayon::prelude::*;

use super::bounds::bound;
use super::{Comparison, Deviation, SourceDirs};
use crate::checkpoint::Sha256;
use crate::error::{Error, Result};
use crate::input::Input;
use crate::job::{Chunk, Job};
use crate::plan::{Options, Plan};
use crate::read_ahead::read_ahead;
use crate::run::{Progress, pool, shards};

/// How the checkpoint `source` becomes the tensors of `file`.
///
/// # Errors
/// Where it doesn't: it is another model, or was converted with other settings.
pub fn plan(
    source: &SourceDirs,
    config: &ModelConfig,
    file: &Gguf,
    n_threads: Option<usize>,
) -> Result<Plan> {
    let set = config.provenance.recipe.iter().filter_map(|line| line.strip_prefix("set ")?.split_once(" = "));
    let options = Options {
        name: Some(config.name.clone()),
        set: set.map(|(key, value)| (key.to_string(), value.to_string())).collect(),
        vision_tower: source.vision_tower.map(Input::of_dir),
        n_threads,
        ..Options::default()
    };
    let dir = source.dir;
    let plan = Plan::from_dir(dir, &options)?;
    let but_for_the_origin = |config: &ModelConfig| {
        let mut metadata = owlet_format::Metadata::new("");
        ModelConfig { provenance: Provenance::default(), ..config.clone() }.write(&mut metadata);
        metadata
    };
    let (found, expected) = (but_for_the_origin(config), but_for_the_origin(&plan.config));
    let keys = found.iter().map(|(key, _)| key).chain(expected.iter().map(|(key, _)| key));
    if let Some(key) = keys.into_iter().find(|key| found.get(key) != expected.get(key)) {
        let what = format!("key {key}: expected what {} says, found something else", dir.display());
        return Err(Error::format(file.label(), what));
    }
    Ok(plan)
}

/// Streams the checkpoint once and compares.
pub fn compare(
    plan: &Plan,
    config: &ModelConfig,
    file: &Gguf,
    progress: &mut dyn Progress,
    cancel: &Cancel,
) -> Result<Comparison> {
    let pool = pool(plan.n_threads())?;
    plan.hashed().iter().for_each(|shard| shard.hash_from(Sha256::default()));
    let mut sums = vec![Sums::default(); plan.tensors.len()];
    read_ahead(plan, &plan.order(), 0, cancel, |chunk| {
        let Some(chunk) = chunk else { return Ok(()) };
        let name = &plan.tensors[chunk.tensor].spec.name;
        let sum = pool.install(|| difference(&chunk, name, file))?;
        sums[chunk.tensor].add(&sum);
        progress.advance(name, chunk.n_source_bytes);
        Ok(())
    })?;
    let deviation = |(tensor, sums): (&crate::PlannedTensor, &Sums)| {
        let dtype = file.tensor(&tensor.spec.name).map_or(DType::F32, |info| info.dtype);
        Deviation {
            tensor: tensor.spec.name.clone(),
            dtype: dtype.name(),
            relative_rms: sums.relative_rms(),
            max_abs: sums.max_abs,
            bound: bound(dtype),
        }
    };
    Ok(Comparison {
        dir: plan.checkpoint.dir.display().to_string(),
        same_files: same_files(plan, &config.provenance.shards),
        tensors: plan.tensors.iter().zip(&sums).map(deviation).collect(),
    })
}

/// Whether the files that were just read are those that the model file names.
fn same_files(plan: &Plan, named: &Strings) -> Option<bool> {
    if named.is_empty() {
        return None;
    }
    let sums = plan.hashed().iter().map(|shard| shard.hash_so_far().unwrap_or_default().finish());
    Some(shards(plan.hashed(), &sums.collect::<Vec<_>>()) == *named)
}

/// Sums over numbers of a tensor; f64, and added in the order of the rows, so that they come out alike every time.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    /// Of the squares of the source.
    source: f64,
    /// Of the squares of the differences.
    difference: f64,
    max_abs: f64,
}

impl Sums {
    fn of(source: &[f32], stored: &[f32]) -> Sums {
        let mut sums = Sums::default();
        for (source, stored) in source.iter().zip(stored) {
            let (source, stored) = (f64::from(*source), f64::from(*stored));
            let difference = source - stored;
            sums.source += source * source;
            sums.difference += difference * difference;
            sums.max_abs = larger(sums.max_abs, difference.abs());
        }
        sums
    }

    fn add(&mut self, other: &Sums) {
        self.source += other.source;
        self.difference += other.difference;
        self.max_abs = larger(self.max_abs, other.max_abs);
    }

    fn relative_rms(&self) -> f64 {
        if self.difference == 0.0 { 0.0 } else { (self.difference / self.source).sqrt() }
    }
}

/// NaN is larger than everything.
fn larger(a: f64, b: f64) -> f64 {
    if b.is_nan() || b > a { b } else { a }
}

/// The rows of `chunk` beside those of tensor `name` in `file`.
fn difference(chunk: &Chunk, name: &str, file: &Gguf) -> Result<Sums> {
    // the plan's tensors are those of the config, and the file was checked to have them
    let info =
        file.tensor(name).ok_or_else(|| Error::format(file.label(), format!("tensor {name}: not found")))?;
    let n_per_row = info.shape.padded()[0] as usize;
    let stored_row = (info.n_bytes / info.shape.n_rows()) as usize;
    let source_row = chunk.stored.row_bytes(n_per_row as u64) as usize;
    let stored = &file.data(info)[chunk.row as usize * stored_row..];
    let rows = chunk.bytes.par_chunks_exact(source_row).zip(stored.par_chunks_exact(stored_row));
    let sums = rows.map_init(
        || (vec![0.0; n_per_row], vec![0.0; n_per_row]),
        |(source, values), (bytes, blocks)| {
            let read = chunk.values(bytes, source).and_then(|()| dequantize(info.dtype, blocks, values));
            read.map_err(|e| Error::format(format!("{}: tensor {name}", file.label()), e))?;
            Ok(Sums::of(source, values))
        },
    );
    let mut total = Sums::default();
    sums.collect::<Result<Vec<_>>>()?.iter().for_each(|sums| total.add(sums));
    Ok(total)
}
