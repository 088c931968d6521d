//! One run of the decoder's graph: which rows it takes, the topology they need, and the values of its inputs.
//! Comes in: the rows of a call. Goes out: inputs set. Computes nothing.

use ggml::Executor;
use owlet_format::TextConfig;

use super::kv_cache::KvCache;
use super::row::{Input, Row};
use super::text::{Io, MAX_SEGMENTS, RowInput, Segment, Topology};
use crate::kernels::Turns;
use crate::{Error, Result};

/// Rows of one pass: enough that unpacking weights is free, few enough that a pass ends soon.
pub(super) const MAX_ROWS: usize = 512;

/// Where products attend, scores of a segment are held at once; far into a context fewer rows make a pass then.
pub(super) const MAX_SCORE_BYTES: u64 = 128 << 20;

/// `0` and `-inf` in f16.
const SEEN: u16 = 0;
const HIDDEN: u16 = 0xfc00;

/// Refuses rows that do not fit model, cache and embeddings, before anything is computed.
pub(super) fn check(
    config: &TextConfig,
    cache: &KvCache,
    (rows, embd): (&[Row], &[f32]),
    n_past: &mut Vec<u32>,
) -> Result<()> {
    let n_embd = config.n_embd as usize;
    if !embd.len().is_multiple_of(n_embd) {
        return Err(Error::request(format_args!(
            "embeddings: expected rows of {n_embd}, found {} values",
            embd.len()
        )));
    }
    refill(n_past, cache.n_past_of_all().iter().copied());
    for (index, row) in rows.iter().enumerate() {
        let refused = |what: &str, expected: &dyn std::fmt::Display, found: &dyn std::fmt::Display| {
            Err(Error::request(format_args!("row {index}: {what}: expected {expected}, found {found}")))
        };
        let n_embedded = embd.len() / n_embd;
        match row.input {
            Input::Token(id) if id >= config.n_vocab => {
                return refused("token", &format_args!("less than {}", config.n_vocab), &id);
            }
            Input::Embd(row) if row >= n_embedded => {
                return refused("embedding row", &format_args!("less than {n_embedded}"), &row);
            }
            _ => {}
        }
        let n_seq = n_past.len();
        let Some(next) = n_past.get_mut(row.seq as usize) else {
            return refused("sequence", &format_args!("less than {n_seq}"), &row.seq);
        };
        if row.pos != *next {
            return refused("position", next, &row.pos);
        }
        if row.pos >= cache.n_ctx() {
            return Err(Error::limit("context", cache.n_ctx().into(), u64::from(row.pos) + 1));
        }
        *next += 1;
    }
    Ok(())
}

/// Values of inputs on their way to a graph, and what checks note: kept, so that a pass like the one before allocates nothing.
pub(super) struct Scratch {
    pub(super) n_past: Vec<u32>,
    turns: Turns,
    turned: Vec<f32>,
    ids: Vec<i32>,
    embedded: Vec<f32>,
    order: Vec<i32>,
    positions: Vec<i32>,
    places: Vec<(u32, u32)>,
    cells: Vec<i64>,
    wanted: Vec<i32>,
}

impl Scratch {
    pub(super) fn new(config: &TextConfig) -> Scratch {
        Scratch {
            n_past: Vec::new(),
            turns: Turns::new(config.rope_dim, config.rope_base),
            turned: Vec::new(),
            ids: Vec::new(),
            embedded: Vec::new(),
            order: Vec::new(),
            positions: Vec::new(),
            places: Vec::new(),
            cells: Vec::new(),
            wanted: Vec::new(),
        }
    }
}

/// `to` becomes `values`, in the memory that it has.
fn refill<T>(to: &mut Vec<T>, values: impl IntoIterator<Item = T>) {
    to.clear();
    to.extend(values);
}

/// Neighbouring rows that run together.
pub(super) struct Pass<'a> {
    pub(super) rows: &'a [Row],
    pub(super) topology: Topology,
    n_embd: usize,
}

impl<'a> Pass<'a> {
    /// As many of the first rows as one pass of our kernels takes, which find sequences by themselves.
    pub(super) fn of_any_rows(rows: &'a [Row], config: &TextConfig) -> Pass<'a> {
        let rows = &rows[..rows.len().min(MAX_ROWS)];
        let count = |is: fn(&&Row) -> bool| rows.iter().filter(is).count() as u64;
        let topology = Topology {
            n_tokens: count(|row| matches!(row.input, Input::Token(_))),
            n_embedded: count(|row| matches!(row.input, Input::Embd(_))),
            segments: Vec::new(),
            n_out: count(|row| row.want_logits),
        };
        Pass::new(rows, topology, config)
    }

    /// As many of the first rows as one pass of ggml's attention takes, at least one.
    pub(super) fn of_segments(rows: &'a [Row], config: &TextConfig, cache: &KvCache) -> Pass<'a> {
        let max_scores = match cache.holds_scores() {
            true => MAX_SCORE_BYTES / (size_of::<f32>() as u64 * u64::from(config.n_head)),
            false => u64::MAX,
        };
        let mut topology = Topology { n_tokens: 0, n_embedded: 0, segments: Vec::new(), n_out: 0 };
        let mut n_rows = 0;
        for row in rows.iter().take(MAX_ROWS) {
            let n_kv = cache.n_kv(row.pos);
            let segment = match topology.segments.last() {
                Some(last) if last.seq == row.seq => Segment { n_rows: last.n_rows + 1, n_kv, ..*last },
                _ => Segment { seq: row.seq, n_rows: 1, n_kv },
            };
            let is_full = segment.n_rows * segment.n_kv > max_scores
                || topology.segments.len() == MAX_SEGMENTS && segment.n_rows == 1;
            if n_rows > 0 && is_full {
                break;
            }
            if segment.n_rows > 1 {
                topology.segments.pop();
            }
            topology.segments.push(segment);
            match row.input {
                Input::Token(_) => topology.n_tokens += 1,
                Input::Embd(_) => topology.n_embedded += 1,
            }
            topology.n_out += u64::from(row.want_logits);
            n_rows += 1;
        }
        Pass::new(&rows[..n_rows], topology, config)
    }

    fn new(rows: &'a [Row], topology: Topology, config: &TextConfig) -> Pass<'a> {
        Pass { rows, topology, n_embd: config.n_embd as usize }
    }

    /// Sets every input of the graph that `executor` holds. `embd` is `[n_embd, n]`.
    pub(super) fn set_inputs(
        &self,
        (executor, io): (&mut Executor, &Io),
        cache: &KvCache,
        embd: &[f32],
        scratch: &mut Scratch,
    ) -> Result<()> {
        self.set_rows(executor, io, embd, scratch)?;
        refill(&mut scratch.positions, self.rows.iter().map(|row| row.pos as i32));
        executor.set_i32(io.positions, &scratch.positions)?;
        if let Some(input) = io.turns {
            refill(&mut scratch.turned, scratch.turns.at(self.rows.iter().map(|row| row.pos)));
            executor.set_f32(input, &scratch.turned);
        }
        refill(&mut scratch.places, self.rows.iter().map(|row| (row.seq, row.pos)));
        cache.set_places(executor, &io.places, &scratch.places, &mut scratch.cells)?;
        let mut rows = self.rows;
        for (segment, &mask) in self.topology.segments.iter().zip(&io.masks) {
            let (own, rest) = rows.split_at(segment.n_rows as usize);
            executor.set_f16(mask, &causal_mask(own, segment.n_kv));
            rows = rest;
        }
        if let Some(head) = &io.head {
            let wanted = (0..).zip(self.rows).filter(|(_, row)| row.want_logits);
            refill(&mut scratch.wanted, wanted.map(|(i, _)| i));
            executor.set_i32(head.wanted, &scratch.wanted)?;
        }
        Ok(())
    }

    fn set_rows(&self, executor: &mut Executor, io: &Io, embd: &[f32], scratch: &mut Scratch) -> Result<()> {
        let n_embd = self.n_embd;
        let Scratch { ids, embedded, order, .. } = scratch;
        ids.clear();
        embedded.clear();
        order.clear();
        for row in self.rows {
            match row.input {
                Input::Token(id) => {
                    order.push(ids.len() as i32);
                    ids.push(id as i32);
                }
                Input::Embd(row) => {
                    order.push((self.topology.n_tokens as usize + embedded.len() / n_embd) as i32);
                    embedded.extend_from_slice(&embd[row * n_embd..][..n_embd]);
                }
            }
        }
        match io.rows {
            RowInput::Tokens { tokens } => executor.set_i32(tokens, ids)?,
            RowInput::Embedded { embedded: input } => executor.set_f32(input, embedded),
            RowInput::Mixed { tokens, embedded: input, order: order_input } => {
                executor.set_i32(tokens, ids)?;
                executor.set_f32(input, embedded);
                executor.set_i32(order_input, order)?;
            }
        }
        Ok(())
    }
}

/// `[n_kv, n_rows]`: a row sees the cells up to its own position.
fn causal_mask(rows: &[Row], n_kv: u64) -> Vec<u16> {
    let seen = |row: &Row| {
        (0..n_kv).map(|cell| if cell <= u64::from(row.pos) { SEEN } else { HIDDEN }).collect::<Vec<_>>()
    };
    rows.iter().flat_map(seen).collect()
}
