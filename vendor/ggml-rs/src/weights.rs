//! Read-only tensors that lie where the file's bytes lie, in a map, in static bytes or in memory, or in the memory of
//! devices.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::arena::{self, Arena, ArenaId, shape_bytes};
use crate::backend::State;
use crate::buffer::{ALIGNMENT, Buffer, DeviceLayout, OnDevices};
use crate::turns::{Guest, Turns};
use crate::{Backend, Cancel, DType, Error, Place, Result, Tensor, TensorInfo, sys};

/// Where a tensor lies in the bytes of a file. `ne` is padded with 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    pub name: String,
    pub dtype: DType,
    pub ne: [u64; 4],
    /// From the first byte of the file.
    pub offset: u64,
    pub place: Place,
    /// On a device: the tensors of one turn share their memory with those of the others, and are there when a graph that
    /// uses them is computed. `None`: memory of its own, and always there.
    pub turn: Option<u8>,
}

/// Read-only tensors in shared bytes. Clones share them; only what goes to a device is copied (see [`Weights::new`]).
#[derive(Clone)]
pub struct Weights(Arc<Inner>);

struct Inner {
    arena: Arena,
    by_name: HashMap<String, Tensor>,
    // Fields drop in this order: first what points into the bytes, then the bytes, then the devices.
    _buffer: Buffer,
    on_devices: OnDevices,
    turns: Turns,
    bytes: Arc<Aligned>,
    specs: Vec<TensorSpec>,
    backend: Backend,
}

/// Every block struct of ggml may be read at a multiple of this.
const OFFSET_ALIGNMENT: u64 = 8;

impl Weights {
    /// The tensors that `specs` describe in `bytes`, which stay alive as long as any clone or any graph that
    /// uses them. The CPU takes its tensors from where they are: bytes that begin at a multiple of 32, as pages and
    /// the built-in model do, are used where they are; others are copied once. A device gets a copy of what is
    /// placed there, of what takes turns each time that it comes.
    ///
    /// # Errors
    /// [`Error::Request`] for a tensor beyond the bytes, not on a multiple of 8, with a size of zero, of no
    /// whole blocks, without a name or with another's name; [`Error::Memory`]; [`Error::Lost`].
    ///
    /// # Panics
    /// When a tensor is placed on a device that `backend` has not.
    pub fn new(backend: &Backend, bytes: Bytes, specs: &[TensorSpec]) -> Result<Weights> {
        for spec in specs {
            check(spec, bytes.len() as u64)?;
        }
        Weights::of(backend, Arc::new(Aligned::new(bytes)?), specs)
    }

    /// The same tensors in the same places of another backend. What these have on devices is given back before, if their
    /// backend has lost one.
    ///
    /// # Errors
    /// [`Error::Memory`]; [`Error::Lost`].
    ///
    /// # Panics
    /// As [`Weights::new`].
    pub fn again(&self, backend: &Backend) -> Result<Weights> {
        self.0.on_devices.release(&self.0.backend);
        Weights::of(backend, Arc::clone(&self.0.bytes), &self.0.specs)
    }

    fn of(backend: &Backend, bytes: Arc<Aligned>, specs: &[TensorSpec]) -> Result<Weights> {
        let mut arena = Arena::new(specs.len(), 0)?;
        let base = bytes.as_slice().as_ptr().cast_mut();
        // SAFETY: the type of `bytes` sees to the alignment, and they are kept beside the buffer. They are
        // never written, since graphs write to memory only.
        let buffer = unsafe { Buffer::over(base, bytes.as_slice().len()) }?;
        buffer.mark_as_weights();
        let mut by_name = HashMap::with_capacity(specs.len());
        let mut layout = DeviceLayout::new(backend);
        for spec in specs {
            let tensor = arena.tensor(&spec.name, spec.dtype, spec.ne);
            let raw = tensor.raw.as_ptr();
            match spec.place {
                Place::Cpu => {
                    // SAFETY: offset and size were checked against the bytes, which the buffer spans.
                    unsafe { buffer.place(raw, spec.offset as usize) };
                }
                // SAFETY: a new tensor of the arena.
                Place::Device(device) => unsafe { layout.push(raw, device, spec.turn) }?,
            }
            if by_name.insert(spec.name.clone(), tensor).is_some() {
                return Err(Error::Request(format!(
                    "tensor {}: expected one of this name, found two",
                    spec.name
                )));
            }
        }
        let (on_devices, turns) = layout.allocate("weights on the device")?;
        on_devices.mark_as_weights();
        for spec in specs {
            let (Place::Device(device), None) = (spec.place, spec.turn) else { continue };
            let (raw, bytes) = (by_name[&spec.name].raw.as_ptr(), &bytes.as_slice()[spec.bytes()]);
            // SAFETY: placed on its device, and as long as the tensor; no graph knows it yet.
            if !unsafe { sys::owlet_tensor_set(raw, bytes.as_ptr().cast(), 0, bytes.len()) } {
                return Err(backend.lost(device));
            }
        }
        backend.check()?;
        let guests = specs.iter().filter(|spec| spec.turn.is_some());
        let bytes_of: HashMap<_, _> =
            guests.map(|spec| (by_name[&spec.name].raw.as_ptr(), spec.bytes())).collect();
        let turns = turns.into_iter().map(|turn| Guest { bytes: bytes_of[&turn.tensor].clone(), turn });
        Ok(Weights(Arc::new(Inner {
            arena,
            by_name,
            _buffer: buffer,
            on_devices,
            turns: Turns::new(turns.collect()),
            bytes,
            specs: specs.to_vec(),
            backend: backend.clone(),
        })))
    }

    pub(crate) fn turns(&self) -> &Turns {
        &self.0.turns
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.0.backend
    }

    /// Brings those of the tensors of these [numbers](Turns::number) that are away. The state is that of the backend: nobody
    /// computes with what has to go.
    ///
    /// # Errors
    /// [`Error::Cancelled`] between two tensors; [`Error::Lost`].
    pub(crate) fn bring(&self, numbers: &[usize], cancel: &Cancel, _locked: &State) -> Result<()> {
        let Inner { turns, bytes, backend, .. } = &*self.0;
        turns.bring(numbers, |guest| {
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let bytes = &bytes.as_slice()[guest.bytes.clone()];
            // SAFETY: placed on its device, and as long as the tensor; graphs of the backend wait.
            let is_there =
                unsafe { sys::owlet_tensor_fill(guest.turn.tensor, bytes.as_ptr().cast(), bytes.len()) };
            if is_there { Ok(()) } else { Err(backend.lost(guest.turn.device)) }
        })
    }

    /// # Panics
    /// When `tensor` is not one of these.
    pub fn place(&self, tensor: Tensor) -> Place {
        assert!(tensor.arena == self.arena_id(), "weights: this tensor belongs to another arena");
        self.place_of(tensor.raw.as_ptr())
    }

    /// Where a tensor lies; the CPU for what is none of these.
    pub(crate) fn place_of(&self, root: *mut sys::ggml_tensor) -> Place {
        self.0.on_devices.place_of(root)
    }

    pub fn tensor(&self, name: &str) -> Option<Tensor> {
        self.0.by_name.get(name).copied()
    }

    /// # Panics
    /// When `tensor` is not one of these.
    pub fn info(&self, tensor: Tensor) -> TensorInfo {
        assert!(tensor.arena == self.arena_id(), "weights: this tensor belongs to another arena");
        let facts = arena::facts(tensor);
        TensorInfo { name: arena::name(tensor), dtype: facts.dtype(), ne: facts.shape() }
    }

    pub(crate) fn arena_id(&self) -> ArenaId {
        self.0.arena.id()
    }
}

impl TensorSpec {
    /// Where its bytes are in the file, once they were checked.
    fn bytes(&self) -> Range<usize> {
        let start = self.offset as usize;
        start..start + self.dtype.tensor_bytes(self.ne).unwrap_or(0) as usize
    }
}

fn check(spec: &TensorSpec, n_bytes: u64) -> Result<()> {
    let TensorSpec { name, dtype, ne, offset, .. } = spec;
    let fail = |problem: String| Err(Error::Request(format!("tensor {name}: {problem}")));
    if name.is_empty() {
        return fail("expected a name, found none".into());
    }
    let Some(size) = shape_bytes(*dtype, *ne) else {
        return fail(format!("expected sizes above zero and rows of whole blocks, found {dtype} {ne:?}"));
    };
    if !offset.is_multiple_of(OFFSET_ALIGNMENT) {
        return fail(format!("expected an offset that is a multiple of {OFFSET_ALIGNMENT}, found {offset}"));
    }
    if offset.checked_add(size).is_none_or(|end| end > n_bytes) {
        return fail(format!("expected {size} bytes at {offset}, found a file of {n_bytes}"));
    }
    Ok(())
}

/// Bytes that begin where ggml can use them.
enum Aligned {
    Shared(Bytes),
    Copied { blocks: Vec<Block>, len: usize },
}

#[repr(C, align(32))]
#[derive(Clone, Copy)]
struct Block([u8; ALIGNMENT]);

const _: () = assert!(align_of::<Block>() == ALIGNMENT);

impl Aligned {
    fn new(bytes: Bytes) -> Result<Aligned> {
        if bytes.as_ptr().addr().is_multiple_of(ALIGNMENT) {
            return Ok(Aligned::Shared(bytes));
        }
        let memory = || Error::Memory { what: "a copy of the weights".into(), bytes: bytes.len() as u64 };
        let mut blocks = Vec::new();
        blocks.try_reserve_exact(bytes.len().div_ceil(ALIGNMENT)).map_err(|_| memory())?;
        let mut chunks = bytes.chunks_exact(ALIGNMENT);
        for chunk in &mut chunks {
            let mut block = [0; ALIGNMENT];
            block.copy_from_slice(chunk);
            blocks.push(Block(block));
        }
        let mut last = [0; ALIGNMENT];
        let rest = chunks.remainder();
        if !rest.is_empty() {
            last[..rest.len()].copy_from_slice(rest);
            blocks.push(Block(last));
        }
        Ok(Aligned::Copied { blocks, len: bytes.len() })
    }

    fn as_slice(&self) -> &[u8] {
        match self {
            Aligned::Shared(bytes) => bytes,
            // SAFETY: the blocks are bytes without padding and span at least len of them.
            Aligned::Copied { blocks, len } => unsafe {
                std::slice::from_raw_parts(blocks.as_ptr().cast(), *len)
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, dtype: DType, ne: [u64; 4], offset: u64) -> TensorSpec {
        TensorSpec { name: name.into(), dtype, ne, offset, place: Place::Cpu, turn: None }
    }

    /// Bytes 0, 1, 2, .. that begin `shift` after a multiple of 64.
    fn bytes(shift: usize, n: usize) -> Bytes {
        let mut padded = vec![0; n + 128];
        let start = padded.as_ptr().addr().next_multiple_of(64) - padded.as_ptr().addr() + shift;
        for (i, byte) in padded[start..start + n].iter_mut().enumerate() {
            *byte = i as u8;
        }
        Bytes::from(padded).slice(start..start + n)
    }

    #[test]
    fn aligned_bytes_are_used_where_they_are_and_others_copied() {
        let backend = Backend::cpu(1).unwrap();
        for (shift, in_place) in [(0, true), (32, true), (1, false), (8, false), (48, false)] {
            // A length of no whole 32 bytes, and a tensor that ends with it.
            let bytes = bytes(shift, 100);
            let specs = [spec("a", DType::F32, [2, 1, 1, 1], 8), spec("b", DType::F16, [2, 3, 1, 1], 88)];
            let weights = Weights::new(&backend, bytes.clone(), &specs).unwrap();
            for spec in &specs {
                let data = arena::facts(weights.tensor(&spec.name).unwrap()).data.cast::<u8>();
                let expected = bytes.as_ptr().wrapping_add(spec.offset as usize);
                assert_eq!(data == expected, in_place, "shift {shift}");
                let n = spec.dtype.tensor_bytes(spec.ne).unwrap() as usize;
                // SAFETY: the tensor is alive and has n bytes.
                let held = unsafe { std::slice::from_raw_parts(data, n) };
                assert_eq!(held, &bytes[spec.offset as usize..][..n], "shift {shift}");
            }
        }
    }

    #[test]
    fn wrong_places_and_shapes_are_errors() {
        let backend = Backend::cpu(1).unwrap();
        let cases = [
            (spec("", DType::F32, [1; 4], 0), "tensor : expected a name, found none"),
            (
                spec("a", DType::F32, [25, 1, 1, 1], 8),
                "tensor a: expected 100 bytes at 8, found a file of 100",
            ),
            (
                spec("a", DType::F32, [1; 4], 4),
                "tensor a: expected an offset that is a multiple of 8, found 4",
            ),
            (spec("a", DType::F32, [1; 4], u64::MAX - 7), "found a file of 100"),
            (spec("a", DType::F32, [1, 0, 1, 1], 0), "expected sizes above zero"),
            (spec("a", DType::Q8_0, [33, 1, 1, 1], 0), "whole blocks, found q8_0 [33, 1, 1, 1]"),
            (spec("a", DType::F32, [u64::MAX, u64::MAX, 1, 1], 0), "expected sizes above zero"),
            (spec("b", DType::F32, [1; 4], 0), "tensor b: expected one of this name, found two"),
        ];
        for (wrong, expected) in cases {
            let specs = [spec("b", DType::F32, [1; 4], 0), wrong];
            let error = Weights::new(&backend, bytes(0, 100), &specs).err().unwrap().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn tensors_are_found_by_name_and_tell_what_they_are() {
        let backend = Backend::cpu(1).unwrap();
        let weights =
            Weights::new(&backend, bytes(0, 100), &[spec("a", DType::Q8_0, [32, 2, 1, 1], 0)]).unwrap();
        let tensor = weights.clone().tensor("a").unwrap();
        let expected = TensorInfo { name: "a".into(), dtype: DType::Q8_0, ne: [32, 2, 1, 1] };
        assert_eq!(weights.info(tensor), expected);
        assert_eq!(weights.tensor("b"), None);
        Weights::new(&backend, Bytes::new(), &[]).unwrap();
    }
}
