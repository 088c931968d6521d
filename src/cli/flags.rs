//! Flags that several commands share, and what they mean to the engine.

use super::devices::DeviceFlags;
use super::models::chosen;
use super::quantity::parse_bytes;
use super::screen::note;
use super::state::state_dir;
use super::wrong_usage;
use crate::engine::image_cache::default_dir;
use crate::engine::{CacheOptions, Engine, Loaded, Options, Sampling, Setup, Speculation, open_file};
use crate::error::{Error, Result};
use crate::measure::{self, Expected, History, Room, Test, Watch, check_self_test};
use crate::model::{Arithmetic, KvType};
use clap::{Args, value_parser};
use ggml::Cancel;
use owlet_format::ModelConfig;
use std::ffi::OsString;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;

#[derive(Args)]
#[command(next_help_heading = "Model")]
pub struct ModelFlags {
    /// Model file [default: that of `owlet models`]
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Positions that prompt and answer share [default: what the model was trained for]
    #[arg(short, long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    ctx: Option<u32>,
    /// Threads that compute [default: one for each physical core]
    #[arg(short, long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    threads: Option<u32>,
    /// Leave activations in f32 before quantized weights, instead of rounding them to 8 bits: slower
    #[arg(long)]
    exact: bool,
    /// Type of the cached keys and values: f16, f32 or q8_0
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    kv_type: KvType,
    /// Give the memory of the vision half's weights back when a picture is encoded [default: only where memory is short]
    #[arg(long)]
    low_memory: bool,
    /// Directory that keeps what was made of pictures, or `off` [default: owlet/images among the user's caches]
    #[arg(long, value_name = "DIR")]
    image_cache: Option<CachePlace>,
    /// Bytes that it may hold; what was not used for longest makes room
    #[arg(long, value_name = "SIZE", default_value = DEFAULT_CACHE_SIZE, value_parser = parse_bytes)]
    image_cache_size: u64,
    #[command(flatten)]
    devices: DeviceFlags,
}

/// Some four hundred pictures of the 19B model.
pub const DEFAULT_CACHE_SIZE: &str = "2GB";

/// Where pictures are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CachePlace {
    /// Where the caches of programs belong.
    #[default]
    Default,
    Off,
    Dir(PathBuf),
}

impl CachePlace {
    pub fn dir(self) -> Option<PathBuf> {
        match self {
            CachePlace::Default => default_dir(),
            CachePlace::Off => None,
            CachePlace::Dir(dir) => Some(dir),
        }
    }
}

impl From<OsString> for CachePlace {
    fn from(word: OsString) -> CachePlace {
        if word == "off" { CachePlace::Off } else { CachePlace::Dir(word.into()) }
    }
}

impl ModelFlags {
    /// Opens the model and starts an engine with one slot on it. Memory that will do but not well is noted, unless `is_quiet`.
    ///
    /// # Errors
    /// What is wrong with the model, or what there is too little of.
    pub fn start(&self, is_quiet: bool) -> Result<Engine> {
        self.start_slots(1, is_quiet)
    }

    /// The same with `n_slots` slots.
    ///
    /// # Errors
    /// As [`ModelFlags::start`].
    pub fn start_slots(&self, n_slots: u32, is_quiet: bool) -> Result<Engine> {
        let path = chosen(self.model.as_deref())?;
        let loaded = Loaded::open_with(path.as_deref(), &self.setup(n_slots)?)?;
        let n_ctx = self.ctx.unwrap_or(loaded.text.n_ctx_train);
        // the built-in one is part of the program
        let n_file_bytes = if path.is_some() { loaded.n_file_bytes } else { 0 };
        let mut low_memory = self.low_memory;
        // A context that the model cannot have is the engine's to refuse.
        if let Some(available) = measure::available().filter(|_| n_ctx <= loaded.text.n_ctx_train) {
            let n_vision_bytes = loaded.vision_pages.n_bytes();
            let wanted = measure::Use { n_ctx, n_slots, kv_type: self.kv_type, n_file_bytes, n_vision_bytes };
            match measure::room(&loaded.model, &loaded.config, &wanted, available)? {
                Room::Enough => {}
                Room::InTurns(why) | Room::Tight(why) => {
                    low_memory = true;
                    if !is_quiet {
                        note(&why);
                    }
                }
            }
        }
        let place = self.image_cache.clone().unwrap_or_default();
        let disk = place.dir().map(|dir| (dir, self.image_cache_size));
        let cache = CacheOptions { disk, ..CacheOptions::default() };
        let (kv_type, speculation) = (self.kv_type, Speculation::Auto);
        Engine::start(loaded, Options { n_ctx, n_slots, kv_type, cache, speculation, low_memory })
    }
}

impl ModelFlags {
    fn setup(&self, n_slots: u32) -> Result<Setup> {
        let arithmetic = if self.exact { Arithmetic::Exact } else { Arithmetic::Packed };
        self.devices.apply(Setup {
            arithmetic,
            n_ctx: self.ctx,
            n_slots,
            kv_type: self.kv_type,
            ..Setup::cpu(n_threads(self.threads))
        })
    }

    /// What the model computes otherwise than its file has recorded, if it has and if it does.
    ///
    /// # Errors
    /// What is wrong with the model; `Cancelled`.
    pub fn self_test(&self, n_slots: u32, cancel: &Cancel) -> Result<Option<String>> {
        let path = chosen(self.model.as_deref())?;
        let mut watch = Watch { cancel, progress: &mut |_, _, _| {} };
        let verdict = check_self_test(path.as_deref(), &self.setup(n_slots)?, &mut watch)?;
        Ok((!verdict.is_right()).then(|| verdict.to_string()))
    }

    /// What a picture is expected to take from tower to prompt, by earlier benches on this machine; empty where there are none.
    pub fn expected_of_picture(&self) -> Vec<Expected> {
        let expected = || {
            let file = open_file(self.model.as_deref()).ok()?;
            let config = ModelConfig::read(&file).ok()?;
            Some(measure::expect(&file, &config, &History::open(&state_dir()?)))
        };
        let is_of_picture = |expected: &Expected| matches!(expected.test, Test::Vision | Test::Projector);
        expected().unwrap_or_default().into_iter().filter(is_of_picture).collect()
    }
}

/// Threads to compute with: as many as `wanted`, else one for each physical core.
pub fn n_threads(wanted: Option<u32>) -> usize {
    wanted.map_or_else(measure::n_cores, |n| n as usize)
}

#[derive(Args)]
#[command(next_help_heading = "Answer")]
pub struct AnswerFlags {
    /// 0 always takes the likeliest token, higher is more daring [default: as the model file says]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    temp: Option<f32>,
    /// Draw from the N likeliest tokens only; 0 is all
    #[arg(long, value_name = "N")]
    top_k: Option<u32>,
    /// Draw from the likeliest tokens that together reach this probability
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f32>,
    /// Draw from tokens at least this fraction as likely as the likeliest
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    min_p: Option<f32>,
    /// Make tokens that the answer already has less likely by this factor
    #[arg(long, value_name = "X", default_value = "1", allow_negative_numbers = true)]
    repeat_penalty: f32,
    /// Draw the same tokens again [default: a new seed each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Longest answer in tokens [default: as the model file says]
    #[arg(short = 'n', long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    max_tokens: Option<u32>,
    /// End the answer before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Stands before the conversation [default: as the model file says]
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
}

impl AnswerFlags {
    /// Ends the program where a value for `command` is out of its range: known before any model is.
    pub fn check(&self, command: &str) {
        if let Err(error) = self.with_temperature(self.temp.unwrap_or(1.0), 0).check() {
            wrong_usage(command, error);
        }
    }

    /// The flags over what the model's file says.
    ///
    /// # Errors
    /// `Request` where a flag would have no effect.
    pub fn sampling(&self, model: &Loaded) -> Result<Sampling> {
        let temperature = self.temp.unwrap_or(model.generation.temperature);
        let narrowing = [
            ("--top-k", self.top_k.is_some()),
            ("--top-p", self.top_p.is_some()),
            ("--min-p", self.min_p.is_some()),
        ];
        if let (true, Some((flag, _))) = (temperature == 0.0, narrowing.iter().find(|(_, given)| *given)) {
            return Err(Error::request(format!(
                "{flag} has no effect at temperature 0; give --temp as well"
            )));
        }
        // The hasher's keys are the system's random numbers, which is all that a seed needs.
        let any_seed = || RandomState::new().build_hasher().finish();
        Ok(self.with_temperature(temperature, self.seed.unwrap_or_else(any_seed)))
    }

    /// What `--seed` said.
    pub fn seed(&self) -> Option<u64> {
        self.seed
    }

    pub fn max_tokens(&self, model: &Loaded) -> u32 {
        self.max_tokens.unwrap_or(model.generation.max_tokens)
    }

    fn with_temperature(&self, temperature: f32, seed: u64) -> Sampling {
        Sampling {
            temperature,
            top_k: self.top_k.unwrap_or(0),
            top_p: self.top_p.unwrap_or(1.0),
            min_p: self.min_p.unwrap_or(0.0),
            repeat_penalty: self.repeat_penalty,
            seed,
        }
    }
}
