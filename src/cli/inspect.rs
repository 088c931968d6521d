//! `owlet inspect`: what is in a model file, for people and for programs.

use super::devices::DeviceFlags;
use super::flags::n_threads;
use super::json;
use super::plan::Outlook;
use super::screen::Screen;
use crate::engine::Setup;
use crate::error::{Error, Result};
use crate::measure::bytes_in_words;
use crate::model::KvType;
use clap::{ArgGroup, value_parser};
use owlet_format::{Array, Gguf, Metadata, ModelConfig, TensorInfo, Value};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, SerializeStruct, Serializer};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufWriter, Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

/// Show what a model file says and holds
///
/// Works on any GGUF file; one that is no owlet model is shown all the same, with what is in the way. Tables cut long
/// values short; --json has them whole.
#[derive(clap::Args)]
#[command(group = ArgGroup::new("placed").args(PLACED).multiple(true).requires("plan"))]
pub struct Inspect {
    /// Model file
    file: PathBuf,
    /// Print one JSON object instead
    #[arg(long)]
    json: bool,
    /// Show what running the model will need: memory by part, and the seconds that the last bench lets expect
    #[arg(long)]
    plan: bool,
    /// Plan for a context of so many positions [default: what the model was trained for]
    #[arg(short, long, value_name = "N", requires = "plan", value_parser = value_parser!(u32).range(1..))]
    ctx: Option<u32>,
    /// Plan for cached keys and values of this type: f16, f32 or q8_0
    #[arg(long, value_name = "TYPE", requires = "plan", default_value = "f16")]
    kv_type: KvType,
    #[command(flatten)]
    devices: DeviceFlags,
}

/// Flags that are of use to a plan only. Settings of their names are no flags: they wait for a plan.
const PLACED: [&str; 5] = ["gpu_layers", "vision_device", "device", "rpc", "backends"];

/// Items of an array, and characters of a string, that a table shows.
const SHOWN_ITEMS: usize = 6;
const SHOWN_CHARS: usize = 60;

impl Inspect {
    pub fn run(self) -> Result<ExitCode> {
        let file = Gguf::open(&self.file)?;
        if self.plan {
            return self.print_plan(&file);
        }
        let summary = Summary::new(&file);
        let mut out = BufWriter::new(stdout().lock());
        let written =
            if self.json { json::write_line(&mut out, &summary) } else { write_tables(&mut out, &summary) };
        written.and_then(|()| out.flush()).map_err(Screen::failed)?;
        Ok(ExitCode::SUCCESS)
    }

    fn print_plan(&self, file: &Gguf) -> Result<ExitCode> {
        let setup = Setup { n_ctx: self.ctx, kv_type: self.kv_type, ..Setup::cpu(n_threads(None)) };
        let outlook = Outlook::new(file, &self.devices.apply(setup)?)?;
        if self.json {
            json::write_line(&mut stdout().lock(), &outlook).map_err(Screen::failed)?;
        } else {
            Screen::new().say(&outlook.in_words())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A file, and what of it is found out rather than stated.
struct Summary<'a> {
    file: &'a Gguf,
    /// The model, or why this is none of owlet's.
    model: Result<ModelConfig>,
    /// Bytes of tensors by part of the model and by type.
    sizes: BTreeMap<(&'static str, &'static str), u64>,
}

impl<'a> Summary<'a> {
    fn new(file: &'a Gguf) -> Summary<'a> {
        let model = ModelConfig::read(file)
            .and_then(|config| config.check(file).map(|()| config))
            .map_err(Error::from);
        let mut sizes = BTreeMap::new();
        for tensor in file.tensors() {
            *sizes.entry((part(&tensor.name), tensor.dtype.name())).or_default() += tensor.n_bytes;
        }
        Summary { file, model, sizes }
    }
}

/// The part of a model that a tensor belongs to, by the names that owlet's files use.
fn part(name: &str) -> &'static str {
    match name.split('.').next() {
        Some("v") => "vision",
        Some("mm") => "projector",
        _ => "text",
    }
}

fn write_tables(out: &mut impl Write, summary: &Summary) -> std::io::Result<()> {
    let file = summary.file;
    let n_bytes = file.bytes().len() as u64;
    writeln!(
        out,
        "{}: {}, GGUF version {}, alignment {}",
        file.label(),
        bytes_in_words(n_bytes),
        file.version(),
        file.alignment()
    )?;
    match &summary.model {
        Ok(model) => writeln!(out, "model {}, family {}", shown(&model.name), shown(&model.family))?,
        Err(problem) => writeln!(out, "not a model that owlet runs: {problem}")?,
    }
    for ((part, dtype), size) in &summary.sizes {
        writeln!(out, "  {part:<10} {dtype:<6} {:>12}", bytes_in_words(*size))?;
    }
    if file.n_trailing_bytes() > 0 {
        writeln!(
            out,
            "  {} behind the last tensor, which nothing accounts for",
            bytes_in_words(file.n_trailing_bytes())
        )?;
    }

    let keys = file.metadata().iter();
    writeln!(out, "\n{} keys", keys.len())?;
    let width =
        file.metadata().iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0).min(SHOWN_CHARS);
    for (key, value) in keys {
        writeln!(out, "  {:<width$}  {}", shown(key), shown_value(value))?;
    }

    let tensors = file.tensors();
    writeln!(out, "\n{} tensors", tensors.len())?;
    let width = tensors.iter().map(|tensor| tensor.name.chars().count()).max().unwrap_or(0).min(SHOWN_CHARS);
    for TensorInfo { name, dtype, shape, n_bytes, .. } in tensors {
        let (shape, n_bytes) = (shape.to_string(), bytes_in_words(*n_bytes));
        writeln!(out, "  {:<width$}  {dtype:<6} {shape:<20} {n_bytes:>12}", shown(name))?;
    }
    Ok(())
}

fn shown_value(value: &Value) -> String {
    match value {
        Value::U8(n) => n.to_string(),
        Value::I8(n) => n.to_string(),
        Value::U16(n) => n.to_string(),
        Value::I16(n) => n.to_string(),
        Value::U32(n) => n.to_string(),
        Value::I32(n) => n.to_string(),
        Value::U64(n) => n.to_string(),
        Value::I64(n) => n.to_string(),
        Value::F32(x) => x.to_string(),
        Value::F64(x) => x.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Str(text) => format!("\"{}\"", shown(text)),
        Value::Array(array) => shown_array(array),
    }
}

/// `[41936 string] "<unk>", "<s>", …`, short arrays without the count.
fn shown_array(array: &Array) -> String {
    fn items<T: ToString>(items: &[T]) -> Vec<String> {
        items.iter().take(SHOWN_ITEMS).map(T::to_string).collect()
    }
    let shown_items = match array {
        Array::U8(x) => items(x),
        Array::I8(x) => items(x),
        Array::U16(x) => items(x),
        Array::I16(x) => items(x),
        Array::U32(x) => items(x),
        Array::I32(x) => items(x),
        Array::U64(x) => items(x),
        Array::I64(x) => items(x),
        Array::F32(x) => items(x),
        Array::F64(x) => items(x),
        Array::Bool(x) => items(x),
        Array::Str(x) => x.iter().take(SHOWN_ITEMS).map(|text| format!("\"{}\"", shown(text))).collect(),
    };
    let more = if array.len() > SHOWN_ITEMS { ", …" } else { "" };
    format!("[{} {}] {}{more}", array.len(), array.item_type().name(), shown_items.join(", "))
}

/// Text from a file as it may stand in a table: on one line, obeyed by no terminal, and not too long.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    for (n, c) in text.chars().enumerate() {
        if n == SHOWN_CHARS {
            shown.push('…');
            break;
        }
        let _ = if c.is_control() { write!(shown, "{}", c.escape_default()) } else { write!(shown, "{c}") };
    }
    shown
}

impl Serialize for Summary<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let file = self.file;
        let mut object = serializer.serialize_struct("Summary", 9)?;
        object.serialize_field("file", file.label())?;
        object.serialize_field("n_bytes", &file.bytes().len())?;
        object.serialize_field("gguf_version", &file.version())?;
        object.serialize_field("alignment", &file.alignment())?;
        object.serialize_field("model", &self.model.as_ref().ok().map(|model| &model.name))?;
        object.serialize_field("problem", &self.model.as_ref().err().map(Error::to_string))?;
        let sizes: Vec<_> = self
            .sizes
            .iter()
            .map(|((part, dtype), n_bytes)| Size { part, dtype, n_bytes: *n_bytes })
            .collect();
        object.serialize_field("sizes", &sizes)?;
        object.serialize_field("metadata", &Keys(file.metadata()))?;
        object.serialize_field("tensors", &Tensors(file.tensors()))?;
        object.end()
    }
}

#[derive(serde::Serialize)]
struct Size<'a> {
    part: &'a str,
    dtype: &'a str,
    n_bytes: u64,
}

/// Keys in file order.
struct Keys<'a>(&'a Metadata);

impl Serialize for Keys<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(Some(self.0.iter().len()))?;
        for (key, value) in self.0.iter() {
            object.serialize_entry(key, &Json(value))?;
        }
        object.end()
    }
}

struct Json<'a>(&'a Value);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        match self.0 {
            Value::U8(n) => n.serialize(to),
            Value::I8(n) => n.serialize(to),
            Value::U16(n) => n.serialize(to),
            Value::I16(n) => n.serialize(to),
            Value::U32(n) => n.serialize(to),
            Value::I32(n) => n.serialize(to),
            Value::U64(n) => n.serialize(to),
            Value::I64(n) => n.serialize(to),
            Value::F32(x) => x.serialize(to),
            Value::F64(x) => x.serialize(to),
            Value::Bool(flag) => flag.serialize(to),
            Value::Str(text) => text.serialize(to),
            Value::Array(array) => match array {
                Array::U8(x) => x.serialize(to),
                Array::I8(x) => x.serialize(to),
                Array::U16(x) => x.serialize(to),
                Array::I16(x) => x.serialize(to),
                Array::U32(x) => x.serialize(to),
                Array::I32(x) => x.serialize(to),
                Array::U64(x) => x.serialize(to),
                Array::I64(x) => x.serialize(to),
                Array::F32(x) => x.serialize(to),
                Array::F64(x) => x.serialize(to),
                Array::Bool(x) => x.serialize(to),
                Array::Str(x) => to.collect_seq(x.iter()),
            },
        }
    }
}

struct Tensors<'a>(&'a [TensorInfo]);

impl Serialize for Tensors<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Row<'a> {
            name: &'a str,
            dtype: &'a str,
            ne: &'a [u64],
            offset: u64,
            n_bytes: u64,
        }
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for TensorInfo { name, dtype, shape, offset, n_bytes } in self.0 {
            list.serialize_element(&Row {
                name,
                dtype: dtype.name(),
                ne: shape.dims(),
                offset: *offset,
                n_bytes: *n_bytes,
            })?;
        }
        list.end()
    }
}
