//! What the fuzz targets do with their bytes, one module for each target.
//!
//! A driver reads its input as a program: a byte for what to do next, then that step's operands.
//! Every input is a program, an input that ends early reads as zeros, and programs can be written by
//! hand, as the seeds in `corpus/` are. A driver panics when Dunlin breaks a promise.
//!
//! The targets run under libFuzzer: `cargo +nightly fuzz run mesh`. The test `corpus` of
//! `dunlin-tests` replays the corpus without it.

pub mod descriptor;
pub mod frame;
pub mod hello;
mod life;
pub mod mesh;
pub mod message;
pub mod node;
mod rights;
pub mod tape;
pub mod token;
pub mod topic;

/// What a target does with one input.
pub type Driver = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: [(&str, Driver); 8] = [
    ("frame", frame::run),
    ("message", message::run),
    ("topic", topic::run),
    ("token", token::run),
    ("descriptor", descriptor::run),
    ("mesh", mesh::run),
    ("node", node::run),
    ("hello", hello::run),
];
