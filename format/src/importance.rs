//! An importance matrix: for every matrix of a model, the squares of what it was multiplied with, summed place by place
//! over real inputs. A quantizer that knows them spends its precision where numbers are large.
//!
//! The file is llama.cpp's (tools/imatrix): a GGUF of `general.type` = `imatrix`, with `NAME.in_sum2` `[n_in]` and
//! `NAME.counts` `[1]`, the number of rows, for the weight NAME.

use std::collections::BTreeMap;
use std::path::Path;

use ggml::DType;

use crate::error::Shown;
use crate::{Error, Gguf, Metadata, Result, Shape, Strings, TensorPlan, Writer};

const TYPE: &str = "general.type";
const IMATRIX: &str = "imatrix";
const DATASETS: &str = "imatrix.datasets";
const N_CHUNKS: &str = "imatrix.chunk_count";
const CHUNK_SIZE: &str = "imatrix.chunk_size";
/// Ours: which work the sums are of, so that an interrupted one is gone on with. Absent where files were merged.
const SUBJECT: &str = "owlet.imatrix.subject";
/// Ours: true where the sums were measured on an owlet file, whose norms' outliers are folded into the matrices behind.
const FOLDED: &str = "owlet.imatrix.folded";
const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";
const SUBJECT_BYTES: usize = 32;
/// Far above any activation's, and far below where a quantizer's sums of f32 overflow.
const MEAN_SQUARE_MAX: f32 = 1e15;

/// Sums by weight.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Importance {
    entries: BTreeMap<String, Entry>,
    /// What the inputs were, in words.
    pub datasets: Vec<String>,
    /// Inputs that were run.
    pub n_chunks: u32,
    /// Whether they were measured on an owlet file, whose norms' outliers are folded into the matrices behind. Other
    /// programs measure on norms as the checkpoint has them.
    pub is_folded: bool,
    /// SHA-256 of what decides the sums.
    pub subject: Option<[u8; SUBJECT_BYTES]>,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    /// Of squares, `[n_in]`.
    sums: Vec<f32>,
    /// Rows that they are of.
    n_rows: f32,
}

impl Importance {
    /// Nothing yet, of the work on an owlet file that `subject` stands for.
    pub fn new(subject: [u8; SUBJECT_BYTES], datasets: Vec<String>) -> Self {
        Self { subject: Some(subject), datasets, is_folded: true, ..Self::default() }
    }

    /// Adds sums of squares over `n_rows` rows that the weight `name` was multiplied with.
    ///
    /// # Panics
    /// Where the weight had rows of another length before.
    pub fn add(&mut self, name: &str, sums: &[f64], n_rows: u64) {
        let new = || Entry { sums: vec![0.0; sums.len()], n_rows: 0.0 };
        let entry = self.entries.entry(name.to_owned()).or_insert_with(new);
        assert_eq!(entry.sums.len(), sums.len(), "rows of {name}");
        entry.sums.iter_mut().zip(sums).for_each(|(sum, more)| *sum = (f64::from(*sum) + more) as f32);
        entry.n_rows += n_rows as f32;
    }

    /// Adds what another file has; `label` is its name.
    ///
    /// # Errors
    /// Where it is of a model with other shapes, or one was measured by owlet and the other was not. Nothing was added then.
    pub fn merge(&mut self, other: &Importance, label: &str) -> Result<()> {
        let who = |is_folded| if is_folded { "owlet" } else { "another program" };
        if !self.entries.is_empty() && self.is_folded != other.is_folded {
            let (expected, found) = (who(self.is_folded), who(other.is_folded));
            let problem =
                format!("expected sums measured by {expected} as those before, found some by {found}");
            return Err(Error::unsupported(label, problem));
        }
        for (name, entry) in &other.entries {
            if let Some(own) = self.entries.get(name).filter(|own| own.sums.len() != entry.sums.len()) {
                let problem = format!("expected {} sums, found {}", own.sums.len(), entry.sums.len());
                return Err(Error::format(label, format_args!("tensor {name}{SUMS}"), problem));
            }
        }
        self.is_folded = other.is_folded;
        for (name, entry) in &other.entries {
            let sums: Vec<f64> = entry.sums.iter().map(|sum| f64::from(*sum)).collect();
            self.add(name, &sums, 0);
            if let Some(own) = self.entries.get_mut(name) {
                own.n_rows += entry.n_rows;
            }
        }
        self.datasets.extend(other.datasets.iter().cloned());
        self.n_chunks = self.n_chunks.saturating_add(other.n_chunks);
        self.subject = None;
        Ok(())
    }

    /// The mean square by place of what the weight `name` was multiplied with, `[n_in]`.
    pub fn of(&self, name: &str) -> Option<Vec<f32>> {
        let Entry { sums, n_rows } = self.entries.get(name)?;
        Some(sums.iter().map(|sum| sum / n_rows).collect())
    }

    /// The weights that it knows, in the order of their names.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// # Errors
    /// Where the file is none of these, contradicts itself, or holds sums that are none.
    pub fn read(path: &Path) -> Result<Self> {
        let file = Gguf::open(path)?;
        let metadata = file.metadata();
        if metadata.str(TYPE)? != IMATRIX {
            return Err(
                metadata.wrong(TYPE, format!("expected {IMATRIX}, found {}", Shown(metadata.str(TYPE)?)))
            );
        }
        let datasets = match metadata.get(DATASETS) {
            Some(_) => metadata.strings(DATASETS)?.iter().map(str::to_owned).collect(),
            None => Vec::new(),
        };
        let n_chunks = if metadata.get(N_CHUNKS).is_some() { metadata.u32(N_CHUNKS)? } else { 0 };
        let subject = match metadata.get(SUBJECT) {
            None => None,
            Some(_) => {
                let bytes = metadata.u8s(SUBJECT)?;
                let problem = || format!("expected {SUBJECT_BYTES} bytes, found {}", bytes.len());
                Some(bytes.try_into().map_err(|_| metadata.wrong(SUBJECT, problem()))?)
            }
        };
        let is_folded = metadata.get(FOLDED).is_some() && metadata.bool(FOLDED)?;
        let mut entries = BTreeMap::new();
        for tensor in file.tensors() {
            let Some(name) = tensor.name.strip_suffix(SUMS) else { continue };
            let sums = values(&file, &tensor.name, None)?;
            let n_rows = values(&file, &format!("{name}{COUNTS}"), Some(1))?[0];
            if n_rows <= 0.0 {
                let at = format_args!("tensor {name}{COUNTS}");
                return Err(Error::format(file.label(), at, format!("expected rows, found {n_rows}")));
            }
            if let Some(at) = sums.iter().position(|sum| sum / n_rows > MEAN_SQUARE_MAX) {
                let at = format_args!("tensor {name}{SUMS}: place {at}");
                let problem = format!("expected a mean square of at most {MEAN_SQUARE_MAX:e}, found more");
                return Err(Error::format(file.label(), at, problem));
            }
            entries.insert(name.to_owned(), Entry { sums, n_rows });
        }
        Ok(Self { entries, datasets, n_chunks, is_folded, subject })
    }

    /// Writes the file; nothing but a whole one ever stands under `path`.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut metadata = Metadata::new(path.display().to_string());
        metadata.put(TYPE, IMATRIX);
        metadata.put(DATASETS, Strings::from_iter(&self.datasets));
        metadata.put(N_CHUNKS, self.n_chunks);
        // inputs have lengths of their own
        metadata.put(CHUNK_SIZE, 0u32);
        metadata.put(FOLDED, self.is_folded);
        if let Some(subject) = self.subject {
            metadata.put(SUBJECT, subject.to_vec());
        }
        let plan =
            |name: String, n: usize| TensorPlan { name, dtype: DType::F32, shape: Shape::from([n as u32]) };
        let tensors: Vec<TensorPlan> = self
            .entries
            .iter()
            .flat_map(|(name, entry)| {
                [plan(format!("{name}{SUMS}"), entry.sums.len()), plan(format!("{name}{COUNTS}"), 1)]
            })
            .collect();
        let mut writer = Writer::create(path, &metadata, &tensors)?;
        for (name, entry) in &self.entries {
            for (ending, values) in [(SUMS, &entry.sums[..]), (COUNTS, &[entry.n_rows])] {
                writer.begin(&format!("{name}{ending}"))?;
                writer.write(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())?;
            }
        }
        writer.finish()?.publish()
    }
}

/// A vector of f32 that are finite and not negative; `n` of them where that is known.
fn values(file: &Gguf, name: &str, n: Option<u64>) -> Result<Vec<f32>> {
    let wrong = |problem: String| Error::format(file.label(), format_args!("tensor {name}"), problem);
    let Some(tensor) = file.tensor(name) else { return Err(wrong("expected, not found".into())) };
    // more rows than one are matrices of experts, which no model here has
    if tensor.dtype != DType::F32
        || tensor.shape.n_rows() != 1
        || n.is_some_and(|n| tensor.shape.n_elements() != n)
    {
        let expected = n.map_or_else(|| "a vector".to_owned(), |n| format!("ne [{n}]"));
        return Err(wrong(format!(
            "expected f32 in {expected}, found {} in ne {}",
            tensor.dtype, tensor.shape
        )));
    }
    let (words, _) = file.data(tensor).as_chunks::<4>();
    let values: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
    match values.iter().position(|value| !(value.is_finite() && *value >= 0.0)) {
        None => Ok(values),
        Some(at) => Err(wrong(format!("expected finite numbers from 0 on, found {} at {at}", values[at]))),
    }
}
