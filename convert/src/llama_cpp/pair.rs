//! A pair of llama.cpp's files in, one model file out.
//!
//! Every tensor of the model is found under its name there, in its shape; every tensor there is used, or skipped for a
//! reason. What a file says and what the family says are read by their own modules.

use std::path::{Path, PathBuf};

use ggml::Cancel;
use owlet_format::{Gguf, ModelConfig, Part, Provenance, Strings};

use super::facts::{Facts, Origin};
use super::located::Reading;
use super::mmproj;
use super::stated::Stated;
use super::text;
use crate::blocks::{Blocks, Moved};
use crate::checkpoint::file::SourceFile;
use crate::error::{Error, Result};
use crate::estimate::Estimate;
use crate::family::{Skipped, llava};
use crate::report::Report;
use crate::requantize::RequantizeOptions;
use crate::run::Progress;

/// What the caller chooses.
#[derive(Debug, Clone, Default)]
pub struct PairOptions {
    /// The model's name; that of the text half without it.
    pub name: Option<String>,
    /// `--set key=value`: `system` and `legacy`, of which files of others say nothing.
    pub set: Vec<(String, String)>,
    /// Types that are asked for; what nobody asks about stays as it is.
    pub types: RequantizeOptions,
}

/// A pair that can become a model file. `Display` is what `--dry-run` prints.
#[derive(Debug)]
pub struct Pair {
    pub(super) blocks: Blocks,
    pub(super) facts: Facts,
    pub(super) skipped: Vec<Skipped>,
    /// What was asked for.
    pub(super) types: RequantizeOptions,
}

impl Pair {
    /// Reads the headers of a pair of LLaVA-1.5 and plans.
    ///
    /// # Errors
    /// Where one of them is no such file, or they are of different models; the text names file, key or tensor, expected
    /// and found.
    pub fn from_files(text: &Path, mmproj: &Path, options: &PairOptions) -> Result<Pair> {
        let files = [Gguf::open(text)?, Gguf::open(mmproj)?];
        let [text, mmproj] = [Stated::of(&files[0]), Stated::of(&files[1])];
        let mut facts = Facts::new(llava::FAMILY);
        text::read(&text, &mut facts)?;
        facts.own_or("owlet.tokenizer.legacy", &text, llava::LEGACY);
        conversation(&text, &mut facts)?;
        set(&options.set, &mut facts)?;
        let half = facts.config(text.label(), &[Part::Text])?;
        let tower = mmproj::read(&mmproj, &mut facts)?;
        for file in [&text, &mmproj] {
            file.expect_word("owlet.family", llava::FAMILY)?;
        }
        refuse_strangers(&half, &text, &mmproj)?;
        let mut config = facts.config(mmproj.label(), Part::ALL)?;
        let given = text.word("general.name")?.filter(|name| !name.is_empty());
        config.name = options.name.clone().or(given.map(str::to_string)).unwrap_or_else(|| stem(&text));

        let mut reading = Reading::of(&files, &tower)?;
        let specs = config.tensors();
        let recipe = options.types.recipe();
        recipe.refuse_idle_rules(&specs)?;
        let mut tensors = Vec::with_capacity(specs.len());
        for spec in specs {
            let pieces = reading.pieces(&spec)?;
            let asked = options.types.asked(&spec, &recipe, &config);
            let chosen = reading.chosen(&spec, &pieces, asked, &options.types)?;
            tensors.push(Moved { spec, chosen, pieces });
        }
        let skipped = reading.refuse_surplus()?;
        if tower.is_exchanged {
            let what = "ffn_up and ffn_down have each other's names, as old converters wrote them";
            facts.notes.push(format!("{}: {what}: read as meant", mmproj.label()));
        }
        let importance = options.types.weighted(&tensors)?;
        facts.notes.extend(importance.note.clone());
        let sources = files.iter().flat_map(Gguf::files).map(SourceFile::open).collect::<Result<Vec<_>>>()?;
        let lines = options.types.lines().chain(importance.line.clone());
        config.provenance = Provenance {
            source: names_of(&sources),
            revision: String::new(),
            // their sums are known when all of them were read
            shards: Strings::default(),
            converter: format!("owlet {}", env!("CARGO_PKG_VERSION")),
            recipe: lines
                .chain(options.set.iter().map(|(key, value)| format!("set {key}={value}")))
                .collect(),
            assumed: facts.assumed().collect(),
        };
        let blocks = Blocks {
            config,
            sources,
            states_sums: true,
            tensors,
            importance,
            split_max_bytes: options.types.split_max_bytes,
            n_threads: options.types.n_threads,
        };
        Ok(Pair { blocks, facts, skipped, types: options.types.clone() })
    }

    /// What writing it will take.
    pub fn estimate(&self) -> Estimate {
        Estimate::of(&self.blocks)
    }

    /// Writes the model file, as [`Plan::run`](crate::Plan::run) does.
    ///
    /// # Errors
    /// As there; and where a tensor's bytes are not those that its file states the sum of.
    pub fn run(&self, out: &Path, progress: &mut dyn Progress, cancel: &Cancel) -> Result<Report> {
        self.blocks.run(out, progress, cancel)
    }

    /// As [`Plan::files`](crate::Plan::files).
    ///
    /// # Errors
    /// As there.
    pub fn files(&self, out: &Path) -> Result<Vec<PathBuf>> {
        self.blocks.files(out)
    }
}

/// The form of a conversation, which is the family's where the file is not one of ours.
fn conversation(text: &Stated, facts: &mut Facts) -> Result<()> {
    const TEMPLATE: &str = "owlet.prompt.template";
    text.expect_word(TEMPLATE, llava::TEMPLATE)?;
    facts.own_or(TEMPLATE, text, llava::TEMPLATE);
    facts.own_or("owlet.prompt.system", text, llava::SYSTEM);
    // what llama.cpp takes where a file says none
    let eos_id = text.count("tokenizer.ggml.eos_token_id")?.unwrap_or(2);
    facts.own_or("owlet.prompt.stop_ids", text, vec![eos_id]);
    facts.own_or("owlet.generation.temperature", text, llava::GENERATION.temperature);
    facts.own_or("owlet.generation.max_tokens", text, llava::GENERATION.max_tokens);
    if text.value("tokenizer.chat_template").is_some() && text.value(TEMPLATE).is_none() {
        let what = format!("is not read: {} has {}", llava::FAMILY, llava::TEMPLATE);
        facts.notes.push(format!("{} {what}", text.place("tokenizer.chat_template")));
    }
    Ok(())
}

fn set(settings: &[(String, String)], facts: &mut Facts) -> Result<()> {
    for (key, value) in settings {
        match (key.as_str(), value.as_str()) {
            ("system", text) => facts.put("owlet.prompt.system", text, Origin::Set),
            ("legacy", "true" | "false") => facts.put("owlet.tokenizer.legacy", value == "true", Origin::Set),
            ("legacy", _) => {
                return Err(Error::Request(format!("--set {key}: expected true or false, found {value}")));
            }
            _ => {
                let what = "expected system or legacy, all else is in a pair";
                return Err(Error::Request(format!("--set {key}: {what}")));
            }
        }
    }
    Ok(())
}

/// # Errors
/// Where the projector's rows are not those of the text model.
fn refuse_strangers(half: &ModelConfig, text: &Stated, mmproj: &Stated) -> Result<()> {
    let n_embd = half.text.as_ref().map_or(0, |text| u64::from(text.n_embd));
    let found = mmproj.file.tensor("mm.2.weight").map_or(0, |matrix| matrix.shape.n_rows());
    if found == n_embd {
        return Ok(());
    }
    let what = format!(
        "expected {n_embd} rows, the embedding of {}, found {found}: the two files are of different models",
        text.label()
    );
    Err(Error::format(format!("{}: tensor mm.2.weight", mmproj.label()), what))
}

fn stem(text: &Stated) -> String {
    let name = Path::new(text.label()).file_stem().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn names_of(sources: &[SourceFile]) -> String {
    let name = |file: &SourceFile| file.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    sources.iter().map(name).collect::<Vec<_>>().join(", ")
}
