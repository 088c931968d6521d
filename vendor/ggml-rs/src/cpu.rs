//! What ggml was built from and for, and whether the running processor has it.
//!
//! The compiler may use every instruction set of the chosen level anywhere in ggml, so the check comes first
//! and compares names only; nothing of ggml's CPU part runs before it.

use std::ffi::CStr;

use crate::{Error, Result, sys};

/// What [`build_info`] tells about this binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildInfo {
    /// ggml's own version, for example `0.26.0`.
    pub ggml_version: String,
    /// The package that the source came in, or `GGML_SOURCE_DIR`.
    pub ggml_source: &'static str,
    /// What the CPU part was compiled for: `native` or a level such as `x86-64-v3`.
    pub cpu_level: &'static str,
    /// The instruction sets of that level.
    pub features: Vec<&'static str>,
    /// What can compute beside the CPU.
    pub backends: &'static [&'static str],
}

pub fn build_info() -> BuildInfo {
    // SAFETY: ggml_version returns a static string.
    let version = unsafe { CStr::from_ptr(sys::ggml_version()) };
    BuildInfo {
        ggml_version: version.to_string_lossy().into_owned(),
        ggml_source: env!("OWLET_GGML_SOURCE"),
        cpu_level: env!("OWLET_GGML_CPU"),
        features: compiled_features().collect(),
        backends: match (cfg!(feature = "dynamic-backends"), cfg!(feature = "cuda")) {
            (true, _) => &["backends in files"],
            (false, true) => &["cuda"],
            (false, false) => &[],
        },
    }
}

/// Whether this processor has every instruction set that ggml was compiled for. [`crate::Backend::cpu`] asks
/// it, too; programs ask at startup to say it before anything else.
///
/// # Errors
/// [`Error::Unsupported`] naming the missing instruction sets.
pub fn check_cpu() -> Result<()> {
    missing(compiled_features(), cpu_has)
}

fn compiled_features() -> impl Iterator<Item = &'static str> {
    env!("OWLET_GGML_FEATURES").split(',').filter(|name| !name.is_empty())
}

fn missing<'a>(needed: impl Iterator<Item = &'a str>, has: impl Fn(&str) -> bool) -> Result<()> {
    let missing: Vec<_> = needed.filter(|name| !has(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Unsupported(format!(
        "this binary was built for {}; this cpu lacks {}; build with OWLET_CPU set to what it has",
        env!("OWLET_GGML_CPU"),
        missing.join(", ")
    )))
}

macro_rules! detect {
    ($detect:ident, $name:expr, [$($feature:tt)*]) => {
        match $name {
            $($feature => std::arch::$detect!($feature),)*
            // A name that build.rs knows and this table does not is a mistake of ours, never a pass.
            _ => false,
        }
    };
}

#[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
fn cpu_has(name: &str) -> bool {
    detect!(is_x86_feature_detected, name, [
        "sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "avx" "avx2" "fma" "f16c" "bmi1" "bmi2" "lzcnt" "movbe"
        "avx512f" "avx512bw" "avx512cd" "avx512dq" "avx512vl" "avx512ifma" "avx512vbmi" "avx512vbmi2"
        "avx512vnni" "avx512bitalg" "avx512vpopcntdq" "avx512bf16" "avx512fp16" "avxvnni" "avxvnniint8" "gfni"
    ])
}

#[cfg(target_arch = "aarch64")]
fn cpu_has(name: &str) -> bool {
    detect!(is_aarch64_feature_detected, name, ["neon" "dotprod" "fp16" "i8mm" "sve"])
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64")))]
fn cpu_has(_: &str) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_cpu_has_what_this_build_needs() {
        check_cpu().unwrap();
        let info = build_info();
        assert!(info.ggml_version.starts_with(|c: char| c.is_ascii_digit()), "{info:?}");
        assert!(!info.cpu_level.is_empty() && !info.ggml_source.is_empty(), "{info:?}");
        #[cfg(target_arch = "x86_64")]
        assert!(info.features.contains(&"sse3") || info.cpu_level == "x86-64", "{info:?}");
    }

    #[test]
    fn a_lacking_cpu_is_told_what_it_lacks() {
        let error = missing(["avx2", "avx512f", "fma"].into_iter(), |name| name == "avx2").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("this cpu lacks avx512f, fma;"), "{text}");
        assert!(!cpu_has("no such feature"));
    }
}
