//! How to answer, in the words that chats and completions share.

use crate::serve::fault::Result;
use crate::serve::fields::Fields;
use crate::serve::question::Settings;

/// Answers to one question.
pub const MAX_CHOICES: u64 = 8;
const MAX_STOPS: usize = 16;

/// What both have, but for how long an answer may be.
pub fn settings(fields: &mut Fields) -> Result<Settings> {
    Ok(Settings {
        temperature: fields.number("temperature")?,
        top_k: fields.count("top_k", 0, u32::MAX.into())?.map(|n| n as u32),
        top_p: fields.number("top_p")?,
        min_p: fields.number("min_p")?,
        repeat_penalty: fields.number("repetition_penalty")?,
        seed: fields.seed("seed")?,
        stop: fields.texts("stop", MAX_STOPS)?,
        ..Settings::default()
    })
}

/// A number of tokens.
pub fn tokens(fields: &mut Fields, name: &str) -> Result<Option<u32>> {
    Ok(fields.count(name, 1, u32::MAX.into())?.map(|n| n as u32))
}

/// Whether a stream is to say at its end what it took.
pub fn wants_usage(fields: &mut Fields) -> Result<bool> {
    let Some(options) = fields.take("stream_options") else { return Ok(false) };
    let mut options = Fields::of("stream_options", options)?;
    let wants_usage = options.flag("include_usage")?;
    options.finish(&[("include_obfuscation", &[])])?;
    Ok(wants_usage)
}
