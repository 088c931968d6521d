//! Memory of ours that ggml's CPU backend uses where it is, and memory of a device.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use crate::{Error, Result, sys};

/// Every buffer of a CPU backend begins at a multiple of this; ggml ends the process otherwise.
pub(crate) const ALIGNMENT: usize = 32;

/// A ggml buffer: over bytes that it does not own, or memory of a device that it does.
pub(crate) struct Buffer(NonNull<sys::ggml_backend_buffer>);

// SAFETY: once made, the buffer itself never changes; who may touch the bytes is up to its owner.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// # Safety
    /// `base` is a multiple of [`ALIGNMENT`], and its `len` bytes outlive the buffer and every graph that
    /// uses tensors in it. If they must not be written, no graph may write to those tensors.
    pub(crate) unsafe fn over(base: *mut u8, len: usize) -> Result<Buffer> {
        // SAFETY: an aligned base; ggml keeps the address.
        let raw = unsafe { sys::ggml_backend_cpu_buffer_from_ptr(base.cast(), len) };
        NonNull::new(raw).map(Buffer).ok_or(Error::Memory { what: "a buffer".into(), bytes: 64 })
    }

    /// `len` bytes of a device, with whatever is in them.
    ///
    /// # Safety
    /// `device` is alive.
    pub(crate) unsafe fn of_device(device: *mut sys::ggml_backend, len: usize) -> Option<Buffer> {
        // SAFETY: as above.
        let raw = unsafe {
            sys::ggml_backend_buft_alloc_buffer(sys::ggml_backend_get_default_buffer_type(device), len)
        };
        NonNull::new(raw).map(Buffer)
    }

    /// Address of the first byte, which is nothing to look at for memory of a device.
    pub(crate) fn base(&self) -> *mut u8 {
        // SAFETY: the buffer is alive.
        unsafe { sys::ggml_backend_buffer_get_base(self.0.as_ptr()).cast() }
    }

    pub(crate) fn clear(&self) {
        // SAFETY: the buffer is alive.
        unsafe { sys::ggml_backend_buffer_clear(self.0.as_ptr(), 0) }
    }

    /// Without this mark the scheduler would not place operations by where their weights lie.
    pub(crate) fn mark_as_weights(&self) {
        // SAFETY: the buffer is alive.
        unsafe { sys::ggml_backend_buffer_set_usage(self.0.as_ptr(), sys::GGML_BACKEND_BUFFER_USAGE_WEIGHTS) }
    }

    /// Gives `tensor`, which has no data yet, the bytes from `address` on.
    ///
    /// # Safety
    /// The bytes of the tensor lie within the buffer.
    pub(crate) unsafe fn place(&self, tensor: *mut sys::ggml_tensor, address: *mut u8) {
        // SAFETY: a new tensor, and bytes within the buffer.
        unsafe { sys::ggml_backend_tensor_alloc(self.0.as_ptr(), tensor, address.cast()) };
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: made by ggml, freed once; bytes that are not ggml's stay.
        unsafe { sys::ggml_backend_buffer_free(self.0.as_ptr()) }
    }
}

/// Zeros that cost nothing until they are touched: the system hands out pages of a large block one by one.
pub(crate) struct Zeroed {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: plain memory.
unsafe impl Send for Zeroed {}
// SAFETY: plain memory; a shared reference gives no access.
unsafe impl Sync for Zeroed {}

impl Zeroed {
    /// `None` when there is not so much memory.
    pub(crate) fn new(len: usize) -> Option<Zeroed> {
        // The allocator clears memory by hand for larger alignments, so the alignment is made of spare bytes.
        let layout = Layout::from_size_align(len.checked_add(ALIGNMENT)?, 16).ok()?;
        // SAFETY: the layout is not empty.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Zeroed { start, layout })
    }

    /// The first byte at a multiple of [`ALIGNMENT`]; `len` bytes follow.
    pub(crate) fn base(&self) -> *mut u8 {
        let start = self.start.as_ptr();
        start.wrapping_add(start.align_offset(ALIGNMENT))
    }
}

impl Drop for Zeroed {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, freed once.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

/// Where tensors of a device lie beside each other, before there is any memory.
pub(crate) struct DeviceLayout {
    device: *mut sys::ggml_backend,
    offsets: Vec<(*mut sys::ggml_tensor, usize)>,
    len: usize,
}

impl DeviceLayout {
    /// # Safety
    /// `device` stays alive as long as the layout.
    pub(crate) unsafe fn new(device: *mut sys::ggml_backend) -> DeviceLayout {
        DeviceLayout { device, offsets: Vec::new(), len: 0 }
    }

    /// Appends a tensor, with what the device pads it by.
    ///
    /// # Safety
    /// The tensor is alive, and has no data yet, until [`DeviceLayout::allocate`].
    pub(crate) unsafe fn push(&mut self, tensor: *mut sys::ggml_tensor) {
        // SAFETY: device and tensor are alive.
        let (alignment, len) = unsafe {
            let buffer_type = sys::ggml_backend_get_default_buffer_type(self.device);
            (
                sys::ggml_backend_buft_get_alignment(buffer_type),
                sys::ggml_backend_buft_get_alloc_size(buffer_type, tensor),
            )
        };
        let offset = self.len.next_multiple_of(alignment);
        self.offsets.push((tensor, offset));
        self.len = offset.saturating_add(len);
    }

    /// Gives every tensor its place in one new buffer. No buffer where there is nothing to place.
    pub(crate) fn allocate(self, what: &str) -> Result<Option<Buffer>> {
        if self.offsets.is_empty() {
            return Ok(None);
        }
        // SAFETY: the device is alive.
        let buffer = unsafe { Buffer::of_device(self.device, self.len) };
        let buffer = buffer.ok_or_else(|| Error::Memory { what: what.into(), bytes: self.len as u64 })?;
        for (tensor, offset) in self.offsets {
            // SAFETY: the offsets and lengths add up to the length of the buffer.
            unsafe { buffer.place(tensor, buffer.base().wrapping_add(offset)) };
        }
        Ok(Some(buffer))
    }
}
