//! Features as other programs read them: NumPy's npy, safetensors, JSON. Written picture by picture, so that memory holds
//! one picture's rows; the file gets its name when it is whole.

use super::json;
use crate::engine::{FeatureShape, PartFile};
use crate::error::{Error, Result};
use serde::Serialize;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// By the ending of the file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Npy,
    Safetensors,
    Json,
}

impl Format {
    /// # Errors
    /// What is wrong with the ending.
    pub fn of(path: &Path) -> std::result::Result<Format, String> {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("npy") => Ok(Format::Npy),
            Some("safetensors") => Ok(Format::Safetensors),
            Some("json") => Ok(Format::Json),
            _ => Err(format!("{}: expected a name that ends in .npy, .safetensors or .json", path.display())),
        }
    }
}

/// A file of features under way. Dropping it removes it.
pub struct FeatureFile {
    path: PathBuf,
    out: BufWriter<PartFile>,
    format: Format,
    pooled_only: bool,
    shape: FeatureShape,
    n_images: usize,
    n_added: usize,
    /// Of all pictures so far, where the format has them behind everything else.
    pooled: Vec<f32>,
}

impl FeatureFile {
    /// Begins a file for `n_images` pictures.
    ///
    /// # Errors
    /// `Io` where it can't be written.
    pub fn create(
        path: &Path,
        format: Format,
        pooled_only: bool,
        shape: FeatureShape,
        n_images: usize,
    ) -> Result<FeatureFile> {
        let part = PartFile::create(path).map_err(|cause| Error::io(path, cause))?;
        let mut file = FeatureFile {
            path: path.to_path_buf(),
            out: BufWriter::new(part),
            format,
            pooled_only,
            shape,
            n_images,
            n_added: 0,
            pooled: Vec::new(),
        };
        file.write_head().map_err(|cause| Error::io(path, cause))?;
        Ok(file)
    }

    /// Adds the picture `source` with its rows, `[n_embd, n_positions]`.
    ///
    /// # Errors
    /// `Io` where it can't be written.
    pub fn add(&mut self, source: &str, rows: &[f32]) -> Result<()> {
        let pooled = self.shape.pooled(rows).unwrap_or_default();
        let written = match self.format {
            Format::Npy => write_floats(&mut self.out, if self.pooled_only { pooled } else { rows }),
            Format::Safetensors => {
                self.pooled.extend_from_slice(pooled);
                if self.pooled_only { Ok(()) } else { write_floats(&mut self.out, rows) }
            }
            Format::Json => self.write_json(source, rows),
        };
        self.n_added += 1;
        written.map_err(|cause| Error::io(&self.path, cause))
    }

    /// Ends the file and gives it its name.
    ///
    /// # Errors
    /// `Io` where that fails.
    pub fn finish(mut self) -> Result<()> {
        let ended = match self.format {
            Format::Npy => Ok(()),
            Format::Safetensors => write_floats(&mut self.out, &self.pooled),
            Format::Json => self.out.write_all(b"]\n"),
        };
        let named = ended.and_then(|()| {
            let part = self.out.into_inner().map_err(|error| error.into_error())?;
            part.publish_durably()
        });
        named.map_err(|cause| Error::io(&self.path, cause))
    }

    fn write_head(&mut self) -> io::Result<()> {
        let FeatureShape { n_embd, n_positions, has_class } = self.shape;
        let hidden = vec![self.n_images, n_positions, n_embd];
        let pooled = vec![self.n_images, n_embd];
        match self.format {
            Format::Npy => self.out.write_all(&npy_head(if self.pooled_only { &pooled } else { &hidden })),
            Format::Safetensors => {
                let mut tensors = Vec::new();
                if !self.pooled_only {
                    tensors.push(("last_hidden_state", hidden));
                }
                if has_class {
                    tensors.push(("pooler_output", pooled));
                }
                self.out.write_all(&safetensors_head(&tensors))
            }
            Format::Json => self.out.write_all(b"["),
        }
    }

    fn write_json(&mut self, image: &str, rows: &[f32]) -> io::Result<()> {
        let picture = Picture {
            image,
            pooler_output: self.shape.pooled(rows),
            last_hidden_state: (!self.pooled_only).then(|| rows.chunks_exact(self.shape.n_embd).collect()),
        };
        self.out.write_all(if self.n_added == 0 { b"\n" } else { b",\n" })?;
        json::write_line(&mut self.out, &picture)
    }
}

/// A picture in the JSON array.
#[derive(Serialize)]
struct Picture<'a> {
    image: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pooler_output: Option<&'a [f32]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_hidden_state: Option<Vec<&'a [f32]>>,
}

/// Version 1.0 of the format, little-endian f32, rows in C order (numpy/lib/format.py).
fn npy_head(shape: &[usize]) -> Vec<u8> {
    let sides: Vec<String> = shape.iter().map(usize::to_string).collect();
    let sides = sides.join(", ");
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({sides}), }}");
    const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";
    // magic, length and text together are whole lines of 64, the last byte a newline
    let n_before = MAGIC.len() + size_of::<u16>();
    let n_text = (n_before + text.len() + 1).next_multiple_of(64) - n_before;
    text.extend(std::iter::repeat_n(' ', n_text - text.len() - 1));
    text.push('\n');
    [MAGIC, &(n_text as u16).to_le_bytes(), text.as_bytes()].concat()
}

/// The header of tensors that follow each other, all f32.
fn safetensors_head(tensors: &[(&str, Vec<usize>)]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, shape) in tensors {
        let start = end;
        end += shape.iter().product::<usize>() * size_of::<f32>();
        let entry = serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [start, end]});
        header.insert((*name).to_string(), entry);
    }
    let mut header = serde_json::Value::from(header).to_string();
    // whole words of 8 bytes, so that the floats are aligned
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()
}

fn write_floats(out: &mut impl Write, values: &[f32]) -> io::Result<()> {
    values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))
}
