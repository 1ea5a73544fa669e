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
//! Each is recovered by the engine, some again with a crash inside the recovery. Then: the tree is what it was after some
//! operation that is not before the last sync; bytes written in place are old or new; a check finds nothing; and the
//! volume takes writes.
//!
//! `PAXFS_CRASH=pairs` tries all sequences of two operations, with few images each; `PAXFS_CRASH=full` far more images of
//! each; `PAXFS_CRASH_RUNS=N` so many random sequences of three to eleven operations. Best with `cargo test --release -p
//! paxfs-runtime --test crash -- --nocapture`.

mod common;

use common::crash::Crash;
use common::{check_bytes, volume_of};
use fastrand::Rng;
use paxfs_runtime::attributes::SetAttribute;
use paxfs_runtime::engine::{Engine, Options};
use paxfs_runtime::error::Error;
use paxfs_runtime::file::{Open, Size};
use paxfs_runtime::medium::{Event, Granularity, Medium, Point, Recorded, Recorder};
use paxfs_runtime::namespace::{New, Rename};
use paxfs_runtime::snapshot::Access;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

const BLOCK: u64 = 4096;
const VOLUME: usize = 4 << 20;

/// The alphabet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Create,
    MakeDirectory,
    Link,
    RenameNew,
    RenameOver,
    RenameExchange,
    RenameInto,
    Unlink,
    WriteNew,
    Overwrite,
    OverwriteShared,
    Append,
    TruncateDown,
    TruncateUp,
    Punch,
    Zero,
    Allocate,
    Clone,
    Dedupe,
    Symlink,
    SetAttribute,
    GrowAttribute,
    ShrinkAttribute,
    RemoveAttribute,
    Snapshot,
    SnapshotDirectory,
    RemoveTree,
    Sync,
}

const ALPHABET: [Op; 28] = [
    Op::Create,
    Op::MakeDirectory,
    Op::Link,
    Op::RenameNew,
    Op::RenameOver,
    Op::RenameExchange,
    Op::RenameInto,
    Op::Unlink,
    Op::WriteNew,
    Op::Overwrite,
    Op::OverwriteShared,
    Op::Append,
    Op::TruncateDown,
    Op::TruncateUp,
    Op::Punch,
    Op::Zero,
    Op::Allocate,
    Op::Clone,
    Op::Dedupe,
    Op::Symlink,
    Op::SetAttribute,
    Op::GrowAttribute,
    Op::ShrinkAttribute,
    Op::RemoveAttribute,
    Op::Snapshot,
    Op::SnapshotDirectory,
    Op::RemoveTree,
    Op::Sync,
];

/// What can be seen of a file.
struct SeenFile {
    inode: u64,
    /// Bytes of a file, target of a symlink.
    contents: Option<Vec<u8>>,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What can be seen of a volume, by path.
type Seen = BTreeMap<Vec<u8>, SeenFile>;

fn see(engine: &Engine) -> Seen {
    let mut seen = Seen::new();
    let mut todo = vec![(engine.root(), Vec::new())];
    while let Some((inode, path)) = todo.pop() {
        for name in engine.read_directory(inode, 0, 1000).unwrap() {
            let path = [path.as_slice(), b"/", name.name.as_slice()].concat();
            let contents = match name.kind {
                paxfs_format::inode::FileType::Regular => {
                    let file = engine.open_file(name.inode, Open::READ).unwrap();
                    let mut bytes = vec![0; file.size() as usize];
                    file.read_at(0, &mut bytes).unwrap();
                    Some(bytes)
                }
                paxfs_format::inode::FileType::Symlink => Some(engine.read_link(name.inode).unwrap()),
                _ => {
                    todo.push((name.inode, path.clone()));
                    None
                }
            };
            let names = engine.list_attributes(name.inode).unwrap().into_iter();
            let value = |name: &[u8], inode| engine.get_attribute(inode, name).unwrap();
            let attributes = names.map(|attribute| (attribute.clone(), value(&attribute, name.inode)));
            let attributes = attributes.collect();
            seen.insert(path, SeenFile { inode: name.inode, contents, attributes });
        }
    }
    seen
}

/// What every run begins with: files a (5 blocks), b (3 blocks, shared with c), c, empty, d/e; attributes of a (short) and
/// b (two blocks); synced.
fn prepare(engine: &Engine) {
    let (root, new) = (engine.root(), New::default());
    let make = |name: &[u8], fill: u8, blocks: u64| {
        let file = engine.open_file(engine.create(root, name, &new).unwrap(), Open::WRITE).unwrap();
        file.write_at(0, &vec![fill; (blocks * BLOCK) as usize]).unwrap();
        file
    };
    make(b"a", 0xa0, 5);
    let b = make(b"b", 0xb0, 3);
    let c = make(b"c", 0xc0, 1);
    c.clone_range(0, &b, 0, 0).unwrap();
    let d = engine.make_directory(root, b"d", &new).unwrap();
    engine.create(d, b"e", &new).unwrap();
    engine.create(root, b"empty", &new).unwrap();
    let set = |name: &[u8], value: &[u8]| {
        engine
            .set_attribute(engine.lookup(root, name).unwrap(), b"user.a", value, SetAttribute::Create)
            .unwrap();
    };
    set(b"a", b"short");
    set(b"b", &[0xab; 5000]);
    engine.sync().unwrap();
}

fn run(engine: &Engine, op: Op, step: u64) -> Result<(), Error> {
    let (root, new) = (engine.root(), New::default());
    let open = |name: &[u8]| engine.open_file(engine.lookup(root, name)?, Open::WRITE);
    let set = |name: &[u8], attribute: &[u8], value: &[u8]| {
        engine.set_attribute(engine.lookup(root, name)?, attribute, value, SetAttribute::Any)
    };
    let fresh = |kind: &str| format!("{kind}{step}").into_bytes();
    let fill = 0x10 + step as u8;
    match op {
        Op::Create => engine.create(root, &fresh("new"), &new).map(drop),
        Op::MakeDirectory => engine.make_directory(root, &fresh("dir"), &new).map(drop),
        Op::Link => engine.link(engine.lookup(root, b"a")?, root, &fresh("link")),
        Op::RenameNew => engine.rename(root, b"a", root, &fresh("moved"), Rename::NoReplace),
        Op::RenameOver => engine.rename(root, b"a", root, b"b", Rename::Replace),
        Op::RenameExchange => engine.rename(root, b"a", root, b"d", Rename::Exchange),
        Op::RenameInto => engine.rename(root, b"b", engine.lookup(root, b"d")?, b"inside", Rename::Replace),
        Op::Unlink => engine.unlink(root, b"b"),
        Op::WriteNew => open(b"empty")?.write_at(100, &vec![fill; 6000]),
        Op::Overwrite => open(b"a")?.write_at(BLOCK + 7, &vec![fill; 5000]),
        Op::OverwriteShared => open(b"c")?.write_at(BLOCK / 2, &vec![fill; 5000]),
        Op::Append => open(b"a")?.append(&vec![fill; 3000]).map(drop),
        Op::TruncateDown => open(b"a")?.truncate(BLOCK + 100),
        Op::TruncateUp => open(b"b")?.truncate(9 * BLOCK + 1),
        Op::Punch => open(b"a")?.punch_hole(BLOCK..3 * BLOCK),
        Op::Zero => open(b"b")?.zero_range(0..2 * BLOCK, Size::Grows),
        Op::Allocate => open(b"c")?.allocate(6 * BLOCK..8 * BLOCK, Size::Grows),
        Op::Clone => open(b"a")?.clone_range(BLOCK, &open(b"b")?, 0, 2 * BLOCK),
        Op::Dedupe => open(b"c")?.dedupe_range(0, &open(b"b")?, 0, BLOCK).map(drop),
        Op::Symlink => engine.symlink(root, &fresh("symlink"), &[b'x'; 4000], &new).map(drop),
        Op::SetAttribute => set(b"c", b"user.b", &[fill; 10]),
        Op::GrowAttribute => set(b"a", b"user.a", &vec![fill; 9000]),
        Op::ShrinkAttribute => set(b"b", b"user.a", &vec![fill; 900]),
        Op::RemoveAttribute => engine.remove_attribute(engine.lookup(root, b"b")?, b"user.a"),
        Op::Snapshot => engine.snapshot(root, root, &fresh("snapshot"), Access::ReadOnly).map(drop),
        Op::SnapshotDirectory => {
            engine.snapshot(engine.lookup(root, b"d")?, root, &fresh("tree"), Access::Writable).map(drop)
        }
        Op::RemoveTree => engine.remove_tree(root, b"d"),
        Op::Sync => engine.sync(),
    }
}

/// One run: what was stored, and what could be seen after each operation.
struct Run {
    start: Vec<u8>,
    events: Vec<Recorded>,
    states: Vec<Seen>,
    /// For each state, whether a sync had ended there.
    synced: Vec<bool>,
}

fn record(start: &[u8], ops: &[Op], granularity: Granularity, omitted: Option<Point>) -> Run {
    let recorder = Arc::new(match omitted {
        Some(point) => Recorder::without(start.to_vec(), granularity, point),
        None => Recorder::new(start.to_vec(), granularity),
    });
    let medium: Arc<dyn Medium> = recorder.clone();
    let engine =
        Engine::on_medium(medium, Options { interval: Duration::ZERO, ..Default::default() }).unwrap();
    let mut states = vec![see(&engine)];
    let mut synced = vec![true];
    recorder.mark(0);
    for (step, op) in (1..).zip(ops) {
        // A failed operation is one that changed nothing; sequences that make no sense are runs of their own.
        let done = run(&engine, *op, step);
        assert!(!matches!(done, Err(Error::ShutDown | Error::Damaged { .. })), "{op:?}: {done:?}");
        assert!(*op != Op::Sync || done.is_ok(), "{done:?}");
        states.push(see(&engine));
        synced.push(*op == Op::Sync);
        recorder.mark(step);
    }
    // A last commit by another thread: what each wrote must have been drained.
    std::thread::scope(|scope| {
        scope.spawn(|| engine.sync().unwrap());
    });
    states.push(see(&engine));
    synced.push(true);
    recorder.mark(ops.len() as u64 + 1);
    engine.close().unwrap();
    Run { start: start.to_vec(), events: recorder.events(), states, synced }
}

/// Totals over all runs.
#[derive(Default)]
struct Totals {
    runs: u64,
    operations: u64,
    tried: u64,
    distinct: HashSet<u64>,
}

fn hash(bytes: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// Whether what a recovered volume shows is a state between `first` and `last`: all of one, but for bytes of files, which
/// may be of any between, because a write in place is no transaction.
fn is_between(seen: &Seen, states: &[Seen], first: usize, last: usize) -> bool {
    (first..=last).any(|index| {
        let state = &states[index];
        state.keys().eq(seen.keys())
            && state.values().zip(seen.values()).all(|(file, there)| {
                if file.inode != there.inode || file.attributes != there.attributes {
                    return false;
                }
                let (Some(contents), Some(bytes)) = (&file.contents, &there.contents) else {
                    return file.contents.is_none() == there.contents.is_none();
                };
                let byte_fits = |at: usize| {
                    states[first..=last].iter().any(|state| {
                        let same = state.values().find(|other| other.inode == file.inode);
                        same.and_then(|other| other.contents.as_ref()?.get(at)) == bytes.get(at)
                    })
                };
                contents.len() == bytes.len() && (contents == bytes || (0..contents.len()).all(byte_fits))
            })
    })
}

fn open(image: &[u8], granularity: Granularity, recording: bool) -> Result<(Engine, Arc<Recorder>), Error> {
    let recorder = Arc::new(match recording {
        true => Recorder::new(image.to_vec(), granularity),
        false => Recorder::forgetful(image.to_vec(), granularity),
    });
    let medium: Arc<dyn Medium> = recorder.clone();
    Engine::on_medium(medium, Options { interval: Duration::ZERO, ..Default::default() })
        .map(|engine| (engine, recorder))
}

/// What is wrong with a recovered image, if anything is.
fn recovered(
    image: &[u8],
    granularity: Granularity,
    run: &Run,
    first: usize,
    last: usize,
) -> Result<(), String> {
    let (engine, recorder) = open(image, granularity, false).map_err(|error| format!("recovery: {error}"))?;
    let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| see(&engine)));
    let seen = seen.map_err(|_| "the tree cannot be read".to_owned())?;
    if !is_between(&seen, &run.states, first, last) {
        let names: Vec<String> = seen.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
        return Err(format!("no state from {first} to {last} is like what is there: {names:?}"));
    }
    let file = engine
        .create(engine.root(), b"after", &New::default())
        .and_then(|inode| engine.open_file(inode, Open::WRITE));
    let written = file.and_then(|file| file.write_at(0, &[1; 9000]));
    written.map_err(|error| format!("the volume takes no writes: {error}"))?;
    engine.close().map_err(|error| format!("close: {error}"))?;
    let now = recorder.now();
    std::panic::catch_unwind(|| check_bytes(now)).map_err(|_| "the check finds damage".to_owned())
}

/// Tries the crash states of a run; the first that is wrong.
fn try_run(run: &Run, granularity: Granularity, most: usize, totals: &mut Totals) -> Result<(), String> {
    let mut rng = Rng::with_seed(1);
    let mut crash = Crash::new(&run.start, granularity);
    let (mut state, mut synced) = (0, 0);
    totals.runs += 1;
    totals.operations += run.states.len() as u64 - 2;
    for (number, recorded) in run.events.iter().enumerate() {
        if let Event::Mark(mark) = recorded.event {
            state = mark as usize;
            if run.synced[state] {
                synced = state;
            }
        }
        if recorded.event == Event::Fence || number + 1 == run.events.len() {
            let last = (state + 1).min(run.states.len() - 1);
            for (which, image) in crash.images(&mut rng, most).iter().enumerate() {
                totals.tried += 1;
                if !totals.distinct.insert(hash(image) ^ (state as u64) << 48) {
                    continue;
                }
                let place = |error: String| {
                    format!("event {number}, image {which}, after operation {state}: {error}")
                };
                recovered(image, granularity, run, synced, last).map_err(place)?;
                if which % 16 == 3 {
                    again(image, granularity, run, synced, last, totals).map_err(place)?;
                }
            }
        }
        crash.apply(recorded);
    }
    Ok(())
}

/// Crashes inside the recovery of an image, too.
fn again(
    image: &[u8],
    granularity: Granularity,
    run: &Run,
    first: usize,
    last: usize,
    totals: &mut Totals,
) -> Result<(), String> {
    let (engine, recorder) = open(image, granularity, true).map_err(|error| format!("recovery: {error}"))?;
    let events = recorder.events();
    drop(engine);
    let mut rng = Rng::with_seed(1);
    let mut crash = Crash::new(image, granularity);
    for recorded in &events {
        if recorded.event == Event::Fence {
            for image in crash.images(&mut rng, 2) {
                totals.tried += 1;
                if totals.distinct.insert(hash(&image)) {
                    recovered(&image, granularity, run, first, last)
                        .map_err(|error| format!("in recovery: {error}"))?;
                }
            }
        }
        crash.apply(recorded);
    }
    Ok(())
}

fn prepared(groups: u64) -> Vec<u8> {
    let recorder = Arc::new(Recorder::forgetful(volume_of(VOLUME, Some(groups)), Granularity::CacheLine));
    let medium: Arc<dyn Medium> = recorder.clone();
    let engine =
        Engine::on_medium(medium, Options { interval: Duration::ZERO, ..Default::default() }).unwrap();
    prepare(&engine);
    engine.close().unwrap();
    recorder.now()
}

fn all_pairs() -> bool {
    is_full() || std::env::var_os("PAXFS_CRASH").is_some_and(|value| value == "pairs")
}

fn is_full() -> bool {
    std::env::var_os("PAXFS_CRASH").is_some_and(|value| value == "full")
}

fn report(what: &str, totals: &Totals) {
    println!(
        "{what}: {} runs, {} operations, {} crash states tried, {} distinct, all recovered",
        totals.runs,
        totals.operations,
        totals.tried,
        totals.distinct.len()
    );
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
            if !all_pairs() && ops.len() == 2 && number % 43 != 0 {
                continue;
            }
            let run = record(&start, &ops, granularity, None);
            try_run(&run, granularity, most, &mut totals).unwrap_or_else(|error| panic!("{ops:?}: {error}"));
        }
    }
    totals
}

#[test]
fn every_crash_state_on_cache_lines_is_recovered() {
    let totals = sequences(Granularity::CacheLine, if is_full() { 60 } else { 3 });
    report("cache lines", &totals);
}

#[test]
fn every_crash_state_on_pages_is_recovered() {
    let totals = sequences(Granularity::Page, if is_full() { 60 } else { 3 });
    report("pages", &totals);
}

/// Random longer sequences; `PAXFS_CRASH_RUNS` says how many.
#[test]
fn crash_states_of_longer_sequences_are_recovered() {
    let runs = std::env::var("PAXFS_CRASH_RUNS").map_or(6, |runs| runs.parse().unwrap());
    let start = prepared(2);
    let mut totals = Totals::default();
    for seed in 0..runs {
        let mut rng = Rng::with_seed(seed);
        let granularity = *rng.choice(&[Granularity::CacheLine, Granularity::Page]).unwrap();
        let ops: Vec<Op> = (0..rng.usize(3..12)).filter_map(|_| rng.choice(ALPHABET)).collect();
        let run = record(&start, &ops, granularity, None);
        try_run(&run, granularity, if is_full() { 60 } else { 4 }, &mut totals)
            .unwrap_or_else(|error| panic!("seed {seed}, {granularity:?}, {ops:?}: {error}"));
    }
    report("longer sequences", &totals);
}

/// A block that two files shared belongs to one alone when the other is removed, but not on the medium before that is
/// durable: a write in place would show in the other after a crash.
#[test]
fn what_was_shared_is_not_written_in_place_before_that_is_durable() {
    let start = prepared(2);
    for first in [Op::Unlink, Op::Zero, Op::OverwriteShared] {
        for second in [Op::OverwriteShared, Op::Zero] {
            let run = record(&start, &[first, second], Granularity::CacheLine, None);
            let mut totals = Totals::default();
            try_run(&run, Granularity::CacheLine, 12, &mut totals)
                .unwrap_or_else(|error| panic!("{first:?}, {second:?}: {error}"));
        }
    }
}

/// A snapshot of thousands of extents changes more nodes than a slot holds: they change their places.
#[test]
fn a_transaction_larger_than_its_slot_is_there_whole_or_not_at_all() {
    let recorder = Arc::new(Recorder::forgetful(volume_of(16 << 20, None), Granularity::CacheLine));
    let engine =
        Engine::on_medium(recorder.clone(), Options { interval: Duration::ZERO, ..Default::default() })
            .unwrap();
    for name in [&b"f"[..], b"g"] {
        let inode = engine.create(engine.root(), name, &New::default()).unwrap();
        let file = engine.open_file(inode, Open::WRITE).unwrap();
        for extent in 0..1200 {
            file.write_at(extent * 2 * BLOCK, &[extent as u8; 8]).unwrap();
        }
    }
    engine.close().unwrap();
    let start = recorder.now();
    for granularity in [Granularity::CacheLine, Granularity::Page] {
        let run = record(&start, &[Op::Snapshot, Op::Sync, Op::RemoveTree, Op::Sync], granularity, None);
        let mut totals = Totals::default();
        try_run(&run, granularity, if is_full() { 60 } else { 2 }, &mut totals).unwrap();
        report("a large transaction", &totals);
    }
}

/// Points where the engine makes stores last or orders them are taken out in turn: somebody must notice, and with none taken
/// out nobody may.
///
/// Not all of [`Point::ALL`]: since a superblock cannot be torn any more, no run here shows yet what the fences around opening
/// and closing are for, and none stores through views.
#[test]
fn every_ordering_point_is_needed() {
    // Of one group there is no copy of the superblock.
    let starts = [prepared(2), prepared(1)];
    let runs: [&[Op]; 5] = [
        // Committed by another thread than wrote.
        &[Op::WriteNew],
        &[Op::WriteNew, Op::Sync, Op::OverwriteShared, Op::Create, Op::Sync],
        &[Op::Unlink, Op::Sync, Op::WriteNew, Op::Sync],
        &[Op::Append, Op::Clone, Op::Sync],
        &[Op::Sync, Op::RenameOver, Op::Sync],
    ];
    for granularity in [Granularity::CacheLine, Granularity::Page] {
        for (start, ops) in starts.iter().flat_map(|start| runs.iter().map(move |ops| (start, ops))) {
            let run = record(start, ops, granularity, None);
            try_run(&run, granularity, 12, &mut Totals::default())
                .unwrap_or_else(|error| panic!("{ops:?}, {granularity:?}, nothing missing: {error}"));
        }
    }
    for point in [Point::Data, Point::Slot, Point::Commit, Point::Homes] {
        let killed = [Granularity::CacheLine, Granularity::Page].iter().any(|granularity| {
            starts.iter().flat_map(|start| runs.iter().map(move |ops| (start, ops))).any(|(start, ops)| {
                let run = record(start, ops, *granularity, Some(point));
                let mut totals = Totals::default();
                try_run(&run, *granularity, 12, &mut totals).is_err()
                    || recovery_without(start, ops, *granularity, point)
            })
        });
        println!("without {point:?}: {}", if killed { "noticed" } else { "NOT NOTICED" });
        assert!(killed, "nobody noticed that {point:?} was missing");
    }
}

/// Whether a recovery that lacks a point loses something in a second crash.
fn recovery_without(start: &[u8], ops: &[Op], granularity: Granularity, point: Point) -> bool {
    if !matches!(point, Point::Recovered | Point::Mended | Point::Opened) {
        return false;
    }
    let run = record(start, ops, granularity, None);
    let mut crash = Crash::new(&run.start, granularity);
    let (mut state, mut synced) = (0, 0);
    for recorded in &run.events {
        crash.apply(recorded);
        if let Event::Mark(mark) = recorded.event {
            state = mark as usize;
            synced = if run.synced[state] { state } else { synced };
        }
        if recorded.event != Event::Fence {
            continue;
        }
        // Here homes of a committed transaction are not on the medium.
        let image = crash.image(|_, _| 0);
        let recorder = Arc::new(Recorder::without(image.clone(), granularity, point));
        let medium: Arc<dyn Medium> = recorder.clone();
        let Ok(engine) =
            Engine::on_medium(medium, Options { interval: Duration::ZERO, ..Default::default() })
        else {
            return true;
        };
        let last = (state + 1).min(run.states.len() - 1);
        let mut second = Crash::new(&image, granularity);
        for recorded in recorder.events() {
            second.apply(&recorded);
        }
        drop(engine);
        let mut rng = Rng::with_seed(1);
        let lost = |image: &Vec<u8>| recovered(image, granularity, &run, synced, last).is_err();
        if second.images(&mut rng, 40).iter().any(lost) {
            return true;
        }
    }
    false
}

/// Commits with nothing to do take no number: the next transaction would go to the slot of the one before it, and a crash
/// while that slot is torn would replay the one before that, alone, over newer homes.
#[test]
fn empty_commits_take_no_slot() {
    let start = prepared(2);
    let ops =
        [Op::Create, Op::Sync, Op::Append, Op::Sync, Op::Sync, Op::Unlink, Op::Sync, Op::Sync, Op::WriteNew];
    for granularity in [Granularity::CacheLine, Granularity::Page] {
        let mut totals = Totals::default();
        try_run(&record(&start, &ops, granularity, None), granularity, 6, &mut totals).unwrap();
        report("empty commits", &totals);
    }
}
