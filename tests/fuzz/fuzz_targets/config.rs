#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| revnoxa_fuzz::config(input));
