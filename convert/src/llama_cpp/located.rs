//! Where in a pair the rows of each of a model's tensors lie, and what is left.
//!
//! In: two files whose headers are sound. Out: pieces by name and shape, in the names of either time. Nothing is read here.

use std::collections::{HashMap, HashSet};

use ggml::DType;
use owlet_format::{Gguf, Part, Role, TensorInfo, TensorSpec};

use super::mmproj::Tower;
use super::names::{POSITIONS, apart, exchanged};
use crate::blocks::Piece;
use crate::error::{Error, Result};
use crate::family::Skipped;
use crate::recipe::Chosen;
use crate::requantize::RequantizeOptions;

/// The two files as the tensors of the model are looked up in them.
pub struct Reading<'a> {
    files: &'a [Gguf; 2],
    tower: &'a Tower,
    /// Tensors that are used: which file, which name.
    used: HashSet<(usize, String)>,
    sums: [HashMap<&'a str, [u8; 32]>; 2],
}

impl<'a> Reading<'a> {
    /// # Errors
    /// Where a file states sums, and not one for every tensor.
    pub fn of(files: &'a [Gguf; 2], tower: &'a Tower) -> Result<Reading<'a>> {
        Ok(Reading { files, tower, used: HashSet::new(), sums: [sums(&files[0])?, sums(&files[1])?] })
    }

    /// Where the rows of `spec` lie.
    ///
    /// # Errors
    /// Where a tensor is missing, or of another shape.
    pub fn pieces(&mut self, spec: &TensorSpec) -> Result<Vec<Piece>> {
        let name = if self.tower.is_exchanged { exchanged(&spec.name) } else { spec.name.clone() };
        let which = usize::from(spec.part != Part::Text);
        if which == 0 {
            return Ok(vec![self.whole(0, &spec.name, spec.ne.dims())?]);
        }
        if let Some(parts) = apart(&name)
            && self.files[1].tensor(&name).is_none()
        {
            let mut share = spec.ne.dims().to_vec();
            if let Some(rows) = share.last_mut() {
                *rows /= 3;
            }
            return parts.iter().map(|part| self.whole(1, part, &share)).collect();
        }
        let whole = self.whole(1, &name, spec.ne.dims())?;
        match self.tower.class_is_last && spec.name == POSITIONS {
            true => Ok(turned(whole)),
            false => Ok(vec![whole]),
        }
    }

    /// All rows of the tensor `name`, which has the sides `ne`.
    fn whole(&mut self, which: usize, name: &str, ne: &[u64]) -> Result<Piece> {
        let file = &self.files[which];
        let place = format!("{}: tensor {name}", file.label());
        let Some(info) = file.tensor(name) else {
            return Err(Error::format(place, format!("expected ne {ne:?}, found no such tensor")));
        };
        if owlet_format::Shape::new(ne) != Some(info.shape) {
            return Err(Error::format(place, format!("expected ne {ne:?}, found {}", info.shape)));
        }
        self.used.insert((which, name.to_string()));
        let n_files_before = if which == 0 { 0 } else { self.files[0].files().len() };
        // the file was opened from a path
        let (nth, start) = file.place(info).unwrap_or_default();
        Ok(Piece {
            name: name.to_string(),
            dtype: info.dtype,
            n_rows: info.shape.n_rows(),
            n_bytes: info.n_bytes,
            file: n_files_before + nth,
            start,
            sum: self.sums[which].get(name).copied(),
        })
    }

    /// What `spec` becomes: the type that is asked for, else its own, and f32 where a model file has no other.
    ///
    /// # Errors
    /// For a type that weights can't have, for pieces of several types, and for what is quantized already.
    pub fn chosen(
        &self,
        spec: &TensorSpec,
        pieces: &[Piece],
        asked: Option<Chosen>,
        options: &RequantizeOptions,
    ) -> Result<Chosen> {
        let label = self.files[usize::from(spec.part != Part::Text)].label();
        let place = |piece: &Piece| format!("{label}: tensor {}", piece.name);
        let first = pieces[0].dtype;
        for piece in pieces {
            if !Role::Matrix.allows(piece.dtype) {
                let what = format!("expected a float or a quantized type for weights, found {}", piece.dtype);
                return Err(Error::unsupported(place(piece), what));
            }
            if let Some(asked) = asked {
                let way_out = "convert without a type, then use owlet quantize --allow-requantize";
                options.refuse_twice(&place(piece), piece.dtype, asked.dtype, way_out)?;
            } else if piece.dtype != first {
                let what = format!(
                    "expected {first} as {} has it, found {}: a model file has them in one tensor",
                    pieces[0].name, piece.dtype
                );
                return Err(Error::unsupported(place(piece), what));
            }
        }
        let kept = if spec.role.allows(first) { first } else { DType::F32 };
        Ok(asked.unwrap_or(Chosen::kept(kept)))
    }

    /// What is left out, with the reasons.
    ///
    /// # Errors
    /// For a tensor that has no use and no reason.
    pub fn refuse_surplus(&self) -> Result<Vec<Skipped>> {
        let Tower { n_layer, n_stored, .. } = *self.tower;
        let mut skipped: Vec<Skipped> = Vec::new();
        for (which, file) in self.files.iter().enumerate() {
            let is_left = |info: &&TensorInfo| !self.used.contains(&(which, info.name.clone()));
            for info in file.tensors().iter().filter(is_left) {
                let reason = reason(info, n_layer, n_stored).ok_or_else(|| {
                    let what = format!("expected no such tensor, found ne {}", info.shape);
                    Error::format(format!("{}: tensor {}", file.label(), info.name), what)
                })?;
                match skipped.iter_mut().find(|group| group.reason == reason) {
                    Some(group) => group.names.push(info.name.clone()),
                    None => skipped.push(Skipped { names: vec![info.name.clone()], reason }),
                }
            }
        }
        Ok(skipped)
    }
}

/// Why a tensor that nothing reads is no mistake.
fn reason(info: &TensorInfo, n_layer: u32, n_stored: u32) -> Option<String> {
    if info.name.starts_with("v.post_ln.") {
        return Some("the norm behind the last block never runs".to_string());
    }
    let (il, _) = info.name.strip_prefix("v.blk.")?.split_once('.')?;
    let il: u32 = il.parse().ok().filter(|il| (n_layer..n_stored).contains(il))?;
    let last = n_layer.saturating_sub(1);
    Some(format!("block {il} never runs: the tower ends behind block {last}"))
}

/// The last row first.
fn turned(whole: Piece) -> Vec<Piece> {
    let row_bytes = whole.n_bytes / whole.n_rows;
    let n_before = whole.n_rows - 1;
    let last = Piece {
        n_rows: 1,
        n_bytes: row_bytes,
        start: whole.start + n_before * row_bytes,
        sum: None,
        ..whole.clone()
    };
    if n_before == 0 {
        return vec![last];
    }
    vec![last, Piece { n_rows: n_before, n_bytes: n_before * row_bytes, sum: None, ..whole }]
}

/// The sums that a file states, by tensor; none where it states none.
fn sums(file: &Gguf) -> Result<HashMap<&str, [u8; 32]>> {
    if file.metadata().get(owlet_format::CHECKSUMS_KEY).is_none() {
        return Ok(HashMap::new());
    }
    let names = file.tensors().iter().map(|info| info.name.as_str());
    Ok(names.zip(file.checksums()?).collect())
}
