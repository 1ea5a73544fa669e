#![allow(clippy::unwrap_used, clippy::panic)]
//! When a store to shared blocks may go on without a commit: if the others came after the last one, and on the medium the
//! writer owns the blocks alone. What a power failure leaves then is looked at in every case.

mod common;

use common::crash::Crash;
use common::{create, volume};
use fastrand::Rng;
use paxfs_format::device::Device;
use paxfs_runtime::engine::{Dax, Engine, Options};
use paxfs_runtime::file::{File, Open};
use paxfs_runtime::medium::{Event, Granularity, Medium, Recorder};
use paxfs_runtime::snapshot::Access;
use paxfs_runtime::views::Sharing;
use std::sync::Arc;
use std::time::Duration;

const BLOCK: u64 = 4096;
const OLD: u8 = 1;
const NEW: u8 = 2;

fn options() -> Options {
    Options { interval: Duration::ZERO, dax: Dax::Always, ..Options::default() }
}

fn open(engine: &Engine, name: &str) -> Option<File> {
    let inode = engine.lookup(engine.root(), name.as_bytes()).ok()?;
    Some(engine.open_file(inode, Open::WRITE).unwrap())
}

fn first_byte(engine: &Engine, name: &str) -> Option<u8> {
    let mut byte = [0];
    let there = open(engine, name)?.read_at(0, &mut byte).unwrap();
    Some(byte[0]).filter(|_| there == 1)
}

/// A commit has some.
fn fences(recorder: &Recorder) -> usize {
    recorder.events().iter().filter(|recorded| matches!(recorded.event, Event::Fence)).count()
}

/// Has `share` make the blocks of the durable `file` shared, stores to them, and has the power fail. Returns how many fences
/// the store took, and for each state that the medium may be in what the files of these names begin with.
fn store_after(
    prepare: impl Fn(&Engine, &File),
    share: impl Fn(&Engine, &File),
    writer: &str,
    names: &[&str],
) -> (usize, Vec<Vec<Option<u8>>>) {
    let start = volume(8 << 20);
    let recorder = Arc::new(Recorder::new(start.clone(), Granularity::CacheLine));
    let engine = Engine::on_medium(Arc::clone(&recorder) as Arc<dyn Medium>, options()).unwrap();
    let file = create(&engine, "file");
    file.write_at(0, &[OLD; 8192]).unwrap();
    prepare(&engine, &file);
    engine.sync().unwrap();
    let view = file.map(0..8192, Sharing::Shared).unwrap();
    share(&engine, &file);
    let other = open(&engine, writer).unwrap().map(0..8192, Sharing::Shared).unwrap();
    let before = fences(&recorder);
    other.store(0, &[NEW; 100]).unwrap();
    let waits = fences(&recorder) - before;
    let mut crash = Crash::new(&start, Granularity::CacheLine);
    recorder.events().iter().for_each(|event| crash.apply(event));
    let images = crash.images(&mut Rng::with_seed(1), 20);
    drop((view, other));
    let seen = images.into_iter().map(|image| {
        let engine = Engine::on(Device::memory(image), options()).unwrap();
        names.iter().map(|name| first_byte(&engine, name)).collect()
    });
    (waits, seen.collect())
}

#[test]
fn a_clone_that_is_not_durable_costs_no_commit() {
    let clone = |engine: &Engine, file: &File| create(engine, "clone").clone_range(0, file, 0, 0).unwrap();
    let (waits, seen) = store_after(|_, _| {}, clone, "file", &["file", "clone"]);
    assert_eq!(waits, 0);
    for state in seen {
        assert!(matches!(state.as_slice(), [Some(OLD | NEW), None]), "{state:?}");
    }
}

#[test]
fn a_snapshot_that_is_not_durable_costs_no_commit() {
    let snapshot = |engine: &Engine, _: &File| {
        engine.snapshot(engine.root(), engine.root(), b"snapshot", Access::Writable).unwrap();
    };
    let (waits, seen) = store_after(|_, _| {}, snapshot, "file", &["file", "snapshot"]);
    assert_eq!(waits, 0);
    for state in seen {
        assert!(matches!(state.as_slice(), [Some(OLD | NEW), None]), "{state:?}");
    }
}

/// The clone is there for sure: the store waits until it has its own block.
#[test]
fn a_clone_that_is_durable_keeps_what_it_has() {
    let clone = |engine: &Engine, file: &File| create(engine, "clone").clone_range(0, file, 0, 0).unwrap();
    let (waits, seen) = store_after(clone, |_, _| {}, "file", &["file", "clone"]);
    assert!(waits > 0);
    for state in seen {
        assert!(matches!(state.as_slice(), [Some(OLD | NEW), Some(OLD)]), "{state:?}");
    }
}

/// One owner of two went and another came, neither durably: on the medium there are two all the time.
#[test]
fn an_owner_that_is_gone_but_not_durably_keeps_what_it_has() {
    let clone = |engine: &Engine, file: &File| create(engine, "first").clone_range(0, file, 0, 0).unwrap();
    let exchange = |engine: &Engine, file: &File| {
        engine.unlink(engine.root(), b"first").unwrap();
        create(engine, "second").clone_range(0, file, 0, 0).unwrap();
    };
    let (waits, seen) = store_after(clone, exchange, "file", &["file", "first", "second"]);
    assert!(waits > 0);
    for state in seen {
        let is_kept = matches!(
            state.as_slice(),
            [Some(OLD | NEW), Some(OLD), None] | [Some(OLD | NEW), None, Some(OLD)]
        );
        assert!(is_kept, "{state:?}");
    }
}

/// The clone is the only owner that is left, but on the medium the block is the file's.
#[test]
fn who_owned_it_on_the_medium_keeps_what_it_has() {
    let take = |engine: &Engine, file: &File| {
        create(engine, "clone").clone_range(0, file, 0, 0).unwrap();
        file.punch_hole(0..BLOCK).unwrap();
    };
    let (waits, seen) = store_after(|_, _| {}, take, "clone", &["file", "clone"]);
    assert!(waits > 0);
    for state in seen {
        let is_kept = matches!(state.as_slice(), [Some(OLD), None] | [Some(0), Some(OLD | NEW)]);
        assert!(is_kept, "{state:?}");
    }
}

/// As above, and another clone of the clone.
#[test]
fn who_owned_it_on_the_medium_keeps_what_it_has_under_two_clones() {
    let take = |engine: &Engine, file: &File| {
        let clone = create(engine, "clone");
        clone.clone_range(0, file, 0, 0).unwrap();
        file.punch_hole(0..BLOCK).unwrap();
        create(engine, "other").clone_range(0, &clone, 0, 0).unwrap();
    };
    let (waits, seen) = store_after(|_, _| {}, take, "clone", &["file", "clone", "other"]);
    assert!(waits > 0);
    for state in seen {
        let is_kept =
            matches!(state.as_slice(), [Some(OLD), None, None] | [Some(0), Some(OLD | NEW), Some(OLD)]);
        assert!(is_kept, "{state:?}");
    }
}
