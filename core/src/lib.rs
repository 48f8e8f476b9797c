//! The Dunlin node as a pure, deterministic state machine.

pub mod base;
pub mod link;
pub mod machine;
pub mod transport;
