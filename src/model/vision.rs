//! From a normalised picture to rows that the text model reads. Comes in: pixels `[n_px, n_px, 3]`. Goes out:
//! `[n_embd, n_image_tokens]`, or the tower's own rows. Runs a step at a time, a block a step, so that a
//! caller can show progress, stop, or do other work in between; and less than a step where that would keep others
//! waiting. All that lives between steps is the hidden rows. Must not know what the rows are for.

use ggml::{Cancel, DType, Executor, Graph, GraphBuilder, Memory, PlacedBytes, Tensor};

use super::grid::patch_columns;
use super::net::{Net, Watched};
use super::pieces::{Piece, Pieces};
use super::{Model, Observe, projector, tower};
use crate::{Error, Result};

/// Nodes of the largest graph, a block, with room to spare.
const MAX_NODES: usize = 128;

/// How far a picture is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub done: u32,
    /// Embedding, blocks, and the projector if it is wanted.
    pub total: u32,
}

impl Step {
    pub fn is_last(&self) -> bool {
        self.done == self.total
    }
}

/// How far a picture is, and what it took to get there from before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    pub step: Step,
    /// Multiplications in products since.
    pub n_operations: u64,
}

/// Encodes one picture at a time.
pub struct VisionEncoder {
    model: Model,
    executor: Executor,
    state: Memory,
    /// `[n_embd, n_positions]` in `state`: what the last step left.
    hidden: Tensor,
    /// Whether the projector's step comes behind the blocks.
    projects: bool,
    pieces: Pieces,
    picture: Option<Picture>,
}

struct Picture {
    /// `[patch_px * patch_px * 3, n_patches]`
    columns: Vec<f32>,
    done: u32,
    /// What of the step behind those is done.
    before: Option<Piece>,
    /// `[n_embd_text, n_image_tokens]`, as far as the projector got
    rows: Vec<f32>,
}

impl VisionEncoder {
    /// Up to the rows of the text model, if there is a projector.
    ///
    /// # Errors
    /// The model has no vision tower, or there is no memory for the hidden rows.
    pub fn new(model: &Model) -> Result<VisionEncoder> {
        VisionEncoder::up_to(model, model.projector().is_ok())
    }

    /// Up to the [`features`](Self::features), whatever comes behind them.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of_tower(model: &Model) -> Result<VisionEncoder> {
        VisionEncoder::up_to(model, false)
    }

    fn up_to(model: &Model, projects: bool) -> Result<VisionEncoder> {
        let (config, weights) = model.vision()?;
        let ne = [u64::from(config.n_embd), u64::from(config.n_positions()), 1, 1];
        let place = model.0.weights.place(weights.positions);
        let state = Memory::placed(model.backend(), &[("hidden", DType::F32, ne, place)])?;
        let hidden = state.tensor("hidden").ok_or_else(|| Error::internal("hidden rows without a tensor"))?;
        let executor = Executor::new(model.backend(), MAX_NODES)?;
        let (model, pieces) = (model.clone(), Pieces::of(model)?);
        Ok(VisionEncoder { model, executor, state, hidden, projects, pieces, picture: None })
    }

    /// Begins a picture: `pixels` is `[n_px, n_px, 3]`, x innermost, channels outermost. What was begun
    /// before is dropped.
    ///
    /// # Errors
    /// `pixels` has another size than the tower.
    pub fn start(&mut self, pixels: &[f32]) -> Result<Step> {
        let (config, _) = self.model.vision()?;
        let (n_px, patch_px) = (config.image_px as usize, config.patch_px as usize);
        if pixels.len() != n_px * n_px * 3 {
            return Err(Error::request(format_args!(
                "picture: expected [{n_px}, {n_px}, 3] values, found {}",
                pixels.len()
            )));
        }
        let columns = patch_columns(pixels, n_px, patch_px);
        self.picture = Some(Picture { columns, done: 0, before: None, rows: Vec::new() });
        self.progress()
    }

    /// Runs the next step, or what is left of it. After an error, also after [`Error::Cancelled`], the same can be tried again.
    ///
    /// # Errors
    /// Nothing was started or all is done; `cancel` was set; the backend failed.
    pub fn step(&mut self, cancel: &Cancel) -> Result<Step> {
        Ok(self.run_piece(u64::MAX, cancel, None)?.step)
    }

    /// Runs so much of the next step as takes about `max_operations` multiplications, a few rows at least: some rows of a block
    /// or of the projector, or all of it where it cannot be cut. However a picture was cut, its rows have the same bits.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn step_within(&mut self, max_operations: u64, cancel: &Cancel) -> Result<Progress> {
        self.run_piece(max_operations, cancel, None)
    }

    /// [`step`](Self::step), with the values of the nodes that `observer` wants.
    pub fn step_observed(&mut self, cancel: &Cancel, observer: &mut dyn Observe) -> Result<Step> {
        Ok(self.run_piece(u64::MAX, cancel, Some(observer))?.step)
    }

    /// The picture as rows of the text model: `[n_embd_text, n_image_tokens]`.
    ///
    /// # Errors
    /// Steps are left, or no projector was asked for or is there.
    pub fn finish(&mut self) -> Result<Vec<f32>> {
        if !self.projects {
            self.model.projector()?;
            return Err(Error::request("picture: the projector was left out"));
        }
        self.expect_done()?;
        Ok(self.picture.take().map(|p| p.rows).unwrap_or_default())
    }

    /// Bytes that a picture takes while it is encoded, beside the weights: its patches, the hidden rows and the largest
    /// step's buffers. Computes nothing. A picture that was begun has to run its step again.
    ///
    /// # Errors
    /// No memory for a graph.
    pub fn bytes(&mut self) -> Result<PlacedBytes> {
        let (config, _) = self.model.vision()?;
        let n_values = config.image_px.pow(2) * 3 + config.n_embd * config.n_positions();
        // All blocks are of one shape.
        let steps = [0, 1, self.n_steps()? - 1];
        let mut largest = PlacedBytes::default();
        for step in steps {
            let piece = self.pieces.next(step, None, u64::MAX);
            let (graph, _, _) = self.build(&piece, None)?;
            largest = largest.max(self.executor.bytes_for(graph));
        }
        largest.cpu += u64::from(n_values) * size_of::<f32>() as u64;
        Ok(largest)
    }

    /// What the steps so far have allocated for their nodes.
    #[cfg(test)]
    pub(super) fn allocated_bytes(&self) -> u64 {
        self.executor.compute_buffer_bytes()
    }

    /// What the tower's last block yields: `[n_embd, n_positions]`, the class token's row first if there is
    /// one.
    ///
    /// # Errors
    /// Steps are left.
    pub fn features(&mut self) -> Result<Vec<f32>> {
        let n_positions = self.model.vision()?.0.n_positions();
        self.first_rows(n_positions)
    }

    /// The class token's row of those, `[n_embd]`; nothing where the tower has none.
    ///
    /// # Errors
    /// Steps are left.
    pub fn pooled(&mut self) -> Result<Option<Vec<f32>>> {
        let has_class = self.model.vision()?.0.cls;
        has_class.then(|| self.first_rows(1)).transpose()
    }

    fn first_rows(&mut self, n_rows: u32) -> Result<Vec<f32>> {
        self.expect_done()?;
        let (config, _) = self.model.vision()?;
        let mut bytes = vec![0; config.n_embd as usize * n_rows as usize * size_of::<f32>()];
        self.state.read(self.hidden, 0, &mut bytes)?;
        let (values, _) = bytes.as_chunks();
        Ok(values.iter().map(|&value| f32::from_ne_bytes(value)).collect())
    }

    fn progress(&self) -> Result<Step> {
        let done = self
            .picture
            .as_ref()
            .map(|p| p.done)
            .ok_or_else(|| Error::request("picture: none was started"))?;
        Ok(Step { done, total: self.n_steps()? })
    }

    fn n_steps(&self) -> Result<u32> {
        let (config, _) = self.model.vision()?;
        Ok(1 + config.n_layer + u32::from(self.projects))
    }

    fn expect_done(&self) -> Result<()> {
        let step = self.progress()?;
        if step.is_last() {
            return Ok(());
        }
        Err(Error::request(format_args!("picture: expected {} steps, found {}", step.total, step.done)))
    }

    fn run_piece(
        &mut self,
        max_operations: u64,
        cancel: &Cancel,
        observer: Option<&mut dyn Observe>,
    ) -> Result<Progress> {
        let step = self.progress()?;
        let Some(picture) = self.picture.as_ref().filter(|_| !step.is_last()) else {
            return Err(Error::request(format_args!("picture: all {} steps are done", step.total)));
        };
        let piece = self.pieces.next(step.done, picture.before.as_ref(), max_operations);
        self.pieces.make_room(&self.model, &piece)?;
        let (graph, watched, io) = self.build(&piece, observer.as_deref())?;
        self.executor.load(graph)?;
        let Some(picture) = &mut self.picture else { return Err(Error::internal("no picture")) };
        if let Some(columns) = io.columns {
            self.executor.set_f32(columns, &picture.columns);
        }
        if let Some((input, order)) = &io.order {
            self.executor.set_i32(*input, order)?;
        }
        self.executor.compute(cancel)?;
        if let Some((rows, ne)) = io.rows {
            let n_before = picture.rows.len();
            picture.rows.resize(n_before + ne.iter().product::<u64>() as usize, 0.0);
            self.executor.read_f32(rows, &mut picture.rows[n_before..])?;
        }
        if let Some(observer) = observer {
            watched.report(&self.executor, observer)?;
        }
        let n_operations = self.pieces.n_operations(&piece);
        let ends_step = self.pieces.ends_step(&piece);
        picture.done += u32::from(ends_step);
        picture.before = (!ends_step).then_some(piece);
        Ok(Progress { step: self.progress()?, n_operations })
    }

    /// The graph of `piece`, which reads and writes the hidden rows.
    fn build(&self, piece: &Piece, observer: Option<&dyn Observe>) -> Result<(Graph, Watched, Io)> {
        let (config, weights) = self.model.vision()?;
        let hidden = self.hidden;
        let mut graph = GraphBuilder::new(self.model.backend(), MAX_NODES)?;
        graph.attach_weights(&self.model.0.weights);
        graph.attach_memory(&self.state);
        let mut net = Net::new(graph, self.model.0.kernels, observer);
        let mut io = Io::default();
        match piece {
            Piece::Patches => {
                let (columns, out) = tower::embed(&mut net, config, weights);
                io.columns = Some(columns);
                net.graph.cpy(out, hidden);
            }
            Piece::Block(il) => {
                let out = tower::block(&mut net, config, weights, *il, hidden);
                net.graph.cpy(out, hidden);
            }
            Piece::Attended(il, rows) => {
                self.pieces.attended(&mut net, (config, &weights.blocks[*il as usize], *il), hidden, rows)
            }
            Piece::Behind(il, rows) => {
                self.pieces.behind(&mut net, (config, &weights.blocks[*il as usize], *il), hidden, rows)
            }
            Piece::Project(rows) => {
                let (projector, weights) = self.model.projector()?;
                projector::watch_patches(&mut net, config, weights, hidden);
                let order = projector::order(config, projector, rows);
                let (input, rows) =
                    projector::project(&mut net, projector, weights, hidden, order.len() as u64);
                io.order = Some((input, order));
                io.rows = Some((rows, net.graph.ne(rows)));
            }
        }
        let (graph, watched) = net.finish();
        Ok((graph, watched, io))
    }
}

/// What a piece's graph is given and what is read from it, beside the hidden rows.
#[derive(Default)]
struct Io {
    columns: Option<Tensor>,
    order: Option<(Tensor, Vec<i32>)>,
    rows: Option<(Tensor, [u64; 4])>,
}
