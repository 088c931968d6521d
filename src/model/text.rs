//! The graph of the decoder: token ids and embedding rows in, logits out, keys and values into the cache on
//! the way. Formulas: transformers' modeling_llama.py; rows of q and k are stored in pairs, as llama.cpp has
//! them. All matrices run over all rows of a pass at once; ggml's attention runs sequence by sequence. Each block runs where
//! its weights lie. Must not know
//! how rows are chosen.

use std::sync::Arc;

use ggml::{DType, Place, Rope, RopeMode, Tensor};
use owlet_format::TextConfig;

use super::kv_cache::{KvCache, Layer, Places};
use super::layers::{attention_over_cells, linear};
use super::net::Net;
use super::operand::{Operand, Sum, join, norm, swiglu};
use super::weights::{TextBlock, TextWeights};
use crate::kernels::{Heads, Rotate};
use crate::{Error, Result};

/// All that decides the shape of a graph: passes of the same topology run the same graph with other inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Topology {
    /// Rows that are token ids, and rows that are embeddings.
    pub(super) n_tokens: u64,
    pub(super) n_embedded: u64,
    /// Neighbouring rows of one sequence, in row order, where ggml attends; our kernels find sequences by
    /// themselves.
    pub(super) segments: Vec<Segment>,
    /// Rows whose logits are wanted.
    pub(super) n_out: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) seq: u32,
    pub(super) n_rows: u64,
    /// Cells that its rows look at.
    pub(super) n_kv: u64,
}

/// What is set before a graph runs, and read after.
pub(super) struct Io {
    pub(super) rows: RowInput,
    /// `[n_rows]` i32
    pub(super) positions: Tensor,
    /// `[rope_dim, n_rows]`, see [`turns`](crate::kernels::turns), where a block runs on the CPU
    pub(super) turns: Option<Tensor>,
    pub(super) places: Places,
    /// `[n_kv, n_rows]` f16, a segment each, where ggml attends
    pub(super) masks: Vec<Tensor>,
    pub(super) head: Option<Head>,
}

/// `tokens [n_tokens]` i32, `embedded [n_embd, n_embedded]` f32.
pub(super) enum RowInput {
    Tokens {
        tokens: Tensor,
    },
    Embedded {
        embedded: Tensor,
    },
    /// `order [n_rows]` i32: for every row its place among the tokens, then the embeddings.
    Mixed {
        tokens: Tensor,
        embedded: Tensor,
        order: Tensor,
    },
}

pub(super) struct Head {
    /// `[n_out]` i32, the rows whose logits are wanted
    pub(super) wanted: Tensor,
    /// `[n_vocab, n_out]`
    pub(super) logits: Tensor,
}

/// What ggml takes for one graph.
const MAX_NODES: u32 = 1 << 16;

/// Segments of one pass; each one has attention nodes of its own in every block.
pub(super) const MAX_SEGMENTS: usize = 16;

/// Nodes of the largest graph, from above.
///
/// # Errors
/// `Limit`: more layers than ggml takes nodes for.
pub(super) fn max_nodes(config: &TextConfig) -> Result<usize> {
    const OF_A_BLOCK: u32 = 48 + 16 * MAX_SEGMENTS as u32;
    const OF_THE_REST: u32 = 64 + 2 * MAX_SEGMENTS as u32;
    const MAX_LAYERS: u32 = (MAX_NODES - OF_THE_REST) / OF_A_BLOCK;
    if config.n_layer > MAX_LAYERS {
        return Err(Error::limit("layers of the text model", MAX_LAYERS.into(), config.n_layer.into()));
    }
    Ok((OF_THE_REST + OF_A_BLOCK * config.n_layer) as usize)
}

/// Builds the graph of a pass.
pub(super) fn build(
    net: &mut Net,
    config: &TextConfig,
    w: &TextWeights,
    cache: &KvCache,
    topology: &Topology,
) -> Io {
    let n_rows = topology.n_tokens + topology.n_embedded;
    let (rows, mut x) = embed(net, config, w, topology);
    // What all blocks read lies with those on a device, if there are any: nothing is copied to where it is. Several devices
    // get their copies from the CPU.
    let places: Vec<_> = w.blocks.iter().map(|block| net.graph.place_of(block.attn_norm.weight)).collect();
    let mut devices = places.iter().filter(|place| place.is_device());
    let first = devices.next().copied().unwrap_or_default();
    net.graph.set_place(if devices.all(|&device| device == first) { first } else { Place::Cpu });
    let positions = net.graph.input("positions", DType::I32, [n_rows, 1, 1, 1]);
    let turns = places
        .contains(&Place::Cpu)
        .then(|| net.graph.input("turns", DType::F32, [config.rope_dim.into(), n_rows, 1, 1]));
    let places = cache.places(net, n_rows);
    let mask = |s: &Segment| net.graph.input("mask", DType::F16, [s.n_kv, s.n_rows, 1, 1]);
    let masks: Vec<_> = topology.segments.iter().map(mask).collect();

    let mut io = Io { rows, positions, turns, places, masks, head: None };
    let block = Block { config, cache, segments: &topology.segments, io: &io };
    for (il, weights) in (0..).zip(&w.blocks) {
        x = block.build(net, il, weights, x);
    }
    if topology.n_out == 0 {
        // The cache is all that this pass is for; the graph still needs an end.
        net.graph.output(x);
        return io;
    }
    net.follow(w.output_norm.weight);
    let wanted = net.graph.input("wanted", DType::I32, [topology.n_out, 1, 1, 1]);
    let rows = net.graph.get_rows(x, wanted);
    let mut rows = norm(&w.output_norm, rows).named(net, "output_norm");
    let logits = linear(net, &w.output, &mut rows).tensor(net);
    net.graph.output(logits);
    let logits = net.name(logits, "logits");
    io.head = Some(Head { wanted, logits });
    io
}

/// The input of the rows, and what block 0 reads: `[n_embd, n_rows]`.
fn embed(net: &mut Net, config: &TextConfig, w: &TextWeights, topology: &Topology) -> (RowInput, Tensor) {
    let Topology { n_tokens, n_embedded, .. } = *topology;
    net.follow(w.token_embd);
    let tokens = |net: &mut Net| net.graph.input("tokens", DType::I32, [n_tokens, 1, 1, 1]);
    let embedded =
        |net: &mut Net| net.graph.input("embedded", DType::F32, [config.n_embd.into(), n_embedded, 1, 1]);
    let (input, rows) = if n_embedded == 0 {
        let tokens = tokens(net);
        (RowInput::Tokens { tokens }, net.graph.get_rows(w.token_embd, tokens))
    } else if n_tokens == 0 {
        let embedded = embedded(net);
        (RowInput::Embedded { embedded }, embedded)
    } else {
        let (tokens, embedded) = (tokens(net), embedded(net));
        let order = net.graph.input("order", DType::I32, [n_tokens + n_embedded, 1, 1, 1]);
        let looked_up = net.graph.get_rows(w.token_embd, tokens);
        let all = net.graph.concat(looked_up, embedded, 1);
        (RowInput::Mixed { tokens, embedded, order }, net.graph.get_rows(all, order))
    };
    (input, net.name(rows, "inp_embd"))
}

/// What all blocks of a graph share.
struct Block<'a> {
    config: &'a TextConfig,
    cache: &'a KvCache,
    segments: &'a [Segment],
    io: &'a Io,
}

impl Block<'_> {
    /// Block `il` on `x [n_embd, n_rows]`.
    fn build(&self, net: &mut Net, il: u32, w: &TextBlock, x: Tensor) -> Tensor {
        net.follow(w.attn_norm.weight);
        let branch = self.attention(net, il, w, norm(&w.attn_norm, x));
        let x = join(net, x, branch, None);

        let mut normal = norm(&w.ffn_norm, x);
        let gate = linear(net, &w.gate, &mut normal);
        let up = linear(net, &w.up, &mut normal);
        let mut branch = swiglu(net, gate, up);
        let branch = linear(net, &w.down, &mut branch);
        let x = join(net, x, branch, None);
        net.name(x, format_args!("blk.{il}.out"))
    }

    fn attention(&self, net: &mut Net, il: u32, w: &TextBlock, mut x: Operand) -> Sum {
        let (n_head, n_head_kv) = (self.config.n_head.into(), self.config.n_head_kv.into());
        let q = linear(net, &w.q, &mut x).tensor(net);
        let q = self.rotated(net, q, n_head);
        let k = linear(net, &w.k, &mut x).tensor(net);
        let k = self.rotated(net, k, n_head_kv);
        let v = linear(net, &w.v, &mut x).tensor(net);

        let [head_dim, _, n_rows, _] = net.graph.ne(q);
        // A view, not another shape: CUDA's backend turns and stores in one kernel then.
        let n_embd_kv = head_dim * n_head_kv;
        let k = net.graph.view_2d(k, [n_embd_kv, n_rows], n_embd_kv * size_of::<f32>() as u64, 0);
        let layer = self.cache.store(net, il, &self.io.places, k, v);
        let heads = Heads { n_head, n_head_kv, head_dim };
        let out = match net.kernels().attend_cells(heads) {
            Some(op) => {
                let ne = [head_dim * n_head, n_rows, 1, 1];
                let q = net.graph.reshape(q, ne);
                let args = [q, layer.k, layer.v, self.io.positions, self.io.places.cells];
                net.graph.custom("attention", DType::F32, ne, &args, op)
            }
            None => self.attention_by_segments(net, q, layer),
        };
        linear(net, &w.out, &mut Operand::given(out)).named(net, format_args!("blk.{il}.attn_out"))
    }

    /// Attention of `q [head_dim, n_head, n_rows]` sequence by sequence: `[head_dim * n_head, n_rows]`.
    fn attention_by_segments(&self, net: &mut Net, q: Tensor, layer: Layer) -> Tensor {
        let [head_dim, n_head, ..] = net.graph.ne(q);
        let mut first_row = 0;
        let mut joined = None;
        for (segment, &mask) in self.segments.iter().zip(&self.io.masks) {
            let row_bytes = head_dim * size_of::<f32>() as u64;
            let strides = [row_bytes, row_bytes * n_head];
            let own =
                net.graph.view_3d(q, [head_dim, n_head, segment.n_rows], strides, first_row * strides[1]);
            let cells = self.cache.cells(net, layer, segment.seq, segment.n_kv);
            let out = attention_over_cells(net, own, &cells, mask);
            joined = Some(joined.map_or(out, |before| net.graph.concat(before, out, 1)));
            first_row += segment.n_rows;
        }
        joined.unwrap_or(q)
    }

    /// `x [head_dim * n_head, n_rows]` as heads, turned by their rows' positions: `[head_dim, n_head,
    /// n_rows]`.
    fn rotated(&self, net: &mut Net, x: Tensor, n_head: u64) -> Tensor {
        let [width, n_rows, ..] = net.graph.ne(x);
        let head_dim = width / n_head;
        let heads = [head_dim, n_head, n_rows, 1];
        match self.io.turns.filter(|_| net.graph.place() == Place::Cpu) {
            Some(turns) => {
                let op = Arc::new(Rotate { head_dim: head_dim as usize });
                let x = net.graph.custom("rotate", DType::F32, [width, n_rows, 1, 1], &[x, turns], op);
                net.graph.reshape(x, heads)
            }
            None => {
                let x = net.graph.reshape(x, heads);
                let (n_dims, freq_base) = (self.config.rope_dim, self.config.rope_base);
                net.graph.rope(x, self.io.positions, Rope { n_dims, mode: RopeMode::Normal, freq_base })
            }
        }
    }
}
