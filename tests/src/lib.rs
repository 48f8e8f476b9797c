//! What the tests of the whole house share.

pub mod build;
pub mod world;
