//! Tokens: nobody forges one, and no chain gives more than its links.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dunlin_fuzz::token::run(data));
