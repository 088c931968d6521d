//! The C functions that this crate calls, by hand, checked against the headers of the pinned source.
//!
//! Nothing here leaves the crate. Structs of ggml stay opaque; what Rust must read of a tensor comes through
//! [`TensorFacts`], which C fills.

use std::ffi::{c_char, c_int, c_void};
use std::marker::{PhantomData, PhantomPinned};

macro_rules! opaque {
    ($($name:ident)*) => {$(
        #[repr(C)]
        pub struct $name {
            _bytes: [u8; 0],
            _not_send: PhantomData<(*mut u8, PhantomPinned)>,
        }
    )*};
}

opaque! {
    ggml_context ggml_tensor ggml_cgraph ggml_threadpool ggml_backend ggml_backend_buffer
    ggml_backend_sched ggml_backend_device
}

#[cfg(feature = "dynamic-backends")]
opaque! { ggml_backend_reg }

/// `enum ggml_unary_op`
pub const GGML_UNARY_OP_SIGMOID: c_int = 7;
pub const GGML_UNARY_OP_SILU: c_int = 10;
pub const GGML_UNARY_OP_GELU_ERF: c_int = 16;

/// `enum ggml_backend_buffer_usage`
pub const GGML_BACKEND_BUFFER_USAGE_WEIGHTS: c_int = 1;

/// `enum ggml_prec`
pub const GGML_PREC_F32: c_int = 10;

pub const GGML_ROPE_TYPE_NORMAL: c_int = 0;
pub const GGML_ROPE_TYPE_NEOX: c_int = 2;

pub const OWLET_OK: c_int = 0;
pub const OWLET_ABORTED: c_int = 1;
pub const OWLET_NO_MEMORY: c_int = 2;
pub const OWLET_REFUSED: c_int = 4;

/// `OWLET_MAX_DEVICES`
pub const MAX_DEVICES: usize = 15;

#[repr(C)]
pub struct ggml_init_params {
    pub mem_size: usize,
    pub mem_buffer: *mut c_void,
    pub no_alloc: bool,
}

/// `struct ggml_type_traits`
#[repr(C)]
pub struct ggml_type_traits {
    pub type_name: *const c_char,
    pub blck_size: i64,
    pub blck_size_interleave: i64,
    pub type_size: usize,
    pub is_quantized: bool,
    pub to_float: Option<unsafe extern "C" fn(*const c_void, *mut f32, i64)>,
    pub from_float_ref: Option<unsafe extern "C" fn(*const f32, *mut c_void, i64)>,
}

/// `struct owlet_tensor` of `c/shim.h`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TensorFacts {
    pub ne: [i64; 4],
    pub nb: [usize; 4],
    pub n_bytes: usize,
    pub view_offs: usize,
    pub root: *mut ggml_tensor,
    pub data: *const c_void,
    pub dtype: i32,
    pub flags: i32,
}

/// `struct owlet_placed` of `c/shim.h`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Placed {
    pub tensor: *mut ggml_tensor,
    pub device: usize,
}

/// `struct owlet_graph` of `c/shim.h`.
#[repr(C)]
pub struct PlacedGraph {
    pub graph: *mut ggml_cgraph,
    pub on_devices: *const Placed,
    pub n_on_devices: usize,
}

/// `struct owlet_stand_in_use` of `c/shim.h`.
#[repr(C)]
#[derive(Default)]
pub struct StandInUse {
    pub n_allocated: usize,
    pub n_most: usize,
    pub n_written: usize,
}

pub type AbortCallback = unsafe extern "C" fn(*mut c_void) -> bool;
pub type CustomCallback = unsafe extern "C" fn(*mut ggml_tensor, c_int, c_int, *mut c_void);
#[cfg(feature = "dynamic-backends")]
pub type ModuleEntry = unsafe extern "C" fn() -> *mut ggml_backend_reg;

unsafe extern "C" {
    // the C library: process
    pub fn _exit(status: c_int) -> !;

    // ggml.h: process
    pub fn ggml_version() -> *const c_char;
    pub fn owlet_install_callbacks();

    // ggml.h: contexts, tensors, graphs
    pub fn ggml_init(params: ggml_init_params) -> *mut ggml_context;
    pub fn ggml_free(context: *mut ggml_context);
    pub fn ggml_tensor_overhead() -> usize;
    pub fn ggml_new_tensor(
        context: *mut ggml_context,
        dtype: c_int,
        n_dims: c_int,
        ne: *const i64,
    ) -> *mut ggml_tensor;
    pub fn ggml_get_data(tensor: *const ggml_tensor) -> *mut c_void;
    pub fn ggml_op_desc(tensor: *const ggml_tensor) -> *const c_char;
    pub fn ggml_get_name(tensor: *const ggml_tensor) -> *const c_char;
    pub fn ggml_set_name(tensor: *mut ggml_tensor, name: *const c_char) -> *mut ggml_tensor;
    pub fn ggml_set_input(tensor: *mut ggml_tensor);
    pub fn ggml_set_output(tensor: *mut ggml_tensor);
    pub fn ggml_graph_overhead_custom(size: usize, grads: bool) -> usize;
    pub fn ggml_new_graph_custom(context: *mut ggml_context, size: usize, grads: bool) -> *mut ggml_cgraph;
    pub fn ggml_build_forward_expand(graph: *mut ggml_cgraph, tensor: *mut ggml_tensor);
    pub fn ggml_graph_n_nodes(graph: *mut ggml_cgraph) -> c_int;

    // ggml.h: operations
    pub fn ggml_add(context: *mut ggml_context, a: *mut ggml_tensor, b: *mut ggml_tensor)
    -> *mut ggml_tensor;
    pub fn ggml_sub(context: *mut ggml_context, a: *mut ggml_tensor, b: *mut ggml_tensor)
    -> *mut ggml_tensor;
    pub fn ggml_mul(context: *mut ggml_context, a: *mut ggml_tensor, b: *mut ggml_tensor)
    -> *mut ggml_tensor;
    pub fn ggml_div(context: *mut ggml_context, a: *mut ggml_tensor, b: *mut ggml_tensor)
    -> *mut ggml_tensor;
    pub fn ggml_scale(context: *mut ggml_context, a: *mut ggml_tensor, factor: f32) -> *mut ggml_tensor;
    pub fn ggml_unary(context: *mut ggml_context, a: *mut ggml_tensor, op: c_int) -> *mut ggml_tensor;
    pub fn ggml_swiglu_split(
        context: *mut ggml_context,
        gate: *mut ggml_tensor,
        up: *mut ggml_tensor,
    ) -> *mut ggml_tensor;
    pub fn ggml_norm(context: *mut ggml_context, a: *mut ggml_tensor, eps: f32) -> *mut ggml_tensor;
    pub fn ggml_sum_rows(context: *mut ggml_context, a: *mut ggml_tensor) -> *mut ggml_tensor;
    pub fn ggml_rms_norm(context: *mut ggml_context, a: *mut ggml_tensor, eps: f32) -> *mut ggml_tensor;
    pub fn ggml_prec_set_acc(product: *mut ggml_tensor, precision: c_int) -> bool;
    pub fn ggml_mul_mat(
        context: *mut ggml_context,
        a: *mut ggml_tensor,
        b: *mut ggml_tensor,
    ) -> *mut ggml_tensor;
    pub fn ggml_get_rows(
        context: *mut ggml_context,
        a: *mut ggml_tensor,
        ids: *mut ggml_tensor,
    ) -> *mut ggml_tensor;
    pub fn ggml_set_rows(
        context: *mut ggml_context,
        destination: *mut ggml_tensor,
        rows: *mut ggml_tensor,
        ids: *mut ggml_tensor,
    ) -> *mut ggml_tensor;
    pub fn ggml_soft_max_ext(
        context: *mut ggml_context,
        a: *mut ggml_tensor,
        mask: *mut ggml_tensor,
        scale: f32,
        max_bias: f32,
    ) -> *mut ggml_tensor;
    pub fn ggml_flash_attn_ext(
        context: *mut ggml_context,
        q: *mut ggml_tensor,
        k: *mut ggml_tensor,
        v: *mut ggml_tensor,
        mask: *mut ggml_tensor,
        scale: f32,
        max_bias: f32,
        logit_softcap: f32,
    ) -> *mut ggml_tensor;
    pub fn ggml_flash_attn_ext_set_prec(attention: *mut ggml_tensor, precision: c_int);
    pub fn ggml_rope_ext(
        context: *mut ggml_context,
        a: *mut ggml_tensor,
        positions: *mut ggml_tensor,
        freq_factors: *mut ggml_tensor,
        n_dims: c_int,
        mode: c_int,
        n_ctx_orig: c_int,
        freq_base: f32,
        freq_scale: f32,
        ext_factor: f32,
        attn_factor: f32,
        beta_fast: f32,
        beta_slow: f32,
    ) -> *mut ggml_tensor;
    pub fn ggml_reshape_4d(
        context: *mut ggml_context,
        a: *mut ggml_tensor,
        ne0: i64,
        ne1: i64,
        ne2: i64,
        ne3: i64,
    ) -> *mut ggml_tensor;
    pub fn ggml_view_4d(
        context: *mut ggml_context,
        a: *mut ggml_tensor,
        ne0: i64,
        ne1: i64,
        ne2: i64,
        ne3: i64,
        nb1: usize,
        nb2: usize,
        nb3: usize,
        offset: usize,
    ) -> *mut ggml_tensor;
    pub fn ggml_permute(
        context: *mut ggml_context,
        a: *mut ggml_tensor,
        axis0: c_int,
        axis1: c_int,
        axis2: c_int,
        axis3: c_int,
    ) -> *mut ggml_tensor;
    pub fn ggml_cont(context: *mut ggml_context, a: *mut ggml_tensor) -> *mut ggml_tensor;
    pub fn ggml_cpy(
        context: *mut ggml_context,
        a: *mut ggml_tensor,
        destination: *mut ggml_tensor,
    ) -> *mut ggml_tensor;
    pub fn ggml_cast(context: *mut ggml_context, a: *mut ggml_tensor, dtype: c_int) -> *mut ggml_tensor;
    pub fn ggml_concat(
        context: *mut ggml_context,
        a: *mut ggml_tensor,
        b: *mut ggml_tensor,
        dim: c_int,
    ) -> *mut ggml_tensor;
    pub fn ggml_repeat(
        context: *mut ggml_context,
        a: *mut ggml_tensor,
        like: *mut ggml_tensor,
    ) -> *mut ggml_tensor;

    pub fn ggml_custom_4d(
        context: *mut ggml_context,
        dtype: c_int,
        ne0: i64,
        ne1: i64,
        ne2: i64,
        ne3: i64,
        args: *mut *mut ggml_tensor,
        n_args: c_int,
        callback: CustomCallback,
        n_tasks: c_int,
        user_data: *mut c_void,
    ) -> *mut ggml_tensor;

    // ggml-backend.h
    pub fn ggml_backend_free(backend: *mut ggml_backend);
    pub fn ggml_backend_dev_name(device: *mut ggml_backend_device) -> *const c_char;
    pub fn ggml_backend_dev_description(device: *mut ggml_backend_device) -> *const c_char;
    pub fn ggml_backend_cpu_buffer_from_ptr(data: *mut c_void, size: usize) -> *mut ggml_backend_buffer;
    pub fn ggml_backend_buffer_set_usage(buffer: *mut ggml_backend_buffer, usage: c_int);
    pub fn ggml_backend_sched_get_buffer_size(
        sched: *mut ggml_backend_sched,
        backend: *mut ggml_backend,
    ) -> usize;

    // ggml-cpu.h
    pub fn owlet_cpu_new() -> *mut ggml_backend;
    pub fn ggml_backend_cpu_set_n_threads(backend: *mut ggml_backend, n_threads: c_int);
    pub fn ggml_backend_cpu_set_threadpool(backend: *mut ggml_backend, threadpool: *mut ggml_threadpool);
    pub fn ggml_backend_cpu_set_abort_callback(
        backend: *mut ggml_backend,
        callback: Option<AbortCallback>,
        data: *mut c_void,
    );
    pub fn ggml_backend_cpu_set_use_ref(backend: *mut ggml_backend, use_ref: bool);
    pub fn ggml_threadpool_free(threadpool: *mut ggml_threadpool);

    // c/shim.h
    pub fn owlet_tensor_facts(tensor: *mut ggml_tensor, facts: *mut TensorFacts);
    pub fn owlet_tensor_source_data(tensor: *const ggml_tensor, i: c_int) -> *const c_void;
    pub fn owlet_graph_n_leafs(graph: *mut ggml_cgraph) -> c_int;
    pub fn owlet_graph_leaf(graph: *mut ggml_cgraph, i: c_int) -> *mut ggml_tensor;
    pub fn owlet_graph_work_bytes(
        graph: *mut ggml_cgraph,
        n_threads: c_int,
        threadpool: *mut ggml_threadpool,
    ) -> usize;
    pub fn owlet_threadpool_new(n_threads: c_int) -> *mut ggml_threadpool;
    pub fn owlet_n_devices() -> usize;
    pub fn owlet_device(i: usize) -> *mut ggml_backend_device;
    pub fn owlet_stand_in(i: usize) -> *mut ggml_backend_device;
    pub fn owlet_small_stand_in(n_bytes: usize) -> *mut ggml_backend_device;
    pub fn owlet_set_stand_in(device: *mut ggml_backend_device, state: c_int, n_bytes: usize) -> bool;
    pub fn owlet_stand_in_used(device: *mut ggml_backend_device, used: *mut StandInUse) -> bool;
    pub fn owlet_problem() -> *const c_char;
    pub fn owlet_backend_new(device: *mut ggml_backend_device) -> *mut ggml_backend;
    pub fn owlet_backend_free(backend: *mut ggml_backend);
    pub fn owlet_device_memory(device: *mut ggml_backend_device, free: *mut usize, total: *mut usize)
    -> bool;
    pub fn owlet_supports_op(backend: *mut ggml_backend, op: *const ggml_tensor) -> bool;
    pub fn owlet_buffer_new(backend: *mut ggml_backend, n_bytes: usize) -> *mut ggml_backend_buffer;
    pub fn owlet_buffer_free(buffer: *mut ggml_backend_buffer);
    pub fn owlet_buffer_clear(buffer: *mut ggml_backend_buffer) -> bool;
    pub fn owlet_tensor_room(
        backend: *mut ggml_backend,
        tensor: *const ggml_tensor,
        n_bytes: *mut usize,
        alignment: *mut usize,
    ) -> bool;
    pub fn owlet_tensor_place(
        buffer: *mut ggml_backend_buffer,
        tensor: *mut ggml_tensor,
        offset: usize,
    ) -> bool;
    pub fn owlet_tensor_fill(tensor: *mut ggml_tensor, bytes: *const c_void, n_bytes: usize) -> bool;
    pub fn owlet_tensor_set(
        tensor: *mut ggml_tensor,
        bytes: *const c_void,
        offset: usize,
        n_bytes: usize,
    ) -> bool;
    pub fn owlet_tensor_get(
        tensor: *const ggml_tensor,
        bytes: *mut c_void,
        offset: usize,
        n_bytes: usize,
    ) -> bool;
    pub fn owlet_tensor_set_runs(
        tensor: *mut ggml_tensor,
        bytes: *const c_void,
        offset: usize,
        run_bytes: usize,
        n: usize,
        stride: usize,
    ) -> bool;
    pub fn owlet_tensor_get_runs(
        tensor: *const ggml_tensor,
        bytes: *mut c_void,
        offset: usize,
        run_bytes: usize,
        n: usize,
        stride: usize,
    ) -> bool;
    pub fn owlet_sched_new(
        devices: *const *mut ggml_backend,
        n_devices: usize,
        cpu: *mut ggml_backend,
        n_tensors: usize,
    ) -> *mut ggml_backend_sched;
    pub fn owlet_sched_free(sched: *mut ggml_backend_sched);
    pub fn owlet_sched_alloc(
        sched: *mut ggml_backend_sched,
        graph: PlacedGraph,
        refused: *mut *mut ggml_tensor,
    ) -> c_int;
    pub fn owlet_sched_bytes(sched: *mut ggml_backend_sched, graph: PlacedGraph, sizes: *mut usize);
    pub fn owlet_sched_compute(sched: *mut ggml_backend_sched, graph: *mut ggml_cgraph) -> c_int;

    // c/shim.h: backends that were loaded
    #[cfg(feature = "dynamic-backends")]
    pub fn ggml_backend_reg_name(backend: *mut ggml_backend_reg) -> *const c_char;
    #[cfg(feature = "dynamic-backends")]
    pub fn owlet_module_start(entry: ModuleEntry) -> *mut ggml_backend_reg;
    #[cfg(feature = "dynamic-backends")]
    pub fn owlet_module_n_devices(backend: *mut ggml_backend_reg) -> usize;
    #[cfg(feature = "dynamic-backends")]
    pub fn owlet_module_device(backend: *mut ggml_backend_reg, i: usize) -> *mut ggml_backend_device;

    // ggml.h: types
    pub fn ggml_get_type_traits(dtype: c_int) -> *const ggml_type_traits;
    pub fn ggml_quantize_chunk(
        dtype: c_int,
        src: *const f32,
        dst: *mut c_void,
        start: i64,
        nrows: i64,
        n_per_row: i64,
        imatrix: *const f32,
    ) -> usize;
}

#[cfg(test)]
pub const GGML_TYPE_COUNT: u32 = 43;

#[cfg(test)]
unsafe extern "C" {
    pub fn owlet_tensor_bytes() -> usize;
    pub fn ggml_type_name(dtype: c_int) -> *const c_char;
    pub fn ggml_blck_size(dtype: c_int) -> i64;
    pub fn ggml_type_size(dtype: c_int) -> usize;
    pub fn ggml_is_quantized(dtype: c_int) -> bool;
}

#[cfg(test)]
mod tests {
    #[test]
    fn tensor_facts_have_one_layout() {
        // SAFETY: a constant of the shim.
        assert_eq!(size_of::<super::TensorFacts>(), unsafe { super::owlet_tensor_bytes() });
    }
}
