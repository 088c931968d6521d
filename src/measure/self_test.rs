//! The self-test of a model file: whether the model computes here what it computed where the file was recorded.
//!
//! In: a file, and how it is to be opened. A picture of a formula goes through the tower and the projector, and a question
//! about it through the text half. Out: a [`SelfTestVerdict`] with every value that is too far from the recorded one, or the
//! record. What is compared are values that every layer before them decides, so that a wrong kernel, a wrong order or a
//! damaged weight shows.

use std::fmt;
use std::path::Path;

use ggml::DType;
use owlet_format::{Gguf, ImageConfig, ModelConfig, Part, Role, SelfTest, SelfTestRoom};
use serde::Serialize;

use super::asker::Asker;
use super::subject::typed;
use super::watch::Watch;
use crate::engine::{self, Setup};
use crate::error::{Error, Result};
use crate::model::{Decoder, Model, Row, VisionEncoder};
use crate::prompt::{Picture, PictureFormat, preprocess};

/// Asked about the picture: words, figures and signs of more than one byte.
const QUESTION: &str = "What is in this picture? Name 3 colours, then 图里有什么？";
/// Sides of the picture, which no model's square has.
const PICTURE_PX: [usize; 2] = [96, 64];
/// Rows of the prompt between two looks at who waits.
const N_ROWS: usize = 64;

/// What became of a file's self-test. `Display` is for people: a line, and one for each difference.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum SelfTestVerdict {
    /// The file was written before there was room for one.
    NoRoom,
    NotRecorded,
    /// What is recorded is not whole, or of another header.
    Broken,
    Right {
        recorded_by: String,
        n_values: usize,
        /// Every value has the recorded bits.
        is_equal: bool,
    },
    Wrong {
        recorded_by: String,
        /// Who computes here.
        computed_by: String,
        n_values: usize,
        differences: Vec<Difference>,
    },
}

/// A value that is not what it should be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    pub what: String,
    pub expected: f32,
    pub found: f32,
    /// How far `found` may be from `expected`.
    pub bound: f32,
}

impl SelfTestVerdict {
    /// Nothing speaks against the file or this machine.
    pub fn is_right(&self) -> bool {
        !matches!(self, SelfTestVerdict::Broken | SelfTestVerdict::Wrong { .. })
    }
}

/// Runs the model in the file at `path`, or the built-in one, if its self-test is recorded.
///
/// # Errors
/// What is wrong with the file; `Unsupported`, `Backend` where this machine cannot run it as `setup` says; `Cancelled`.
pub fn check_self_test(path: Option<&Path>, setup: &Setup, watch: &mut Watch) -> Result<SelfTestVerdict> {
    let file = engine::open_file(path)?;
    let recorded = match SelfTest::read(&file)? {
        SelfTestRoom::Absent => return Ok(SelfTestVerdict::NoRoom),
        SelfTestRoom::Empty => return Ok(SelfTestVerdict::NotRecorded),
        SelfTestRoom::Broken => return Ok(SelfTestVerdict::Broken),
        SelfTestRoom::Recorded(recorded) => recorded,
    };
    let computed = Computed::by(&file, setup, watch)?;
    Ok(computed.against(recorded))
}

/// Runs the model in the file at `path` and records what it computes. The model stays as it is.
///
/// # Errors
/// As [`check_self_test`]; `Unsupported` where the file has no room or the model computes numbers that are none; `Io` where it
/// can't be written.
pub fn record_self_test(path: &Path, setup: &Setup, watch: &mut Watch) -> Result<SelfTest> {
    let file = engine::open_file(Some(path))?;
    if SelfTest::read(&file)? == SelfTestRoom::Absent {
        return Err(Error::unsupported(file.label(), format_args!("has {NO_ROOM}")));
    }
    let computed = Computed::by(&file, setup, watch)?;
    let record = computed.record();
    if !record.embedding.iter().chain(record.logits.iter().map(|(_, logit)| logit)).all(|x| x.is_finite()) {
        return Err(Error::unsupported(
            file.label(),
            "not recorded: the model computes numbers that are none",
        ));
    }
    // nobody here reads the file while it is written
    drop(file);
    record.record(engine::open_file(Some(path))?)?;
    Ok(record)
}

/// What a model makes of picture and question.
struct Computed {
    /// The program, and its arithmetic.
    by: String,
    /// `[n]`, however many rows that is; empty without a vision half.
    embedding: Vec<f32>,
    n_positions: usize,
    /// `[n_vocab]` behind the question; empty without a text half.
    logits: Vec<f32>,
    /// Of the root of the mean square of the embedding, and of the logits, how far off another computer may be.
    tolerances: [f32; 2],
}

impl Computed {
    fn by(file: &Gguf, setup: &Setup, watch: &mut Watch) -> Result<Computed> {
        let config = ModelConfig::read(file)?;
        let model = setup.load(file, &config)?;
        let embedding = match &config.image {
            Some(image) => see(&model, &config, image, watch)?,
            None => Vec::new(),
        };
        let (n_positions, logits) = match Asker::of(&config)? {
            Some(asker) => read(&model, &asker, &embedding, setup, watch)?,
            None => (0, Vec::new()),
        };
        let revision = option_env!("OWLET_REVISION").map_or(String::new(), |revision| format!(" {revision}"));
        let by = format!("owlet {}{revision}, {}", env!("CARGO_PKG_VERSION"), model.arithmetic());
        Ok(Computed { by, embedding, n_positions, logits, tolerances: tolerances(file, &config) })
    }

    fn record(&self) -> SelfTest {
        let mut ids: Vec<u32> = (0..self.logits.len() as u32).collect();
        ids.sort_by(|a, b| self.logits[*b as usize].total_cmp(&self.logits[*a as usize]));
        ids.truncate(SelfTest::MAX_LOGITS);
        SelfTest {
            recorded_by: self.by.clone(),
            n_positions: self.n_positions as u32,
            embedding: sample(&self.embedding),
            embedding_bound: self.tolerances[0] * rms(&self.embedding),
            logits: ids.into_iter().map(|id| (id, self.logits[id as usize])).collect(),
            logits_bound: self.tolerances[1] * rms(&self.logits),
        }
    }

    fn against(&self, recorded: SelfTest) -> SelfTestVerdict {
        let embedding = sample(&self.embedding);
        let mut differences = Vec::new();
        let mut is_equal = true;
        let mut compare = |what: &dyn Fn() -> String, expected: f32, found: f32, bound: f32| {
            is_equal &= expected.to_bits() == found.to_bits();
            // a number that is none is never near
            let is_near = (found - expected).abs() <= bound;
            if !is_near {
                differences.push(Difference { what: what(), expected, found, bound });
            }
        };
        let counts = [
            ("positions of the prompt", recorded.n_positions as usize, self.n_positions),
            ("embedding values", recorded.embedding.len(), embedding.len()),
            ("logits", recorded.logits.len(), self.logits.len().min(SelfTest::MAX_LOGITS)),
        ];
        for (what, expected, found) in counts {
            compare(&|| format!("number of {what}"), expected as f32, found as f32, 0.0);
        }
        for (at, (expected, found)) in recorded.embedding.iter().zip(&embedding).enumerate() {
            compare(&|| format!("embedding value {at}"), *expected, *found, recorded.embedding_bound);
        }
        for (id, expected) in &recorded.logits {
            let found = self.logits.get(*id as usize).copied().unwrap_or(f32::NAN);
            compare(&|| format!("logit of token {id}"), *expected, found, recorded.logits_bound);
        }
        // no other token may be above those
        if let Some((_, least)) = recorded.logits.last() {
            let is_other = |id: &u32| recorded.logits.iter().all(|(known, _)| known != id);
            let others = (0..self.logits.len() as u32).filter(is_other);
            let largest = others.max_by(|a, b| self.logits[*a as usize].total_cmp(&self.logits[*b as usize]));
            if let Some(id) = largest.filter(|id| self.logits[*id as usize] > *least) {
                let found = self.logits[id as usize];
                compare(
                    &|| format!("logit of token {id}, at most"),
                    *least,
                    found,
                    2.0 * recorded.logits_bound,
                );
            }
        }
        let n_values = recorded.embedding.len() + recorded.logits.len();
        let recorded_by = recorded.recorded_by;
        match differences.is_empty() {
            true => SelfTestVerdict::Right { recorded_by, n_values, is_equal },
            false => {
                SelfTestVerdict::Wrong { recorded_by, computed_by: self.by.clone(), n_values, differences }
            }
        }
    }
}

/// The picture's rows for the text half, or the tower's own where there is no projector.
fn see(model: &Model, config: &ModelConfig, image: &ImageConfig, watch: &mut Watch) -> Result<Vec<f32>> {
    let pixels = preprocess(&picture(), image)?;
    let mut encoder = VisionEncoder::new(model)?;
    let mut step = encoder.start(&pixels.planes)?;
    while !step.is_last() {
        watch.tell("self-test: looking at a picture", step.done.into(), step.total.into())?;
        step = encoder.step(watch.cancel)?;
    }
    if config.projector.is_some() { encoder.finish() } else { encoder.features() }
}

/// Positions of the question, and the logits behind it.
fn read(
    model: &Model,
    asker: &Asker,
    embd: &[f32],
    setup: &Setup,
    watch: &mut Watch,
) -> Result<(usize, Vec<f32>)> {
    let inputs = asker.inputs(QUESTION, !embd.is_empty())?;
    let mut decoder = Decoder::new(model, inputs.len() as u32, 1, setup.kv_type)?;
    let row = |(at, input)| Row { input, seq: 0, pos: at as u32, want_logits: at + 1 == inputs.len() };
    let rows: Vec<Row> = inputs.iter().copied().enumerate().map(row).collect();
    let mut last = Vec::new();
    for (n, some) in rows.chunks(N_ROWS).enumerate() {
        watch.tell("self-test: reading a question", (n * N_ROWS) as u64, rows.len() as u64)?;
        let logits = decoder.forward(some, embd, watch.cancel)?;
        last = logits.rows().last().map(<[f32]>::to_vec).unwrap_or_default();
    }
    Ok((rows.len(), last))
}

/// Stripes and a ramp, alike nowhere, so that turned, mirrored, shifted and squashed pictures are others.
fn picture() -> Picture {
    let [width, height] = PICTURE_PX;
    let mut rgb = Vec::with_capacity(width * height * 3);
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let stripe = if (3 * x + y) / 24 % 2 == 0 { 160 } else { 0 };
        rgb.extend([(x * 255 / width) as u8, (stripe + y) as u8, ((x * x + 2 * y * y) % 251) as u8]);
    }
    Picture { width, height, rgb, format: PictureFormat::Png, orientation: 1, had_alpha: false }
}

/// As many values as a record holds, from the first one to the last.
fn sample(values: &[f32]) -> Vec<f32> {
    let n = values.len().min(SelfTest::MAX_EMBEDDING);
    (0..n).map(|at| values[at * (values.len() - 1) / (n - 1).max(1)]).collect()
}

fn rms(values: &[f32]) -> f32 {
    let sum: f64 = values.iter().map(|value| f64::from(*value).powi(2)).sum();
    (sum / values.len().max(1) as f64).sqrt() as f32
}

/// Weights are the same everywhere. What they are multiplied with is rounded by their type, and not alike everywhere: to 8
/// bits or not at all before quantized ones, to 16 bits or not at all before f16 and bf16. The logits come behind all
/// matrices, the embedding behind those of tower and projector.
fn tolerances(file: &Gguf, config: &ModelConfig) -> [f32; 2] {
    let of = |dtype: DType| match dtype {
        DType::F32 => 0.002,
        DType::F16 | DType::BF16 => 0.02,
        _ => 0.1,
    };
    let mut tolerances = [0.0f32; 2];
    for (spec, dtype) in typed(config, file) {
        if matches!(spec.role, Role::Matrix | Role::Output) {
            let is_behind = if spec.part == Part::Text { 1.. } else { 0.. };
            tolerances[is_behind].iter_mut().for_each(|most| *most = most.max(of(dtype)));
        }
    }
    tolerances
}

const NO_ROOM: &str = "no room for a self-test, being of an owlet from before: `owlet convert` and `owlet quantize` \
                       write files that have it";

impl fmt::Display for SelfTestVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SelfTestVerdict::NoRoom => write!(f, "{NO_ROOM}"),
            SelfTestVerdict::NotRecorded => write!(f, "not recorded: `owlet verify --record` does that"),
            SelfTestVerdict::Broken => write!(
                f,
                "broken: the recording was cut short, or the header changed behind it; `owlet verify --record` records anew"
            ),
            SelfTestVerdict::Right { recorded_by, n_values, is_equal } => {
                let how = if *is_equal { "equal to the bit" } else { "within their bounds" };
                write!(f, "right: {n_values} values, {how}; recorded by {recorded_by}")
            }
            SelfTestVerdict::Wrong { recorded_by, computed_by, n_values, differences } => {
                let n = differences.len();
                writeln!(f, "wrong: {n} of {n_values} values are too far from what was recorded")?;
                for Difference { what, expected, found, bound } in differences {
                    writeln!(f, "  {what}: expected {expected}, found {found}, at most {bound} off")?;
                }
                writeln!(f, "  recorded by {recorded_by}")?;
                writeln!(f, "  computed by {computed_by}")?;
                write!(
                    f,
                    "  where the checksums are right the file is: this program or machine computes something else. \
                     `owlet verify --record` on a machine that is trusted records anew"
                )
            }
        }
    }
}
