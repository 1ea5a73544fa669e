#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::cast_possible_truncation)]
//! A real client: redb, an embedded database, on a mapped file. It knows nothing of snapshots, and asks its storage only for
//! what its trait says. Snapshots are taken from outside while it commits; each is a database that passes redb's own check
//! and holds what some number of transactions leave, none less than had been committed. So does what a kill leaves, and
//! what a power failure may leave.
//!
//! `PAXFS_KILLS=1000 cargo test -p paxfs-runtime --test redb -- --nocapture` kills so often; `PAXFS_KILL_SEED` makes other
//! moments.

#[path = "../examples/redb/backend.rs"]
mod backend;
mod common;
#[path = "../examples/redb/ledger.rs"]
mod ledger;

use backend::Backend;
use common::crash::Crash;
use common::kill::{kill_a_writer, number_from, say, task};
use common::media::{Media, Volume};
use common::volume;
use core::sync::atomic::{AtomicU64, Ordering};
use fastrand::Rng;
use paxfs_format::device::Device;
use paxfs_runtime::engine::{Dax, Engine, Options};
use paxfs_runtime::file::Open;
use paxfs_runtime::medium::{Event, Granularity, Medium, Point, Recorder};
use paxfs_runtime::namespace::New;
use paxfs_runtime::snapshot::Access;
use redb::backends::InMemoryBackend;
use redb::{Database, StorageBackend, TableDefinition};
use std::sync::Arc;
use std::sync::mpsc::{TryRecvError, channel};
use std::time::Duration;

const LIVE: &[u8] = b"live";
const NAME: &[u8] = b"database";
const VOLUME: usize = 256 << 20;

/// Commits often, so that a snapshot meets every state of one.
fn options() -> Options {
    Options { interval: Duration::from_millis(2), dax: Dax::Always, ..Options::default() }
}

/// Commits when it is asked to.
fn quiet() -> Options {
    Options { interval: Duration::ZERO, ..options() }
}

/// Makes the directory of the database that is written to, and an empty database in it.
fn create(engine: &Engine) {
    let live = engine.make_directory(engine.root(), LIVE, &New::default()).unwrap();
    engine.create(live, NAME, &New::default()).unwrap();
    drop(open(engine, live));
    engine.sync().unwrap();
}

fn live(engine: &Engine) -> u64 {
    engine.lookup(engine.root(), LIVE).unwrap()
}

/// Opens the database in a directory. redb mends what a crash left, and a snapshot is like one.
fn open(engine: &Engine, directory: u64) -> Database {
    let file = engine.open_file(engine.lookup(directory, NAME).unwrap(), Open::WRITE).unwrap();
    Database::builder().create_with_backend(Backend::new(file).unwrap()).unwrap()
}

/// How many transactions a database holds, after redb's own check.
fn check(mut database: Database) -> u64 {
    assert!(database.check_integrity().unwrap());
    ledger::committed(&database).unwrap()
}

/// Commits transaction `number`; now and then beside it one that makes the file longer, or shorter.
fn commit(database: &Database, number: u64) {
    const BALLAST: TableDefinition<'_, (), &[u8]> = TableDefinition::new("ballast");
    if number.is_multiple_of(8) {
        let bytes = vec![1; if number.is_multiple_of(16) { 512 << 10 } else { 0 }];
        let transaction = database.begin_write().unwrap();
        transaction.open_table(BALLAST).unwrap().insert((), bytes.as_slice()).unwrap();
        transaction.commit().unwrap();
    }
    ledger::commit(database, number).unwrap();
}

/// The bytes of the database in a directory.
fn read(engine: &Engine, directory: u64) -> Vec<u8> {
    let file = engine.open_file(engine.lookup(directory, NAME).unwrap(), Open::READ).unwrap();
    let mut bytes = vec![0; file.size() as usize];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

/// As [`check`], for the database in a snapshot. Of a read-only one a copy in memory is looked at, and a writable snapshot.
fn check_snapshot(engine: &Engine, directory: u64, access: Access) -> u64 {
    if access == Access::Writable {
        return check(open(engine, directory));
    }
    let bytes = read(engine, directory);
    let copy = InMemoryBackend::new();
    copy.set_len(bytes.len() as u64).unwrap();
    copy.write(0, &bytes).unwrap();
    let count = check(Database::builder().create_with_backend(copy).unwrap());
    let writable =
        engine.snapshot(directory, engine.root(), b"a snapshot's snapshot", Access::Writable).unwrap();
    assert_eq!(check(open(engine, writable)), count);
    engine.remove_tree(engine.root(), b"a snapshot's snapshot").unwrap();
    assert!(read(engine, directory) == bytes, "a read-only snapshot changed");
    count
}

/// Every other snapshot is read-only.
fn access(number: u64) -> Access {
    if number.is_multiple_of(2) { Access::ReadOnly } else { Access::Writable }
}

#[test]
fn every_live_snapshot_is_a_database() {
    for media in Media::quick() {
        let volume = Volume::new(media, VOLUME);
        let engine = volume.open_with(options());
        create(&engine);
        let count = snapshots_while_it_commits(&engine);
        assert_eq!(check(open(&engine, live(&engine))), count);
        engine.close().unwrap();
        volume.check();
        println!("{media:?}: {count} transactions");
    }
}

/// Takes and checks snapshots while a thread commits. Returns how many transactions were committed.
fn snapshots_while_it_commits(engine: &Engine) -> u64 {
    let live = live(engine);
    let database = open(engine, live);
    let committed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let (goes_on, is_to_go_on) = channel::<()>();
        let (database, committed) = (&database, &committed);
        let writer = scope.spawn(move || {
            for number in 0.. {
                commit(database, number);
                committed.store(number + 1, Ordering::SeqCst);
                if is_to_go_on.try_recv() == Err(TryRecvError::Disconnected) {
                    break;
                }
            }
        });
        let mut rng = Rng::with_seed(1);
        let mut snapshots = Vec::new();
        for number in 0..9 {
            let more = committed.load(Ordering::SeqCst) + rng.u64(2..12);
            while committed.load(Ordering::SeqCst) < more {
                assert!(!writer.is_finished());
                std::thread::sleep(Duration::from_micros(rng.u64(..300)));
            }
            let name = format!("snapshot {number}");
            let before = committed.load(Ordering::SeqCst);
            let snapshot = engine.snapshot(live, engine.root(), name.as_bytes(), access(number)).unwrap();
            // One more may have been committed that has not been counted.
            let after = committed.load(Ordering::SeqCst) + 1;
            snapshots.push((number, snapshot, read(engine, snapshot), before..=after));
        }
        for (number, snapshot, bytes, expected) in snapshots {
            assert!(read(engine, snapshot) == bytes, "snapshot {number} changed");
            let count = check_snapshot(engine, snapshot, access(number));
            assert!(expected.contains(&count), "snapshot {number}: {count} of {expected:?}");
            // A writable one goes its own way from there.
            if access(number) == Access::Writable {
                let database = open(engine, snapshot);
                (count..count + 3).for_each(|number| commit(&database, number));
                assert_eq!(check(database), count + 3);
            }
        }
        drop(goes_on);
    });
    committed.into_inner()
}

/// Does nothing unless it is the writer.
#[test]
fn writer() {
    let Some((image, _)) = task() else { return };
    let engine = Engine::open(&image, options()).unwrap();
    let live = live(&engine);
    let database = open(&engine, live);
    let before = ledger::committed(&database).unwrap();
    let committed = AtomicU64::new(before);
    std::thread::scope(|scope| {
        let snapshots = scope.spawn(|| {
            for number in 0.. {
                let before = committed.load(Ordering::SeqCst);
                let name = format!("snapshot {number}");
                engine.snapshot(live, engine.root(), name.as_bytes(), access(number)).unwrap();
                engine.sync().unwrap();
                say(&format!("snapshot {number} {before}"));
                // Rarer and rarer, so that they can all be looked at.
                std::thread::sleep(Duration::from_millis(10 * (number + 1)));
            }
        });
        for number in before.. {
            assert!(!snapshots.is_finished());
            commit(&database, number);
            committed.store(number + 1, Ordering::SeqCst);
            say(&format!("committed {}", number + 1));
        }
    });
}

#[test]
fn a_killed_writer_leaves_what_it_committed() {
    let kills = number_from("PAXFS_KILLS").unwrap_or(12);
    let first = number_from("PAXFS_KILL_SEED").unwrap_or(1);
    let volume = Volume::new(Media::quick()[0], VOLUME);
    let engine = volume.open_with(options());
    create(&engine);
    engine.close().unwrap();

    let mut rng = Rng::with_seed(first);
    let (mut committed, mut idle, mut snapshots) = (0, 0, 0);
    for kill in 0..kills {
        let said = kill_a_writer(volume.path(), kill, Duration::from_micros(rng.u64(1000..250_000)));
        let numbers = |what: &str| {
            let heard = said.iter().filter_map(|line| line.strip_prefix(what)?.strip_prefix(' '));
            heard.map(str::to_owned).collect::<Vec<_>>()
        };
        let reported = numbers("committed").last().map_or(committed, |number| number.parse().unwrap());
        idle += u64::from(reported == committed);

        let engine = volume.open_with(options());
        let count = check(open(&engine, live(&engine)));
        // The last may have been killed before it was told of.
        assert!((reported..=reported + 1).contains(&count), "kill {kill}: {count} of {reported}");
        committed = count;
        let mut told: Vec<(u64, u64)> = numbers("snapshot")
            .iter()
            .filter_map(|line| line.split_once(' '))
            .map(|(number, before)| (number.parse().unwrap(), before.parse().unwrap()))
            .collect();
        // One may be there that was not told of: what it holds is known to be no less than the last one's.
        told.push(told.last().map_or((0, 0), |(number, before)| (number + 1, *before)));
        for (index, (number, before)) in told.iter().enumerate() {
            let name = format!("snapshot {number}");
            let there = engine.lookup(engine.root(), name.as_bytes());
            if there.is_err() && index + 1 == told.len() {
                continue;
            }
            let count = check_snapshot(&engine, there.unwrap(), access(*number));
            assert!((*before..=committed).contains(&count), "kill {kill}, {name}: {count} of {before}");
            engine.remove_tree(engine.root(), name.as_bytes()).unwrap();
            snapshots += 1;
        }
        engine.close().unwrap();
        volume.check();
    }
    println!(
        "{kills} kills, {idle} before the first transaction; {committed} transactions, {snapshots} snapshots"
    );
}

/// A power failure at many moments of a writer's work: what may be on the medium then has all that was committed.
fn fail_the_power(start: &[u8], medium: Recorder) {
    const TRANSACTIONS: u64 = 16;
    let medium = Arc::new(medium);
    let engine = Engine::on_medium(Arc::clone(&medium) as Arc<dyn Medium>, quiet()).unwrap();
    let database = open(&engine, live(&engine));
    for number in 0..TRANSACTIONS {
        if number == TRANSACTIONS / 2 {
            engine.snapshot(live(&engine), engine.root(), b"snapshot", Access::Writable).unwrap();
        }
        commit(&database, number);
        medium.mark(number + 1);
    }
    let events = medium.events();
    let mut rng = Rng::with_seed(1);
    let (mut crash, mut committed) = (Crash::new(start, Granularity::CacheLine), 0);
    for (index, recorded) in events.iter().enumerate() {
        crash.apply(recorded);
        match recorded.event {
            Event::Mark(count) => committed = count,
            _ if index.is_multiple_of(events.len() / 12) => {}
            _ => continue,
        }
        for image in crash.images(&mut rng, 1) {
            let engine = Engine::on(Device::memory(image), quiet()).unwrap();
            let count = check(open(&engine, live(&engine)));
            assert!((committed..=committed + 1).contains(&count), "{count} of {committed}");
            if let Ok(snapshot) = engine.lookup(engine.root(), b"snapshot") {
                assert_eq!(check(open(&engine, snapshot)), TRANSACTIONS / 2);
            }
        }
    }
}

/// A volume with an empty database, for [`fail_the_power`].
fn bytes_of_a_volume() -> Vec<u8> {
    let medium = Arc::new(Recorder::forgetful(volume(16 << 20), Granularity::CacheLine));
    let engine = Engine::on_medium(Arc::clone(&medium) as Arc<dyn Medium>, options()).unwrap();
    create(&engine);
    engine.close().unwrap();
    medium.now()
}

/// redb takes a file for broken that is shorter than its header says. A store is on the medium at once, a length when it is
/// committed.
#[test]
fn a_length_is_there_before_what_tells_of_it() {
    let medium = Arc::new(Recorder::forgetful(volume(16 << 20), Granularity::CacheLine));
    let engine = Engine::on_medium(Arc::clone(&medium) as Arc<dyn Medium>, quiet()).unwrap();
    let inode = engine.create(engine.root(), NAME, &New::default()).unwrap();
    let backend = Backend::new(engine.open_file(inode, Open::WRITE).unwrap()).unwrap();
    for blocks in [1, 2, 512, 2] {
        backend.set_len(blocks * 4096).unwrap();
        backend.write(0, &blocks.to_le_bytes()).unwrap();
        // As a kill leaves it.
        let killed = Engine::on(Device::memory(medium.now()), quiet()).unwrap();
        let file = killed.open_file(inode, Open::READ).unwrap();
        let mut told = [0; 8];
        file.read_at(0, &mut told).unwrap();
        assert_eq!((file.size(), u64::from_le_bytes(told)), (blocks * 4096, blocks));
    }
}

#[test]
fn a_power_failure_leaves_what_was_committed() {
    let start = bytes_of_a_volume();
    fail_the_power(&start, Recorder::new(start.clone(), Granularity::CacheLine));
}

/// The test above would notice.
#[test]
#[should_panic]
fn a_sync_of_views_that_flushes_nothing_is_missed() {
    let start = bytes_of_a_volume();
    fail_the_power(&start, Recorder::without(start.clone(), Granularity::CacheLine, Point::Mapped));
}
