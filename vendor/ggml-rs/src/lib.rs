//! ggml behind safe Rust: tensors, graphs and the arithmetic of a network, without knowing any network.
//!
//! A [`Backend`] owns the threads, and the devices that were chosen. [`Weights`] are read-only tensors in shared bytes, [`Memory`] are tensors
//! that outlive a graph. A [`GraphBuilder`] borrows both, makes nodes and ends in a [`Graph`], which an
//! [`Executor`] allocates and computes, as often as wanted.
//!
//! Invariants: no argument makes a safe function misbehave, but for a directory of backends, whose code runs; what ggml would end the process for is an
//! [`Error`] when it can come from data and an assertion with op, names and shapes when only our own graph
//! code can cause it; no panic crosses C; types of C never leave this crate; shapes are ggml's `ne`,
//! innermost first.

mod arena;
mod backend;
mod buffer;
mod builder;
mod cancel;
mod cpu;
pub mod custom;
mod device;
mod dtype;
mod error;
mod executor;
mod memory;
#[cfg(feature = "dynamic-backends")]
mod modules;
mod ops;
pub mod quantize;
#[cfg(feature = "rpc")]
mod rpc;
mod sys;
mod turns;
mod weights;

pub use arena::{Tensor, TensorInfo};
pub use backend::{Backend, exit_at_once};
pub use builder::{Graph, GraphBuilder};
pub use cancel::Cancel;
pub use cpu::{BuildInfo, build_info, check_cpu};
pub use custom::{Arg, CustomOp, Tile, TileShape};
pub use device::{Device, DeviceMemory, Place, StandIn, StandInMemory};
pub use dtype::DType;
pub use error::{Error, Result};
pub use executor::{Executor, PlacedBytes};
pub use memory::{Memory, Runs};
#[cfg(feature = "dynamic-backends")]
pub use modules::{NotLoaded, load_backends};
pub use ops::{Rope, RopeMode};
#[cfg(feature = "rpc")]
pub use rpc::Worker;
pub use weights::{TensorSpec, Weights};
