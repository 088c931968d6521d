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
    ggml_backend_buffer_type ggml_backend_sched
}

pub const GGML_TYPE_COUNT: u32 = 43;

/// `enum ggml_unary_op`
pub const GGML_UNARY_OP_GELU_QUICK: c_int = 9;
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

pub type AbortCallback = unsafe extern "C" fn(*mut c_void) -> bool;
pub type FatalCallback = unsafe extern "C" fn(*const c_char);
pub type LogCallback = unsafe extern "C" fn(c_int, *const c_char, *mut c_void);

unsafe extern "C" {
    // ggml.h: process
    pub fn ggml_version() -> *const c_char;
    pub fn ggml_set_abort_callback(callback: Option<FatalCallback>) -> Option<FatalCallback>;
    pub fn ggml_log_set(callback: Option<LogCallback>, user_data: *mut c_void);

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
unsafe extern "C" {
    pub fn ggml_type_name(dtype: c_int) -> *const c_char;
    pub fn ggml_blck_size(dtype: c_int) -> i64;
    pub fn ggml_type_size(dtype: c_int) -> usize;
    pub fn ggml_is_quantized(dtype: c_int) -> bool;
}
