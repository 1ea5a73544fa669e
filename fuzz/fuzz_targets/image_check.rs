//! `paxfs_fuzz::image_check` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| paxfs_fuzz::image_check(data));
