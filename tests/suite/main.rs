//! The integration tests: the real binary, real files, the models' own figures.
#![allow(clippy::unwrap_used)]

mod arrows;
#[cfg(all(feature = "dynamic-backends", target_os = "linux"))]
mod backends;
mod bench;
mod cache;
mod caption;
mod chat;
mod checkpoint;
mod circles;
mod cli;
#[cfg(unix)]
mod colours;
mod constrained;
mod convert;
mod demo;
mod doctor;
mod embed;
mod engine;
mod fetch;
mod hostile_pictures;
mod hub;
mod imatrix;
mod inspect;
mod interchange;
mod logprobs;
mod low_memory;
mod models;
mod parity;
mod pictures;
mod plan;
mod program;
mod quantize;
#[cfg(feature = "rpc")]
mod rpc;
mod run;
mod self_test;
mod serve;
mod sessions;
mod settings;
mod speculation;
mod split;
#[cfg(unix)]
mod terminal;
mod tokenizer;
mod verify;
