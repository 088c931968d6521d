//! What an answer took, as one line: pictures in and out, tokens, seconds, speed, and why it ended where that is not
//! the model's own choice.

use super::follow::Followed;
use super::pictures::Attached;
use crate::engine::{EmbeddingSource, Engine, FinishReason};
use std::time::Duration;

/// The receipt of what `followed` tells, given by the model of `engine`. `pictures` are to be named in it: all or none of
/// those that were followed.
pub fn line(engine: &Engine, pictures: &[Attached], followed: &Followed) -> String {
    let Followed { outcome, sources } = followed;
    let model = engine.loaded();
    let exact = if model.model.is_exact() { ", exact" } else { "" };
    let mut parts = vec![format!("{}{exact}", model.config.name)];
    parts.extend(model.model.on_device());
    let is_cached = |source: &Option<EmbeddingSource>| source.is_some_and(EmbeddingSource::is_cached);
    parts.extend(
        pictures
            .iter()
            .zip(sources)
            .map(|(shown, source)| picture(shown) + if is_cached(source) { ", cached" } else { "" }),
    );
    let n_cached = sources.iter().filter(|source| is_cached(source)).count();
    if pictures.is_empty() && n_cached > 0 {
        parts.push(format!("{n_cached} {} cached", if n_cached == 1 { "picture" } else { "pictures" }));
    }
    let timings = outcome.timings;
    if sources.contains(&Some(EmbeddingSource::Computed)) {
        parts.push(format!("encode {}", seconds(timings.encode)));
    }
    let n_read = outcome.n_prompt - outcome.n_reused.min(outcome.n_prompt);
    let reused =
        if outcome.n_reused > 0 { format!(" (+{} reused)", outcome.n_reused) } else { String::new() };
    parts.push(format!("prefill {}{reused} {}", tokens(n_read), seconds(timings.prefill)));
    let speed = outcome.tokens_per_second().map(|speed| format!(", {speed:.1} tokens/s")).unwrap_or_default();
    parts.push(format!("decode {} {}{speed}", tokens(outcome.ids.len()), seconds(timings.decode)));
    if engine.options().low_memory {
        parts.push("low memory".to_string());
    }
    if !matches!(outcome.finish_reason, FinishReason::Eos | FinishReason::Complete) {
        parts.push(format!("ended by {}", ended_by(outcome.finish_reason)));
    }
    parts.join(" | ")
}

/// `cat.jpg 3024x4032 (turned, exif 6; alpha over white) -> 448x448, 256 tokens`
pub fn picture(picture: &Attached) -> String {
    let mut done = Vec::new();
    if picture.orientation != 1 {
        done.push(format!("turned, exif {}", picture.orientation));
    }
    if picture.alpha {
        done.push("alpha over white".to_string());
    }
    let done = if done.is_empty() { String::new() } else { format!(" ({})", done.join("; ")) };
    let (Attached { source, width, height, n_tokens, .. }, size_px) = (picture, picture.pixels.size_px);
    format!("{source} {width}x{height}{done} -> {size_px}x{size_px}, {}", tokens(*n_tokens))
}

/// An answer with a constraint that ended for `reason` before it was met.
pub fn broke_off(reason: FinishReason) -> String {
    format!("the answer was ended by {} before it was complete", ended_by(reason))
}

fn ended_by(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Eos => "the model",
        FinishReason::Stop => "a stop text",
        FinishReason::Complete => "being complete",
        FinishReason::Length => "the token limit (-n)",
        FinishReason::Context => "a full context (-c)",
        FinishReason::Cancelled => "ctrl-c",
    }
}

fn tokens(n: usize) -> String {
    if n == 1 { "1 token".to_string() } else { format!("{n} tokens") }
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}
