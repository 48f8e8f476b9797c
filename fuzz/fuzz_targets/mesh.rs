//! A whole mesh, fed links, frames, times and commands.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dunlin_fuzz::mesh::run(data));
