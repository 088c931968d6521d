//! THE ANSWER, where the network and the question meet.
pub mod sampler;
pub mod stop;

pub use sampler::{Sampler, Sampling};
pub use stop::FinishReason;
