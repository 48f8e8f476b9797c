//! stub
/// stub
pub fn run(_: &[u8]) {}
