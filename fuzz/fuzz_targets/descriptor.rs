//! Network descriptors, and which of two chains is newer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dunlin_fuzz::descriptor::run(data));
