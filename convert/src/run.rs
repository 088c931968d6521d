//! Carries a plan out: one thread reads ahead, all cores convert and quantize rows, and the file appears under its
//! name when it is whole and has been read back.

use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use ggml::Cancel;
use ggml::quantize::quantize_rows;
use owlet_format::{Gguf, Metadata, ModelConfig, TensorPlan, Writer};
use rayon::prelude::*;

use crate::checkpoint::dtype::widen;
use crate::error::{Error, Result};
use crate::plan::{Plan, PlannedTensor};
use crate::report::{Report, peak_memory_bytes};
use crate::rows::{Chunk, read_chunks};

/// Chunks that wait between reading and quantizing.
const N_READ_AHEAD: usize = 2;
/// Elements that one task converts at least, so that short rows don't drown in bookkeeping.
const TASK_ELEMENTS: usize = 1 << 14;

/// Told how a run goes on.
pub trait Progress {
    /// Before the first tensor.
    fn start(&mut self, n_source_bytes: u64);
    /// Behind each chunk: the tensor it belongs to, and source bytes that are done with it.
    fn advance(&mut self, tensor: &str, n_source_bytes: u64);
}

impl Progress for () {
    fn start(&mut self, _n_source_bytes: u64) {}
    fn advance(&mut self, _tensor: &str, _n_source_bytes: u64) {}
}

impl Plan {
    /// Writes the file. Nothing but a whole file ever stands under `out`, and what stood there before stays until
    /// then.
    ///
    /// # Errors
    /// Where the checkpoint can't be read or holds a number that is not finite, where `out` can't be written, and
    /// [`Error::Cancelled`]. Nothing is left behind.
    pub fn run(&self, out: &Path, progress: &mut dyn Progress, cancel: &Cancel) -> Result<Report> {
        let started = Instant::now();
        let mut metadata = Metadata::new(out.display().to_string());
        self.config.write(&mut metadata);
        let tensors: Vec<TensorPlan> = self.tensors.iter().map(PlannedTensor::in_file).collect();
        let mut writer = Writer::create(out, &metadata, &tensors)?;
        progress.start(self.n_source_bytes());
        self.stream(&mut writer, progress, cancel)?;
        let written = writer.finish()?;
        self.read_back(written.path())?;
        let n_bytes = std::fs::metadata(written.path()).map_err(|e| Error::io(written.path(), e))?.len();
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        written.publish()?;
        Ok(Report {
            path: out.to_path_buf(),
            n_bytes,
            parts: self.config.parts().map(|part| (part, self.part_size(part))).collect(),
            n_source_bytes: self.n_source_bytes(),
            seconds: started.elapsed().as_secs_f64(),
            peak_memory_bytes: peak_memory_bytes(),
        })
    }

    fn stream(&self, writer: &mut Writer, progress: &mut dyn Progress, cancel: &Cancel) -> Result<()> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.n_threads.unwrap_or(0)).build();
        let pool = pool.map_err(|e| Error::Request(format!("threads: {e}")))?;
        std::thread::scope(|scope| {
            let (send, receive) = sync_channel::<Result<Chunk>>(N_READ_AHEAD);
            scope.spawn(move || {
                for (index, planned) in self.tensors.iter().enumerate() {
                    let mut wanted = true;
                    let read = read_chunks(&self.checkpoint, index, planned, |chunk| {
                        wanted = send.send(Ok(chunk)).is_ok();
                        wanted
                    });
                    if let Err(error) = read {
                        // when nobody listens any more, another error came first
                        let _ = send.send(Err(error));
                        return;
                    }
                    if !wanted {
                        return;
                    }
                }
            });
            let mut blocks = Vec::new();
            for chunk in receive {
                if cancel.is_cancelled() {
                    return Err(Error::Cancelled);
                }
                let chunk = chunk?;
                let planned = &self.tensors[chunk.tensor];
                if chunk.row == 0 {
                    writer.begin(&planned.spec.name)?;
                }
                pool.install(|| self.quantize(planned, &chunk, &mut blocks))?;
                writer.write(&blocks)?;
                progress.advance(&planned.spec.name, chunk.n_source_bytes);
            }
            Ok(())
        })
    }

    /// The rows of `chunk` as the file stores them, into `blocks`.
    fn quantize(&self, planned: &PlannedTensor, chunk: &Chunk, blocks: &mut Vec<u8>) -> Result<()> {
        let dtype = planned.chosen.dtype;
        let n_per_row = planned.spec.ne.padded()[0] as usize;
        let row_bytes = n_per_row * chunk.dtype.n_bytes() as usize;
        let n_rows = chunk.bytes.len() / row_bytes;
        // the plan has checked that rows are whole blocks
        let stored_row = dtype.row_bytes(n_per_row as u64).unwrap_or(0) as usize;
        blocks.clear();
        blocks.resize(n_rows * stored_row, 0);
        let rows_per_task = (TASK_ELEMENTS / n_per_row).max(1);
        let tasks = blocks.par_chunks_mut(stored_row * rows_per_task);
        let tasks = tasks.zip(chunk.bytes.par_chunks(row_bytes * rows_per_task)).enumerate();
        tasks.try_for_each_init(
            || vec![0.0; n_per_row],
            |values, (task, (blocks, bytes))| {
                let rows = blocks.chunks_exact_mut(stored_row).zip(bytes.chunks_exact(row_bytes));
                for (i, (blocks, bytes)) in rows.enumerate() {
                    widen(chunk.dtype, bytes, values);
                    if let Some(fold) = &planned.fold {
                        values.iter_mut().zip(&*fold.factors).for_each(|(value, factor)| *value *= factor);
                    }
                    quantize_rows(dtype, values, n_per_row, None, blocks).map_err(|e| {
                        let row = chunk.row + (task * rows_per_task + i) as u64;
                        let place = self.checkpoint.place(&planned.source.name);
                        Error::format(format!("{place}: row {row}"), format!("as {e}"))
                    })?;
                }
                Ok(())
            },
        )
    }

    /// Reads the file as the runtime will: its schema, its tensors, nothing lost on the way.
    fn read_back(&self, path: &Path) -> Result<()> {
        let file = Gguf::open(path)?;
        let config = ModelConfig::read(&file)?;
        config.check(&file)?;
        if config != self.config {
            return Err(Error::format(path.display(), "expected the config that was written, found another"));
        }
        Ok(())
    }
}

impl PlannedTensor {
    fn in_file(&self) -> TensorPlan {
        TensorPlan { name: self.spec.name.clone(), dtype: self.chosen.dtype, shape: self.spec.ne }
    }
}
