#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::cast_possible_truncation)]
//! A snapshot under stores is a causally consistent cut: in it, whatever was stored because of another store comes with it.
//!
//! Threads store counters with dependencies: each owns a cell in one of two files; it stores a value to its cell only after
//! it saw the cell before it in a ring hold as much. So at each instant no cell is ahead of the one before it by more than
//! what the ring allows, whichever files and views they lie in; and in each snapshot that must hold as well.
//!
//! `PAXFS_CAUSALITY_SECONDS=3600` goes on for an hour.

mod common;

use common::media::{Media, Volume};
use paxfs_runtime::engine::{Dax, Engine};
use paxfs_runtime::file::Open;
use paxfs_runtime::namespace::New;
use paxfs_runtime::snapshot::Access;
use paxfs_runtime::views::{Sharing, View};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const CELLS: usize = 4;
/// Each in a page of its own, so that each is protected by itself.
const STRIDE: u64 = 3 * 4096;

/// A counter in a view, as threads use it.
fn cell(view: &View, number: usize) -> &AtomicU64 {
    let at = view.address().unwrap().as_ptr().wrapping_add(number / 2 * STRIDE as usize);
    // SAFETY: a word of the view, which lives as long as this does, aligned; all use it as an atomic.
    #[allow(unsafe_code)]
    unsafe {
        AtomicU64::from_ptr(at.cast())
    }
}

/// Every dependency that does not hold among values, in the order of the ring. The first leads: it is never behind the
/// second, nor ahead of the last by more than one.
fn broken(values: &[u64]) -> bool {
    values.windows(2).any(|pair| pair[0] < pair[1]) || values[0] > values[CELLS - 1] + 1
}

/// The counters of a tree with two files.
fn values(engine: &Engine, tree: &[u8]) -> Vec<u64> {
    let tree = engine.lookup(engine.root(), tree).unwrap();
    let value = |number: usize| {
        let inode = engine.lookup(tree, [b"even", b"odd.".as_slice()][number % 2]).unwrap();
        let file = engine.open_file(inode, Open::READ).unwrap();
        let mut bytes = [0; 8];
        file.read_at(number as u64 / 2 * STRIDE, &mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    };
    (0..CELLS).map(value).collect()
}

/// Takes snapshots while the threads count; returns how many, and how many had a dependency that did not hold. What `take`
/// gets last waits until the ring has gone round.
fn count(media: Media, time: Duration, take: impl Fn(&Engine, u64, &dyn Fn()) -> Vec<u64>) -> (u64, u64) {
    let volume = Volume::new(media, 32 << 20);
    let engine = volume.open(Dax::Always);
    let (root, new) = (engine.root(), New::default());
    let tree = engine.make_directory(root, b"tree", &new).unwrap();
    let files = [b"even", b"odd.".as_slice()].map(|name| {
        let file = engine.open_file(engine.create(tree, name, &new).unwrap(), Open::WRITE).unwrap();
        file.truncate(STRIDE * CELLS as u64).unwrap();
        file
    });
    // Each thread by a view of its own.
    let views: Vec<View> = (0..CELLS)
        .map(|number| files[number % 2].map(0..STRIDE * CELLS as u64, Sharing::Shared).unwrap())
        .collect();
    let stop = AtomicBool::new(false);
    let (mut taken, mut wrong) = (0, 0);
    std::thread::scope(|scope| {
        for number in 0..CELLS {
            let (views, stop) = (&views, &stop);
            scope.spawn(move || {
                let before = (number + CELLS - 1) % CELLS;
                let (mine, before) = (cell(&views[number], number), cell(&views[before], before));
                let mut value = 0;
                while !stop.load(Ordering::Relaxed) {
                    // The first goes on when all have followed; the others follow the one before.
                    let seen = before.load(Ordering::Acquire);
                    let next = if number == 0 { seen + 1 } else { seen };
                    if next > value {
                        value = next;
                        mine.store(value, Ordering::Release);
                    } else {
                        std::thread::yield_now();
                    }
                }
            });
        }
        let begin = Instant::now();
        while begin.elapsed() < time || taken < 3 {
            // Something has been stored since the last one.
            let rounds = |count: u64| {
                let aim = cell(&views[0], 0).load(Ordering::Acquire) + count;
                while cell(&views[0], 0).load(Ordering::Acquire) < aim {
                    std::thread::yield_now();
                }
            };
            rounds(1);
            let values = take(&engine, taken, &|| rounds(2));
            taken += 1;
            wrong += u64::from(broken(&values));
        }
        stop.store(true, Ordering::Relaxed);
    });
    drop((views, files));
    engine.close().unwrap();
    volume.check();
    (taken, wrong)
}

fn seconds() -> Duration {
    let seconds = std::env::var("PAXFS_CAUSALITY_SECONDS").map_or(2.0, |seconds| seconds.parse().unwrap());
    Duration::from_secs_f64(seconds)
}

fn mapped() -> impl Iterator<Item = Media> {
    Media::all().into_iter().filter(|media| *media != Media::Shim)
}

#[test]
fn in_every_snapshot_every_dependency_holds() {
    for media in mapped() {
        let (taken, wrong) = count(media, seconds(), |engine, number, _| {
            let name = format!("snapshot {number}").into_bytes();
            let source = engine.lookup(engine.root(), b"tree").unwrap();
            engine.snapshot(source, engine.root(), &name, Access::ReadOnly).unwrap();
            let values = values(engine, &name);
            engine.remove_tree(engine.root(), &name).unwrap();
            values
        });
        println!("{media:?}: {taken} snapshots, {wrong} with a dependency that does not hold");
        assert_eq!(wrong, 0);
    }
}

/// What the test is worth: files that are cloned one after the other are no cut, and it says so.
#[test]
fn clones_one_after_the_other_are_no_snapshot() {
    let Some(media) = mapped().next() else { return };
    let (taken, wrong) = count(media, Duration::from_secs(1), |engine, number, wait| {
        let (root, new) = (engine.root(), New::default());
        let name = format!("copy {number}").into_bytes();
        let (source, target) =
            (engine.lookup(root, b"tree").unwrap(), engine.make_directory(root, &name, &new).unwrap());
        for file in [b"even", b"odd.".as_slice()] {
            let from = engine.open_file(engine.lookup(source, file).unwrap(), Open::READ).unwrap();
            let to = engine.open_file(engine.create(target, file, &new).unwrap(), Open::WRITE).unwrap();
            to.clone_range(0, &from, 0, 0).unwrap();
            wait();
        }
        let values = values(engine, &name);
        engine.remove_tree(root, &name).unwrap();
        values
    });
    println!("{media:?}: {taken} pairs of clones, {wrong} with a dependency that does not hold");
    assert_eq!(wrong, taken, "what was stored between two clones is in the second alone");
}
