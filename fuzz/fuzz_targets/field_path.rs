//! `paxfs_fuzz::field_path` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| paxfs_fuzz::field_path(data));
