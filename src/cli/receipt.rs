//! What an answer took, as one line: pictures in and out, tokens, seconds, speed, and why it ended where that is not
//! the model's own choice.

use super::follow::Followed;
use super::pictures::Attached;
use crate::engine::{EmbeddingSource, Engine, FinishReason};
use std::time::Duration;

/// The receipt of what `followed` tells, given by the model of `engine`. `pictures` are to be named in it: all or none of
/// those that were followed.
pub fn line(engine: &Engine, pictures: &[Attached], followed: &Followed) -> String {
    let Followed { outcome, sources, .. } = followed;
    let mut parts = vec![name(engine)];
    parts.extend(engine.loaded().model.on_devices());
    let seen = |source: &Option<EmbeddingSource>| if is_cached(source) { ", cached" } else { "" };
    parts.extend(pictures.iter().zip(sources).map(|(shown, source)| picture(shown) + seen(source)));
    if pictures.is_empty() {
        parts.extend(cached(followed));
    }
    parts.extend(encoded(followed));
    let timings = outcome.timings;
    let n_read = outcome.n_prompt - outcome.n_reused.min(outcome.n_prompt);
    let reused =
        if outcome.n_reused > 0 { format!(" (+{} reused)", outcome.n_reused) } else { String::new() };
    parts.push(format!("prefill {}{reused} {}", tokens(n_read), seconds(timings.prefill)));
    let speed = speed(followed).map(|speed| format!(", {speed}")).unwrap_or_default();
    parts.push(format!("decode {} {}{speed}", tokens(outcome.ids.len()), seconds(timings.decode)));
    if engine.options().low_memory {
        parts.push("low memory".to_string());
    }
    parts.extend(ending(followed));
    parts.join(" | ")
}

/// The same in short, for a conversation: model, pictures, speed, and how the answer ended.
pub fn status(engine: &Engine, followed: &Followed) -> String {
    let parts = [cached(followed), encoded(followed), speed(followed), ending(followed)];
    [Some(name(engine))].into_iter().chain(parts).flatten().collect::<Vec<_>>().join(" | ")
}

fn name(engine: &Engine) -> String {
    let model = engine.loaded();
    format!("{}{}", model.config.name, if model.model.is_exact() { ", exact" } else { "" })
}

fn is_cached(source: &Option<EmbeddingSource>) -> bool {
    source.is_some_and(EmbeddingSource::is_cached)
}

/// Pictures that the tower did not have to look at.
fn cached(followed: &Followed) -> Option<String> {
    let n = followed.sources.iter().filter(|source| is_cached(source)).count();
    (n > 0).then(|| format!("{n} {} cached", if n == 1 { "picture" } else { "pictures" }))
}

fn encoded(followed: &Followed) -> Option<String> {
    let has_run = followed.sources.contains(&Some(EmbeddingSource::Computed));
    has_run.then(|| format!("encode {}", seconds(followed.outcome.timings.encode)))
}

fn speed(followed: &Followed) -> Option<String> {
    followed.outcome.tokens_per_second().map(|speed| format!("{speed:.1} tokens/s"))
}

fn ending(followed: &Followed) -> Option<String> {
    let reason = followed.outcome.finish_reason;
    let is_whole = matches!(reason, FinishReason::Eos | FinishReason::Complete);
    (!is_whole).then(|| format!("ended by {}", ended_by(reason)))
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

pub fn tokens(n: usize) -> String {
    if n == 1 { "1 token".to_string() } else { format!("{n} tokens") }
}

pub fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

/// `52 s`, `3 min`: what is only guessed needs no more digits.
pub fn rounded(duration: Duration) -> String {
    match duration.as_secs_f64() {
        seconds if seconds < 90.0 => format!("{seconds:.0} s"),
        seconds => format!("{:.0} min", seconds / 60.0),
    }
}
