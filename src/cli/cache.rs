//! `owlet cache`: what is kept of pictures, shown and thrown away.

use super::flags::{CachePlace, DEFAULT_CACHE_SIZE};
use super::json;
use super::quantity::{parse_bytes, parse_span, span};
use super::screen::{Screen, note};
use super::wrong_usage;
use crate::engine::image_cache::{CACHE_VARIABLE, DiskCache, EntryFile, Removed};
use crate::error::{Error, Result};
use crate::measure::bytes_in_words;
use serde::Serialize;
use std::io::stdout;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Show, prune or clear what is kept of pictures
///
/// What the vision tower makes of a picture is kept on disk, so that a later question about the same picture, in another
/// run and under any name, does not compute it again. Without a command, this shows where, how many and how large. Only
/// entries are ever deleted; what is needed again is computed again. OWLET_CACHE names another directory for owlet's
/// caches, or is `off`.
#[derive(clap::Args)]
pub struct Cache {
    #[command(subcommand)]
    action: Option<Action>,
    /// Directory of the cache [default: the one that run and chat use]
    #[arg(long, value_name = "DIR", global = true)]
    image_cache: Option<CachePlace>,
    /// Budget that it is shown with, as run and chat got it
    #[arg(long, value_name = "SIZE", default_value = DEFAULT_CACHE_SIZE, value_parser = parse_bytes)]
    image_cache_size: u64,
    /// Print one JSON object instead
    #[arg(long)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Delete entries that were not used for long
    Prune {
        /// Delete the ones unused for longest until the rest is at most so large [default: 2GB without --older-than]
        #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
        max_size: Option<u64>,
        /// Delete the ones that were not used for so long: 30d, 12h
        #[arg(long, value_name = "AGE", value_parser = parse_span)]
        older_than: Option<Duration>,
    },
    /// Delete all entries
    Clear,
}

impl Cache {
    pub fn run(self) -> Result<ExitCode> {
        if self.json && self.action.is_some() {
            wrong_usage("cache", "--json is for what is shown without a command");
        }
        let Some(dir) = self.image_cache.unwrap_or_default().dir() else {
            return Err(Error::request(format!(
                "image cache: it is off, or has no place; set HOME or {CACHE_VARIABLE}, or give --image-cache DIR"
            )));
        };
        let cache = DiskCache::new(dir, self.image_cache_size);
        let failed = |cause| Error::io(cache.dir(), cause);
        match self.action {
            None => show(&cache, self.image_cache_size, self.json)?,
            Some(Action::Clear) => tell(cache.clear().map_err(failed)?),
            Some(Action::Prune { max_size, older_than }) => {
                let unlimited = if older_than.is_some() { u64::MAX } else { self.image_cache_size };
                let max_bytes = max_size.unwrap_or(unlimited);
                tell(cache.remove_oldest(max_bytes, older_than).map_err(failed)?);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What `--json` prints. Times are seconds since 1970.
#[derive(Serialize)]
struct Summary {
    path: String,
    entries: usize,
    bytes: u64,
    budget_bytes: u64,
    newest_use: Option<u64>,
    oldest_use: Option<u64>,
}

fn show(cache: &DiskCache, budget_bytes: u64, is_json: bool) -> Result<()> {
    let entries = cache.entries().map_err(|cause| Error::io(cache.dir(), cause))?;
    let (newest, oldest) = (entries.first(), entries.last());
    let since_1970 =
        |entry: &EntryFile| entry.last_used.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let summary = Summary {
        path: cache.dir().display().to_string(),
        entries: entries.len(),
        bytes: entries.iter().fold(0, |sum: u64, entry| sum.saturating_add(entry.n_bytes)),
        budget_bytes,
        newest_use: newest.map(since_1970),
        oldest_use: oldest.map(since_1970),
    };
    if is_json {
        return json::write_line(&mut stdout().lock(), &summary).map_err(Screen::failed);
    }
    let mut text = format!(
        "{}\n{}, {} of {}\n",
        summary.path,
        count(summary.entries),
        bytes_in_words(summary.bytes),
        bytes_in_words(budget_bytes)
    );
    if let (Some(newest), Some(oldest)) = (newest, oldest) {
        let ago =
            |entry: &EntryFile| span(SystemTime::now().duration_since(entry.last_used).unwrap_or_default());
        text += &format!("newest use {} ago, oldest {} ago\n", ago(newest), ago(oldest));
    }
    Screen::new().say(&text)
}

fn tell(removed: Removed) {
    note(&format!("{} deleted, {}", count(removed.n_entries), bytes_in_words(removed.n_bytes)));
}

fn count(n: usize) -> String {
    if n == 1 { "1 entry".to_string() } else { format!("{n} entries") }
}
