//! Graphs under construction: who may use which tensor, and the checks that stand before every call of ggml.
//!
//! In: weights and memory that were attached, inputs that are made here. Out: a [`Graph`]. The operations
//! themselves are in `ops/`.

use std::collections::HashMap;
use std::ffi::c_int;

use crate::arena::{self, Arena, ArenaId, shape_bytes};
use crate::backend::State;
use crate::custom::MAX_ARGS;
use crate::ops::Customs;
use crate::sys::{self, TensorFacts};
use crate::{Backend, Cancel, DType, Memory, Place, Result, Tensor, Weights};

/// Makes the nodes of one graph. Every operation joins the graph when it is called, so nodes are computed in
/// the order of the program; what reads memory after [`GraphBuilder::set_rows`] sees the new rows.
///
/// Operations panic, naming the operation, the tensors and their shapes, when a tensor is neither of this
/// graph nor attached or when a shape is wrong: shapes that come from files are checked before they get here,
/// so this is a mistake in the code that builds the graph.
pub struct GraphBuilder {
    pub(crate) arena: Arena,
    pub(crate) memories: Vec<Memory>,
    pub(crate) customs: Customs,
    backend: Backend,
    graph: *mut sys::ggml_cgraph,
    weights: Vec<Weights>,
    inputs: HashMap<Tensor, Input>,
    outputs: Vec<Tensor>,
    /// Where what is made from now on runs.
    place: Place,
    on_devices: HashMap<*mut sys::ggml_tensor, usize>,
    max_nodes: usize,
}

// SAFETY: the graph lies in the arena, which goes along; the other pointers are names of its tensors.
unsafe impl Send for GraphBuilder {}

/// What a graph must be told before it can run.
pub(crate) struct Input {
    pub dtype: DType,
    pub n_elements: usize,
    /// Elements are row numbers below this: some operation of the graph looks rows up with them.
    pub n_rows: Option<u64>,
    pub is_set: bool,
}

/// A finished graph, for [`crate::Executor::load`]. It keeps the weights and memory alive that it uses.
pub struct Graph {
    pub(crate) backend: Backend,
    pub(crate) raw: *mut sys::ggml_cgraph,
    pub(crate) inputs: HashMap<Tensor, Input>,
    pub(crate) outputs: Vec<Tensor>,
    pub(crate) customs: Customs,
    pub(crate) n_tensors: usize,
    /// Nodes and inputs that are devices'; the others are the CPU's.
    on_devices: Vec<sys::Placed>,
    n_nodes: usize,
    /// The graph and its nodes lie here.
    _arena: Arena,
    weights: Vec<Weights>,
    /// Of each of those, the numbers of what takes turns.
    turns: Vec<Vec<usize>>,
    _memories: Vec<Memory>,
}

// SAFETY: the graph lies in the arena, which goes along; the other pointers are names of its tensors.
unsafe impl Send for Graph {}

impl Graph {
    /// Nodes, views among them.
    pub fn n_nodes(&self) -> usize {
        self.n_nodes
    }

    /// Has all weights there, as long as the backend stays locked, whose state this is.
    ///
    /// # Errors
    /// [`crate::Error::Cancelled`]; [`crate::Error::Lost`].
    pub(crate) fn bring_weights(&self, cancel: &Cancel, locked: &State) -> Result<()> {
        let of_each = self.weights.iter().zip(&self.turns);
        of_each.into_iter().try_for_each(|(weights, numbers)| weights.bring(numbers, cancel, locked))
    }

    pub(crate) fn placed(&self) -> sys::PlacedGraph {
        let Graph { raw, on_devices, .. } = self;
        sys::PlacedGraph { graph: *raw, on_devices: on_devices.as_ptr(), n_on_devices: on_devices.len() }
    }
}

/// Most nodes of one graph.
pub(crate) const MAX_NODES: usize = 1 << 16;
/// Tensors that one operation can bring into a graph beside its node.
pub(crate) const MAX_SOURCES: usize = MAX_ARGS;

impl GraphBuilder {
    /// A graph of at most `max_nodes` operations and as many inputs, weights and memory tensors together.
    ///
    /// # Errors
    /// [`crate::Error::Memory`].
    ///
    /// # Panics
    /// When `max_nodes` is zero or beyond 65536.
    pub fn new(backend: &Backend, max_nodes: usize) -> Result<GraphBuilder> {
        assert!(
            (1..=MAX_NODES).contains(&max_nodes),
            "graph: expected 1 to {MAX_NODES} nodes, found {max_nodes}"
        );
        let size = max_nodes + MAX_SOURCES;
        // SAFETY: a computation on numbers; the size is far from overflow.
        let graph_bytes = unsafe { sys::ggml_graph_overhead_custom(size, false) };
        let mut arena = Arena::new(2 * max_nodes, graph_bytes)?;
        // SAFETY: the arena has room for this graph beside its tensors.
        let graph = unsafe { sys::ggml_new_graph_custom(arena.context(), size, false) };
        Ok(GraphBuilder {
            backend: backend.clone(),
            arena,
            graph,
            weights: Vec::new(),
            memories: Vec::new(),
            customs: Customs::default(),
            inputs: HashMap::new(),
            outputs: Vec::new(),
            place: Place::Cpu,
            on_devices: HashMap::new(),
            max_nodes,
        })
    }

    /// Lets operations use the tensors of `weights`.
    ///
    /// # Panics
    /// When some of `weights` take turns on another backend, which could bring others while a graph runs.
    pub fn attach_weights(&mut self, weights: &Weights) {
        let is_safe = weights.turns().is_empty() || weights.backend().is(&self.backend);
        assert!(is_safe, "graph: expected weights of the same backend");
        self.weights.push(weights.clone());
    }

    /// Lets operations use and write the tensors of `memory`.
    ///
    /// # Panics
    /// When `memory` belongs to another backend, whose graphs could run at the same time.
    pub fn attach_memory(&mut self, memory: &Memory) {
        assert!(memory.backend().is(&self.backend), "graph: expected memory of the same backend");
        self.memories.push(memory.clone());
    }

    /// Inputs and operations that are made from now on run in this place, at first the CPU. What only shows another
    /// tensor, or writes to memory, runs where that lies. What an operation computed elsewhere is brought along
    /// whenever the graph runs; weights and memory never are.
    ///
    /// # Panics
    /// When it is a device that the backend has not.
    pub fn set_place(&mut self, place: Place) {
        self.backend.expect(place, "graph");
        self.place = place;
    }

    /// Where operations run that are made now.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Where a tensor lies that this graph may use.
    pub fn place_of(&self, tensor: Tensor) -> Place {
        self.place_of_root(self.facts("place", tensor).root)
    }

    /// A tensor that the executor is given before it computes. It keeps its values from one computation to
    /// the next. Shape padded with 1.
    pub fn input(&mut self, name: &str, dtype: DType, ne: [u64; 4]) -> Tensor {
        let known = matches!(dtype, DType::F32 | DType::F16 | DType::I32 | DType::I64);
        assert!(known, "input {name}: expected f32, f16, i32 or i64, found {dtype}");
        self.check_room("input");
        let tensor = self.arena.tensor(name, dtype, ne);
        // An output as well: the allocator reuses the place of a plain input once it was read, and the next
        // computation of the same graph would find other numbers there.
        // SAFETY: the tensor was just made, and the graph has room for it.
        unsafe {
            sys::ggml_set_input(tensor.raw.as_ptr());
            sys::ggml_set_output(tensor.raw.as_ptr());
            // An input that no operation reads gets a place all the same.
            sys::ggml_build_forward_expand(self.graph, tensor.raw.as_ptr());
        }
        self.note_place(tensor, self.place);
        let n_elements = ne.iter().product::<u64>() as usize;
        self.inputs.insert(tensor, Input { dtype, n_elements, n_rows: None, is_set: false });
        tensor
    }

    /// Names a node of this graph, for messages and for whoever observes it.
    pub fn name(&mut self, tensor: Tensor, name: &str) {
        assert!(tensor.arena == self.arena.id(), "name: expected a node of this graph");
        arena::set_name(tensor, name);
    }

    /// The name of a tensor of this graph, or of attached weights or memory.
    pub fn name_of(&self, tensor: Tensor) -> String {
        self.facts("name", tensor);
        arena::name(tensor)
    }

    /// Keeps the values of a node until the next computation, so that they can be read.
    ///
    /// # Panics
    /// For views of weights and memory, which others share: [`Memory::read`] reads those.
    pub fn output(&mut self, tensor: Tensor) {
        assert!(tensor.arena == self.arena.id(), "output: expected a node of this graph");
        let facts = arena::facts(tensor);
        assert!(facts.data.is_null(), "output: expected values of this graph, found {}", self.show(tensor));
        // The place of a view is that of its root, which must not be reused either.
        for raw in [tensor.raw.as_ptr(), facts.root] {
            // SAFETY: both are tensors of this graph: what others own has its data before a graph runs.
            unsafe { sys::ggml_set_output(raw) };
        }
        if !self.outputs.contains(&tensor) {
            self.outputs.push(tensor);
        }
    }

    /// Shape of a tensor that this graph may use.
    pub fn ne(&self, tensor: Tensor) -> [u64; 4] {
        self.facts("ne", tensor).shape()
    }

    /// Type of a tensor that this graph may use.
    pub fn dtype(&self, tensor: Tensor) -> DType {
        self.facts("dtype", tensor).dtype()
    }

    /// # Panics
    /// When operations use weights of two turns of a device.
    pub fn build(self) -> Graph {
        let (n_nodes, n_leafs) = self.counts();
        let turns = self.weights.iter().map(|weights| self.turns_of(weights)).collect();
        Graph {
            backend: self.backend,
            raw: self.graph,
            inputs: self.inputs,
            outputs: self.outputs,
            customs: self.customs,
            n_tensors: n_nodes + n_leafs,
            on_devices: (self.on_devices.into_iter())
                .map(|(tensor, device)| sys::Placed { tensor, device })
                .collect(),
            n_nodes,
            _arena: self.arena,
            weights: self.weights,
            turns,
            _memories: self.memories,
        }
    }

    /// What C knows of a tensor, once it is clear that this graph may use it.
    pub(crate) fn facts(&self, op: &str, tensor: Tensor) -> TensorFacts {
        assert!(
            tensor.arena == self.arena.id() || self.attached_arenas().any(|id| id == tensor.arena),
            "{op}: expected a tensor of this graph or of attached weights or memory, found {tensor:?}"
        );
        arena::facts(tensor)
    }

    /// Joins what `make` creates to the graph. `make` gets the context and calls one function of ggml, whose
    /// assertions the caller has checked; the node it makes has the shape `ne`.
    pub(crate) fn node(
        &mut self,
        op: &str,
        dtype: DType,
        ne: [u64; 4],
        make: impl FnOnce(*mut sys::ggml_context) -> *mut sys::ggml_tensor,
    ) -> Tensor {
        assert!(shape_bytes(dtype, ne).is_some(), "{op}: expected a possible result, found {dtype} {ne:?}");
        self.check_room(op);
        self.arena.claim(op);
        let raw = make(self.arena.context());
        let tensor = self.arena.own(raw);
        let root = arena::facts(tensor).root;
        let place = if root == tensor.raw.as_ptr() { self.place } else { self.place_of_root(root) };
        self.note_place(tensor, place);
        // SAFETY: the node and its sources are alive; the graph has room for all of them.
        unsafe { sys::ggml_build_forward_expand(self.graph, tensor.raw.as_ptr()) };
        tensor
    }

    /// Notes that the elements of `ids` number rows below `n_rows`, which the executor checks whenever it is
    /// given them: ggml ends the process on a row that is not there.
    pub(crate) fn limit_ids(&mut self, op: &str, ids: Tensor, n_rows: u64) {
        let root = arena::facts(ids).root;
        let input = self.inputs.iter_mut().find(|(tensor, _)| tensor.raw.as_ptr() == root);
        let Some((_, input)) = input else {
            panic!("{op}: expected row numbers from an input, found {}", self.show(ids));
        };
        input.n_rows = Some(input.n_rows.map_or(n_rows, |n| n.min(n_rows)));
    }

    fn note_place(&mut self, tensor: Tensor, place: Place) {
        if let Place::Device(device) = place {
            self.on_devices.insert(tensor.raw.as_ptr(), device);
        }
    }

    /// Where the tensor lies that owns its data.
    fn place_of_root(&self, root: *mut sys::ggml_tensor) -> Place {
        if self.backend.n_devices() == 0 {
            return Place::Cpu;
        }
        if let Some(&device) = self.on_devices.get(&root) {
            return Place::Device(device);
        }
        let weights = self.weights.iter().map(|weights| weights.place_of(root));
        let memories = self.memories.iter().map(|memory| memory.place_of(root));
        weights.chain(memories).find(|place| place.is_device()).unwrap_or_default()
    }

    /// The numbers of what takes turns among the tensors that operations use.
    fn turns_of(&self, weights: &Weights) -> Vec<usize> {
        let turns = weights.turns();
        if turns.is_empty() {
            return Vec::new();
        }
        let (_, n_leafs) = self.counts();
        // SAFETY: the graph is alive in the arena, and has so many leafs; they are tensors of it, or of what is attached.
        let leafs = (0..n_leafs).map(|i| unsafe { sys::owlet_graph_leaf(self.graph, i as c_int) });
        let used: Vec<_> = leafs.filter_map(|leaf| turns.number(leaf)).collect();
        assert!(!turns.have_rivals(&used), "graph: expected weights of one turn, found some of two");
        used
    }

    /// (nodes, other tensors) so far.
    fn counts(&self) -> (usize, usize) {
        // SAFETY: the graph is alive in the arena.
        unsafe {
            (sys::ggml_graph_n_nodes(self.graph) as usize, sys::owlet_graph_n_leafs(self.graph) as usize)
        }
    }

    fn check_room(&self, op: &str) {
        let (n_nodes, n_leafs) = self.counts();
        let max = self.max_nodes;
        assert!(
            n_nodes < max && n_leafs < max,
            "{op}: at most {max} nodes and {max} other tensors in this graph"
        );
    }

    fn attached_arenas(&self) -> impl Iterator<Item = ArenaId> + '_ {
        let weights = self.weights.iter().map(Weights::arena_id);
        weights.chain(self.memories.iter().map(Memory::arena_id))
    }

    /// For messages: name, type and shape.
    pub(crate) fn show(&self, tensor: Tensor) -> String {
        let facts = arena::facts(tensor);
        format!("{} {} {:?}", arena::name(tensor), facts.dtype(), facts.shape())
    }
}
