//! Carries a job out: one thread reads ahead, all cores convert and quantize rows, and the file appears under its
//! name when it is whole and has been read back. What a run that was interrupted has done, the next one keeps.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ggml::quantize::quantize_rows;
use ggml::{Cancel, DType};
use owlet_format::{Gguf, Layout, Limits, Metadata, ModelConfig, SelfTest, Strings, hex};
use rayon::ThreadPool;
use rayon::prelude::*;

use crate::checkpoint::Sha256;
use crate::checkpoint::file::SourceFile;
use crate::error::{Error, Result};
use crate::job::{Chunk, Job, Stored, total_source_bytes};
use crate::outline::{Outline, part_sizes};
use crate::part::{Part, Subject, targets};
use crate::read_ahead::read_ahead;
use crate::report::{Done, Report, Spent, peak_memory_bytes};

/// Elements that one task converts at least, so that short rows don't drown in bookkeeping.
const TASK_ELEMENTS: usize = 1 << 14;
/// Between two commits a run works on a 64th of the source, but on no less and no more than this.
const COMMIT_SHARE: u64 = 64;
const COMMIT_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=256 << 20;

/// Told how a run goes on.
pub trait Progress {
    /// Before the first tensor.
    fn start(&mut self, n_source_bytes: u64);
    /// Behind each chunk: the tensor it belongs to, and source bytes that are done with it.
    fn advance(&mut self, tensor: &str, n_source_bytes: u64);
    /// Something that a person should know, in a line.
    fn note(&mut self, _line: &str) {}
}

impl Progress for () {
    fn start(&mut self, _n_source_bytes: u64) {}
    fn advance(&mut self, _tensor: &str, _n_source_bytes: u64) {}
}

/// Writes the file of `job` to `out`. Nothing but a whole file ever stands under `out`, and what stood there before
/// stays until then.
///
/// # Errors
/// Where the source can't be read or holds a number that is not finite, where `out` can't be written, and
/// [`Error::Cancelled`]. What was done stays beside `out` for another run where that could succeed, and goes otherwise.
fn run(job: &dyn Job, out: &Path, progress: &mut dyn Progress, cancel: &Cancel) -> Result<Done> {
    let started = Instant::now();
    let sums = vec![[0; 32]; job.hashed().len()];
    let (layouts, id) = plan_files(job, out, &sums)?;
    let tensors: Vec<_> = job.tensors().into_iter().map(|tensor| tensor.name).collect();
    let subject = Subject { id, n_tensors: tensors.len(), n_hashes: sums.len() };
    let part = Part::open(out, layouts, job.order(), subject, &mut |line| progress.note(line))?;
    let mut run = Run { job, part, tensors, spent: Spent::default(), n_resumed: 0, n_read: job.n_read() };
    let total = total_source_bytes(job);
    progress.start(total);
    match run.work(total, out, progress, cancel) {
        Ok(n_bytes) => {
            let n_files = run.part.paths().len();
            let path = run.part.publish()?;
            run.spent.total = started.elapsed();
            Ok(Done {
                path,
                n_files,
                n_bytes,
                n_source_bytes: total,
                n_resumed_bytes: run.n_resumed,
                n_read_bytes: job.n_read() - run.n_read,
                spent: run.spent,
                peak_memory_bytes: peak_memory_bytes(),
            })
        }
        Err(error) => Err(run.stop(error, progress)),
    }
}

/// As [`run`]; what it did, and what it made of each part.
///
/// # Errors
/// As there.
pub fn report(job: &dyn Outline, out: &Path, progress: &mut dyn Progress, cancel: &Cancel) -> Result<Report> {
    let done = run(job, out, progress, cancel)?;
    Ok(Report { parts: part_sizes(&job.lines()), done })
}

/// The files with `sums` in the first one's header, and what tells this job from others.
fn plan_files(job: &dyn Job, out: &Path, sums: &[[u8; 32]]) -> Result<(Vec<Layout>, [u8; 32])> {
    let mut metadata = Metadata::new(out.display().to_string());
    job.config(shards(job.hashed(), sums)).write(&mut metadata);
    SelfTest::reserve(&mut metadata);
    let layouts = Layout::split(&metadata, &job.tensors(), job.split_max_bytes().unwrap_or(u64::MAX))?;
    let mut id = Sha256::default();
    id.update(env!("CARGO_PKG_VERSION").as_bytes());
    layouts.iter().for_each(|layout| id.update(&layout.header));
    job.identify(&mut id);
    Ok((layouts, id.finish()))
}

/// The files that `job` would write for `out`.
///
/// # Errors
/// Where they can't be as short as is asked.
pub fn files_of(job: &dyn Job, out: &Path) -> Result<Vec<PathBuf>> {
    let (layouts, _) = plan_files(job, out, &vec![[0; 32]; job.hashed().len()])?;
    Ok(targets(out, layouts.len()))
}

/// A line a file, as sha256sum prints it.
pub fn shards(files: &[SourceFile], sums: &[[u8; 32]]) -> Strings {
    let name = |file: &SourceFile| file.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    files.iter().zip(sums).map(|(file, sum)| format!("{}  {}", hex(sum), name(file))).collect()
}

/// A run under way.
struct Run<'a> {
    job: &'a dyn Job,
    part: Part,
    /// Names, in the order of the file.
    tensors: Vec<String>,
    spent: Spent,
    n_resumed: u64,
    /// Bytes that had been read before the first tensor.
    n_read: u64,
}

impl Run<'_> {
    /// All but the rename; yields the length of the file.
    fn work(&mut self, total: u64, out: &Path, progress: &mut dyn Progress, cancel: &Cancel) -> Result<u64> {
        for (file, sha) in self.job.hashed().iter().zip(&self.part.state().hashes) {
            file.hash_from(sha.clone());
        }
        self.go_on(progress);
        self.stream(total, progress, cancel)?;
        self.commit()?;
        let sums = self.hashes().into_iter().map(Sha256::finish).collect::<Vec<_>>();
        let (layouts, _) = plan_files(self.job, out, &sums)?;
        let n_bytes = layouts.iter().map(|layout| layout.n_bytes).sum();
        self.part.complete(layouts)?;
        self.read_back(&self.job.config(shards(self.job.hashed(), &sums)))?;
        match cancel.is_cancelled() {
            true => Err(Error::Cancelled),
            false => Ok(n_bytes),
        }
    }

    /// Tells what an earlier run has done.
    fn go_on(&mut self, progress: &mut dyn Progress) {
        let state = self.part.state();
        let order = self.job.order();
        for (at, &index) in order.iter().enumerate().take(state.n_done + 1) {
            let mut n_bytes = self.job.n_source_bytes(index);
            if at == state.n_done {
                n_bytes = n_bytes / self.part.n_rows(index) * state.row;
            }
            if n_bytes > 0 {
                progress.advance(&self.tensors[index], n_bytes);
                self.n_resumed += n_bytes;
            }
        }
        if self.n_resumed > 0 {
            progress.note(&format!("{}: going on with it", self.part.path().display()));
        }
    }

    fn stream(&mut self, total: u64, progress: &mut dyn Progress, cancel: &Cancel) -> Result<()> {
        let pool = pool(self.job.n_threads())?;
        let per_commit = (total / COMMIT_SHARE).clamp(*COMMIT_BYTES.start(), *COMMIT_BYTES.end());
        let mut n_open = 0;
        let mut blocks = Vec::new();
        let planned = self.job.tensors();
        let order = self.job.order();
        let (n_done, row) = (self.part.state().n_done, self.part.state().row);
        let job = self.job;
        let waited = read_ahead(job, &order[n_done..], row, cancel, |chunk| {
            job.notes().iter().for_each(|line| progress.note(line));
            let Some(chunk) = chunk else { return Ok(()) };
            let tensor = &planned[chunk.tensor];
            let n_per_row = tensor.shape.padded()[0] as usize;
            let mut since = Instant::now();
            pool.install(|| store(job, &chunk, tensor.dtype, n_per_row, &mut blocks))?;
            self.spent.storing += lap(&mut since);
            self.part.write(&blocks)?;
            progress.advance(&tensor.name, chunk.n_source_bytes);
            n_open += chunk.n_source_bytes;
            if n_open >= per_commit {
                self.commit()?;
                n_open = 0;
            }
            self.spent.writing += lap(&mut since);
            Ok(())
        })?;
        self.spent.waiting += waited;
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        self.part.commit(self.hashes())
    }

    /// What was made of file `file` and those behind it is worth nothing, and what they were hashed as.
    fn forget_from(&mut self, file: usize) -> Result<()> {
        let order = self.job.order();
        let n_kept = order.iter().take_while(|index| !self.job.reads(**index, file)).count();
        let hashes = self.hashes().into_iter().enumerate();
        let hashes = hashes.map(|(i, hash)| if i < file { hash } else { Sha256::default() });
        self.part.rewind(n_kept, hashes.collect())
    }

    fn hashes(&self) -> Vec<Sha256> {
        self.job.hashed().iter().map(|file| file.hash_so_far().unwrap_or_default()).collect()
    }

    /// Reads the file as the runtime will: its schema, its tensors, nothing lost on the way.
    fn read_back(&self, expected: &ModelConfig) -> Result<()> {
        let paths = self.part.paths();
        let file = match &paths[..] {
            [path] => Gguf::open(path)?,
            paths => Gguf::open_files(paths, Limits::default())?,
        };
        let config = ModelConfig::read(&file)?;
        config.check(&file)?;
        if config != *expected {
            return Err(Error::format(
                self.part.path().display(),
                "expected the config that was written, found another",
            ));
        }
        Ok(())
    }

    /// Keeps what is done where a later run can go on with it.
    fn stop(mut self, error: Error, progress: &mut dyn Progress) -> Error {
        let state = self.part.state();
        if !error.may_pass() || (state.n_done, state.row) == (0, 0) {
            self.part.discard();
            return error;
        }
        // a disk that refuses this, too, leaves the commit before
        let _ = match error {
            Error::Damaged { file, .. } => self.forget_from(file),
            _ => self.commit(),
        };
        let path = self.part.path().display();
        progress.note(&format!("{path}: keeps what is done; the same command goes on with it"));
        error
    }
}

/// Threads for the work of one run; a thread for each core where no number is said.
pub fn pool(n_threads: Option<usize>) -> Result<ThreadPool> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads.unwrap_or(0)).build();
    pool.map_err(|e| Error::Request(format!("threads: {e}")))
}

/// The time since `since`, which becomes now.
fn lap(since: &mut Instant) -> Duration {
    let now = Instant::now();
    now - std::mem::replace(since, now)
}

/// The rows of `chunk` as `dtype`, into `blocks`.
fn store(job: &dyn Job, chunk: &Chunk, dtype: DType, n_per_row: usize, blocks: &mut Vec<u8>) -> Result<()> {
    blocks.clear();
    if chunk.stored == Stored::Blocks(dtype) {
        blocks.extend_from_slice(&chunk.bytes);
        return Ok(());
    }
    let row_bytes = chunk.stored.row_bytes(n_per_row as u64) as usize;
    let n_rows = chunk.bytes.len() / row_bytes;
    // the plan has checked that rows are whole blocks
    let stored_row = dtype.row_bytes(n_per_row as u64).unwrap_or(0) as usize;
    blocks.resize(n_rows * stored_row, 0);
    let rows_per_task = (TASK_ELEMENTS / n_per_row).max(1);
    let importance = job.importance(chunk.tensor);
    let tasks = blocks.par_chunks_mut(stored_row * rows_per_task);
    let tasks = tasks.zip(chunk.bytes.par_chunks(row_bytes * rows_per_task)).enumerate();
    tasks.try_for_each_init(
        || vec![0.0; n_per_row],
        |values, (task, (blocks, bytes))| {
            let rows = blocks.chunks_exact_mut(stored_row).zip(bytes.chunks_exact(row_bytes));
            for (i, (blocks, bytes)) in rows.enumerate() {
                let stored = chunk.values(bytes, values);
                stored.and_then(|()| quantize_rows(dtype, values, n_per_row, importance, blocks)).map_err(
                    |e| {
                        let row = chunk.row + (task * rows_per_task + i) as u64;
                        Error::format(format!("{}: row {row}", job.place(chunk.tensor)), format!("as {e}"))
                    },
                )?;
            }
            Ok(())
        },
    )
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
