//! The network against loops in f64, node by node, and the laws it keeps: batch invariance, cancelling,
//! forgetting.

mod decoder;
mod place;
mod placed;
mod reference;
mod sharing;
mod tiny;
mod vision;
