//! Topic paths, patterns and the index, against trying every pattern.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dunlin_fuzz::topic::run(data));
