//! Devices beside the CPU, with memory of their own: what there is, and one of them at work.

use std::ffi::CStr;
use std::fmt;
use std::ptr::{NonNull, null};

use crate::buffer::Buffer;
use crate::{Backend, DType, Error, GraphBuilder, Result, sys};

/// Where tensors lie and operations run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Place {
    #[default]
    Cpu,
    /// The device of a [`Backend`](crate::Backend) that has one.
    Device,
}

/// A device that this build can compute on. It lives as long as the process.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Device(NonNull<sys::ggml_backend_device>);

// SAFETY: ggml's devices are tables that nothing changes once they are made.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

/// Bytes of a device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    pub free: u64,
    pub total: u64,
}

impl Device {
    /// Whether this binary was built for devices at all.
    pub const ARE_BUILT_IN: bool = cfg!(feature = "cuda");

    /// What this machine has of what this binary was built for; none where a driver is missing.
    pub fn all() -> Vec<Device> {
        crate::backend::install_callbacks();
        // SAFETY: ggml finds its devices at the first call and keeps them.
        let device = |i| NonNull::new(unsafe { sys::owlet_device(i) });
        // SAFETY: as above.
        (0..unsafe { sys::owlet_n_devices() }).filter_map(device).map(Device).collect()
    }

    /// The CPU in the place of a device: memory of its own, ggml's operations only. For proofs of placement.
    pub fn stand_in() -> Device {
        // SAFETY: a static of the shim.
        let device = NonNull::new(unsafe { sys::owlet_stand_in() });
        let Some(device) = device else { unreachable!("the address of a static") };
        Device(device)
    }

    /// Short, for example `CUDA0`.
    pub fn name(&self) -> String {
        // SAFETY: a device's name ends with 0 and lives as long as it.
        text(unsafe { sys::ggml_backend_dev_name(self.0.as_ptr()) })
    }

    /// What its maker calls it.
    pub fn description(&self) -> String {
        // SAFETY: as above.
        text(unsafe { sys::ggml_backend_dev_description(self.0.as_ptr()) })
    }

    pub fn memory(&self) -> DeviceMemory {
        let (mut free, mut total) = (0, 0);
        // SAFETY: C fills both.
        unsafe { sys::ggml_backend_dev_memory(self.0.as_ptr(), &mut free, &mut total) };
        DeviceMemory { free: free as u64, total: total as u64 }
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({})", self.name())
    }
}

fn text(text: *const std::ffi::c_char) -> String {
    // SAFETY: the callers pass strings that end with 0.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

impl Backend {
    /// Whether the device has `n_bytes` in one piece: it is asked for them, and gets them back.
    pub fn device_has_room(&self, n_bytes: u64) -> bool {
        let (Some(device), Ok(len)) = (self.device_backend(), usize::try_from(n_bytes)) else { return false };
        // SAFETY: the device is open.
        len == 0 || unsafe { Buffer::of_device(device.raw(), len) }.is_some()
    }

    /// Whether the device has [flash attention](GraphBuilder::flash_attn) for heads of `head_dim` elements, `n_head` of
    /// queries on `n_head_kv` of `kv`.
    pub fn device_has_flash_attn(&self, head_dim: u64, [n_head, n_head_kv]: [u64; 2], kv: DType) -> bool {
        const N_KV: u64 = 256;
        let (Some(device), Ok(mut graph)) = (self.device_backend(), GraphBuilder::new(self, 8)) else {
            return false;
        };
        let mut tensor = |name, dtype, ne| graph.arena.tensor(name, dtype, ne);
        let q = tensor("q", DType::F32, [head_dim, 1, n_head, 1]);
        let k = tensor("k", kv, [head_dim, N_KV, n_head_kv, 1]);
        let v = tensor("v", kv, [head_dim, N_KV, n_head_kv, 1]);
        let mask = tensor("mask", DType::F16, [N_KV, 1, 1, 1]);
        let attention = graph.flash_attn(q, k, v, Some(mask), 1.0);
        // SAFETY: the device is open, the node alive.
        unsafe { sys::ggml_backend_supports_op(device.raw(), attention.raw.as_ptr()) }
    }
}

/// A device that computes.
pub(crate) struct Open {
    device: Device,
    raw: NonNull<sys::ggml_backend>,
}

impl Open {
    pub(crate) fn new(device: Device) -> Result<Open> {
        // SAFETY: the device lives; no parameters.
        let raw = NonNull::new(unsafe { sys::ggml_backend_dev_init(device.0.as_ptr(), null()) });
        let raw = raw.ok_or_else(|| Error::Unsupported(format!("{}: cannot be used", device.name())))?;
        Ok(Open { device, raw })
    }

    pub(crate) fn device(&self) -> Device {
        self.device
    }

    pub(crate) fn raw(&self) -> *mut sys::ggml_backend {
        self.raw.as_ptr()
    }

    /// Frees the device's half of a backend.
    ///
    /// # Safety
    /// Nothing runs on it, and nobody uses it afterwards.
    pub(crate) unsafe fn close(&mut self) {
        // SAFETY: made by ggml; the caller vouches that this is the end.
        unsafe { sys::ggml_backend_free(self.raw.as_ptr()) }
    }
}
