//! Checkpoints from the hub: a name instead of a directory.
//!
//! In: `ORG/NAME`, and the variables that people have set for the hub's own tool. Out: an [`Input`](crate::Input) as a
//! directory would be one. Its configuration is on the disk; its weights are too, or are read where they lie, range by
//! range, so that no disk has to hold them. Whatever arrives is compared with the sum that the hub announced.
//!
//! A hub is hostile: what it says is bounded and checked, names of files lead nowhere, redirects are counted, and the
//! token is shown to the hub alone.

mod address;
pub mod answers;
mod client;
mod download;
mod environment;
mod name;
mod ranges;
mod remote;
mod repository;
mod store;
mod sum;
mod tries;

pub use environment::Environment;
pub use name::{ModelName, is_commit};
pub use repository::{Found, Repository, Wish, find};
pub use sum::{HubFile, Sum};
