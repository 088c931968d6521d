//! Operations of ours as nodes of a graph.

use std::any::Any;
use std::ffi::{c_int, c_void};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::demand;
use crate::custom::{Arg, CustomOp, Grid, MAX_ARGS, NextTile};
use crate::{DType, Error, GraphBuilder, Place, Tensor, arena, sys};

impl GraphBuilder {
    /// What `op` computes from `args`, 1 to 9 contiguous tensors of any type. The result is f32 or i8 of
    /// [rows, columns] and never takes the place of an argument. `name` is for messages.
    pub fn custom(
        &mut self,
        name: &str,
        dtype: DType,
        ne: [u64; 4],
        args: &[Tensor],
        op: Arc<dyn CustomOp>,
    ) -> Tensor {
        let n_args = args.len();
        demand!(
            (1..=MAX_ARGS).contains(&n_args),
            "{name}: expected 1 to {MAX_ARGS} arguments, found {n_args}"
        );
        demand!(
            matches!(dtype, DType::F32 | DType::I8) && ne[2] == 1 && ne[3] == 1,
            "{name}: expected a result of f32 or i8 in rows and columns, found {dtype} {ne:?}"
        );
        demand!(self.place() == Place::Cpu, "{name}: expected to run on the cpu, found a device");
        let shapes = args.iter().map(|&arg| {
            let facts = self.facts(name, arg);
            demand!(facts.is_contiguous(), "{name}: expected contiguous arguments, found {}", self.show(arg));
            Shape { dtype: facts.dtype(), ne: facts.shape(), n_bytes: facts.n_bytes }
        });
        let shapes = shapes.collect();
        let cut = [ne[0] as usize, ne[1] as usize];
        let grid = Grid::new(dtype, cut, op.tile(cut));
        // All threads of the graph are called whatever this says; it is how many the graph needs at least.
        let n_tasks = c_int::try_from(grid.n_tiles()).unwrap_or(c_int::MAX);
        let failure = Arc::clone(&self.customs.failure);
        let node =
            Arc::new(Node { name: name.to_owned(), op, grid, shapes, next: NextTile::default(), failure });
        let user_data = Arc::as_ptr(&node).cast_mut().cast();
        let [n0, n1, n2, n3] = ne.map(|n| n as i64);
        let mut sources: Vec<_> = args.iter().map(|arg| arg.raw.as_ptr()).collect();
        let tensor = self.node(name, dtype, ne, |context| {
            // SAFETY: a possible shape, at most nine sources; `customs` keeps the node as long as the graph.
            unsafe {
                let sources = sources.as_mut_ptr();
                let n_args = n_args as c_int;
                let id = dtype.id() as c_int;
                sys::ggml_custom_4d(context, id, n0, n1, n2, n3, sources, n_args, run, n_tasks, user_data)
            }
        });
        arena::set_name(tensor, name);
        self.customs.nodes.push(node);
        tensor
    }
}

/// The operations of ours in one graph, which points to them.
#[derive(Default)]
pub(crate) struct Customs {
    nodes: Vec<Arc<Node>>,
    failure: Arc<Failure>,
}

impl Customs {
    /// Before each computation: the last one may have ended early.
    pub(crate) fn reset(&mut self) {
        for node in &self.nodes {
            node.next.reset();
        }
        self.failure.happened.store(false, Ordering::Relaxed);
        *self.failure.first.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Raised in the middle of a computation that is no longer worth going on.
    pub(crate) fn has_failed(&self) -> &AtomicBool {
        &self.failure.happened
    }

    /// What went wrong first since [`Customs::reset`].
    pub(crate) fn failure(&self) -> Option<Error> {
        let first = self.failure.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        first.map(|(node, message)| Error::Kernel { node, message })
    }
}

/// One operation in a graph. Threads of C share it.
struct Node {
    name: String,
    op: Arc<dyn CustomOp>,
    grid: Grid,
    shapes: Vec<Shape>,
    next: NextTile,
    failure: Arc<Failure>,
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Node>();
};

/// What is known of an argument before it has data.
struct Shape {
    dtype: DType,
    ne: [u64; 4],
    n_bytes: usize,
}

#[derive(Default)]
struct Failure {
    happened: AtomicBool,
    /// (node, message)
    first: Mutex<Option<(String, String)>>,
}

/// What each thread of ggml calls when the graph has come to this node.
unsafe extern "C" fn run(result: *mut sys::ggml_tensor, _ith: c_int, _nth: c_int, user_data: *mut c_void) {
    // SAFETY: `GraphBuilder::custom` passes a node that lives as long as the graph.
    let node = unsafe { &*user_data.cast::<Node>() };
    // SAFETY: ggml calls with the tensor of this node, alive and allocated.
    let work = AssertUnwindSafe(|| unsafe { node.compute(result) });
    if let Err(payload) = catch_unwind(work) {
        node.fail(&*payload);
        // It may panic again when it is dropped.
        mem::forget(payload);
    }
}

impl Node {
    /// # Safety
    /// `result` is the tensor of this node in a graph that is computed now.
    unsafe fn compute(&self, result: *mut sys::ggml_tensor) {
        let mut args = [Arg::NONE; MAX_ARGS];
        for (i, (arg, shape)) in args.iter_mut().zip(&self.shapes).enumerate() {
            // SAFETY: the arguments of the node, in this order.
            let data = unsafe { sys::owlet_tensor_source_data(result, i as c_int) };
            assert!(!data.is_null(), "argument {i} has no data");
            // SAFETY: contiguous and allocated. Nodes run one after another and the result has a place of its
            // own, so nothing writes here until all threads have left this node. All bytes have definite
            // values: they are a file's, were set, or come from C's allocator and earlier nodes.
            let bytes = unsafe { std::slice::from_raw_parts(data.cast(), shape.n_bytes) };
            *arg = Arg::new(shape.dtype, shape.ne, bytes);
        }
        let args = &args[..self.shapes.len()];
        // SAFETY: the tensor is alive.
        let data = unsafe { sys::ggml_get_data(result) };
        assert!(data.cast::<f32>().is_aligned() && !data.is_null(), "expected an aligned result");
        let stop = || self.failure.happened.load(Ordering::Relaxed);
        // SAFETY: the bytes of the result, aligned, with a grid made of its shape. The counter is reset before
        // each computation, in which ggml calls once a thread for this node alone.
        unsafe { self.grid.share(&self.next, &*self.op, args, data.cast(), stop) }
    }

    fn fail(&self, payload: &(dyn Any + Send)) {
        let message = payload.downcast_ref::<String>().map(String::as_str);
        let message = message.or(payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
        let mut first = self.failure.first.lock().unwrap_or_else(PoisonError::into_inner);
        if first.is_none() {
            *first = Some((self.name.clone(), message.to_owned()));
        }
        self.failure.happened.store(true, Ordering::Relaxed);
    }
}
