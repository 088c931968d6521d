//! Tensor headers: one ggml context in memory of ours, and the handles that point into it.

use std::ffi::{CStr, CString};
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{DType, Error, Result, sys};

/// A tensor of [`crate::Weights`], [`crate::Memory`] or a graph. A plain handle: it does nothing by itself,
/// and whoever takes it checks the number of the arena before it looks at the pointer.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tensor {
    pub(crate) raw: NonNull<sys::ggml_tensor>,
    pub(crate) arena: ArenaId,
}

// SAFETY: the pointer is only followed by the owner of the arena, which has its own rules for threads.
unsafe impl Send for Tensor {}
// SAFETY: as above; a shared handle gives no access.
unsafe impl Sync for Tensor {}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({} in arena {})", self.raw.as_ptr().addr(), self.arena.0)
    }
}

/// Never used twice in a process, so that a handle cannot outlive its arena and meet another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ArenaId(u64);

impl ArenaId {
    fn next() -> ArenaId {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        ArenaId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What a tensor is, without its data. Shapes are padded with 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    pub name: String,
    pub dtype: DType,
    pub ne: [u64; 4],
}

/// A ggml context whose pool is memory of ours, so that too little memory is an error.
pub(crate) struct Arena {
    id: ArenaId,
    context: NonNull<sys::ggml_context>,
    n_tensors: usize,
    max_tensors: usize,
    /// Keeps the pool alive; ggml holds its address.
    _pool: Vec<MaybeUninit<u128>>,
}

// SAFETY: a context has no tie to a thread, and everything that changes it takes &mut.
unsafe impl Send for Arena {}
// SAFETY: through & only fields that no one changes are read.
unsafe impl Sync for Arena {}

impl Arena {
    /// Room for `max_tensors` headers and `extra_bytes` of other objects, not zeroed.
    pub(crate) fn new(max_tensors: usize, extra_bytes: usize) -> Result<Arena> {
        // SAFETY: a constant of ggml.
        let tensor_bytes = unsafe { sys::ggml_tensor_overhead() };
        let bytes = max_tensors.saturating_mul(tensor_bytes).saturating_add(extra_bytes).saturating_add(1024);
        let mut pool = Vec::new();
        pool.try_reserve_exact(bytes.div_ceil(16)).map_err(|_| Error::Memory {
            what: format!("{max_tensors} tensor headers"),
            bytes: bytes as u64,
        })?;
        let params = sys::ggml_init_params {
            mem_size: bytes,
            mem_buffer: pool.as_mut_ptr() as *mut _,
            no_alloc: true,
        };
        // SAFETY: the pool has mem_size bytes aligned to 16 and lives as long as the context; moving the Vec
        // does not move its memory.
        let context = NonNull::new(unsafe { sys::ggml_init(params) });
        let context = context.ok_or(Error::Memory { what: "a ggml context".into(), bytes: bytes as u64 })?;
        Ok(Arena { id: ArenaId::next(), context, n_tensors: 0, max_tensors, _pool: pool })
    }

    pub(crate) fn id(&self) -> ArenaId {
        self.id
    }

    pub(crate) fn context(&mut self) -> *mut sys::ggml_context {
        self.context.as_ptr()
    }

    /// Counts one header about to be made.
    ///
    /// # Panics
    /// When the arena is full; ggml would end the process.
    pub(crate) fn claim(&mut self, op: &str) {
        assert!(
            self.n_tensors < self.max_tensors,
            "{op}: at most {} tensors in this arena",
            self.max_tensors
        );
        self.n_tensors += 1;
    }

    /// A tensor without data.
    pub(crate) fn tensor(&mut self, name: &str, dtype: DType, ne: [u64; 4]) -> Tensor {
        self.claim("tensor");
        assert!(shape_bytes(dtype, ne).is_some(), "{name}: expected a possible shape, found {dtype} {ne:?}");
        let ne = ne.map(|n| n as i64);
        // SAFETY: one of ggml's types, four sizes whose bytes fit, and room was claimed.
        let raw = unsafe { sys::ggml_new_tensor(self.context.as_ptr(), dtype.id() as i32, 4, ne.as_ptr()) };
        let tensor = self.own(raw);
        set_name(tensor, name);
        tensor
    }

    /// The handle of what ggml just made in this context.
    pub(crate) fn own(&self, raw: *mut sys::ggml_tensor) -> Tensor {
        let Some(raw) = NonNull::new(raw) else { unreachable!("ggml makes a tensor or ends the process") };
        Tensor { raw, arena: self.id }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: made by ggml_init, freed once; the pool is ours and goes afterwards.
        unsafe { sys::ggml_free(self.context.as_ptr()) }
    }
}

/// Largest tensor: far beyond any memory, and small enough that no sum or product of ggml overflows.
const MAX_TENSOR_BYTES: u64 = 1 << 45;

/// Bytes of a contiguous tensor that ggml can hold: no size is zero, rows are whole blocks, and both row
/// length and number of rows fit the `int` that its loops count with.
pub(crate) fn shape_bytes(dtype: DType, ne: [u64; 4]) -> Option<u64> {
    const MAX: u64 = i32::MAX as u64;
    let n_rows = ne[1].checked_mul(ne[2])?.checked_mul(ne[3])?;
    let bytes = dtype.tensor_bytes(ne)?;
    (!ne.contains(&0) && ne[0] <= MAX && n_rows <= MAX && bytes <= MAX_TENSOR_BYTES).then_some(bytes)
}

/// What C knows of a tensor.
///
/// The caller has checked that the arena of `tensor` is alive.
pub(crate) fn facts(tensor: Tensor) -> sys::TensorFacts {
    let mut facts = MaybeUninit::uninit();
    // SAFETY: the tensor is alive and C fills every field.
    unsafe {
        sys::owlet_tensor_facts(tensor.raw.as_ptr(), facts.as_mut_ptr());
        facts.assume_init()
    }
}

pub(crate) fn name(tensor: Tensor) -> String {
    // SAFETY: the tensor is alive; its name ends with 0.
    unsafe { CStr::from_ptr(sys::ggml_get_name(tensor.raw.as_ptr())) }.to_string_lossy().into_owned()
}

/// Names end at 63 bytes or at a 0 inside: they are for people who look at a graph, not for look-ups. No
/// tensor stays without one: ggml would make one up while others read the tensor.
pub(crate) fn set_name(tensor: Tensor, name: &str) {
    let mut bytes: Vec<u8> = name.bytes().take_while(|&b| b != 0).collect();
    if bytes.is_empty() {
        bytes.extend(b"unnamed");
    }
    let name = CString::new(bytes).unwrap_or_default();
    // SAFETY: the tensor is alive; ggml copies what fits.
    unsafe { sys::ggml_set_name(tensor.raw.as_ptr(), name.as_ptr()) };
}

impl sys::TensorFacts {
    pub(crate) fn shape(&self) -> [u64; 4] {
        self.ne.map(|n| n as u64)
    }

    pub(crate) fn dtype(&self) -> DType {
        let Some(dtype) = DType::from_id(self.dtype as u32) else {
            unreachable!("only types of the table are made")
        };
        dtype
    }

    /// Whether the bytes are those of a new tensor of this shape, without gaps and in order.
    pub(crate) fn is_contiguous(&self) -> bool {
        let dtype = self.dtype();
        let row = dtype.row_bytes(self.ne[0] as u64).unwrap_or(0) as usize;
        let mut expected = row;
        let mut contiguous = self.nb[0] == dtype.block_bytes() as usize || self.ne[0] == 1;
        for i in 1..4 {
            contiguous &= self.nb[i] == expected || self.ne[i] == 1;
            expected *= self.ne[i] as usize;
        }
        contiguous
    }

    /// Whether each row is whole and in order.
    pub(crate) fn has_whole_rows(&self) -> bool {
        self.nb[0] == self.dtype().block_bytes() as usize
    }
}
