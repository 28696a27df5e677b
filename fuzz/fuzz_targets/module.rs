#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| alexnet_fuzz::check("module", input));
