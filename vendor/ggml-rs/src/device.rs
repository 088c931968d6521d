//! Devices beside the CPU, with memory of their own: what there is, and one at work.

use std::ffi::{CStr, c_int};
use std::fmt;
use std::ptr::NonNull;

use crate::buffer::Buffer;
#[cfg(feature = "rpc")]
use crate::rpc::Remote;
use crate::{Backend, DType, Error, GraphBuilder, Result, sys};

/// Where tensors lie and operations run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Place {
    #[default]
    Cpu,
    /// A device of a [`Backend`](crate::Backend), by its number there.
    Device(usize),
}

impl Place {
    pub fn is_device(self) -> bool {
        self != Place::Cpu
    }
}

/// A device that this build can compute on. It lives as long as the process.
#[derive(Clone)]
pub struct Device {
    raw: NonNull<sys::ggml_backend_device>,
    #[cfg(feature = "rpc")]
    remote: Option<Remote>,
}

impl PartialEq for Device {
    fn eq(&self, other: &Device) -> bool {
        self.raw == other.raw
    }
}

impl Eq for Device {}

// SAFETY: ggml's devices are tables that nothing changes once they are made.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

/// How a stand-in is: the shim's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandIn {
    Works = 0,
    /// It is lost, and whatever reaches it throws, as in Vulkan's backend.
    Throws = 1,
    /// It is lost, and ggml aborts, also where memory is freed, as in CUDA's.
    Aborts = 2,
    /// It throws once, and works again without what it had.
    ThrowsOnce = 3,
}

/// Bytes of a [stand-in](Device::small_stand_in).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandInMemory {
    pub allocated: u64,
    /// The most that ever was at once.
    pub most: u64,
    /// Of weights.
    pub written: u64,
}

/// Bytes of a device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    pub free: u64,
    pub total: u64,
}

impl Device {
    /// Whether this binary was built for GPUs, with backends in it or in files.
    pub const GPUS_ARE_BUILT_IN: bool =
        Device::CAN_BE_LOADED || cfg!(any(feature = "cuda", feature = "metal", feature = "vulkan"));
    /// Whether it takes backends from files.
    pub const CAN_BE_LOADED: bool = cfg!(feature = "dynamic-backends");
    /// Whether it was built for devices of other processes.
    pub const WORKERS_ARE_BUILT_IN: bool = cfg!(feature = "rpc");
    /// Whether it was built for any devices.
    pub const ARE_BUILT_IN: bool = Device::GPUS_ARE_BUILT_IN || Device::WORKERS_ARE_BUILT_IN;

    pub(crate) fn new(raw: NonNull<sys::ggml_backend_device>) -> Device {
        Device {
            raw,
            #[cfg(feature = "rpc")]
            remote: None,
        }
    }

    #[cfg(feature = "rpc")]
    pub(crate) fn of_worker(raw: NonNull<sys::ggml_backend_device>, remote: Remote) -> Device {
        Device { raw, remote: Some(remote) }
    }

    /// What this machine has of what this binary was built for, and of what it loaded so far; none where a driver is missing.
    pub fn all() -> Vec<Device> {
        crate::backend::install_callbacks();
        // SAFETY: ggml finds its devices at the first call and keeps them.
        let device = |i| NonNull::new(unsafe { sys::owlet_device(i) });
        // SAFETY: as above.
        let built_in = (0..unsafe { sys::owlet_n_devices() }).filter_map(device).map(Device::new);
        #[cfg(feature = "dynamic-backends")]
        let built_in = built_in.chain(crate::modules::devices());
        built_in.collect()
    }

    /// The CPU in the place of a device: memory of its own, ggml's operations only. For proofs of placement.
    pub fn stand_in() -> Device {
        let [device, ..] = Device::stand_ins();
        device
    }

    /// Several of them, none of which may touch another's memory.
    pub fn stand_ins() -> [Device; 3] {
        [0, 1, 2].map(|i| {
            // SAFETY: a static of the shim.
            let device = NonNull::new(unsafe { sys::owlet_stand_in(i) });
            let Some(device) = device else { unreachable!("the address of a static") };
            Device::new(device)
        })
    }

    /// Another one that has `n_bytes` of memory. It stays as long as the process.
    pub fn small_stand_in(n_bytes: u64) -> Device {
        let n_bytes = usize::try_from(n_bytes).unwrap_or(usize::MAX);
        // SAFETY: C makes a device that is never freed.
        let device = NonNull::new(unsafe { sys::owlet_small_stand_in(n_bytes) });
        let Some(device) = device else { unreachable!("the address of a new device") };
        Device::new(device)
    }

    /// How a stand-in is once so many more bytes of weights were written to it. For proofs.
    ///
    /// # Panics
    /// For other devices.
    pub fn set_stand_in(&self, state: StandIn, after_bytes: u64) {
        // SAFETY: the device lives; C looks whether it is a stand-in, and knows the number.
        let is_stand_in =
            unsafe { sys::owlet_set_stand_in(self.raw.as_ptr(), state as c_int, after_bytes as usize) };
        assert!(is_stand_in, "{}: expected a stand-in", self.name());
    }

    /// What became of a stand-in's memory. For proofs.
    ///
    /// # Panics
    /// For other devices.
    pub fn stand_in_memory(&self) -> StandInMemory {
        let mut used = sys::StandInUse::default();
        // SAFETY: the device lives; C looks whether it is a stand-in, and fills what it is given.
        let is_stand_in = unsafe { sys::owlet_stand_in_used(self.raw.as_ptr(), &mut used) };
        assert!(is_stand_in, "{}: expected a stand-in", self.name());
        let sys::StandInUse { n_allocated, n_most, n_written } = used;
        StandInMemory { allocated: n_allocated as u64, most: n_most as u64, written: n_written as u64 }
    }

    /// Short, for example `CUDA0`.
    pub fn name(&self) -> String {
        #[cfg(feature = "rpc")]
        if let Some(remote) = &self.remote {
            return remote.name();
        }
        // SAFETY: a device's name ends with 0 and lives as long as it.
        text(unsafe { sys::ggml_backend_dev_name(self.raw.as_ptr()) })
    }

    /// Whether somebody who says `name` means it.
    pub fn is_called(&self, name: &str) -> bool {
        self.name().eq_ignore_ascii_case(name)
    }

    /// What its maker calls it.
    pub fn description(&self) -> String {
        if self.is_remote() {
            return "a worker".into();
        }
        // SAFETY: as above.
        text(unsafe { sys::ggml_backend_dev_description(self.raw.as_ptr()) })
    }

    /// Whether it belongs to another process.
    pub fn is_remote(&self) -> bool {
        #[cfg(feature = "rpc")]
        return self.remote.is_some();
        #[cfg(not(feature = "rpc"))]
        false
    }

    /// Why it is lost, where that is known of a device in another process.
    pub(crate) fn lost(&self) -> Option<&str> {
        #[cfg(feature = "rpc")]
        return self.remote.as_ref()?.line.lost();
        #[cfg(not(feature = "rpc"))]
        None
    }

    /// Nothing is computed on it any more: another process keeps nothing for us.
    pub(crate) fn leave(&self) {
        #[cfg(feature = "rpc")]
        if let Some(remote) = &self.remote {
            remote.line.hang_up("it was left, since another device was lost");
        }
    }

    /// The same device, over a new connection where it belongs to another process.
    ///
    /// # Errors
    /// [`Error::Unsupported`]: it is not there.
    pub(crate) fn again(&self) -> Result<Device> {
        #[cfg(feature = "rpc")]
        if let Some(remote) = &self.remote {
            return remote.again();
        }
        Ok(self.clone())
    }

    /// Nothing where the device is lost.
    pub fn memory(&self) -> DeviceMemory {
        let (mut free, mut total) = (0, 0);
        // SAFETY: C fills both.
        unsafe { sys::owlet_device_memory(self.raw.as_ptr(), &mut free, &mut total) };
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
    /// Whether a device has `n_bytes` in one piece: it is asked for them, and gets them back.
    ///
    /// # Panics
    /// When there is no such device.
    pub fn device_has_room(&self, device: usize, n_bytes: u64) -> bool {
        let Ok(len) = usize::try_from(n_bytes) else { return false };
        // SAFETY: the device is open.
        len == 0 || unsafe { Buffer::of_device(self.open(device).raw(), len) }.is_some()
    }

    /// Whether a device has [flash attention](GraphBuilder::flash_attn) for heads of `head_dim` elements, `n_head` of
    /// queries on `n_head_kv` of `kv`.
    ///
    /// # Panics
    /// When there is no such device.
    pub fn device_has_flash_attn(
        &self,
        device: usize,
        head_dim: u64,
        [n_head, n_head_kv]: [u64; 2],
        kv: DType,
    ) -> bool {
        const N_KV: u64 = 256;
        let device = self.open(device);
        // Workers claim to know everything.
        if device.device().is_remote() {
            return false;
        }
        let Ok(mut graph) = GraphBuilder::new(self, 8) else { return false };
        let mut tensor = |name, dtype, ne| graph.arena.tensor(name, dtype, ne);
        let q = tensor("q", DType::F32, [head_dim, 1, n_head, 1]);
        let k = tensor("k", kv, [head_dim, N_KV, n_head_kv, 1]);
        let v = tensor("v", kv, [head_dim, N_KV, n_head_kv, 1]);
        let mask = tensor("mask", DType::F16, [N_KV, 1, 1, 1]);
        let attention = graph.flash_attn(q, k, v, Some(mask), 1.0);
        // SAFETY: the device is open, the node alive.
        unsafe { sys::owlet_supports_op(device.raw(), attention.raw.as_ptr()) }
    }
}

/// A device that computes.
pub(crate) struct Open {
    device: Device,
    raw: NonNull<sys::ggml_backend>,
}

impl Open {
    pub(crate) fn new(device: &Device) -> Result<Open> {
        // SAFETY: the device lives.
        let raw = NonNull::new(unsafe { sys::owlet_backend_new(device.raw.as_ptr()) });
        let raw = raw.ok_or_else(|| {
            let why = crate::backend::problem();
            let why = if why.is_empty() { "its driver does not say why".into() } else { why };
            Error::Unsupported(format!("{}: cannot be used: {why}", device.name()))
        })?;
        Ok(Open { device: device.clone(), raw })
    }

    pub(crate) fn device(&self) -> &Device {
        &self.device
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
        unsafe { sys::owlet_backend_free(self.raw.as_ptr()) }
    }
}
