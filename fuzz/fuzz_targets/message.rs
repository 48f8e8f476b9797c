//! Messages: what parses is written back equal.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dunlin_fuzz::message::run(data));
