//! Amounts as people write them, bytes and spans of time; and spans as people read them.

use std::time::Duration;

/// `3 minutes`, in the largest unit that there is one of.
pub fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute")];
    let (unit, name) = units.into_iter().find(|(unit, _)| seconds >= *unit).unwrap_or((1, "second"));
    let n = seconds / unit;
    format!("{n} {name}{}", if n == 1 { "" } else { "s" })
}

/// Reads `2GB`, `500 MB`, `1.5GiB`, `4096`.
///
/// # Errors
/// What was expected, for people.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let units = [
        ("", 1),
        ("b", 1),
        ("k", 1_000),
        ("kb", 1_000),
        ("m", 1_000_000),
        ("mb", 1_000_000),
        ("g", 1_000_000_000),
        ("gb", 1_000_000_000),
        ("t", 1_000_000_000_000),
        ("tb", 1_000_000_000_000),
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
        ("tib", 1 << 40),
    ];
    amount(text, &units).ok_or_else(|| "expected a size such as 500MB or 2GB".to_string())
}

/// Reads `30d`, `12h`, `90m`, `45s`, `2w`.
///
/// # Errors
/// What was expected, for people.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400), ("w", 604_800)];
    let seconds = amount(text, &units).ok_or_else(|| "expected a span such as 30d or 12h".to_string())?;
    Ok(Duration::from_secs(seconds))
}

/// A number, which may have a fraction, times what its unit stands for.
fn amount(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let (number, unit) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()));
    let (_, factor) = units.iter().find(|(name, _)| unit.trim_start().eq_ignore_ascii_case(name))?;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(*factor);
    }
    let amount = number.parse::<f64>().ok()? * *factor as f64;
    (amount < u64::MAX as f64).then_some(amount as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("2GB", Some(2_000_000_000)),
            (" 500 mb ", Some(500_000_000)),
            ("1.5GiB", Some(3 << 29)),
            ("1k", Some(1000)),
            (".5k", Some(500)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("99999999999 TB", None),
            ("", None),
            ("GB", None),
            ("-1", None),
            ("1e3", None),
            ("1.2.3", None),
            ("2 horses", None),
        ] {
            assert_eq!(parse_bytes(text).ok(), expected, "{text:?}");
        }
        assert_eq!(parse_bytes("x"), Err("expected a size such as 500MB or 2GB".to_string()));
    }

    #[test]
    fn spans() {
        for (text, expected) in [
            ("30d", Some(30 * 86_400)),
            ("12h", Some(43_200)),
            ("1.5h", Some(5_400)),
            ("0s", Some(0)),
            ("2 W", Some(14 * 86_400)),
            ("30", None),
            ("d", None),
            ("1y", None),
        ] {
            assert_eq!(parse_span(text).ok(), expected.map(Duration::from_secs), "{text:?}");
        }
        for (seconds, expected) in
            [(0, "0 seconds"), (1, "1 second"), (60, "1 minute"), (7199, "1 hour"), (172_800, "2 days")]
        {
            assert_eq!(span(Duration::from_secs(seconds)), expected);
        }
    }
}
