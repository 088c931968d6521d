//! THE NETWORK DOOR: HTTP requests in; answers, whole or as they are written, out.
//!
//! A request passes, in this order: connection ([`connections`]: time limits) -> [`entry`]: who may come in, what is logged -> a dialect
//! ([`openai`]): what is asked -> [`gate`]: whose turn it is -> the engine, which holds the loop over tokens -> a dialect again.
//! Nothing that a peer sends, or fails to read, holds a slot of the engine or more memory than was said. Must not know the terminal,
//! and must not print but for its log.

mod answering;
mod anthropic;
mod app;
mod base64;
mod body;
mod caller;
mod connections;
mod dialect;
mod document;
mod entry;
mod exchange;
mod facts;
mod fault;
mod fields;
mod format;
mod gate;
mod health;
mod keeper;
mod keys;
mod log;
mod looking;
mod metrics;
mod ollama;
mod openai;
mod options;
mod origin;
mod page;
mod patient;
mod picture;
mod question;
mod ready;
mod receipt;
mod routes;
mod slots;
mod spoken;
mod stream;
mod time;
mod tls;
mod transcript;
mod validity;
mod voice;

use crate::error::{Error, Result};
use app::App;
use ggml::Cancel;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

use keeper::Keeper;

pub use connections::Addresses;
pub use keeper::{SelfTest, Source};
pub use keys::Keys;
pub use options::{Limits, Options, address};
pub use tls::Tls;

/// Answers requests with the model of `source` until the program is told to end, by a signal or by `stop`, and what was under way is done.
/// `tell` hears the model's name and where the server is once somebody can connect.
///
/// # Errors
/// `Request` as [`Options::check`]; what is wrong with the model; `Backend` where an address is taken or the system gives no thread.
pub fn serve(
    source: Source,
    options: Options,
    stop: &Cancel,
    tell: impl FnOnce(&str, &Addresses),
) -> Result<()> {
    options.check()?;
    if options.logs_prompts {
        log::write("warning", json!({"text": transcript::WARNING}));
    }
    if let Some(dir) = &options.slot_dir {
        slots::sweep(dir);
    }
    let end = Cancel::new();
    let keeper = Keeper::open(source, options.idle_unload, end.clone())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // One follows each answer, few get requests ready or fetch pictures, one sees to the model.
        .max_blocking_threads(keeper.facts().n_slots as usize + app::N_PREPARED + app::N_FETCHED + 1)
        .build()
        .map_err(|error| Error::Backend(format!("the server's runtime: {error}")))?;
    let app = Arc::new(App::new(keeper, options, end));
    let served = runtime.block_on(connections::serve(Arc::clone(&app), stop, |addresses| {
        tell(&app.facts().config.name, addresses);
    }));
    // What did not end by itself is cancelled, and waited for with the engine.
    app.cancel_all();
    runtime.shutdown_timeout(Duration::from_secs(5));
    served
}
