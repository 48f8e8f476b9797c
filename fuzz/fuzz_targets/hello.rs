//! Handshakes in any order, on any links, under any names.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dunlin_fuzz::hello::run(data));
