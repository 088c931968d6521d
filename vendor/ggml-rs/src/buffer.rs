//! Memory of ours that ggml's CPU backend uses where it is, and memory of devices.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::HashMap;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Backend, Error, Place, Result, sys};

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
        NonNull::new(unsafe { sys::owlet_buffer_new(device, len) }).map(Buffer)
    }

    /// Fills it with zeros; false where its device is lost.
    fn clear(&self) -> bool {
        // SAFETY: the buffer is alive.
        unsafe { sys::owlet_buffer_clear(self.0.as_ptr()) }
    }

    /// Without this mark the scheduler would not place operations by where their weights lie.
    pub(crate) fn mark_as_weights(&self) {
        // SAFETY: the buffer is alive.
        unsafe { sys::ggml_backend_buffer_set_usage(self.0.as_ptr(), sys::GGML_BACKEND_BUFFER_USAGE_WEIGHTS) }
    }

    /// Gives `tensor`, which has no data yet, the bytes from `offset` on; false where the buffer's device is lost.
    ///
    /// # Safety
    /// The bytes of the tensor lie within the buffer.
    pub(crate) unsafe fn place(&self, tensor: *mut sys::ggml_tensor, offset: usize) -> bool {
        // SAFETY: a new tensor, and bytes within the buffer.
        unsafe { sys::owlet_tensor_place(self.0.as_ptr(), tensor, offset) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: made by ggml, freed once; bytes that are not ggml's stay.
        unsafe { sys::owlet_buffer_free(self.0.as_ptr()) }
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

/// Where tensors of devices lie beside each other, before there is any memory. Those that take turns lie behind all others,
/// those of each turn over those of the other turns.
pub(crate) struct DeviceLayout<'a> {
    backend: &'a Backend,
    tensors: Vec<Slot>,
    /// Bytes by device and turn.
    lens: HashMap<(usize, Option<u8>), usize>,
    /// The largest of any device, at which turns begin.
    alignment: usize,
}

struct Slot {
    tensor: *mut sys::ggml_tensor,
    device: usize,
    turn: Option<u8>,
    /// In the memory of its turn.
    range: Range<usize>,
}

/// A tensor that takes turns, and its part of the memory of its device.
pub(crate) struct Turn {
    pub tensor: *mut sys::ggml_tensor,
    pub device: usize,
    pub turn: u8,
    pub range: Range<usize>,
}

impl DeviceLayout<'_> {
    pub(crate) fn new(backend: &Backend) -> DeviceLayout<'_> {
        DeviceLayout { backend, tensors: Vec::new(), lens: HashMap::new(), alignment: 1 }
    }

    /// Appends a tensor to those of a device, or of a turn there, with what that pads it by.
    ///
    /// # Errors
    /// [`Error::Lost`].
    ///
    /// # Panics
    /// When there is no such device.
    ///
    /// # Safety
    /// The tensor is alive, and has no data yet, until [`DeviceLayout::allocate`].
    pub(crate) unsafe fn push(
        &mut self,
        tensor: *mut sys::ggml_tensor,
        device: usize,
        turn: Option<u8>,
    ) -> Result<()> {
        let (mut len, mut alignment) = (0, 0);
        let raw = self.backend.open(device).raw();
        // SAFETY: device and tensor are alive; C fills both.
        if !unsafe { sys::owlet_tensor_room(raw, tensor, &mut len, &mut alignment) } {
            return Err(self.backend.lost(device));
        }
        let end = self.lens.entry((device, turn)).or_default();
        let start = end.next_multiple_of(alignment.max(1));
        *end = start.saturating_add(len);
        self.alignment = self.alignment.max(alignment);
        self.tensors.push(Slot { tensor, device, turn, range: start..*end });
        Ok(())
    }

    /// Where turns begin in a device's memory.
    fn turns_begin(&self, device: usize) -> usize {
        self.lens.get(&(device, None)).map_or(0, |len| len.next_multiple_of(self.alignment))
    }

    fn len(&self, device: usize) -> usize {
        let begin = self.turns_begin(device);
        let ends = self.lens.iter().filter(|((of, _), _)| *of == device);
        let ends =
            ends.map(|((_, turn), len)| if turn.is_some() { begin.saturating_add(*len) } else { *len });
        ends.max().unwrap_or(0)
    }

    /// Gives every tensor its place in a new buffer of its device.
    ///
    /// # Errors
    /// [`Error::Memory`] where a device has not so much; [`Error::Lost`].
    pub(crate) fn allocate(self, what: &str) -> Result<(OnDevices, Vec<Turn>)> {
        let mut buffers = Vec::new();
        for device in 0..self.backend.n_devices() {
            let len = self.len(device);
            buffers.push(if len == 0 {
                None
            } else {
                let open = self.backend.open(device);
                // SAFETY: the device is alive.
                let buffer = unsafe { Buffer::of_device(open.raw(), len) };
                if buffer.is_none() {
                    self.backend.check()?;
                    return Err(Error::Memory { what: what.into(), bytes: len as u64 });
                }
                buffer
            });
        }
        let (mut places, mut turns) = (HashMap::new(), Vec::new());
        for Slot { tensor, device, turn, range } in &self.tensors {
            let begin = if turn.is_some() { self.turns_begin(*device) } else { 0 };
            let range = begin + range.start..begin + range.end;
            let buffer = buffers[*device].as_ref();
            // SAFETY: offsets and lengths add up to at most the length of the buffer.
            if !buffer.is_some_and(|buffer| unsafe { buffer.place(*tensor, range.start) }) {
                return Err(self.backend.lost(*device));
            }
            places.insert(*tensor, *device);
            turns.extend(turn.map(|turn| Turn { tensor: *tensor, device: *device, turn, range }));
        }
        Ok((OnDevices { places, buffers: Mutex::new(buffers) }, turns))
    }
}

/// Tensors in the memory of devices, which goes with this. Others are the CPU's.
pub(crate) struct OnDevices {
    places: HashMap<*mut sys::ggml_tensor, usize>,
    /// By device; none once they were released.
    buffers: Mutex<Vec<Option<Buffer>>>,
}

// SAFETY: the pointers are names of tensors, to be compared; what they point to is their arena's.
unsafe impl Send for OnDevices {}
// SAFETY: as above.
unsafe impl Sync for OnDevices {}

impl OnDevices {
    /// Where a tensor lies.
    pub(crate) fn place_of(&self, tensor: *mut sys::ggml_tensor) -> Place {
        self.places.get(&tensor).map_or(Place::Cpu, |&device| Place::Device(device))
    }

    pub(crate) fn mark_as_weights(&self) {
        self.buffers().iter().flatten().for_each(Buffer::mark_as_weights);
    }

    /// Gives all of it back, if `backend` computes nothing any more.
    pub(crate) fn release(&self, backend: &Backend) {
        let _lock = backend.lock();
        if backend.check().is_err() {
            self.buffers().clear();
        }
    }

    fn buffers(&self) -> MutexGuard<'_, Vec<Option<Buffer>>> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Zeros everywhere.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub(crate) fn clear(&self, backend: &Backend) -> Result<()> {
        for (device, buffer) in self.buffers().iter().enumerate() {
            if buffer.as_ref().is_some_and(|buffer| !buffer.clear()) {
                return Err(backend.lost(device));
            }
        }
        Ok(())
    }
}
