//! Tensors that graphs read and write and that outlive them: the KV cache.

use std::collections::HashMap;
use std::sync::Arc;

use crate::arena::{self, Arena, ArenaId, shape_bytes};
use crate::buffer::{Buffer, DeviceLayout, OnDevices, Zeroed};
use crate::{Backend, DType, Error, Place, Result, Tensor, TensorInfo, sys};

/// Read-write tensors of one backend, zero at first; pages of the CPU's memory that nothing touches take none. Clones share
/// the tensors. Graphs of the backend run one after another, and reading and writing from outside waits for
/// them.
#[derive(Clone)]
pub struct Memory(Arc<Inner>);

struct Inner {
    backend: Backend,
    by_name: HashMap<String, Tensor>,
    arena: Arena,
    // Fields drop in this order: first what points into the bytes, then the bytes. They are touched only
    // under the backend's lock.
    _buffer: Buffer,
    on_devices: OnDevices,
    _bytes: Zeroed,
}

/// Tensors begin where cache lines do, relative to the first one.
const ALIGNMENT: u64 = 64;

impl Memory {
    /// One tensor for each (name, type, shape padded with 1).
    ///
    /// # Errors
    /// [`Error::Request`] for a size of zero, rows of no whole blocks or a name twice; [`Error::Memory`].
    pub fn new(backend: &Backend, specs: &[(&str, DType, [u64; 4])]) -> Result<Memory> {
        let specs: Vec<_> = specs.iter().map(|&(name, dtype, ne)| (name, dtype, ne, Place::Cpu)).collect();
        Memory::placed(backend, &specs)
    }

    /// The same, each in its place.
    ///
    /// # Errors
    /// As [`Memory::new`]; [`Error::Lost`].
    ///
    /// # Panics
    /// When a place is a device that the backend has not.
    pub fn placed(backend: &Backend, specs: &[(&str, DType, [u64; 4], Place)]) -> Result<Memory> {
        let mut offsets = Vec::with_capacity(specs.len());
        let mut total = 0u64;
        for (name, dtype, ne, place) in specs {
            let fail = || Error::Request(format!("memory {name}: expected whole rows, found {dtype} {ne:?}"));
            let bytes = shape_bytes(*dtype, *ne).ok_or_else(fail)?;
            backend.expect(*place, name);
            offsets.push(total);
            if *place == Place::Cpu {
                total = total.checked_add(bytes.next_multiple_of(ALIGNMENT)).ok_or_else(fail)?;
            }
        }
        let mut arena = Arena::new(specs.len(), 0)?;
        let memory = || Error::Memory { what: "the memory of a session".into(), bytes: total };
        let bytes = usize::try_from(total).ok().and_then(Zeroed::new).ok_or_else(memory)?;
        // SAFETY: aligned, and kept beside the buffer.
        let buffer = unsafe { Buffer::over(bytes.base(), total as usize) }?;
        let mut by_name = HashMap::with_capacity(specs.len());
        let mut layout = DeviceLayout::new(backend);
        for ((name, dtype, ne, place), offset) in specs.iter().zip(offsets) {
            let tensor = arena.tensor(name, *dtype, *ne);
            let raw = tensor.raw.as_ptr();
            match *place {
                Place::Cpu => {
                    // SAFETY: the offsets add up to at most the size of the buffer.
                    unsafe { buffer.place(raw, offset as usize) };
                }
                // SAFETY: a new tensor of the arena.
                Place::Device(device) => unsafe { layout.push(raw, device, None) }?,
            }
            by_name.insert((*name).to_owned(), tensor);
        }
        let (on_devices, _) = layout.allocate("the memory of a session")?;
        on_devices.clear(backend)?;
        backend.check()?;
        let backend = backend.clone();
        let inner = Inner { backend, by_name, arena, _buffer: buffer, on_devices, _bytes: bytes };
        if inner.by_name.len() != specs.len() {
            return Err(Error::Request("memory: expected names that differ, found one twice".into()));
        }
        Ok(Memory(Arc::new(inner)))
    }

    pub fn tensor(&self, name: &str) -> Option<Tensor> {
        self.0.by_name.get(name).copied()
    }

    /// # Panics
    /// When `tensor` is not one of these.
    pub fn info(&self, tensor: Tensor) -> TensorInfo {
        self.check(tensor);
        let facts = arena::facts(tensor);
        TensorInfo { name: arena::name(tensor), dtype: facts.dtype(), ne: facts.shape() }
    }

    /// Copies the bytes of `tensor` from byte `offset` on.
    ///
    /// # Errors
    /// [`Error::Request`] for bytes beyond the tensor; [`Error::Lost`].
    ///
    /// # Panics
    /// When `tensor` is not one of these.
    pub fn read(&self, tensor: Tensor, offset: usize, bytes: &mut [u8]) -> Result<()> {
        self.read_runs(tensor, Runs::one(offset, bytes.len()), bytes)
    }

    /// Replaces the bytes of `tensor` from byte `offset` on.
    ///
    /// # Errors
    /// [`Error::Request`] for bytes beyond the tensor; [`Error::Lost`].
    ///
    /// # Panics
    /// When `tensor` is not one of these.
    pub fn write(&self, tensor: Tensor, offset: usize, bytes: &[u8]) -> Result<()> {
        self.write_runs(tensor, Runs::one(offset, bytes.len()), bytes)
    }

    /// Copies `runs` of the bytes of `tensor`, one behind the other.
    ///
    /// # Errors
    /// [`Error::Request`] for runs beyond the tensor, or other than `bytes` has room for; [`Error::Lost`].
    ///
    /// # Panics
    /// When `tensor` is not one of these.
    pub fn read_runs(&self, tensor: Tensor, runs: Runs, bytes: &mut [u8]) -> Result<()> {
        self.check_runs(tensor, runs, bytes.len())?;
        let Runs { offset, run_bytes, n, stride } = runs;
        let _lock = self.0.backend.lock();
        // SAFETY: the runs lie in the tensor and fill `bytes`, and no graph runs while the lock is held.
        let is_done = unsafe {
            let to = bytes.as_mut_ptr().cast();
            sys::owlet_tensor_get_runs(tensor.raw.as_ptr(), to, offset, run_bytes, n, stride)
        };
        self.done(tensor, is_done)
    }

    /// Replaces `runs` of the bytes of `tensor`.
    ///
    /// # Errors
    /// As [`read_runs`](Self::read_runs).
    ///
    /// # Panics
    /// When `tensor` is not one of these.
    pub fn write_runs(&self, tensor: Tensor, runs: Runs, bytes: &[u8]) -> Result<()> {
        self.check_runs(tensor, runs, bytes.len())?;
        let Runs { offset, run_bytes, n, stride } = runs;
        let _lock = self.0.backend.lock();
        // SAFETY: as above; runs do not overlap.
        let is_done = unsafe {
            let from = bytes.as_ptr().cast();
            sys::owlet_tensor_set_runs(tensor.raw.as_ptr(), from, offset, run_bytes, n, stride)
        };
        self.done(tensor, is_done)
    }

    /// What became of a transfer.
    fn done(&self, tensor: Tensor, is_done: bool) -> Result<()> {
        match self.place_of(tensor.raw.as_ptr()) {
            Place::Device(device) if !is_done => Err(self.0.backend.lost(device)),
            _ => self.0.backend.check(),
        }
    }

    /// Gives what it has on devices back, if its backend has lost one.
    pub fn release(&self) {
        self.0.on_devices.release(&self.0.backend);
    }

    pub(crate) fn arena_id(&self) -> ArenaId {
        self.0.arena.id()
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.0.backend
    }

    /// Where a tensor lies; the CPU for what is none of these.
    pub(crate) fn place_of(&self, root: *mut sys::ggml_tensor) -> Place {
        self.0.on_devices.place_of(root)
    }

    /// Whether `root`, the owner of some tensor's data, is one of these.
    pub(crate) fn owns(&self, root: *mut sys::ggml_tensor) -> bool {
        self.0.by_name.values().any(|tensor| tensor.raw.as_ptr() == root)
    }

    fn check(&self, tensor: Tensor) {
        assert!(tensor.arena == self.arena_id(), "memory: this tensor belongs to another arena");
    }

    fn check_runs(&self, tensor: Tensor, runs: Runs, n_bytes: usize) -> Result<()> {
        let span = runs.span().filter(|_| runs.run_bytes.checked_mul(runs.n) == Some(n_bytes));
        let Some(span) = span else {
            return Err(Error::Request(format!(
                "memory {}: expected runs of {n_bytes} bytes side by side, found {runs:?}",
                arena::name(tensor)
            )));
        };
        self.check_range(tensor, runs.offset, span)
    }

    fn check_range(&self, tensor: Tensor, offset: usize, len: usize) -> Result<()> {
        self.check(tensor);
        let n_bytes = arena::facts(tensor).n_bytes;
        if offset.checked_add(len).is_none_or(|end| end > n_bytes) {
            return Err(Error::Request(format!(
                "memory {}: expected a range within {n_bytes} bytes, found {len} at {offset}",
                arena::name(tensor)
            )));
        }
        Ok(())
    }
}

/// Runs of bytes of a tensor: `n` of `run_bytes` each, the first one at byte `offset`, `stride` bytes from one to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runs {
    pub offset: usize,
    pub run_bytes: usize,
    pub n: usize,
    pub stride: usize,
}

impl Runs {
    fn one(offset: usize, n_bytes: usize) -> Runs {
        Runs { offset, run_bytes: n_bytes, n: 1, stride: n_bytes }
    }

    /// From the first byte to behind the last one; none where runs overlap, or there are more bytes than addresses.
    fn span(self) -> Option<usize> {
        let Some(n_strides) = self.n.checked_sub(1) else { return Some(0) };
        let fits = n_strides == 0 || self.run_bytes <= self.stride;
        n_strides.checked_mul(self.stride)?.checked_add(self.run_bytes).filter(|_| fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Device;

    #[test]
    fn memory_is_zero_at_first_and_keeps_what_is_written() {
        let backend = Backend::cpu(1).unwrap();
        let specs = [("k", DType::F16, [3, 5, 1, 1]), ("v", DType::Q8_0, [32, 2, 1, 1])];
        let memory = Memory::new(&backend, &specs).unwrap();
        let (k, v) = (memory.tensor("k").unwrap(), memory.tensor("v").unwrap());
        assert_eq!(memory.info(v), TensorInfo { name: "v".into(), dtype: DType::Q8_0, ne: [32, 2, 1, 1] });
        let mut bytes = [1; 30];
        memory.read(k, 0, &mut bytes).unwrap();
        assert_eq!(bytes, [0; 30]);
        memory.write(k, 28, &[7, 8]).unwrap();
        memory.write(v, 0, &[9; 68]).unwrap();
        memory.read(k, 0, &mut bytes).unwrap();
        assert_eq!(&bytes[26..], [0, 0, 7, 8]);
        memory.read(k, 30, &mut []).unwrap();
    }

    #[test]
    fn runs_are_read_and_written_where_they_lie() {
        let backend = Backend::with_devices(1, &[Device::stand_in()]).unwrap();
        for place in [Place::Cpu, Place::Device(0)] {
            let memory = Memory::placed(&backend, &[("k", DType::F16, [4, 3, 1, 1], place)]).unwrap();
            let k = memory.tensor("k").unwrap();
            let runs = Runs { offset: 2, run_bytes: 4, n: 3, stride: 8 };
            let all: Vec<u8> = (0..24).collect();
            memory.write(k, 0, &all).unwrap();
            let mut bytes = [0; 12];
            memory.read_runs(k, runs, &mut bytes).unwrap();
            assert_eq!(bytes, [2, 3, 4, 5, 10, 11, 12, 13, 18, 19, 20, 21]);
            memory.write_runs(k, runs, &[99; 12]).unwrap();
            let mut found = [0; 24];
            memory.read(k, 0, &mut found).unwrap();
            let is_run = |at: usize| (2..6).contains(&(at % 8));
            let expected: Vec<u8> = (0..24).map(|at| if is_run(at) { 99 } else { at as u8 }).collect();
            assert_eq!(found[..], expected);
            memory.read_runs(k, Runs { n: 0, ..runs }, &mut []).unwrap();

            let refused = |runs: Runs, n: usize| {
                let read = memory.read_runs(k, runs, &mut vec![0; n]).unwrap_err().to_string();
                assert_eq!(read, memory.write_runs(k, runs, &vec![0; n]).unwrap_err().to_string());
                read
            };
            assert_eq!(
                refused(runs, 11),
                format!("memory k: expected runs of 11 bytes side by side, found {runs:?}")
            );
            for wrong in [Runs { stride: 3, ..runs }, Runs { stride: usize::MAX, ..runs }] {
                assert!(refused(wrong, 12).contains("side by side"), "{wrong:?}");
            }
            let beyond = "memory k: expected a range within 24 bytes, found 20 at 5";
            assert_eq!(refused(Runs { offset: 5, ..runs }, 12), beyond);
        }
    }

    #[test]
    fn ranges_and_shapes_are_checked() {
        let backend = Backend::cpu(1).unwrap();
        let memory = Memory::new(&backend, &[("k", DType::F32, [2, 1, 1, 1])]).unwrap();
        let k = memory.tensor("k").unwrap();
        for (offset, n) in [(0, 9), (8, 1), (usize::MAX, 1)] {
            let expected = format!("memory k: expected a range within 8 bytes, found {n} at {offset}");
            assert_eq!(memory.read(k, offset, &mut vec![0; n]).unwrap_err().to_string(), expected);
            assert_eq!(memory.write(k, offset, &vec![0; n]).unwrap_err().to_string(), expected);
        }
        let new = |specs: &[_]| Memory::new(&backend, specs).err().unwrap().to_string();
        let text = new(&[("k", DType::Q8_0, [31, 1, 1, 1])]);
        assert_eq!(text, "memory k: expected whole rows, found q8_0 [31, 1, 1, 1]");
        let text = new(&[("k", DType::F32, [4, 0, 1, 1])]);
        assert_eq!(text, "memory k: expected whole rows, found f32 [4, 0, 1, 1]");
        let twice = ("k", DType::F32, [1; 4]);
        assert_eq!(new(&[twice, twice]), "memory: expected names that differ, found one twice");
        let huge = ("k", DType::F32, [1 << 20, 1 << 22, 1, 1]);
        assert_eq!(new(&[huge]), "out of memory: 17592186044416 bytes for the memory of a session");
    }
}
