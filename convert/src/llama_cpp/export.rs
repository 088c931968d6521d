//! A model file in, llama.cpp's pair out: the same blocks under its names and keys, q, k and v apart, and the positions
//! where its graphs look for them. Keys that say what llama.cpp concludes go along, so that the way back loses nothing.

use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use ggml::Cancel;
use owlet_format::{Gguf, Metadata, ModelConfig, Part, TensorPlan, TensorSpec, Writer, Written};

use super::export_keys::{mmproj_keys, text_keys};
use super::graph::{Graph, differences};
use super::names::{POSITIONS, apart, of_internvl};
use crate::blocks::{Blocks, Moved, Piece};
use crate::checkpoint::file::SourceFile;
use crate::error::{Error, Result};
use crate::job::Job;
use crate::recipe::Chosen;
use crate::run::Progress;
use crate::weighting::Weighted;

/// A pair that can be written.
#[derive(Debug)]
pub struct Export {
    /// All tensors of both files.
    blocks: Blocks,
    /// Tensors of the source that are cut, whole: their sums are of the whole.
    cut: Vec<Piece>,
    halves: Vec<Half>,
    /// What llama.cpp will compute differently, a sentence each.
    pub differences: Vec<String>,
}

/// One file of the pair.
#[derive(Debug)]
struct Half {
    /// What its name begins with.
    prefix: &'static str,
    keys: Metadata,
    /// Its tensors among all.
    tensors: Range<usize>,
}

/// What was written. `Display` is the text behind an export.
#[derive(Debug)]
pub struct Exported {
    /// Each file with its length.
    pub files: Vec<(PathBuf, u64)>,
}

impl Export {
    /// Reads the header of the model file at `path` and plans.
    ///
    /// # Errors
    /// Where it is no model that owlet runs, or has no text half, without which llama.cpp has no use for the other.
    pub fn from_file(path: &Path) -> Result<Export> {
        let file = Gguf::open(path)?;
        let config = ModelConfig::read(&file)?;
        config.check(&file)?;
        if config.text.is_none() {
            let what = "expected a text half, without which llama.cpp runs nothing, found none";
            return Err(Error::Unsupported { place: file.label().to_string(), what: what.to_string() });
        }
        let graph = Graph::of(&config).ok();
        let differences = differences(&config);
        let sums = file.checksums()?;
        let (mut tensors, mut cut, mut halves) = (Vec::new(), Vec::new(), Vec::new());
        let specs = config.tensors();
        let mut half = |prefix, keys, is_meant: &dyn Fn(&TensorSpec) -> bool| {
            let start = tensors.len();
            for spec in specs.iter().filter(|spec| is_meant(spec)) {
                let at = file.tensors().iter().position(|info| info.name == spec.name);
                // the check above has found every one of them
                let Some(at) = at else { continue };
                let whole = whole(&file, at, sums[at]);
                let given = given(spec, &whole, graph);
                if given.iter().any(|moved| moved.pieces.iter().any(|piece| piece.sum.is_none())) {
                    cut.push(whole);
                }
                tensors.extend(given);
            }
            halves.push(Half { prefix, keys, tensors: start..tensors.len() });
        };
        half("text", text_keys(&config, &differences), &|spec| spec.part == Part::Text);
        if let Some(graph) = graph {
            half("mmproj", mmproj_keys(&config, graph, &differences), &|spec| spec.part != Part::Text);
        }
        let sources = file.files().map(SourceFile::open).collect::<Result<_>>()?;
        let (importance, states_sums) = (Weighted::default(), false);
        let blocks = Blocks {
            config,
            sources,
            states_sums,
            tensors,
            importance,
            split_max_bytes: None,
            n_threads: None,
        };
        Ok(Export { blocks, cut, halves, differences })
    }

    /// The files that [`Export::run`] would write into `dir`, named after the model file.
    pub fn files(&self, dir: &Path) -> Vec<PathBuf> {
        let source = self.blocks.sources.first().map(SourceFile::path).unwrap_or(Path::new("model"));
        let stem = source.file_stem().unwrap_or_default().to_string_lossy();
        let stem = stem.split_once("-00001-of-").map_or(&*stem, |(stem, _)| stem);
        self.halves.iter().map(|half| dir.join(format!("{}-{stem}.gguf", half.prefix))).collect()
    }

    /// Writes the files into `dir`, which is made where it isn't there. They appear under their names when all of them are
    /// whole.
    ///
    /// # Errors
    /// Where the model file can't be read or is not what it states the sums of, where `dir` can't be written, and
    /// [`Error::Cancelled`].
    pub fn run(&self, dir: &Path, progress: &mut dyn Progress, cancel: &Cancel) -> Result<Exported> {
        let is_new = !dir.exists();
        if is_new {
            fs::create_dir(dir).map_err(|error| Error::doing(dir, "cannot create", error))?;
        }
        let done = self.write(dir, progress, cancel);
        if is_new && done.is_err() {
            // nothing is in it
            let _ = fs::remove_dir(dir);
        }
        done
    }

    fn write(&self, dir: &Path, progress: &mut dyn Progress, cancel: &Cancel) -> Result<Exported> {
        progress.start((0..self.blocks.tensors.len()).map(|index| self.blocks.n_source_bytes(index)).sum());
        for piece in &self.cut {
            self.blocks.read_piece((0, 0), piece, 0, &mut |_| !cancel.is_cancelled())?;
        }
        let targets = self.files(dir);
        let mut written: Vec<(Written, u64)> = Vec::new();
        for (half, target) in self.halves.iter().zip(&targets) {
            written.push(self.write_half(half, target, progress, cancel)?);
        }
        let mut files = Vec::new();
        for ((written, n_bytes), target) in written.into_iter().zip(targets) {
            written.publish()?;
            files.push((target, n_bytes));
        }
        Ok(Exported { files })
    }

    fn write_half(
        &self,
        half: &Half,
        target: &Path,
        progress: &mut dyn Progress,
        cancel: &Cancel,
    ) -> Result<(Written, u64)> {
        let moved = &self.blocks.tensors[half.tensors.clone()];
        let plan: Vec<TensorPlan> = moved.iter().map(Moved::plan).collect();
        let mut writer = Writer::create(target, &half.keys, &plan)?;
        for (index, TensorPlan { name, .. }) in half.tensors.clone().zip(&plan) {
            writer.begin(name)?;
            let mut refused = None;
            self.blocks.read(index, 0, &mut |chunk| {
                progress.advance(name, chunk.n_source_bytes);
                refused = writer.write(&chunk.bytes).err();
                refused.is_none() && !cancel.is_cancelled()
            })?;
            match refused {
                Some(error) => return Err(error.into()),
                None if cancel.is_cancelled() => return Err(Error::Cancelled),
                None => {}
            }
        }
        let written = writer.finish()?;
        let n_bytes = fs::metadata(written.path()).map_err(|error| Error::io(target, error))?.len();
        Ok((written, n_bytes))
    }
}

fn whole(file: &Gguf, at: usize, sum: [u8; 32]) -> Piece {
    let info = &file.tensors()[at];
    // the file was opened from a path
    let (which, start) = file.place(info).unwrap_or_default();
    Piece {
        name: info.name.clone(),
        dtype: info.dtype,
        n_rows: info.shape.n_rows(),
        n_bytes: info.n_bytes,
        file: which,
        start,
        sum: Some(sum),
    }
}

/// The tensors of the pair that one of the model file becomes.
fn given(spec: &TensorSpec, whole: &Piece, graph: Option<Graph>) -> Vec<Moved> {
    let row_bytes = whole.n_bytes / whole.n_rows;
    let rows = |from: u64, n_rows: u64| Piece {
        n_rows,
        n_bytes: n_rows * row_bytes,
        start: whole.start + from * row_bytes,
        sum: None,
        ..whole.clone()
    };
    let moved = |name: String, ne, pieces| {
        let spec = TensorSpec { name, ne, ..spec.clone() };
        Moved { spec, chosen: Chosen::kept(whole.dtype), pieces }
    };
    if let Some(parts) = apart(&spec.name) {
        let mut share = spec.ne.dims().to_vec();
        let Some(last) = share.last_mut() else { return Vec::new() };
        *last /= 3;
        let Some(ne) = owlet_format::Shape::new(&share) else { return Vec::new() };
        // a bias is one row, of which each part is a third
        let n_rows = ne.n_rows();
        let third = whole.n_bytes / 3;
        let part = |(at, name): (u64, String)| {
            let start = whole.start + at * third;
            let piece = Piece { n_rows, n_bytes: third, start, sum: None, ..whole.clone() };
            moved(name, ne, vec![piece])
        };
        return (0..).zip(parts).map(part).collect();
    }
    if spec.name == POSITIONS {
        let n_patches = whole.n_rows - 1;
        let pieces = if n_patches == 0 { vec![rows(0, 1)] } else { vec![rows(1, n_patches), rows(0, 1)] };
        return vec![moved(spec.name.clone(), spec.ne, pieces)];
    }
    let name = match graph {
        Some(Graph::InternVl) => of_internvl(&spec.name),
        _ => spec.name.clone(),
    };
    vec![moved(name, spec.ne, vec![whole.clone()])]
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, n_bytes) in &self.files {
            writeln!(f, "{}: {n_bytes} bytes", path.display())?;
        }
        Ok(())
    }
}
