//! The machine and the moment that figures belong to.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::memory;

/// What figures depend on beside the program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// As the processor calls itself, or its architecture where it does not say.
    pub cpu: String,
    /// Processors that this program may use.
    pub n_cores: usize,
    /// Threads that compute.
    pub n_threads: usize,
    /// The instruction sets that matter here and that the processor has.
    pub features: Vec<String>,
    /// Available when the bench began, if that can be known.
    pub available_bytes: Option<u64>,
}

impl Machine {
    pub fn here(n_threads: usize) -> Machine {
        Machine {
            cpu: cpu_name(),
            n_cores: std::thread::available_parallelism().map_or(1, usize::from),
            n_threads,
            features: features().into_iter().map(String::from).collect(),
            available_bytes: memory::available(),
        }
    }
}

fn cpu_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or(std::env::consts::ARCH, |(_, name)| name.trim()).to_owned()
}

macro_rules! present {
    ($detect:ident: $($feature:tt)*) => {
        [$(($feature, std::arch::$detect!($feature))),*]
            .into_iter().filter_map(|(name, is_there)| is_there.then_some(name)).collect()
    };
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<&'static str> {
    present!(is_x86_feature_detected: "avx2" "fma" "f16c" "avxvnni" "avx512f" "avx512bw" "avx512vnni" "avx512bf16")
}

#[cfg(target_arch = "aarch64")]
fn features() -> Vec<&'static str> {
    present!(is_aarch64_feature_detected: "neon" "dotprod" "fp16" "i8mm" "sve")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn features() -> Vec<&'static str> {
    Vec::new()
}

/// The present moment in UTC: `2026-11-23T08:05:00Z`.
pub fn now() -> String {
    date(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// The date of so many seconds since the beginning of 1970.
fn date(seconds: u64) -> String {
    const DAY: u64 = 24 * 60 * 60;
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut days, mut year) = (seconds / DAY, 1970);
    loop {
        let n_days = 365 + u64::from(is_leap(year));
        if days < n_days {
            break;
        }
        days -= n_days;
        year += 1;
    }
    let mut month = 1;
    for n_days in [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < n_days {
            break;
        }
        days -= n_days;
        month += 1;
    }
    let (hour, minute, second) = (seconds % DAY / 3600, seconds % 3600 / 60, seconds % 60);
    format!("{year}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (1_795_421_100, "2026-11-23T08:05:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(date(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn this_machine_has_a_name() {
        let machine = Machine::here(3);
        assert!(!machine.cpu.is_empty() && machine.n_cores > 0 && machine.n_threads == 3, "{machine:?}");
    }
}
