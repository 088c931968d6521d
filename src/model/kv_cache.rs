//! What the decoder remembers: keys and values of every token, a slot a sequence, a cell a position. Comes
//! in: the rows of a pass and where they go. Goes out: handles of a slot's first cells, as attention reads
//! them. Knows no tokens and no layers but by number.
//!
//! A cell's place is its position, so the order of sums in attention never depends on how cells were filled.
//! Cells behind a slot's end are masked, and hold finite numbers: zeros at first, later what was forgotten.

mod reader;
mod rows;
mod units;

use std::ops::Range;

use ggml::{DType, Executor, Memory, Runs, Tensor};

use super::Model;
use super::layers::{Cached, Values};
use super::net::Net;
use crate::{Error, Result};
use reader::{Order, Reader};
use units::{CELL_STEP, n_cells};

pub use units::{KvHalf, KvRows, KvType, kv_bytes, kv_row_bytes};

/// Sequences that one cache may hold.
const MAX_SEQUENCES: u32 = 256;

/// Keys and values of all layers and sequences.
pub(super) struct KvCache {
    memory: Memory,
    kv_type: KvType,
    layers: Vec<Layer>,
    n_ctx: u32,
    n_embd_kv: u64,
    head_dim: u64,
    /// Positions that are filled, a sequence.
    n_past: Vec<u32>,
}

/// The tensors of a layer, cell `seq * n_cells + pos`.
#[derive(Clone, Copy)]
pub(super) struct Layer {
    reader: Reader,
    /// `[n_embd_kv, n_cells * n_seq]`
    pub(super) k: Tensor,
    /// As its [`Order`] says. Memory of the CPU is touched only as the context fills.
    pub(super) v: Tensor,
}

/// Graph inputs that say where the rows of a pass go, the same for all layers.
pub(super) struct Places {
    /// The cells `[n_rows]` i64
    pub(super) cells: Tensor,
    /// `[n_embd_kv * n_rows]` where values lie by columns
    v: Option<Tensor>,
}

impl KvCache {
    /// # Errors
    /// `Limit`: longer than the model was trained for, or too many sequences. `Unsupported`: heads that
    /// blocks cannot hold.
    pub(super) fn new(model: &Model, n_ctx: u32, n_seq: u32, kv_type: KvType) -> Result<KvCache> {
        let (config, weights) = model.text()?;
        if n_ctx == 0 || n_seq == 0 {
            return Err(Error::request(format_args!(
                "context: expected some positions, found {n_ctx} for {n_seq} sequences"
            )));
        }
        if n_ctx > config.n_ctx_train {
            return Err(Error::limit("context of the model", config.n_ctx_train.into(), n_ctx.into()));
        }
        if n_seq > MAX_SEQUENCES {
            return Err(Error::limit("sequences", MAX_SEQUENCES.into(), n_seq.into()));
        }
        let (head_dim, n_embd_kv) = (u64::from(config.head_dim()), u64::from(config.n_embd_kv()));
        let block_len = kv_type.dtype().block_len();
        if !head_dim.is_multiple_of(block_len) {
            return Err(Error::unsupported(
                format_args!("kv type {}", kv_type.dtype()),
                format_args!("expected heads of a multiple of {block_len}, found {head_dim}"),
            ));
        }
        let n_rows = n_cells(n_ctx) * u64::from(n_seq);
        let k_ne = [n_embd_kv, n_rows, 1, 1];
        let (mut tensors, mut readers) = (Vec::new(), Vec::new());
        for (il, block) in weights.blocks.iter().enumerate() {
            // Beside the weights that make them.
            let place = model.0.weights.place(block.attn_norm.weight);
            let reader = Reader::of(model, config, kv_type, place)?;
            let v_ne = match reader.order() {
                Order::Rows => k_ne,
                Order::Steps => [1, n_embd_kv * n_rows, 1, 1],
                Order::Columns => [n_rows, n_embd_kv, 1, 1],
            };
            tensors.push((format!("k.{il}"), kv_type.dtype(), k_ne, place));
            tensors.push((format!("v.{il}"), kv_type.dtype(), v_ne, place));
            readers.push(reader);
        }
        let specs: Vec<_> =
            tensors.iter().map(|(name, dtype, ne, place)| (name.as_str(), *dtype, *ne, *place)).collect();
        let memory = Memory::placed(model.backend(), &specs)?;
        let layers = (0..).zip(readers).map(|(il, reader)| Layer::of(&memory, il, reader));
        let layers = layers.collect::<Result<_>>()?;
        let n_past = vec![0; n_seq as usize];
        Ok(KvCache { memory, kv_type, layers, n_ctx, n_embd_kv, head_dim, n_past })
    }

    /// Whether kernels of ours attend in every layer.
    pub(super) fn is_ours(&self) -> bool {
        self.layers.iter().all(|layer| layer.reader == Reader::Ours)
    }

    /// Whether some layer's scores are all held at once.
    pub(super) fn holds_scores(&self) -> bool {
        self.layers.iter().any(|layer| !matches!(layer.reader, Reader::Ours | Reader::Flash))
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(super) fn n_ctx(&self) -> u32 {
        self.n_ctx
    }

    /// Filled positions of a sequence.
    pub(super) fn n_past(&self, seq: u32) -> Option<u32> {
        self.n_past.get(seq as usize).copied()
    }

    /// Position `pos` of `seq` is filled.
    pub(super) fn filled(&mut self, seq: u32, pos: u32) {
        self.n_past[seq as usize] = pos + 1;
    }

    /// Forgets all positions from `n_past` on.
    pub(super) fn truncate(&mut self, seq: u32, n_past: u32) {
        if let Some(filled) = self.n_past.get_mut(seq as usize) {
            *filled = (*filled).min(n_past);
        }
    }

    pub(super) fn n_past_of_all(&self) -> &[u32] {
        &self.n_past
    }

    /// The same cells in a cache of `n_ctx` positions a sequence.
    ///
    /// # Errors
    /// As [`new`](Self::new); `Request` where something filled would not fit.
    pub(super) fn resized(&self, model: &Model, n_ctx: u32) -> Result<KvCache> {
        let longest = self.n_past.iter().copied().max().unwrap_or(0);
        if longest > n_ctx {
            return Err(Error::request(format_args!("context: expected at least {longest}, found {n_ctx}")));
        }
        let mut resized = KvCache::new(model, n_ctx, self.n_past.len() as u32, self.kv_type)?;
        resized.n_past.clone_from(&self.n_past);
        for (from, to) in self.layers.iter().zip(&resized.layers) {
            for (from, to, order) in [(from.k, to.k, Order::Rows), (from.v, to.v, from.reader.order())] {
                for (seq, &n_past) in (0..).zip(&self.n_past) {
                    let cells = 0..n_cells(n_past);
                    let mut bytes = vec![0; self.bytes(cells.end * self.n_embd_kv) as usize];
                    self.memory.read_runs(from, self.runs(order, seq, cells.clone()), &mut bytes)?;
                    resized.memory.write_runs(to, resized.runs(order, seq, cells), &bytes)?;
                }
            }
        }
        Ok(resized)
    }

    /// Where the cells of a sequence begin, in bytes, in every tensor but those of columns.
    fn slot(&self, seq: u64) -> usize {
        (seq * self.bytes(self.n_embd_kv * n_cells(self.n_ctx))) as usize
    }

    /// Cells of all sequences.
    fn n_all_cells(&self) -> u64 {
        n_cells(self.n_ctx) * self.n_past.len() as u64
    }

    /// Where `cells` of a sequence lie in a tensor of `order`; whole steps of them where it has steps.
    fn runs(&self, order: Order, seq: u64, cells: Range<u64>) -> Runs {
        let (first, n) = (seq * n_cells(self.n_ctx) + cells.start, cells.end - cells.start);
        // Elements that lie side by side for each cell, and how often there are such.
        let (width, n_runs) = match order {
            Order::Rows | Order::Steps => (self.n_embd_kv, 1),
            Order::Columns => (1, self.n_embd_kv),
        };
        let bytes = |n_cells: u64| self.bytes(n_cells * width) as usize;
        Runs {
            offset: bytes(first),
            run_bytes: bytes(n),
            n: n_runs as usize,
            stride: bytes(self.n_all_cells()),
        }
    }

    /// Forgets a sequence and zeroes its cells: what is masked counts as zero times its value, which NaN and
    /// infinity survive.
    pub(super) fn wipe(&mut self, seq: u32) -> Result<()> {
        let zeros = vec![0; self.bytes(self.n_embd_kv * CELL_STEP) as usize];
        for first in (0..n_cells(self.n_ctx)).step_by(CELL_STEP as usize) {
            for layer in &self.layers {
                for (tensor, order) in [(layer.k, Order::Rows), (layer.v, layer.reader.order())] {
                    let runs = self.runs(order, seq.into(), first..first + CELL_STEP);
                    self.memory.write_runs(tensor, runs, &zeros)?;
                }
            }
        }
        self.truncate(seq, 0);
        Ok(())
    }

    /// Bytes of `n` cached values, a whole number of blocks.
    fn bytes(&self, n: u64) -> u64 {
        self.kv_type.dtype().row_bytes(n).unwrap_or(0)
    }

    /// Cells that attention reads for a row at `pos`: a whole number of steps.
    pub(super) fn n_kv(&self, pos: u32) -> u64 {
        n_cells(pos + 1)
    }

    /// Declares the inputs for a pass of `n_rows`.
    pub(super) fn places(&self, net: &mut Net, n_rows: u64) -> Places {
        let cells = net.graph.input("k_places", DType::I64, [n_rows, 1, 1, 1]);
        let n_elements = n_rows * self.n_embd_kv;
        let has_steps = self.layers.iter().any(|layer| layer.reader.order() == Order::Steps);
        let v = has_steps.then(|| net.graph.input("v_places", DType::I64, [n_elements, 1, 1, 1]));
        Places { cells, v }
    }

    /// Sets the inputs: rows of `(seq, pos)`.
    pub(super) fn set_places(
        &self,
        executor: &mut Executor,
        places: &Places,
        rows: &[(u32, u32)],
        scratch: &mut Vec<i64>,
    ) -> Result<()> {
        let n_cells = n_cells(self.n_ctx);
        let cells = rows.iter().map(|&(seq, pos)| u64::from(seq) * n_cells + u64::from(pos));
        scratch.clear();
        scratch.extend(cells.clone().map(|cell| cell as i64));
        executor.set_i64(places.cells, scratch)?;
        if let Some(v) = places.v {
            let elements = cells.flat_map(|cell| {
                let (step, at) = (cell / CELL_STEP, cell % CELL_STEP);
                let first = step * CELL_STEP * self.n_embd_kv + at;
                (0..self.n_embd_kv).map(move |i| (first + i * CELL_STEP) as i64)
            });
            scratch.clear();
            scratch.extend(elements);
            executor.set_i64(v, scratch)?;
        }
        Ok(())
    }

    /// Stores `k` and `v`, both `[n_embd_kv, n_rows]`, and yields the layer as it is then.
    pub(super) fn store(&self, net: &mut Net, il: u32, places: &Places, k: Tensor, v: Tensor) -> Layer {
        let layer = self.layers[il as usize];
        let k = net.graph.set_rows(layer.k, k, places.cells);
        let v = match (layer.reader.order(), places.v) {
            (Order::Steps, Some(v_places)) => {
                let n_elements = net.graph.ne(v).iter().product();
                let elements = net.graph.reshape(v, [1, n_elements, 1, 1]);
                net.graph.set_rows(layer.v, elements, v_places)
            }
            (Order::Columns, _) => {
                // Each element of a row goes to one cell of its own column, so rows of one element and the cells' numbers say it all.
                let [n_embd_kv, n_rows, ..] = net.graph.ne(v);
                let f32_bytes = size_of::<f32>() as u64;
                let elements = [1, n_rows, n_embd_kv];
                let elements = net.graph.view_3d(v, elements, [n_embd_kv * f32_bytes, f32_bytes], 0);
                let n_cells = self.n_all_cells();
                let strides = [self.bytes(1), self.bytes(n_cells)];
                let columns = net.graph.view_3d(layer.v, [1, n_cells, n_embd_kv], strides, 0);
                net.graph.set_rows(columns, elements, places.cells)
            }
            _ => net.graph.set_rows(layer.v, v, places.cells),
        };
        Layer { k, v, ..layer }
    }

    /// The first `n_kv` cells of a sequence.
    pub(super) fn cells(&self, net: &mut Net, layer: Layer, seq: u32, n_kv: u64) -> Cached {
        let bytes = |n: u64| self.bytes(n);
        let slot_bytes = bytes(self.n_embd_kv) * n_cells(self.n_ctx);
        let n_head_kv = self.n_embd_kv / self.head_dim;
        let offset = u64::from(seq) * slot_bytes;

        let rows_ne = [self.head_dim, n_kv, n_head_kv];
        let rows_nb = [bytes(self.n_embd_kv), bytes(self.head_dim)];
        let k = net.graph.view_3d(layer.k, rows_ne, rows_nb, offset);
        match layer.reader {
            Reader::Ours | Reader::Flash => {
                let v = net.graph.view_3d(layer.v, rows_ne, rows_nb, offset);
                Cached::Rows { k, v }
            }
            Reader::RemoteProducts => {
                let v = net.graph.view_2d(layer.v, [self.n_embd_kv, n_kv], rows_nb[0], offset);
                Cached::ForProducts { k, v: Values::Rows(v) }
            }
            Reader::DeviceProducts => {
                let column = bytes(self.n_all_cells());
                let ne = [n_kv, self.head_dim, n_head_kv];
                let first = bytes(u64::from(seq) * n_cells(self.n_ctx));
                let v = net.graph.view_3d(layer.v, ne, [column, self.head_dim * column], first);
                Cached::ForProducts { k, v: Values::Columns(v) }
            }
            Reader::Products => {
                let v = net.graph.view_1d(layer.v, n_kv * self.n_embd_kv, offset);
                let v = net.graph.reshape(v, [CELL_STEP, self.head_dim, n_head_kv, n_kv / CELL_STEP]);
                Cached::Columns { k, v }
            }
        }
    }
}

impl Layer {
    fn of(memory: &Memory, il: u32, reader: Reader) -> Result<Layer> {
        let tensor = |name: &str| {
            memory
                .tensor(&format!("{name}.{il}"))
                .ok_or_else(|| Error::internal(format_args!("cache without {name}.{il}")))
        };
        Ok(Layer { reader, k: tensor("k")?, v: tensor("v")? })
    }
}
