//! Who asks, as everything behind the entry knows them.

/// Whoever makes a request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The request's id.
    pub id: String,
    /// Which key was given.
    pub key: Option<usize>,
}
