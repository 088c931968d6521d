//! The decoder at work: rows of any sequences in, logits of the rows that want them out. Comes in: token ids
//! and embedding rows with their sequence and position. Cuts them into passes, and reuses a pass's graph
//! while its topology stays. Knows no text.
//!
//! A row's bits depend on the rows of its own sequence before it, and on nothing else: not on the other rows
//! of a call, not on how calls or passes cut them, not on threads.

use ggml::{Cancel, Executor, Graph, GraphBuilder, PlacedBytes};

use super::kv_cache::{KvCache, KvRows, KvType};
use super::net::{Net, Watched};
use super::pass::{self, Pass, Scratch};
use super::row::{Input, Row};
use super::text::{self, Io, Topology};
use super::{Model, Observe};
use crate::{Error, Result};

/// Logits of the rows that wanted them, in the order of the call. Used again, they need no new memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Logits {
    n_vocab: usize,
    /// `[n_vocab, n]`
    values: Vec<f32>,
}

impl Logits {
    /// `[n_vocab]` a row that wanted logits.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.n_vocab.max(1))
    }
}

/// A text model with a cache of its own.
pub struct Decoder {
    model: Model,
    cache: KvCache,
    executor: Executor,
    /// What the executor holds.
    loaded: Option<Loaded>,
    scratch: Scratch,
}

struct Loaded {
    topology: Topology,
    io: Io,
    watched: Watched,
}

impl Decoder {
    /// A decoder for `n_seq` sequences of up to `n_ctx` positions each; [`kv_bytes`](super::kv_bytes) says
    /// what that takes.
    ///
    /// # Errors
    /// The model has no text half; `n_ctx` is more than it was trained for; there is no memory for the cache.
    pub fn new(model: &Model, n_ctx: u32, n_seq: u32, kv_type: KvType) -> Result<Decoder> {
        let (config, _) = model.text()?;
        let max_nodes = text::max_nodes(config)?;
        let cache = KvCache::new(model, n_ctx, n_seq, kv_type)?;
        let executor = Executor::reproducible(model.backend(), max_nodes)?;
        Ok(Decoder { model: model.clone(), cache, executor, loaded: None, scratch: Scratch::new(config) })
    }

    /// Gives the cache's memory on devices back, if one was lost: this decoder computes nothing any more.
    pub fn release(&self) {
        self.cache.memory().release();
    }

    pub fn n_ctx(&self) -> u32 {
        self.cache.n_ctx()
    }

    /// Positions of `seq` that are in the cache; 0 for a sequence that there is not.
    pub fn n_past(&self, seq: u32) -> u32 {
        self.cache.n_past(seq).unwrap_or(0)
    }

    /// Forgets the positions of `seq` from `n_past` on.
    pub fn truncate(&mut self, seq: u32, n_past: u32) {
        self.cache.truncate(seq, n_past);
    }

    /// Cached rows of `seq`, `[n_embd_kv, n]` in the cache's type: how a file keeps a conversation.
    ///
    /// # Errors
    /// `Request`: rows that are not filled, or a layer that there is not.
    pub fn read_rows(&self, seq: u32, rows: KvRows) -> Result<Vec<u8>> {
        self.cache.read_rows(seq, rows)
    }

    /// Takes the first `n_past` positions of `seq` for filled, until [`write_rows`](Self::write_rows) brings
    /// them: whoever does not bring them all has to [`truncate`](Self::truncate).
    ///
    /// # Errors
    /// `Request`: there is no such sequence. `Limit`: the cache is shorter.
    pub fn assume(&mut self, seq: u32, n_past: u32) -> Result<()> {
        self.cache.assume(seq, n_past)
    }

    /// Puts `bytes`, as [`read_rows`](Self::read_rows) yields them, in the place of `rows`.
    ///
    /// # Errors
    /// As [`read_rows`](Self::read_rows); `Format`: there are infinities or NaN in it. Nothing changed then.
    pub fn write_rows(&mut self, seq: u32, rows: KvRows, bytes: &[u8]) -> Result<()> {
        self.cache.write_rows(seq, rows, bytes)
    }

    /// Makes room for sequences of up to `n_ctx` positions, and keeps all that is in the cache. Until the next
    /// call both caches are there.
    ///
    /// # Errors
    /// As [`new`](Self::new); `Request` where a sequence is longer than `n_ctx`. Nothing changed then.
    pub fn grow(&mut self, n_ctx: u32) -> Result<()> {
        self.cache = self.cache.resized(&self.model, n_ctx)?;
        // Its views lie in the old cache.
        self.loaded = None;
        Ok(())
    }

    /// Bytes of the buffers that a pass of `n_rows` tokens takes at the end of the context, beside weights and cache.
    /// Computes nothing.
    ///
    /// # Errors
    /// No memory for a graph.
    pub fn pass_bytes(&mut self, n_rows: u32) -> Result<PlacedBytes> {
        let n_ctx = self.cache.n_ctx();
        let row = |pos| Row { input: Input::Token(0), seq: 0, pos, want_logits: pos + 1 == n_ctx };
        // The last rows of the context: the pass that takes most of them is cut from the end.
        let mut rows: Vec<_> = (n_ctx - n_rows.clamp(1, n_ctx)..n_ctx).map(row).collect();
        let n_taken = self.first_pass(&rows)?.rows.len();
        let last = rows.split_off(rows.len() - n_taken);
        let topology = self.first_pass(&last)?.topology;
        let (graph, _, _) = self.build(&topology, None)?;
        self.loaded = None;
        Ok(self.executor.bytes_for(graph))
    }

    /// What the passes so far have allocated for their nodes.
    #[cfg(test)]
    pub(super) fn allocated_bytes(&self) -> u64 {
        self.executor.compute_buffer_bytes()
    }

    /// Appends rows to their sequences. `embd` is `[n_embd, n]`, for the rows of [`Input::Embd`].
    ///
    /// After [`Error::Cancelled`], which may come between passes or inside one, [`n_past`](Self::n_past) says
    /// how far every sequence got.
    ///
    /// # Errors
    /// `Request`: a token, an embedding row, a sequence or a position that does not fit. `Limit`: the context
    /// is full. `Format`: the model yields no numbers. Nothing was computed after the first two.
    pub fn forward(&mut self, rows: &[Row], embd: &[f32], cancel: &Cancel) -> Result<Logits> {
        let mut logits = Logits::default();
        self.run((rows, embd), cancel, None, &mut logits)?;
        Ok(logits)
    }

    /// [`forward`](Self::forward), with its logits in `logits` instead of others. A call with as many rows of the same kinds as the
    /// call before it allocates no memory.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_into(
        &mut self,
        rows: &[Row],
        embd: &[f32],
        cancel: &Cancel,
        logits: &mut Logits,
    ) -> Result<()> {
        self.run((rows, embd), cancel, None, logits)
    }

    /// [`forward`](Self::forward), with the values of the nodes that `observer` wants.
    pub fn forward_observed(
        &mut self,
        rows: &[Row],
        embd: &[f32],
        cancel: &Cancel,
        observer: &mut dyn Observe,
    ) -> Result<Logits> {
        let mut logits = Logits::default();
        self.run((rows, embd), cancel, Some(observer), &mut logits)?;
        Ok(logits)
    }

    fn run(
        &mut self,
        (rows, embd): (&[Row], &[f32]),
        cancel: &Cancel,
        mut observer: Option<&mut dyn Observe>,
        logits: &mut Logits,
    ) -> Result<()> {
        let model = self.model.clone();
        let (config, _) = model.text()?;
        pass::check(config, &self.cache, (rows, embd), &mut self.scratch.n_past)?;
        let n_wanted = rows.iter().filter(|row| row.want_logits).count();
        logits.n_vocab = config.n_vocab as usize;
        logits.values.clear();
        logits.values.reserve(logits.n_vocab * n_wanted);
        let mut left = rows;
        while !left.is_empty() {
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let pass = self.first_pass(left)?;
            // Not `as_deref_mut`, which would lend the observer for good.
            let observer = observer.as_mut().map(|o| &mut **o as &mut dyn Observe);
            self.run_pass(&pass, embd, cancel, observer, &mut logits.values)?;
            left = &left[pass.rows.len()..];
        }
        Ok(())
    }

    /// As many of the first rows as one pass takes.
    fn first_pass<'r>(&self, rows: &'r [Row]) -> Result<Pass<'r>> {
        let (config, _) = self.model.text()?;
        Ok(match self.cache.is_ours() {
            true => Pass::of_any_rows(rows, config),
            false => Pass::of_segments(rows, config, &self.cache),
        })
    }

    /// Runs one pass, and adds its logits to `logits`.
    fn run_pass(
        &mut self,
        pass: &Pass,
        embd: &[f32],
        cancel: &Cancel,
        observer: Option<&mut dyn Observe>,
        logits: &mut Vec<f32>,
    ) -> Result<()> {
        let model = self.model.clone();
        let (config, _) = model.text()?;
        let loaded = match self.loaded.take() {
            Some(loaded) if loaded.topology == pass.topology && observer.is_none() => loaded,
            _ => self.load(&pass.topology, observer.as_deref())?,
        };
        pass.set_inputs((&mut self.executor, &loaded.io), &self.cache, embd, &mut self.scratch)?;
        self.executor.compute(cancel)?;
        if let Some(head) = &loaded.io.head {
            let first = logits.len();
            logits.resize(first + config.n_vocab as usize * pass.topology.n_out as usize, 0.0);
            self.executor.read_f32(head.logits, &mut logits[first..])?;
            self.refuse_poison(pass, &logits[first..])?;
        }
        for row in pass.rows {
            self.cache.filled(row.seq, row.pos);
        }
        match observer {
            // Watched nodes are copied at every compute, so this graph does not stay.
            Some(observer) => loaded.watched.report(&self.executor, observer)?,
            None => self.loaded = Some(loaded),
        }
        Ok(())
    }

    /// `logits [n_vocab, n_out]` must be numbers. Sequences whose are not are wiped, since what is left of them
    /// would haunt the next one in their place.
    fn refuse_poison(&mut self, pass: &Pass, logits: &[f32]) -> Result<()> {
        let (config, _) = self.model.text()?;
        let wanted = pass.rows.iter().filter(|row| row.want_logits);
        let mut is_sound = true;
        for (row, logits) in wanted.zip(logits.chunks_exact(config.n_vocab as usize)) {
            if !logits.iter().all(|l| l.is_finite()) {
                self.cache.wipe(row.seq)?;
                is_sound = false;
            }
        }
        if is_sound {
            return Ok(());
        }
        Err(Error::format(&self.model.0.label, "logits: expected numbers, found infinities or NaN"))
    }

    fn load(&mut self, topology: &Topology, observer: Option<&dyn Observe>) -> Result<Loaded> {
        let (graph, io, watched) = self.build(topology, observer)?;
        self.executor.load(graph)?;
        Ok(Loaded { topology: topology.clone(), io, watched })
    }

    fn build(&self, topology: &Topology, observer: Option<&dyn Observe>) -> Result<(Graph, Io, Watched)> {
        let (config, weights) = self.model.text()?;
        let mut graph = GraphBuilder::new(self.model.backend(), text::max_nodes(config)?)?;
        graph.attach_weights(&self.model.0.weights);
        graph.attach_memory(self.cache.memory());
        let mut net = Net::new(graph, self.model.0.kernels, observer);
        let io = text::build(&mut net, config, weights, &self.cache, topology);
        let (graph, watched) = net.finish();
        Ok((graph, io, watched))
    }
}
