//! Topics: paths that name something, patterns that name many, and an index from patterns to values.
//!
//! A path is `[network:]segment/segment…`. A pattern may also have the segments `*` (any one
//! segment), `{name}` (any one segment, captured under that name) and, at its end, `>` (one segment
//! or more). When several patterns match a path, the most specific goes first: literal before
//! `{name}` before `*` before `>`, and the leftmost segment decides.
//!
//! The network in front keeps applications apart that share a mesh. It is compared exactly: no
//! wildcard reaches across networks, and what has no network belongs to the default network, which
//! is a network like any other.

mod coverage;
mod index;
pub mod memory;
mod nodes;
mod path;
mod pattern;
mod table;
mod values;
#[cfg(test)]
mod vectors;

pub use index::PatternIndex;
pub use memory::TopicMemory;
pub use path::{SEGMENTS_MAX, TOPIC_BYTES_MAX, TopicError, TopicPath};
pub use pattern::{Captures, Pattern, Segment};
pub use values::SubscriptionKey;
