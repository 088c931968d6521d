//! The integration tests: the real binary, real files, the models' own figures.
#![allow(clippy::unwrap_used)]

mod arrows;
mod bench;
mod cache;
mod chat;
mod checkpoint;
mod cli;
mod convert;
mod demo;
mod embed;
mod engine;
mod hostile_pictures;
mod imatrix;
mod inspect;
mod low_memory;
mod models;
mod parity;
mod pictures;
mod plan;
mod program;
mod quantize;
mod run;
mod self_test;
mod serve;
mod sessions;
mod speculation;
mod split;
mod tokenizer;
mod verify;
