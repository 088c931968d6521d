//! What whoever starts an engine chooses.

use super::image_cache::CacheOptions;
use super::speculate::Speculation;
use crate::model::KvType;

/// How an engine is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Positions that a prompt and its answer share; at most what the model was trained for.
    pub n_ctx: u32,
    /// Requests that are worked on at the same time.
    pub n_slots: u32,
    pub kv_type: KvType,
    pub cache: CacheOptions,
    pub speculation: Speculation,
    /// Gives the memory of the tower's weights back when no picture is left to encode; the next one reads them again.
    pub low_memory: bool,
}
