//! Packs a checkpoint into one GGUF: checkpoint (headers checked) -> plan (pure, printable) -> rows by position ->
//! f32 -> quantized blocks -> a file that is read back before it gets its name.
//!
//! Only this crate knows Hugging Face's names and PyTorch's order of shapes (in round brackets; ggml's, innermost
//! first, in square ones). It prints nothing: a run reports through [`Progress`], plan and report are `Display`.

mod blocks;
pub mod checkpoint;
mod error;
mod estimate;
mod family;
mod fold;
pub mod hf;
pub mod hub;
mod input;
mod job;
mod llama_cpp;
mod mixture;
mod origin;
mod outline;
mod part;
mod plan;
mod plan_job;
mod planned;
pub mod position_grid;
mod positioned;
mod read_ahead;
mod recipe;
mod report;
mod requantize;
mod rows;
mod rules;
mod run;
mod verify;
mod weighting;

pub use error::{Error, Result};
pub use estimate::Estimate;
pub use family::{Skipped, Source, Transform, named_vision_tower};
pub use hf::settings::settings_help;
pub use input::Input;
pub use llama_cpp::{Export, Exported, Pair, PairOptions};
pub use mixture::{Size, TYPE_CHOICES, TypeChoice};
pub use outline::PartSize;
pub use part::{State, Subject, tidy};
pub use plan::{Options, Plan};
pub use planned::{Fold, PlannedTensor};
pub use recipe::{Chosen, Recipe};
pub use report::{Done, Report, Spent};
pub use requantize::{Requantize, RequantizeOptions};
pub use rules::Rules;
pub use run::Progress;
pub use verify::{Comparison, Deviation, NotFinite, SourceDirs, Verdict, verify};
pub use weighting::Weighting;
