//! One thread reads, the caller works; a few chunks wait between them.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use ggml::Cancel;

use crate::checkpoint::file::SourceFile;
use crate::error::{Error, Result};
use crate::job::{Chunk, Job};

/// Chunks that wait between reading and working.
pub const N_READ_AHEAD: usize = 2;
/// How long a cancellation may go unseen while nothing comes.
const PATIENCE: Duration = Duration::from_millis(100);

/// Hands every chunk of the tensors `indices` to `work`, the first tensor's from row `row` on, and nothing where none came
/// for a moment. Yields how long there was nothing to work on.
///
/// # Errors
/// Where the source can't be read, what `work` says, and [`Error::Cancelled`].
pub fn read_ahead(
    job: &dyn Job,
    indices: &[usize],
    row: u64,
    cancel: &Cancel,
    mut work: impl FnMut(Option<Chunk>) -> Result<()>,
) -> Result<Duration> {
    let gone = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (send, receive) = sync_channel::<Result<Chunk>>(N_READ_AHEAD);
        let reader = Reader { job, gone: &gone };
        scope.spawn(move || {
            if let Err(error) = reader.read(indices, row, &mut |chunk| send.send(Ok(chunk)).is_ok()) {
                // when nobody listens any more, another error came first
                let _ = send.send(Err(error));
            }
        });
        let worked = work_off(receive, cancel, &mut work);
        gone.store(true, Ordering::Relaxed);
        worked
    })
}

struct Reader<'a> {
    job: &'a dyn Job,
    /// Nobody wants chunks any more.
    gone: &'a AtomicBool,
}

impl Reader<'_> {
    fn read(&self, indices: &[usize], mut row: u64, take: &mut dyn FnMut(Chunk) -> bool) -> Result<()> {
        let files = self.job.hashed();
        let mut n_finished = 0;
        for &index in indices {
            let row = std::mem::take(&mut row);
            if let Some((file, start)) = self.job.start(index, row) {
                self.finish(n_finished..file)?;
                n_finished = n_finished.max(file);
                self.hash_up_to(&files[file], start)?;
            }
            let mut wanted = true;
            self.job.read(index, row, &mut |chunk| {
                wanted = take(chunk);
                wanted
            })?;
            if !wanted {
                return Ok(());
            }
        }
        self.finish(n_finished..files.len())
    }

    /// Nothing more is needed of these files but their sums.
    fn finish(&self, files: Range<usize>) -> Result<()> {
        for index in files {
            let file = &self.job.hashed()[index];
            self.hash_up_to(file, file.n_bytes())?;
            file.finish(index)?;
        }
        Ok(())
    }

    /// What no tensor needs is read for the sums' sake, before what comes behind it.
    fn hash_up_to(&self, file: &SourceFile, end: u64) -> Result<()> {
        file.hash_up_to(end, || !self.gone.load(Ordering::Relaxed))
    }
}

fn work_off(
    receive: Receiver<Result<Chunk>>,
    cancel: &Cancel,
    work: &mut dyn FnMut(Option<Chunk>) -> Result<()>,
) -> Result<Duration> {
    let mut waited = Duration::ZERO;
    loop {
        let since = Instant::now();
        let chunk = receive.recv_timeout(PATIENCE);
        waited += since.elapsed();
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        match chunk {
            Ok(chunk) => work(Some(chunk?))?,
            Err(RecvTimeoutError::Timeout) => work(None)?,
            Err(RecvTimeoutError::Disconnected) => return Ok(waited),
        }
    }
}
