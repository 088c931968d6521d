//! Other shapes of the same elements: views cost nothing, copies do.

use super::{demand, tiles};
use crate::arena::shape_bytes;
use crate::{DType, GraphBuilder, Tensor, sys};

impl GraphBuilder {
    /// The elements of a contiguous tensor in another shape, padded with 1. No copy.
    pub fn reshape(&mut self, a: Tensor, ne: [u64; 4]) -> Tensor {
        let facts = self.facts("reshape", a);
        let n_elements = |ne: [u64; 4]| ne.iter().try_fold(1u64, |n, &size| n.checked_mul(size));
        demand!(
            facts.is_contiguous() && n_elements(ne) == n_elements(facts.shape()),
            "reshape: expected contiguous elements for {ne:?}, found {}",
            self.show(a)
        );
        let [n0, n1, n2, n3] = ne.map(|n| n as i64);
        self.node("reshape", facts.dtype(), ne, |context| {
            // SAFETY: contiguous, and as many elements.
            unsafe { sys::ggml_reshape_4d(context, a.raw.as_ptr(), n0, n1, n2, n3) }
        })
    }

    /// `n` elements of a row from byte `offset` on. No copy.
    pub fn view_1d(&mut self, a: Tensor, n: u64, offset: u64) -> Tensor {
        self.view("view_1d", a, &[n], &[], offset)
    }

    /// `ne` elements from byte `offset` on; `stride` is bytes from one row to the next. No copy.
    pub fn view_2d(&mut self, a: Tensor, ne: [u64; 2], stride: u64, offset: u64) -> Tensor {
        self.view("view_2d", a, &ne, &[stride], offset)
    }

    /// `ne` elements from byte `offset` on; `strides` are bytes from one to the next in dimensions 1 and 2.
    /// No copy.
    pub fn view_3d(&mut self, a: Tensor, ne: [u64; 3], strides: [u64; 2], offset: u64) -> Tensor {
        self.view("view_3d", a, &ne, &strides, offset)
    }

    /// Axis i of a becomes axis `axes[i]`. No copy. Rows of blocks stay rows.
    pub fn permute(&mut self, a: Tensor, axes: [usize; 4]) -> Tensor {
        let facts = self.facts("permute", a);
        let mut sorted = axes;
        sorted.sort_unstable();
        demand!(sorted == [0, 1, 2, 3], "permute: expected each axis once, found {axes:?}");
        demand!(
            axes[0] == 0 || !facts.dtype().is_quantized(),
            "permute: expected blocks to stay in rows, found {axes:?} of {}",
            self.show(a)
        );
        let mut ne = [0; 4];
        for (axis, n) in axes.into_iter().zip(facts.shape()) {
            ne[axis] = n;
        }
        let [a0, a1, a2, a3] = axes.map(|axis| axis as i32);
        self.node("permute", facts.dtype(), ne, |context| {
            // SAFETY: a permutation of four axes.
            unsafe { sys::ggml_permute(context, a.raw.as_ptr(), a0, a1, a2, a3) }
        })
    }

    /// Rows become columns. No copy.
    pub fn transpose(&mut self, a: Tensor) -> Tensor {
        self.permute(a, [1, 0, 2, 3])
    }

    /// A contiguous copy.
    pub fn cont(&mut self, a: Tensor) -> Tensor {
        let facts = self.facts("cont", a);
        demand!(
            !facts.dtype().is_quantized() || facts.has_whole_rows(),
            "cont: expected blocks in rows, found {}",
            self.show(a)
        );
        self.node("cont", facts.dtype(), facts.shape(), |context| {
            // SAFETY: elements of any stride, or rows of blocks.
            unsafe { sys::ggml_cont(context, a.raw.as_ptr()) }
        })
    }

    /// Writes a over `destination` in memory; one shape, f32, f16 or bf16 each. Yields the destination.
    pub fn cpy(&mut self, a: Tensor, destination: Tensor) -> Tensor {
        let (fa, fd) = (self.facts("cpy", a), self.facts("cpy", destination));
        demand!(
            fa.ne == fd.ne && is_word(fa.dtype()) && is_word(fd.dtype()),
            "cpy: expected one shape of f32, f16 or bf16, found {} to {}",
            self.show(a),
            self.show(destination)
        );
        self.demand_memory("cpy", destination, a);
        self.node("cpy", fd.dtype(), fd.shape(), |context| {
            // SAFETY: one shape, types that convert, and a destination that is ours to write.
            unsafe { sys::ggml_cpy(context, a.raw.as_ptr(), destination.raw.as_ptr()) }
        })
    }

    /// A contiguous copy as another type; both f32, f16 or bf16.
    pub fn cast(&mut self, a: Tensor, dtype: DType) -> Tensor {
        let facts = self.facts("cast", a);
        demand!(
            is_word(facts.dtype()) && is_word(dtype),
            "cast: expected f32, f16 or bf16, found {} to {dtype}",
            self.show(a)
        );
        self.node("cast", dtype, facts.shape(), |context| {
            // SAFETY: types that convert; ggml makes the destination.
            unsafe { sys::ggml_cast(context, a.raw.as_ptr(), dtype.id() as i32) }
        })
    }

    /// b after a along `dim`; one type of f32, f16, bf16 or i32, other sizes equal.
    pub fn concat(&mut self, a: Tensor, b: Tensor, dim: usize) -> Tensor {
        let (fa, fb) = (self.facts("concat", a), self.facts("concat", b));
        let (mut ne, ne_b) = (fa.shape(), fb.shape());
        demand!(
            dim < 4
                && (0..4).all(|i| i == dim || ne[i] == ne_b[i])
                && fa.dtype() == fb.dtype()
                && (is_word(fa.dtype()) || fa.dtype() == DType::I32),
            "concat: expected one type and sizes that differ in dimension {dim} only, found {} and {}",
            self.show(a),
            self.show(b)
        );
        ne[dim] += ne_b[dim];
        self.node("concat", fa.dtype(), ne, |context| {
            // SAFETY: shapes and types checked.
            unsafe { sys::ggml_concat(context, a.raw.as_ptr(), b.raw.as_ptr(), dim as i32) }
        })
    }

    /// Copies of a f32 tensor side by side up to the shape `ne`.
    pub fn repeat(&mut self, a: Tensor, ne: [u64; 4]) -> Tensor {
        let facts = self.f32_rows("repeat", a);
        demand!(
            shape_bytes(DType::F32, ne).is_some() && tiles(facts.shape(), ne),
            "repeat: expected sizes that divide {ne:?}, found {}",
            self.show(a)
        );
        // ggml takes the shape from a tensor; this one is never part of the graph.
        let like = self.arena.tensor("shape", DType::F32, ne);
        self.node("repeat", DType::F32, ne, |context| {
            // SAFETY: the sizes divide.
            unsafe { sys::ggml_repeat(context, a.raw.as_ptr(), like.raw.as_ptr()) }
        })
    }

    /// A view of up to three dimensions within the bytes of a, aligned to its elements or blocks.
    fn view(&mut self, op: &str, a: Tensor, sizes: &[u64], strides: &[u64], offset: u64) -> Tensor {
        let facts = self.facts(op, a);
        let dtype = facts.dtype();
        let mut ne = [1; 4];
        ne[..sizes.len()].copy_from_slice(sizes);
        let found = || format!("{ne:?} with strides {strides:?} at {offset} in {}", self.show(a));

        let row = dtype.row_bytes(ne[0]).filter(|_| !ne.contains(&0));
        let Some(row) = row else { panic!("{op}: expected whole blocks, found {}", found()) };
        let block = dtype.block_bytes();
        demand!(
            strides.iter().chain([&offset]).all(|bytes| bytes.is_multiple_of(block)),
            "{op}: expected multiples of {block} bytes, found {}",
            found()
        );
        // The last byte by these strides, and that of a gapless tensor, which ggml looks at.
        let by_strides = strides
            .iter()
            .zip(&ne[1..])
            .try_fold(row, |end, (stride, n)| end.checked_add(stride.checked_mul(n - 1)?));
        let end = |bytes: Option<u64>| bytes.and_then(|bytes| bytes.checked_add(offset));
        let n_bytes = facts.n_bytes as u64;
        demand!(
            facts.has_whole_rows()
                && end(by_strides).is_some_and(|end| end <= n_bytes)
                && end(dtype.tensor_bytes(ne)).is_some_and(|end| end <= n_bytes),
            "{op}: expected to stay within {n_bytes} bytes, found {}",
            found()
        );
        let nb1 = strides.first().copied().unwrap_or(row) as usize;
        let nb2 = strides.get(1).map_or(nb1 * ne[1] as usize, |&stride| stride as usize);
        let nb3 = nb2 * ne[2] as usize;
        let [n0, n1, n2, n3] = ne.map(|n| n as i64);
        self.node(op, dtype, ne, |context| {
            // SAFETY: within the bytes of a, which lie within those of its root.
            unsafe {
                sys::ggml_view_4d(context, a.raw.as_ptr(), n0, n1, n2, n3, nb1, nb2, nb3, offset as usize)
            }
        })
    }
}

fn is_word(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
}
