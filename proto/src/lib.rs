//! Wire messages and framing of the Dunlin mesh.
//!
//! This crate knows bytes, not policy: [`v1`] holds the messages generated from
//! `schema/`, [`frame`] puts a message and its payload on a lane and cuts lanes back
//! into frames. Which messages are legal, and when, is `dunlin-core`'s business.
//!
//! The generated code is part of the repository, so that building needs neither `protoc` nor a
//! build script; the test `generated_code_is_current` proves that it matches the schema.

pub mod events;
pub mod frame;
mod hot;
pub mod splitter;

/// Messages of protocol version 3, generated from `schema/*.proto`.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    include!("gen/dunlin.v1.rs");
}

pub use frame::{Frame, FrameError, FrameView, Header, Kind, Written};
pub use splitter::{FrameSplitter, FrameTooLong};
