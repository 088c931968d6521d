//! What a run did, for people.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use owlet_format::Part;

use crate::outline::PartSize;

/// Where the time went. Reading goes on while the others work, so only waiting for it counts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    pub total: Duration,
    pub waiting: Duration,
    pub storing: Duration,
    pub writing: Duration,
}

impl Spent {
    /// What took most of the time.
    pub fn bound(&self) -> &'static str {
        let shares = [(self.waiting, "reading"), (self.writing, "writing"), (self.storing, "the quantizers")];
        shares.iter().max_by_key(|(spent, _)| *spent).map_or("", |(_, name)| name)
    }
}

/// What a run did.
#[derive(Debug, Clone)]
pub struct Done {
    /// The file, or the first one of several.
    pub path: PathBuf,
    pub n_files: usize,
    /// Length of all of them.
    pub n_bytes: u64,
    /// What the tensors were made of, in all.
    pub n_source_bytes: u64,
    /// The share of it that an earlier run had done.
    pub n_resumed_bytes: u64,
    /// Bytes of the source that this run read, everything counted.
    pub n_read_bytes: u64,
    pub spent: Spent,
    /// Most memory that the process has had so far, where the system says so.
    pub peak_memory_bytes: Option<u64>,
}

/// `Display` is the text behind a conversion.
#[derive(Debug, Clone)]
pub struct Report {
    pub parts: Vec<(Part, PartSize)>,
    pub done: Done,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Done { n_bytes, n_source_bytes, n_resumed_bytes, n_read_bytes, spent, peak_memory_bytes, .. } =
            &self.done;
        write!(f, "{}: {n_bytes} bytes", self.done.path.display())?;
        match self.done.n_files {
            1 => writeln!(f)?,
            n => writeln!(f, " in {n} files, of which this is the first")?,
        }
        for (part, size) in &self.parts {
            writeln!(f, "{:<10} {size}", part.word())?;
        }
        let megabytes = |n: u64| n as f64 / 1e6;
        let (weights, seconds) = (megabytes(*n_source_bytes), spent.total.as_secs_f64());
        let speed = megabytes(n_source_bytes - n_resumed_bytes) / seconds.max(1e-9);
        write!(f, "{weights:.1} MB of weights")?;
        if *n_resumed_bytes > 0 {
            write!(f, ", {:.1} MB of them by an earlier run,", megabytes(*n_resumed_bytes))?;
        }
        write!(f, " in {seconds:.1} s, {:.1} MB read, {speed:.0} MB/s", megabytes(*n_read_bytes))?;
        write!(f, ", bound by {}", spent.bound())?;
        match peak_memory_bytes {
            Some(n) => writeln!(f, ", peak memory {:.0} MiB", *n as f64 / f64::from(1 << 20)),
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
