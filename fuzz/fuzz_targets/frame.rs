//! Frames and how lanes are cut into them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dunlin_fuzz::frame::run(data));
