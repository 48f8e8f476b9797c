//! Two whole nodes over a network that the fuzzer controls.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dunlin_fuzz::node::run(data));
