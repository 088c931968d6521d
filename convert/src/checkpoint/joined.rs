//! Checkpoints put together: tensors out of a second directory, and tensors stacked on each other.
//!
//! In: an opened checkpoint. Out: the same with more names, or with one name for what lay in several tensors. Nothing is
//! read here.

use super::tensor::{SourceTensor, shape_text};
use super::{BESIDE, Beside, Checkpoint};
use crate::error::{Error, Result};

impl Checkpoint {
    /// Takes in the tensors of `other` whose names `is_wanted` picks, under their names behind [`BESIDE`].
    pub fn put_beside(&mut self, other: Checkpoint, is_wanted: impl Fn(&str) -> bool) {
        let n_own_files = self.files.len();
        for (name, mut tensor) in other.tensors {
            tensor.file += n_own_files;
            if is_wanted(&name) {
                self.tensors.insert(format!("{BESIDE}{name}"), tensor);
            }
        }
        self.files.extend(other.files);
        self.beside = Some(Beside { dir: other.dir, n_own_files });
    }

    /// Files of the directory itself.
    pub fn n_own_files(&self) -> usize {
        self.beside.as_ref().map_or(self.files.len(), |beside| beside.n_own_files)
    }

    /// Makes one tensor `name` of `parts`, whose rows follow each other; the parts are no longer there.
    ///
    /// # Errors
    /// Where a part is missing, or is of another type or width than the first.
    pub fn stack(&mut self, name: &str, parts: &[String]) -> Result<()> {
        let mut taken: Vec<SourceTensor> = Vec::new();
        for part in parts {
            let place = self.place(part);
            let missing = || Error::format(&place, "expected such a tensor, found none");
            let tensor = self.tensors.get(part).ok_or_else(missing)?;
            if let Some(first) = taken.first() {
                let width = |tensor: &SourceTensor| tensor.shape.get(1..).map(shape_text);
                if width(first) != width(tensor) || first.dtype != tensor.dtype {
                    let what = format!(
                        "expected {} {} as in {}, found {} {}",
                        first.dtype,
                        shape_text(&first.shape),
                        parts[0].strip_prefix(BESIDE).unwrap_or(&parts[0]),
                        tensor.dtype,
                        shape_text(&tensor.shape)
                    );
                    return Err(Error::format(place, what));
                }
            }
            if !tensor.below.is_empty() || tensor.shape.is_empty() {
                return Err(Error::unsupported(place, "expected a vector or a matrix"));
            }
            taken.push(tensor.clone());
        }
        for part in parts {
            self.tensors.remove(part);
        }
        let n_rows = taken.iter().map(|tensor| tensor.shape[0]).sum();
        let mut taken = taken.into_iter();
        let Some(mut top) = taken.next() else { return Ok(()) };
        top.below = taken.collect();
        // the part's own size is what `below` leaves of the whole
        top.shape[0] = n_rows;
        self.tensors.insert(name.to_string(), top);
        Ok(())
    }
}
