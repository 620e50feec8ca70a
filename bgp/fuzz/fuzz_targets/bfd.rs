//! The fuzz target `bfd`: what it does stands in `twill_bgp::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| twill_bgp::fuzzing::bfd(bytes));
