//! Rows of a tensor by position. A tensor is seen as `n_rows` rows of `n_per_row` elements, its last dimension
//! (or all but the first, for the kernel of a convolution) being the row.

use super::Checkpoint;
use super::tensor::{SourceTensor, shape_text};
use crate::error::{Error, Result};

impl Checkpoint {
    /// Fills `buf` with the source bytes of rows `row..`, as many as it holds, rows one after the other.
    ///
    /// # Errors
    /// When the file ends early or the disk fails, and for strides that rows can't be gathered from.
    pub fn read_rows(&self, tensor: &SourceTensor, n_per_row: u64, row: u64, buf: &mut [u8]) -> Result<()> {
        if tensor.below.is_empty() {
            return self.read_part(tensor, n_per_row, row, buf);
        }
        let size = tensor.dtype.n_bytes();
        let (start, end) = (row * n_per_row, row * n_per_row + buf.len() as u64 / size);
        let mut first = 0;
        for part in tensor.parts() {
            let next = first + part.n_elements();
            let (from, to) = (start.max(first), end.min(next));
            if from < to {
                // a row of a stack of vectors is longer than each of them
                let n_per_row = n_per_row.min(part.n_elements());
                let buf = &mut buf[((from - start) * size) as usize..((to - start) * size) as usize];
                self.read_part(&part, n_per_row, (from - first) / n_per_row, buf)?;
            }
            first = next;
        }
        Ok(())
    }

    fn read_part(&self, tensor: &SourceTensor, n_per_row: u64, row: u64, buf: &mut [u8]) -> Result<()> {
        let file = &self.files[tensor.file];
        let size = tensor.dtype.n_bytes();
        let Some(strides) = &tensor.strides else {
            return file.read_at(tensor.offset + row * n_per_row * size, buf);
        };
        let row_bytes = (n_per_row * size) as usize;
        let view = RowView::of(tensor, strides, n_per_row)?;
        if view.element_stride == 1 {
            for (i, out) in buf.chunks_exact_mut(row_bytes).enumerate() {
                file.read_at(tensor.offset + view.row_start(row + i as u64) * size, out)?;
            }
            return Ok(());
        }
        // The rows are columns in the file: the run of a column that belongs to these rows is contiguous.
        let n_rows = buf.len() / row_bytes;
        let size = size as usize;
        let mut run = vec![0; n_rows * size];
        for column in 0..n_per_row as usize {
            let start = row + column as u64 * view.element_stride;
            file.read_at(tensor.offset + start * size as u64, &mut run)?;
            for (i, element) in run.chunks_exact(size).enumerate() {
                let at = i * row_bytes + column * size;
                buf[at..at + size].copy_from_slice(element);
            }
        }
        Ok(())
    }

    /// Whether rows can be read from a tensor with such strides.
    pub fn check_rows(&self, name: &str, tensor: &SourceTensor, n_per_row: u64) -> Result<()> {
        for part in tensor.parts() {
            let Some(strides) = &part.strides else { continue };
            RowView::of(&part, strides, n_per_row.min(part.n_elements())).map_err(|_| {
                let (shape, strides) = (shape_text(&part.shape), shape_text(strides));
                let what =
                    format!("shape {shape} with strides {strides}: expected rows or columns without gaps");
                Error::unsupported(self.place(name), what)
            })?;
        }
        Ok(())
    }
}

/// Rows whose elements follow each other, or the columns of a transposed matrix.
struct RowView {
    /// Sizes and strides of the dimensions outside the row, outermost first.
    outer: Vec<(u64, u64)>,
    element_stride: u64,
}

impl RowView {
    fn of(tensor: &SourceTensor, strides: &[u64], n_per_row: u64) -> Result<RowView> {
        let mut n_row = 1;
        let mut element_stride = 0;
        let mut dims: Vec<_> = tensor.shape.iter().copied().zip(strides.iter().copied()).collect();
        while n_row < n_per_row {
            let Some((size, stride)) = dims.pop() else { break };
            if size == 1 {
                continue;
            }
            if n_row == 1 {
                element_stride = stride;
            } else if Some(stride) != element_stride.checked_mul(n_row) {
                return Err(Error::unsupported("", "a row with gaps"));
            }
            n_row *= size;
        }
        dims.retain(|(size, _)| *size != 1);
        let columns = matches!(dims.as_slice(), [(_, 1)]) && element_stride > 0;
        if n_row == n_per_row && (n_per_row == 1 || element_stride == 1 || columns) {
            let element_stride = if n_per_row == 1 { 1 } else { element_stride };
            return Ok(RowView { outer: dims, element_stride });
        }
        Err(Error::unsupported("", "a row with gaps"))
    }

    /// Elements before the first one of `row`.
    fn row_start(&self, mut row: u64) -> u64 {
        let mut start = 0;
        for (size, stride) in self.outer.iter().rev() {
            start += row % size * stride;
            row /= size;
        }
        start
    }
}
