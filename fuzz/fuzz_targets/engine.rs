//! `paxfs_fuzz::engine` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| paxfs_fuzz::engine(data));
