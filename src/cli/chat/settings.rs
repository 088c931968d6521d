//! How answers are chosen, as `/set` shows and changes it.

use crate::engine::Sampling;
use crate::error::{Error, Result};
use std::fmt::Display;
use std::str::FromStr;

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub sampling: Sampling,
    /// Longest answer in tokens.
    pub max_tokens: u32,
}

/// Names as the flags have them, and what they mean: a line of 80 columns has room for both and the longest seed between.
pub const NAMES: [(&str, &str); 7] = [
    ("temperature", "0: the likeliest token; more: more daring"),
    ("top-k", "draw from the N likeliest; 0 is all"),
    ("top-p", "draw from the likeliest up to this share"),
    ("min-p", "none below this fraction of the likeliest"),
    ("repeat-penalty", "how much less likely repetitions become"),
    ("seed", "draw the same tokens again"),
    ("max-tokens", "longest answer in tokens"),
];

/// Which choose among several tokens, and so do nothing where always the likeliest one is taken.
const OF_CHANCE: [&str; 4] = ["top-k", "top-p", "min-p", "seed"];

impl Settings {
    /// A line for each: name, value, meaning; and one about those that have no effect.
    pub fn list(&self) -> String {
        let mut lines =
            NAMES.map(|(name, meaning)| format!("{name:<16}{:<22}{meaning}", self.value(name))).to_vec();
        if !OF_CHANCE.iter().all(|name| self.has_effect(name)) {
            lines.push(format!("{} have no effect at temperature 0", OF_CHANCE.join(", ")));
        }
        lines.join("\n")
    }

    /// Changes what `name` says; yields a line that says so.
    ///
    /// # Errors
    /// `Request`: no such setting, or a value that it cannot have; nothing is changed then.
    pub fn set(&mut self, name: &str, value: &str) -> Result<String> {
        let name = match name.trim_start_matches('-') {
            "temp" => "temperature",
            "n" => "max-tokens",
            name => name,
        };
        let name = &name.replace('_', "-");
        let mut new = self.clone();
        let Sampling { temperature, top_k, top_p, min_p, repeat_penalty, seed } = &mut new.sampling;
        match name.as_str() {
            "temperature" => *temperature = parsed(name, value, "a number")?,
            "top-k" => *top_k = parsed(name, value, "a whole number")?,
            "top-p" => *top_p = parsed(name, value, "a number")?,
            "min-p" => *min_p = parsed(name, value, "a number")?,
            "repeat-penalty" => *repeat_penalty = parsed(name, value, "a number")?,
            "seed" => *seed = parsed(name, value, "a whole number")?,
            "max-tokens" => new.max_tokens = parsed(name, value, "a whole number")?,
            _ => {
                let names = NAMES.map(|(name, _)| name).join(", ");
                return Err(Error::request(format!("setting {name}: expected one of {names}")));
            }
        }
        new.sampling.check()?;
        if new.max_tokens == 0 {
            return Err(Error::request("max-tokens: expected at least 1, found 0"));
        }
        *self = new;
        let idle = if self.has_effect(name) { "" } else { ", which has no effect at temperature 0" };
        Ok(format!("{name} is {}{idle}", self.value(name)))
    }

    fn value(&self, name: &str) -> String {
        let sampling = &self.sampling;
        match name {
            "temperature" => sampling.temperature.to_string(),
            "top-k" => sampling.top_k.to_string(),
            "top-p" => sampling.top_p.to_string(),
            "min-p" => sampling.min_p.to_string(),
            "repeat-penalty" => sampling.repeat_penalty.to_string(),
            "seed" => sampling.seed.to_string(),
            _ => self.max_tokens.to_string(),
        }
    }

    fn has_effect(&self, name: &str) -> bool {
        self.sampling.temperature > 0.0 || !OF_CHANCE.contains(&name)
    }
}

fn parsed<T: FromStr<Err: Display>>(name: &str, value: &str, expected: &str) -> Result<T> {
    value.parse().map_err(|_| Error::request(format!("{name}: expected {expected}, found {value}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked() {
        let mut settings = Settings { sampling: Sampling::GREEDY, max_tokens: 9 };
        for (name, value, expected) in [
            ("top-p", "0.9", "top-p is 0.9, which has no effect at temperature 0"),
            ("temperature", "0.7", "temperature is 0.7"),
            ("top_k", "40", "top-k is 40"),
            ("--temp", "0.5", "temperature is 0.5"),
            ("seed", "18446744073709551615", "seed is 18446744073709551615"),
            ("max-tokens", "20", "max-tokens is 20"),
            ("repeat-penalty", "1.1", "repeat-penalty is 1.1"),
            ("min-p", "2", "min-p: expected between 0 and 1, found 2"),
            ("temperature", "hot", "temperature: expected a number, found hot"),
            ("temperature", "-1", "temperature: expected a finite number of at least 0, found -1"),
            ("top-k", "-1", "top-k: expected a whole number, found -1"),
            ("max-tokens", "0", "max-tokens: expected at least 1, found 0"),
            (
                "heat",
                "1",
                "setting heat: expected one of temperature, top-k, top-p, min-p, repeat-penalty, seed, max-tokens",
            ),
        ] {
            let said = settings.set(name, value).unwrap_or_else(|error| error.to_string());
            assert_eq!(said, expected, "{name} {value}");
        }
        let sampling = Sampling {
            temperature: 0.5,
            top_k: 40,
            top_p: 0.9,
            min_p: 0.0,
            repeat_penalty: 1.1,
            seed: u64::MAX,
        };
        assert_eq!(settings, Settings { sampling, max_tokens: 20 });
    }

    #[test]
    fn all_are_listed() {
        let mut settings = Settings { sampling: Sampling::GREEDY, max_tokens: 9 };
        settings.sampling.seed = u64::MAX;
        let list = settings.list();
        let lines: Vec<_> = list.lines().collect();
        assert_eq!(lines.len(), NAMES.len() + 1);
        assert_eq!(
            lines[0],
            "temperature     0                     0: the likeliest token; more: more daring"
        );
        assert_eq!(lines[5], "seed            18446744073709551615  draw the same tokens again");
        assert!(lines[6].starts_with("max-tokens      9 "), "{}", lines[6]);
        assert_eq!(lines[7], "top-k, top-p, min-p, seed have no effect at temperature 0");
        settings.sampling.temperature = 0.7;
        let list = settings.list();
        assert_eq!(list.lines().count(), NAMES.len());
        assert!(list.lines().all(|line| line.chars().count() < 80), "{list}");
    }
}
