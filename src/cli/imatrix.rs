//! `owlet imatrix`: a model, pictures and prompts in; a file of what its matrices are multiplied with out.

use super::flags::n_threads;
use super::interrupt::Interruptible;
use super::models;
use super::pictures;
use super::progress::{Progress, Unit};
use super::screen::note;
use super::writing::WriteFlags;
use super::wrong_usage;
use crate::error::{Error, Result};
use crate::measure::Calibration;
use crate::prompt::{Pixels, preprocess};
use ggml::Cancel;
use owlet_format::Importance;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Measure what a model's matrices are multiplied with, so that they are quantized better
///
/// Asks the prompts of FILE about the pictures of DIR, in turns, until each of both was used, and sums the squares of what every
/// matrix of tower, projector and text half is multiplied with. `owlet convert --imatrix` and `owlet quantize --imatrix` use
/// the file; it has the form of llama.cpp's. After Ctrl-C or a kill the same command goes on with OUT.part. --merge adds files up.
#[derive(clap::Args)]
pub struct Imatrix {
    /// Model file, best one of f16, bf16 or f32 [default: that of `owlet models`]
    #[arg(short, long, value_name = "FILE", conflicts_with = "merge")]
    model: Option<PathBuf>,
    /// Directory of pictures (JPEG, PNG, WebP, GIF, BMP)
    #[arg(long, value_name = "DIR", required_unless_present_any = ["text", "merge"], conflicts_with = "merge")]
    images: Option<PathBuf>,
    /// File of prompts, one a line
    #[arg(long, value_name = "FILE", conflicts_with = "merge")]
    text: Option<PathBuf>,
    /// File to add up, given several times, instead of running a model
    #[arg(long, value_name = "FILE")]
    merge: Vec<PathBuf>,
    /// File to write
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Tokens of each answer that are read along
    #[arg(long, value_name = "N", default_value_t = 32, conflicts_with = "merge")]
    answer: u32,
    #[command(flatten)]
    write: WriteFlags,
}

/// Inputs between two writings of what is done so far.
const N_PER_SAVE: u32 = 32;
/// Far above any list of prompts.
const TEXT_BYTES_MAX: u64 = 64 << 20;

const PICTURES: [&str; 6] = ["bmp", "gif", "jpeg", "jpg", "png", "webp"];

impl Imatrix {
    pub fn run(self) -> Result<ExitCode> {
        self.write.refuse_existing([&self.output])?;
        let importance = if self.merge.is_empty() { self.calibrate()? } else { self.merged()? };
        importance.write(&self.output)?;
        // what it was made of, if there was anything to go on with
        let _ = fs::remove_file(self.part());
        if !self.write.quiet {
            let (n_matrices, n) = (importance.names().len(), importance.n_chunks);
            note(&format!("{}: {n_matrices} matrices, {n} inputs", self.output.display()));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn merged(&self) -> Result<Importance> {
        if self.merge.len() < 2 {
            wrong_usage("imatrix", "--merge: expected two files or more");
        }
        let mut sum = Importance::default();
        for path in &self.merge {
            sum.merge(&Importance::read(path)?, &path.display().to_string())?;
        }
        Ok(sum)
    }

    fn calibrate(&self) -> Result<Importance> {
        let inputs = Inputs::read(self.images.as_deref(), self.text.as_deref())?;
        let n_threads = n_threads(self.write.threads);
        let model = models::chosen(self.model.as_deref())?;
        let mut calibration = Calibration::open(model.as_deref(), n_threads, self.answer as usize)?;
        if calibration.has_text() && inputs.prompts.is_empty() {
            let what = "has a text half: --text FILE, expected prompts, found none";
            return Err(Error::request(format!("{} {what}", calibration.name)));
        }
        let subject = inputs.subject(&calibration.digest, self.answer);
        let part = self.part();
        let mut importance = self.begun(&part, subject, &inputs)?;
        let cancel = Cancel::new();
        let _interruptible = Interruptible::by(&cancel);
        let mut progress = Progress::new(Unit::Steps, self.write.quiet);
        let n_inputs = inputs.len() as u32;
        while importance.n_chunks < n_inputs {
            let at = importance.n_chunks;
            progress.show("inputs", at.into(), n_inputs.into());
            let ran = inputs.pixels(at as usize, &calibration).and_then(|pixels| {
                let prompt = inputs.prompt(at as usize);
                calibration.run(pixels.as_ref(), prompt, &mut importance, &cancel)
            });
            if ran.is_err() || importance.n_chunks.is_multiple_of(N_PER_SAVE) {
                importance.write(&part)?;
            }
            if let Err(error) = ran {
                progress.clear();
                if !self.write.quiet {
                    note(&format!(
                        "{}: keeps what is done; the same command goes on with it",
                        part.display()
                    ));
                }
                return Err(error);
            }
        }
        progress.clear();
        Ok(importance)
    }

    /// What an earlier run of the same work has done, or nothing yet.
    fn begun(&self, part: &Path, subject: [u8; 32], inputs: &Inputs) -> Result<Importance> {
        let new = || Importance::new(subject, inputs.sources.clone());
        if !part.exists() {
            return Ok(new());
        }
        let before = Importance::read(part)?;
        let is_same = before.subject == Some(subject);
        if !self.write.quiet {
            let what = if is_same { "going on with it" } else { "is of other work: beginning anew" };
            note(&format!("{}: {what}", part.display()));
        }
        Ok(if is_same { before } else { new() })
    }

    fn part(&self) -> PathBuf {
        let mut name = self.output.file_name().map_or_else(OsString::new, OsString::from);
        name.push(".part");
        self.output.with_file_name(name)
    }
}

/// Pictures and prompts, each list used over and over until the other one is through.
struct Inputs {
    pictures: Vec<PathBuf>,
    prompts: Vec<String>,
    /// As the file names them.
    sources: Vec<String>,
}

impl Inputs {
    fn read(images: Option<&Path>, text: Option<&Path>) -> Result<Inputs> {
        let pictures = images.map_or(Ok(Vec::new()), pictures_in)?;
        let prompts = text.map_or(Ok(Vec::new()), prompts_of)?;
        let name = |path: &Path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let sources = [images, text].into_iter().flatten().map(name).collect();
        Ok(Inputs { pictures, prompts, sources })
    }

    fn len(&self) -> usize {
        self.pictures.len().max(self.prompts.len())
    }

    fn prompt(&self, at: usize) -> Option<&str> {
        let at = at.checked_rem(self.prompts.len())?;
        self.prompts.get(at).map(String::as_str)
    }

    fn pixels(&self, at: usize, calibration: &Calibration) -> Result<Option<Pixels>> {
        let Some(path) = at.checked_rem(self.pictures.len()).and_then(|at| self.pictures.get(at)) else {
            return Ok(None);
        };
        let found = pictures::find(path)?;
        let lacking = || Error::unsupported(&calibration.name, "--images: this model has no vision half");
        preprocess(&found.picture, calibration.image.as_ref().ok_or_else(lacking)?).map(Some)
    }

    /// SHA-256 of what decides the sums: the model, the prompts, the pictures by name and length.
    fn subject(&self, model: &[u8; 32], n_answer: u32) -> [u8; 32] {
        let mut sum = Sha256::new_with_prefix(model);
        sum.update(env!("CARGO_PKG_VERSION"));
        sum.update(n_answer.to_le_bytes());
        for prompt in &self.prompts {
            sum.update(format!("prompt {} {prompt}\n", prompt.len()));
        }
        for picture in &self.pictures {
            let n_bytes = fs::metadata(picture).map_or(0, |meta| meta.len());
            sum.update(format!("picture {n_bytes} {}\n", picture.display()));
        }
        sum.finalize().into()
    }
}

/// The pictures in `dir`, by name.
fn pictures_in(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(|cause| Error::io(dir, cause))? {
        let path = entry.map_err(|cause| Error::io(dir, cause))?.path();
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        if ending.is_some_and(|ending| PICTURES.contains(&ending.as_str())) && path.is_file() {
            found.push(path);
        }
    }
    if found.is_empty() {
        return Err(Error::request(format!("{}: expected pictures, found none", dir.display())));
    }
    found.sort();
    Ok(found)
}

/// The lines of the file at `path` that are not empty.
fn prompts_of(path: &Path) -> Result<Vec<String>> {
    let meta = fs::metadata(path).map_err(|cause| Error::io(path, cause))?;
    if meta.len() > TEXT_BYTES_MAX {
        return Err(Error::limit(format!("{}: bytes", path.display()), TEXT_BYTES_MAX, meta.len()));
    }
    let text = fs::read_to_string(path).map_err(|cause| Error::io(path, cause))?;
    let prompts: Vec<String> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if prompts.is_empty() {
        return Err(Error::request(format!("{}: expected prompts, one a line, found none", path.display())));
    }
    Ok(prompts)
}
