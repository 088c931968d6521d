//! What a run did, for people.

use std::fmt;
use std::path::PathBuf;

use owlet_format::Part;

use crate::plan::PartSize;

/// `Display` is the text behind a conversion.
#[derive(Debug, Clone)]
pub struct Report {
    pub path: PathBuf,
    /// Length of the file.
    pub n_bytes: u64,
    pub parts: Vec<(Part, PartSize)>,
    /// Weights that were read.
    pub n_source_bytes: u64,
    pub seconds: f64,
    /// Most memory that the process has had so far, where the system says so.
    pub peak_memory_bytes: Option<u64>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} bytes", self.path.display(), self.n_bytes)?;
        for (part, size) in &self.parts {
            writeln!(f, "{:<10} {size}", part.word())?;
        }
        let megabytes = self.n_source_bytes as f64 / 1e6;
        let speed = megabytes / self.seconds.max(1e-9);
        write!(f, "{megabytes:.1} MB of weights in {:.1} s, {speed:.0} MB/s", self.seconds)?;
        match self.peak_memory_bytes {
            Some(n) => writeln!(f, ", peak memory {:.0} MiB", n as f64 / f64::from(1 << 20)),
            None => writeln!(f),
        }
    }
}

/// The process's high-water mark.
pub fn peak_memory_bytes() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    }
    #[cfg(not(target_os = "linux"))]
    None
}
