//! owlet: answers questions about pictures on the computer you already have.
pub mod token;
