//! Runs graphs: allocates them, takes their inputs, computes them and hands out their outputs.
//!
//! Graphs go through ggml's scheduler, which runs each node in the place that the graph says: on the CPU, or on a
//! device of the backend.

use std::ffi::CStr;
use std::ptr::{NonNull, null_mut};

use crate::arena;
use crate::builder::{MAX_NODES, MAX_SOURCES};
use crate::{Backend, Cancel, DType, Device, Error, Graph, Result, Tensor, sys};

/// Computes one graph at a time, as often as wanted. Its buffers grow to the largest graph and are used
/// again by the next one.
pub struct Executor {
    backend: Backend,
    /// None after an allocation failed: ggml's allocator would take the same graph for allocated next time.
    sched: Option<Sched>,
    max_nodes: usize,
    reproducible: bool,
    loaded: Option<Graph>,
    /// Whether the outputs of the loaded graph were ever computed.
    is_computed: bool,
}

impl Executor {
    /// For graphs of up to `max_nodes` nodes, by ggml's fastest code: the bits of a column may depend on how
    /// many columns ride along and on the number of threads.
    ///
    /// # Errors
    /// [`Error::Memory`].
    ///
    /// # Panics
    /// When `max_nodes` is zero or beyond 65536.
    pub fn new(backend: &Backend, max_nodes: usize) -> Result<Executor> {
        Executor::with(backend, max_nodes, false)
    }

    /// As [`Executor::new`], by code that adds in one fixed order: the bits of a column of a matrix product
    /// or of attention depend on nothing but the column.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn reproducible(backend: &Backend, max_nodes: usize) -> Result<Executor> {
        Executor::with(backend, max_nodes, true)
    }

    fn with(backend: &Backend, max_nodes: usize, reproducible: bool) -> Result<Executor> {
        assert!(
            (1..=MAX_NODES).contains(&max_nodes),
            "executor: expected 1 to {MAX_NODES} nodes, found {max_nodes}"
        );
        let sched = Some(Sched::new(backend, max_nodes)?);
        Ok(Executor {
            backend: backend.clone(),
            sched,
            max_nodes,
            reproducible,
            loaded: None,
            is_computed: false,
        })
    }

    /// Makes `graph` the one that is computed from now on. Its inputs are not set yet.
    ///
    /// # Errors
    /// [`Error::Memory`]; [`Error::Unsupported`] where a node cannot run in its place; [`Error::Lost`]. No graph is loaded
    /// then.
    ///
    /// # Panics
    /// When the graph belongs to another backend or has more nodes than this executor was made for.
    pub fn load(&mut self, graph: Graph) -> Result<()> {
        self.expect_fitting(&graph);
        self.loaded = None;
        self.is_computed = false;
        let sched = match self.sched.take() {
            Some(sched) => sched,
            None => Sched::new(&self.backend, self.max_nodes)?,
        };
        let mut refused = null_mut();
        // SAFETY: the graph is alive and was never allocated; the scheduler has room for it.
        match unsafe { sys::owlet_sched_alloc(sched.raw.as_ptr(), graph.placed(), &mut refused) } {
            sys::OWLET_OK => {}
            sys::OWLET_NO_MEMORY => {
                let bytes = sched.bytes(&graph).total();
                return Err(Error::Memory { what: "compute buffers".into(), bytes });
            }
            sys::OWLET_REFUSED => {
                self.sched = Some(sched);
                return Err(refusal(&self.backend, refused));
            }
            _ => return Err(self.backend.lost_in_a_graph()),
        }
        // SAFETY: alive and allocated.
        unsafe { self.backend.reserve_work(graph.raw) }?;
        self.sched = Some(sched);
        self.loaded = Some(graph);
        Ok(())
    }

    /// Sets a f32 input of the loaded graph.
    ///
    /// # Panics
    /// When `input` is none of the loaded graph, of another type or of another number of elements.
    pub fn set_f32(&mut self, input: Tensor, values: &[f32]) {
        self.input(input, DType::F32, values.len());
        self.write(input, values);
    }

    /// Sets a f16 input from its bits. Panics as [`Executor::set_f32`].
    pub fn set_f16(&mut self, input: Tensor, bits: &[u16]) {
        self.input(input, DType::F16, bits.len());
        self.write(input, bits);
    }

    /// Sets an i32 input. Panics as [`Executor::set_f32`].
    ///
    /// # Errors
    /// [`Error::Request`] for a row number beyond the rows that it looks up.
    pub fn set_i32(&mut self, input: Tensor, values: &[i32]) -> Result<()> {
        let n_rows = self.input(input, DType::I32, values.len());
        check_rows(input, values.iter().map(|&value| value.into()), n_rows)?;
        self.write(input, values);
        Ok(())
    }

    /// Sets an i64 input. Panics as [`Executor::set_f32`].
    ///
    /// # Errors
    /// [`Error::Request`] for a row number beyond the rows that it looks up.
    pub fn set_i64(&mut self, input: Tensor, values: &[i64]) -> Result<()> {
        let n_rows = self.input(input, DType::I64, values.len());
        check_rows(input, values.iter().copied(), n_rows)?;
        self.write(input, values);
        Ok(())
    }

    /// Computes the loaded graph. Waits while another executor of the backend computes. Weights of the graph that take turns,
    /// and are away, are brought before.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when `cancel` is raised before or while it runs: outputs and memory then hold
    /// whatever was done. [`Error::Kernel`] when a custom operation panicked, which leaves them the same way.
    /// [`Error::Lost`] when a device failed; [`Error::Compute`] when ggml gave up.
    ///
    /// # Panics
    /// When no graph is loaded or an input was never set.
    pub fn compute(&mut self, cancel: &Cancel) -> Result<()> {
        let (Some(graph), Some(sched)) = (&mut self.loaded, &self.sched) else {
            panic!("compute: expected a loaded graph");
        };
        for (tensor, input) in &graph.inputs {
            assert!(input.is_set, "compute: input {} was never set", arena::name(*tensor));
        }
        graph.customs.reset();
        // SAFETY: loaded means allocated in this scheduler. The graph owns its tensors and keeps weights and
        // memory alive; memory is of this backend, whose lock keeps others away from it.
        let result = unsafe { self.backend.compute(sched.raw.as_ptr(), graph, self.reproducible, cancel) };
        if let Some(failure) = graph.customs.failure() {
            return Err(failure);
        }
        result?;
        self.is_computed = true;
        Ok(())
    }

    /// Copies a f32 output of the last computation.
    ///
    /// # Errors
    /// [`Error::Lost`] when the device that has it failed.
    ///
    /// # Panics
    /// When nothing was computed since the graph was loaded, or `output` is none of its outputs, not contiguous
    /// f32 or of another number of elements.
    pub fn read_f32(&self, output: Tensor, values: &mut [f32]) -> Result<()> {
        let Some(graph) = self.loaded.as_ref().filter(|_| self.is_computed) else {
            panic!("read: expected a computed graph");
        };
        assert!(
            graph.outputs.contains(&output),
            "read: expected an output of the loaded graph, found {output:?}"
        );
        let facts = arena::facts(output);
        let n_elements = facts.shape().iter().product::<u64>();
        assert!(
            facts.dtype() == DType::F32 && facts.is_contiguous() && n_elements == values.len() as u64,
            "read: expected {} values of contiguous f32, found {} {} {:?}",
            values.len(),
            arena::name(output),
            facts.dtype(),
            facts.shape()
        );
        // SAFETY: allocated, and exactly as long; no one computes, since that takes &mut.
        let is_read = unsafe {
            let bytes = size_of_val(values);
            sys::owlet_tensor_get(output.raw.as_ptr(), values.as_mut_ptr().cast(), 0, bytes)
        };
        if is_read { self.backend.check() } else { Err(self.backend.lost_in_a_graph()) }
    }

    /// Bytes that computing `graph` takes beside its weights and its memory: nodes and scratch. Allocates none of them;
    /// no graph is loaded afterwards. 0 where there is no memory left even to plan.
    ///
    /// # Panics
    /// As [`Executor::load`].
    pub fn bytes_for(&mut self, graph: Graph) -> PlacedBytes {
        self.expect_fitting(&graph);
        self.loaded = None;
        self.is_computed = false;
        let Some(sched) = self.sched.take().or_else(|| Sched::new(&self.backend, self.max_nodes).ok()) else {
            return PlacedBytes::default();
        };
        let mut bytes = sched.bytes(&graph);
        self.sched = Some(sched);
        // SAFETY: the graph is alive.
        bytes.cpu += unsafe { self.backend.work_bytes(graph.raw) } as u64;
        bytes
    }

    /// Bytes of the buffers that nodes live in, after the largest graph so far.
    pub fn compute_buffer_bytes(&self) -> u64 {
        let Some(sched) = &self.sched else { return 0 };
        // SAFETY: both are alive, and the scheduler runs on this backend.
        unsafe { sys::ggml_backend_sched_get_buffer_size(sched.raw.as_ptr(), self.backend.raw()) as u64 }
    }

    fn expect_fitting(&self, graph: &Graph) {
        assert!(graph.backend.is(&self.backend), "load: expected a graph of the same backend");
        let max = max_tensors(self.max_nodes);
        assert!(graph.n_tensors <= max, "load: at most {max} tensors, found {}", graph.n_tensors);
    }

    /// Checks an input about to be written and marks it as set. Yields the limit of its row numbers.
    fn input(&mut self, tensor: Tensor, dtype: DType, n_elements: usize) -> Option<u64> {
        let input = self.loaded.as_mut().and_then(|graph| graph.inputs.get_mut(&tensor));
        let Some(input) = input else {
            panic!("set: expected an input of the loaded graph, found {tensor:?}")
        };
        assert!(
            input.dtype == dtype && input.n_elements == n_elements,
            "set {}: expected {} values of {}, found {n_elements} of {dtype}",
            arena::name(tensor),
            input.n_elements,
            input.dtype
        );
        input.n_rows
    }

    /// Only for numbers, after [`Executor::input`] and the check of rows: what is marked as set is computed
    /// with.
    fn write<T: Copy>(&mut self, tensor: Tensor, values: &[T]) {
        // SAFETY: an input of the loaded graph, so it is allocated and contiguous, of this type and length.
        let is_set = unsafe {
            let bytes = size_of_val(values);
            sys::owlet_tensor_set(tensor.raw.as_ptr(), values.as_ptr().cast(), 0, bytes)
        };
        if !is_set {
            // Noted in the backend, which computes nothing any more.
            self.backend.lost_in_a_graph();
        }
        if let Some(input) = self.loaded.as_mut().and_then(|graph| graph.inputs.get_mut(&tensor)) {
            input.is_set = true;
        }
    }
}

/// Bytes by where they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlacedBytes {
    pub cpu: u64,
    /// By the device's number.
    pub devices: Vec<u64>,
}

impl PlacedBytes {
    pub fn total(&self) -> u64 {
        self.cpu + self.devices.iter().sum::<u64>()
    }

    /// The larger one of each.
    pub fn max(mut self, other: PlacedBytes) -> PlacedBytes {
        self.cpu = self.cpu.max(other.cpu);
        self.devices.resize(self.devices.len().max(other.devices.len()), 0);
        self.devices.iter_mut().zip(other.devices).for_each(|(a, b)| *a = (*a).max(b));
        self
    }
}

/// The scheduler does not run `node` where the graph wants it.
fn refusal(backend: &Backend, node: *mut sys::ggml_tensor) -> Error {
    // SAFETY: the node is one of a graph that is alive; both strings end with 0.
    let (op, name) =
        unsafe { (CStr::from_ptr(sys::ggml_op_desc(node)), CStr::from_ptr(sys::ggml_get_name(node))) };
    let devices: Vec<_> = backend.devices().map(Device::name).collect();
    Error::Unsupported(format!(
        "{}: cannot compute {} ({}) in its place",
        devices.join(", "),
        name.to_string_lossy(),
        op.to_string_lossy()
    ))
}

fn check_rows(tensor: Tensor, values: impl Iterator<Item = i64>, n_rows: Option<u64>) -> Result<()> {
    let Some(n_rows) = n_rows else { return Ok(()) };
    for value in values {
        if u64::try_from(value).is_err() || value as u64 >= n_rows {
            let name = arena::name(tensor);
            return Err(Error::Request(format!("{name}: expected a row below {n_rows}, found {value}")));
        }
    }
    Ok(())
}

/// Nodes and other tensors of the largest graph.
fn max_tensors(max_nodes: usize) -> usize {
    2 * (max_nodes + MAX_SOURCES)
}

struct Sched {
    raw: NonNull<sys::ggml_backend_sched>,
    /// The scheduler points to it.
    backend: Backend,
}

// SAFETY: a scheduler has no tie to a thread.
unsafe impl Send for Sched {}

impl Sched {
    fn new(backend: &Backend, max_nodes: usize) -> Result<Sched> {
        let n_tensors = max_tensors(max_nodes);
        // ggml does not look whether it got what it asks for here: up to 60 tensor headers a node, though
        // with one backend it touches none of them.
        let bytes = n_tensors * 60 * 512;
        let memory = || Error::Memory { what: "the scheduler".into(), bytes: bytes as u64 };
        let mut probe: Vec<u8> = Vec::new();
        probe.try_reserve_exact(bytes).map_err(|_| memory())?;
        drop(probe);
        let devices: Vec<_> = (0..backend.n_devices()).map(|device| backend.open(device).raw()).collect();
        // SAFETY: the backend is alive and stays so as long as the scheduler.
        let raw = unsafe { sys::owlet_sched_new(devices.as_ptr(), devices.len(), backend.raw(), n_tensors) };
        Ok(Sched { raw: NonNull::new(raw).ok_or_else(memory)?, backend: backend.clone() })
    }

    /// What the tensors of a graph that was never allocated, and fits, take.
    fn bytes(&self, graph: &Graph) -> PlacedBytes {
        let mut sizes = vec![0; self.backend.n_devices() + 1];
        // SAFETY: scheduler and graph are alive; this computes sizes, one for each device and one for the CPU.
        unsafe { sys::owlet_sched_bytes(self.raw.as_ptr(), graph.placed(), sizes.as_mut_ptr()) };
        let mut sizes: Vec<_> = sizes.into_iter().map(|size| size as u64).collect();
        let cpu = sizes.pop().unwrap_or(0);
        PlacedBytes { cpu, devices: sizes }
    }
}

impl Drop for Sched {
    fn drop(&mut self) {
        // SAFETY: made by ggml, freed once.
        unsafe { sys::owlet_sched_free(self.raw.as_ptr()) }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::{GraphBuilder, Memory};

    fn ne(n: u64, m: u64) -> [u64; 4] {
        [n, m, 1, 1]
    }

    /// Two graphs of as many nodes of one size; in one of them an early node is needed last.
    #[test]
    fn the_next_graph_gets_a_plan_of_its_own() {
        let backend = Backend::cpu(1).unwrap();
        let values: Vec<f32> = (0..64).map(|i| i as f32 / 64.0).collect();
        let compute = |executor: &mut Executor, late: bool| {
            let mut b = GraphBuilder::new(&backend, 16).unwrap();
            let x = b.input("x", DType::F32, ne(64, 1));
            let early = b.mul(x, x);
            let mut y = b.mul(early, x);
            for _ in 0..3 {
                y = b.mul(y, x);
                y = b.norm(y, 1.0);
            }
            let out = b.add(if late { early } else { y }, y);
            b.output(out);
            executor.load(b.build()).unwrap();
            executor.set_f32(x, &values);
            executor.compute(&Cancel::new()).unwrap();
            let mut found = vec![0.0; 64];
            executor.read_f32(out, &mut found).unwrap();
            found
        };
        let mut used = Executor::new(&backend, 16).unwrap();
        for late in [false, true, false] {
            let fresh = compute(&mut Executor::new(&backend, 16).unwrap(), late);
            assert_eq!(compute(&mut used, late), fresh, "late {late}");
        }
    }

    #[test]
    fn too_large_a_graph_is_an_error_and_the_next_one_runs() {
        let backend = Backend::cpu(1).unwrap();
        let mut executor = Executor::new(&backend, 8).unwrap();
        let graph = |n: u64, m: u64| {
            let mut b = GraphBuilder::new(&backend, 8).unwrap();
            let x = b.input("x", DType::F32, ne(n, m));
            let y = b.scale(x, 2.0);
            b.output(y);
            (b.build(), x, y)
        };
        // The same huge graph twice: ggml would take it for allocated the second time.
        for _ in 0..2 {
            let error = executor.load(graph(1 << 20, 1 << 22).0).unwrap_err().to_string();
            assert_eq!(error, "out of memory: 35184372088832 bytes for compute buffers");
            assert_eq!(executor.compute_buffer_bytes(), 0);
        }
        let (graph, x, y) = graph(4, 1);
        executor.load(graph).unwrap();
        executor.set_f32(x, &[1.0, 2.0, 3.0, 4.0]);
        executor.compute(&Cancel::new()).unwrap();
        let mut values = [0.0; 4];
        executor.read_f32(y, &mut values).unwrap();
        assert_eq!(values, [2.0, 4.0, 6.0, 8.0]);
        assert!(executor.compute_buffer_bytes() >= 32);
    }

    #[test]
    fn sizes_are_known_before_anything_is_allocated() {
        let backend = Backend::cpu(2).unwrap();
        let weights = [("w", DType::Q8_0, ne(64, 96))];
        let memory = Memory::new(&backend, &weights).unwrap();
        let graph = || {
            let mut b = GraphBuilder::new(&backend, 8).unwrap();
            b.attach_memory(&memory);
            let x = b.input("x", DType::F32, ne(64, 7));
            let y = b.mul_mat(memory.tensor("w").unwrap(), x);
            let z = b.mul(y, y);
            b.output(z);
            b.build()
        };
        let mut executor = Executor::new(&backend, 8).unwrap();
        let bytes = executor.bytes_for(graph()).cpu;
        assert_eq!(executor.compute_buffer_bytes(), 0);
        executor.load(graph()).unwrap();
        let nodes = executor.compute_buffer_bytes();
        // The scratch holds x in q8_0, seven rows of two blocks, and some for each thread.
        assert!(
            nodes > 7 * 96 * 4 && (nodes + 7 * 2 * 34..nodes + 4096).contains(&bytes),
            "{bytes}, {nodes}"
        );
        // A graph of a terabyte can be asked about, too.
        let mut b = GraphBuilder::new(&backend, 8).unwrap();
        let x = b.input("x", DType::F32, ne(1 << 19, 1 << 18));
        let y = b.scale(x, 2.0);
        b.output(y);
        assert!(executor.bytes_for(b.build()).cpu >= 1 << 39);
    }

    #[test]
    fn cancel_stops_between_nodes() {
        let backend = Backend::cpu(2).unwrap();
        let mut b = GraphBuilder::new(&backend, 4096).unwrap();
        let w = b.input("w", DType::F32, ne(512, 512));
        let mut x = b.input("x", DType::F32, ne(512, 512));
        for _ in 0..4000 {
            x = b.mul_mat(w, x);
        }
        b.output(x);
        let mut executor = Executor::new(&backend, 4096).unwrap();
        executor.load(b.build()).unwrap();
        executor.set_f32(w, &vec![0.0; 512 * 512]);
        let input = executor
            .loaded
            .as_ref()
            .and_then(|graph| graph.inputs.keys().copied().find(|&tensor| arena::name(tensor) == "x"));
        executor.set_f32(input.unwrap(), &vec![0.0; 512 * 512]);

        let cancel = Cancel::new();
        cancel.cancel();
        assert!(matches!(executor.compute(&cancel), Err(Error::Cancelled)));
        cancel.reset();
        let started = Instant::now();
        let result = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(50));
                cancel.cancel();
            });
            executor.compute(&cancel)
        });
        assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
        // The whole graph is 4000 products of 0.13 GFLOP.
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }

    #[test]
    fn executors_of_two_threads_take_turns_on_one_memory() {
        let backend = Backend::cpu(2).unwrap();
        let memory = Memory::new(&backend, &[("sum", DType::F32, ne(16, 1))]).unwrap();
        let sum = memory.tensor("sum").unwrap();
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut b = GraphBuilder::new(&backend, 8).unwrap();
                    b.attach_memory(&memory);
                    let one = b.input("one", DType::F32, ne(16, 1));
                    let more = b.add(sum, one);
                    b.cpy(more, sum);
                    let mut executor = Executor::new(&backend, 8).unwrap();
                    executor.load(b.build()).unwrap();
                    executor.set_f32(one, &[1.0; 16]);
                    for _ in 0..200 {
                        executor.compute(&Cancel::new()).unwrap();
                    }
                });
            }
        });
        let mut bytes = [0; 64];
        memory.read(sum, 0, &mut bytes).unwrap();
        for value in bytes.chunks(4) {
            assert_eq!(f32::from_ne_bytes(value.try_into().unwrap()), 600.0);
        }
    }

    #[test]
    fn inputs_keep_their_values() {
        let backend = Backend::cpu(1).unwrap();
        let mut b = GraphBuilder::new(&backend, 64).unwrap();
        let x = b.input("x", DType::F32, ne(8, 1));
        // The result could take the place of x, which nothing reads afterwards.
        let first = b.scale(x, 2.0);
        b.output(first);
        let mut executor = Executor::new(&backend, 64).unwrap();
        executor.load(b.build()).unwrap();
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        executor.set_f32(x, &values);
        let mut found = [0.0; 8];
        for _ in 0..3 {
            executor.compute(&Cancel::new()).unwrap();
            executor.read_f32(first, &mut found).unwrap();
            assert_eq!(found, values.map(|value| 2.0 * value));
        }
    }
}
