//! What can go wrong, by whose fault.

/// Everything that a call into this crate can report. The text is lower case and has the place, what was
/// expected and what was found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller's data or shapes: nothing was computed.
    #[error("{0}")]
    Request(String),
    /// A number beyond a fixed limit.
    #[error("{what}: 1 to {max} possible, found {found}")]
    Limit { what: &'static str, max: u64, found: u64 },
    /// This processor, this build or this type cannot do it.
    #[error("{0}")]
    Unsupported(String),
    /// The system gave no memory.
    #[error("out of memory: {bytes} bytes for {what}")]
    Memory { what: String, bytes: u64 },
    /// The system gave no thread.
    #[error("cannot start {n_threads} threads: {source}")]
    Threads { n_threads: usize, source: std::io::Error },
    /// [`crate::Cancel`] was raised while a graph was computed.
    #[error("cancelled")]
    Cancelled,
    /// A [`crate::CustomOp`] panicked: our bug. Outputs and memory hold whatever was done; the next computation
    /// is as good as any.
    #[error("{node}: the kernel panicked: {message}")]
    Kernel { node: String, message: String },
    /// A device that failed or is gone. Its backend computes nothing any more, and what lies on it is lost.
    #[error("{device}: lost, with all that is on it: {why}")]
    Lost { device: String, why: String },
    /// ggml gave up on a graph. The backend that says so computes nothing any more.
    #[error("ggml could not compute the graph")]
    Compute,
}

pub type Result<T> = std::result::Result<T, Error>;
