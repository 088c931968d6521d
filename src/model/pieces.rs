//! A step of the tower cut into pieces of rows, so that others wait less. Comes in: how many multiplications may be
//! done. Goes out: which rows of which step those are, and what their graph is.
//!
//! A block is gone over twice: first every row's queries, keys and values are put aside, then each row attends and goes on, and
//! takes its place among the hidden rows. Layers treat rows alone, so cutting changes no bit. Only blocks in which a kernel of ours
//! attends can be cut. Knows no picture.

use std::ops::Range;

use ggml::{DType, Memory, Place, Tensor};
use owlet_format::VisionConfig;

use super::Model;
use super::net::Net;
use super::tower::{self, Attended};
use super::views;
use super::weights::VisionBlock;
use crate::kernels::Heads;
use crate::{Error, Result};

/// Fewer rows at a time would unpack weights for little.
const MIN_ROWS: u32 = 16;

/// What one graph computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Patches,
    /// All of a block.
    Block(u32),
    /// Queries, keys and values of some rows of a block.
    Attended(u32, Range<u32>),
    /// What a block makes of some rows, when all of them have queries, keys and values.
    Behind(u32, Range<u32>),
    /// Some rows of the projector.
    Project(Range<u32>),
}

/// How steps of a tower are cut.
pub(super) struct Pieces {
    n_layer: u32,
    n_positions: u32,
    n_image_tokens: u32,
    /// Multiplications of a row.
    attended: u64,
    behind: u64,
    project: u64,
    patches: u64,
    /// Which blocks can be cut.
    can_cut: Vec<bool>,
    aside: Option<Aside>,
}

/// What all rows of a block attend with and to.
struct Aside {
    memory: Memory,
    /// `[3 * n_embd, n_positions]`
    qkv: Tensor,
    /// `[n_embd, n_positions]` where they are not those of `qkv`.
    keys: Option<Tensor>,
}

/// A block: the tower's config, its weights, its number.
type Block<'a> = (&'a VisionConfig, &'a VisionBlock, u32);

impl Pieces {
    /// # Errors
    /// The model has no vision tower.
    pub(super) fn of(model: &Model) -> Result<Pieces> {
        let (config, weights) = model.vision()?;
        let (n_embd, n_ff) = (u64::from(config.n_embd), u64::from(config.n_ff));
        let n_pixels = u64::from(config.patch_px * config.patch_px * 3);
        let heads = Heads {
            n_head: config.n_head.into(),
            n_head_kv: config.n_head.into(),
            head_dim: config.head_dim().into(),
        };
        let attends = model.0.kernels.attend_all(heads, [0; 3]).is_some();
        let on_cpu = |w: &VisionBlock| model.0.weights.place(w.norm1.weight) == Place::Cpu;
        let projector = model.0.projector.as_ref().map(|(projector, _)| projector);
        let n_shuffled = projector.map_or(1, |projector| projector.ratio * projector.ratio);
        let project = projector.map_or(0, |projector| {
            let n_out = u64::from(projector.n_embd_out);
            (u64::from(projector.n_embd_in(config.n_embd)) + n_out) * n_out
        });
        Ok(Pieces {
            n_layer: config.n_layer,
            n_positions: config.n_positions(),
            n_image_tokens: config.n_patches() / n_shuffled,
            attended: 3 * n_embd * n_embd,
            behind: n_embd * (n_embd + 2 * n_ff + 2 * u64::from(config.n_positions())),
            project,
            patches: u64::from(config.n_patches()) * n_pixels * n_embd,
            can_cut: weights.blocks.iter().map(|w| attends && on_cpu(w)).collect(),
            aside: None,
        })
    }

    /// What comes behind `before`, a piece of step `step`, or begins that step.
    pub(super) fn next(&self, step: u32, before: Option<&Piece>, max_operations: u64) -> Piece {
        let rows = |first: u32, n_all: u32, n_operations: u64| {
            let n_rows = u32::try_from(max_operations / n_operations.max(1)).unwrap_or(u32::MAX);
            first..first.saturating_add(n_rows.max(MIN_ROWS)).min(n_all)
        };
        let Some(il) = step.checked_sub(1) else { return Piece::Patches };
        if il == self.n_layer {
            let first = if let Some(Piece::Project(rows)) = before { rows.end } else { 0 };
            return Piece::Project(rows(first, self.n_image_tokens, self.project));
        }
        let attended = |first| Piece::Attended(il, rows(first, self.n_positions, self.attended));
        let behind = |first| Piece::Behind(il, rows(first, self.n_positions, self.behind));
        match before {
            Some(Piece::Attended(_, rows)) if rows.end < self.n_positions => attended(rows.end),
            Some(Piece::Attended(..)) => behind(0),
            Some(Piece::Behind(_, rows)) => behind(rows.end),
            _ => {
                let all = (self.attended + self.behind) * u64::from(self.n_positions);
                let is_cut = max_operations < all && self.can_cut[il as usize];
                if is_cut { attended(0) } else { Piece::Block(il) }
            }
        }
    }

    /// Whether its step is done with `piece`.
    pub(super) fn ends_step(&self, piece: &Piece) -> bool {
        match piece {
            Piece::Patches | Piece::Block(_) => true,
            Piece::Attended(..) => false,
            Piece::Behind(_, rows) => rows.end == self.n_positions,
            Piece::Project(rows) => rows.end == self.n_image_tokens,
        }
    }

    pub(super) fn n_operations(&self, piece: &Piece) -> u64 {
        let n = |rows: &Range<u32>| u64::from(rows.end - rows.start);
        match piece {
            Piece::Patches => self.patches,
            Piece::Block(_) => (self.attended + self.behind) * u64::from(self.n_positions),
            Piece::Attended(_, rows) => n(rows) * self.attended,
            Piece::Behind(_, rows) => n(rows) * self.behind,
            Piece::Project(rows) => n(rows) * self.project,
        }
    }

    /// Sees to the memory that `piece` puts things aside in.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn make_room(&mut self, model: &Model, piece: &Piece) -> Result<()> {
        if self.aside.is_none() && matches!(piece, Piece::Attended(..)) {
            self.aside = Some(Aside::new(model)?);
        }
        Ok(())
    }

    /// Puts queries, keys and values of the rows `rows` of `hidden` aside.
    ///
    /// # Panics
    /// Where there is no [room](Self::make_room).
    pub(super) fn attended(&self, net: &mut Net, (config, w, il): Block, hidden: Tensor, rows: &Range<u32>) {
        let aside = self.aside(net);
        net.follow(w.norm1.weight);
        let hidden = views::rows(net, hidden, rows.clone());
        let qkv = tower::qkv(net, w, hidden);
        let to = views::rows(net, aside.qkv, rows.clone());
        net.graph.cpy(qkv, to);
        if let Some(all) = aside.keys {
            let (keys, _) = tower::keys(net, config, w, il, qkv);
            let to = views::rows(net, all, rows.clone());
            net.graph.cpy(keys, to);
        }
    }

    /// What block `il` makes of the rows `rows` of `hidden`, in their place.
    ///
    /// # Panics
    /// As [`attended`](Self::attended).
    pub(super) fn behind(&self, net: &mut Net, (config, w, il): Block, hidden: Tensor, rows: &Range<u32>) {
        let aside = self.aside(net);
        net.follow(w.norm1.weight);
        let keys = aside.keys.map_or((aside.qkv, config.n_embd.into()), |keys| (keys, 0));
        let qkv = views::rows(net, aside.qkv, rows.clone());
        let hidden = views::rows(net, hidden, rows.clone());
        let out = tower::behind(net, config, (w, il), hidden, Attended { qkv, keys, values: aside.qkv });
        net.graph.cpy(out, hidden);
    }

    fn aside(&self, net: &mut Net) -> &Aside {
        let Some(aside) = &self.aside else { panic!("expected room for what rows attend with") };
        net.graph.attach_memory(&aside.memory);
        aside
    }
}

impl Aside {
    fn new(model: &Model) -> Result<Aside> {
        let (config, weights) = model.vision()?;
        let (n_embd, n_positions) = (u64::from(config.n_embd), u64::from(config.n_positions()));
        let has_norm = weights.blocks.iter().any(|w| w.k_norm.is_some());
        let spec = |name, n| (name, DType::F32, [n, n_positions, 1, 1]);
        let specs = [spec("qkv", 3 * n_embd), spec("keys", n_embd)];
        let memory = Memory::new(model.backend(), &specs[..1 + usize::from(has_norm)])?;
        let qkv = memory.tensor("qkv").ok_or_else(|| Error::internal("no tensor put aside"))?;
        let keys = memory.tensor("keys");
        Ok(Aside { memory, qkv, keys })
    }
}
