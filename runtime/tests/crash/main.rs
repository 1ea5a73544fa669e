#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation
)]
//! Crash states: what the medium may hold after a power failure at any instant, recovered and held against what was done.
//!
//! The recorder lists every store, flush and fence of a run. At each fence, and at the end, the stores that need not be
//! on the medium yet are taken apart into its units (cache lines; or 512-byte sectors of a file behind the page cache),
//! each at any of its versions in the order of its stores. Images: none, all, each unit alone, all but each, pairs, random.
//! Each is checked as it is, with its journal applied in memory: it has no fault but that it was not closed. Then it is
//! recovered by the engine, some again with a crash inside the recovery. Then: the tree is what it was after some operation
//! that is not before the last sync; bytes written in place or stored through views are old or new, and new once they are
//! synced; a snapshot is what was there when it was made; a check finds nothing; and the volume takes writes. A volume that
//! was closed is clean.
//!
//! `PAXFS_CRASH=pairs` tries all sequences of two operations, with few images each; `PAXFS_CRASH=full` far more images of
//! each; `PAXFS_CRASH_RUNS=N` so many random sequences of three to eleven operations. Best with `cargo test --release -p
//! paxfs-runtime --test crash -- --nocapture`.

mod alphabet;
#[path = "../common/mod.rs"]
mod common;
mod points;
mod run;
mod seen;

use alphabet::{ALPHABET, Op};
use common::volume_of;
use fastrand::Rng;
use paxfs_runtime::file::Open;
use paxfs_runtime::medium::{Granularity, Recorder};
use paxfs_runtime::namespace::New;
use run::{Totals, engine_on, prepared, record, try_run};
use std::sync::Arc;

const BLOCK: u64 = 4096;

fn all_pairs() -> bool {
    is_full() || std::env::var_os("PAXFS_CRASH").is_some_and(|value| value == "pairs")
}

fn is_full() -> bool {
    std::env::var_os("PAXFS_CRASH").is_some_and(|value| value == "full")
}

/// Tries the crash states of one sequence.
fn try_sequence(start: &[u8], ops: &[Op], granularity: Granularity, most: usize, totals: &mut Totals) {
    let run = record(start, ops, granularity, None);
    try_run(&run, most, totals).unwrap_or_else(|error| panic!("{granularity:?}, {ops:?}: {error}"));
}

fn sequences(granularity: Granularity, most: usize) -> Totals {
    let start = prepared(2);
    let mut totals = Totals::default();
    let mut number = 0;
    for one in ALPHABET {
        let singles = std::iter::once(vec![one]);
        for ops in singles.chain(ALPHABET.map(|other| vec![one, other])) {
            number += 1;
            // All of one operation, and some of two.
            if all_pairs() || ops.len() == 1 || number % 67 == 0 {
                try_sequence(&start, &ops, granularity, most, &mut totals);
            }
        }
    }
    totals
}

#[test]
fn every_crash_state_on_cache_lines_is_recovered() {
    sequences(Granularity::CacheLine, if is_full() { 60 } else { 3 }).report("cache lines");
}

#[test]
fn every_crash_state_on_pages_is_recovered() {
    sequences(Granularity::Page, if is_full() { 60 } else { 3 }).report("pages");
}

/// Random longer sequences; `PAXFS_CRASH_RUNS` says how many.
#[test]
fn crash_states_of_longer_sequences_are_recovered() {
    let runs = std::env::var("PAXFS_CRASH_RUNS").map_or(6, |runs| runs.parse().unwrap());
    let starts = [prepared(2), prepared(1)];
    let mut totals = Totals::default();
    for seed in 0..runs {
        let mut rng = Rng::with_seed(seed);
        let granularity = *rng.choice(&[Granularity::CacheLine, Granularity::Page]).unwrap();
        let ops: Vec<Op> = (0..rng.usize(3..12)).filter_map(|_| rng.choice(ALPHABET)).collect();
        println!("seed {seed}");
        let start = &starts[usize::from(rng.u8(..4) == 0)];
        try_sequence(start, &ops, granularity, if is_full() { 60 } else { 4 }, &mut totals);
    }
    totals.report("longer sequences");
}

/// Of one group there is no copy of the superblock: no crash tears it.
#[test]
fn volumes_of_one_group_are_recovered() {
    let start = prepared(1);
    let mut totals = Totals::default();
    for granularity in [Granularity::CacheLine, Granularity::Page] {
        for ops in [&[][..], &[Op::Create, Op::Sync, Op::OverwriteShared], &[Op::Snapshot]] {
            try_sequence(&start, ops, granularity, 12, &mut totals);
        }
    }
    totals.report("one group");
}

/// A block that two files shared belongs to one alone when the other is removed, but not on the medium before that is
/// durable: a write in place would show in the other after a crash.
#[test]
fn what_was_shared_is_not_written_in_place_before_that_is_durable() {
    let start = prepared(2);
    for first in [Op::Unlink, Op::Zero, Op::OverwriteShared] {
        for second in [Op::OverwriteShared, Op::Zero] {
            try_sequence(&start, &[first, second], Granularity::CacheLine, 12, &mut Totals::default());
        }
    }
}

/// What becomes of pages that were stored to, and of what is stored next.
#[test]
fn stores_through_views_are_there_once_they_are_synced() {
    let start = prepared(2);
    let sequences: [&[Op]; 15] = [
        &[Op::Store, Op::Store, Op::ViewSync, Op::Store],
        &[Op::Store, Op::Create, Op::ViewSync, Op::Create, Op::Unmap],
        &[Op::StoreHole, Op::ViewSync, Op::StoreHole, Op::FileSync],
        &[Op::StoreShared, Op::ViewSync, Op::StoreShared, Op::OverwriteShared],
        &[Op::StoreSharedMapped, Op::ViewSync, Op::StoreShared],
        &[Op::Store, Op::FreezeThaw, Op::Store],
        // The snapshot has the first store and not the second.
        &[Op::Store, Op::Snapshot, Op::Store, Op::ViewSync],
        &[Op::StoreHole, Op::StoreShared, Op::Snapshot, Op::StoreHole, Op::StoreShared, Op::Sync],
        // Dirty pages beside those that go.
        &[Op::Store, Op::Punch, Op::ViewSync, Op::Store],
        &[Op::Store, Op::TruncateDown, Op::ViewSync],
        &[Op::Store, Op::Clone, Op::ViewSync, Op::Store],
        &[Op::StoreShared, Op::Dedupe, Op::ViewSync],
        &[Op::Unlink, Op::StoreShared, Op::ViewSync],
        &[Op::Store, Op::RenameOver, Op::ViewSync],
        &[Op::Clone, Op::Store, Op::ViewSync],
    ];
    let mut totals = Totals::default();
    for granularity in [Granularity::CacheLine, Granularity::Page] {
        for ops in sequences {
            try_sequence(&start, ops, granularity, if is_full() { 60 } else { 2 }, &mut totals);
        }
    }
    totals.report("stores");
}

/// A snapshot of thousands of extents changes more nodes than a slot holds: they change their places.
#[test]
fn a_transaction_larger_than_its_slot_is_there_whole_or_not_at_all() {
    let recorder = Arc::new(Recorder::forgetful(volume_of(16 << 20, None), Granularity::CacheLine));
    let engine = engine_on(Arc::clone(&recorder)).unwrap();
    for name in [&b"f"[..], b"g"] {
        let inode = engine.create(engine.root(), name, &New::default()).unwrap();
        let file = engine.open_file(inode, Open::WRITE).unwrap();
        for extent in 0..1200 {
            file.write_at(extent * 2 * BLOCK, &[extent as u8; 8]).unwrap();
        }
    }
    engine.close().unwrap();
    let start = recorder.now();
    let mut totals = Totals::default();
    for granularity in [Granularity::CacheLine, Granularity::Page] {
        let ops = [Op::Snapshot, Op::Sync, Op::RemoveTree, Op::Sync];
        try_sequence(&start, &ops, granularity, if is_full() { 60 } else { 2 }, &mut totals);
    }
    totals.report("a large transaction");
}

/// Commits with nothing to do take no number: the next transaction would go to the slot of the one before it, and a crash
/// while that slot is torn would replay the one before that, alone, over newer homes.
#[test]
fn empty_commits_take_no_slot() {
    let start = prepared(2);
    let ops =
        [Op::Create, Op::Sync, Op::Append, Op::Sync, Op::Sync, Op::Unlink, Op::Sync, Op::Sync, Op::WriteNew];
    let mut totals = Totals::default();
    for granularity in [Granularity::CacheLine, Granularity::Page] {
        try_sequence(&start, &ops, granularity, 6, &mut totals);
    }
    totals.report("empty commits");
}
