//! `paxfs_fuzz::journal_replay` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| paxfs_fuzz::journal_replay(data));
