#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::cast_possible_truncation)]
//! Crash states while media errors are recorded, healed and worked around: each is as before or after.
//!
//! As in `crash`: at each fence the images are built that a power failure may leave, and each is recovered. Reports are
//! what the bytes survive: so that what is lost by a crash is seen.

mod common;

use common::crash::Crash;
use common::{findings, volume_of};
use fastrand::Rng;
use paxfs_format::device::Device;
use paxfs_format::owners::{Role, Source, owners};
use paxfs_format::volume::{Volume, find};
use paxfs_runtime::attributes::SetAttribute;
use paxfs_runtime::engine::{Engine, Options};
use paxfs_runtime::error::{Error, Result};
use paxfs_runtime::file::Open;
use paxfs_runtime::medium::{Cure, Event, Granularity, Medium, Recorder};
use paxfs_runtime::namespace::New;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const BLOCK: u64 = 4096;
const BYTES: usize = 4 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    /// This block is bad.
    Report(u64),
    /// Writes block 1 of a file anew.
    Overwrite(&'static str),
    Punch(&'static str),
    Unlink(&'static str),
    Create,
    Sync,
}

/// What can be seen of a file: each of its blocks, unless it is lost.
type Seen = BTreeMap<String, Vec<Option<Vec<u8>>>>;

fn engine_on(recorder: &Arc<Recorder>) -> Result<Engine> {
    let medium: Arc<dyn Medium> = recorder.clone();
    Engine::on_medium(medium, Options { interval: Duration::ZERO, ..Options::default() })
}

fn open(image: Vec<u8>, granularity: Granularity) -> Result<(Engine, Arc<Recorder>)> {
    let recorder = Arc::new(Recorder::forgetful(image, granularity));
    Ok((engine_on(&recorder)?, recorder))
}

/// Files a, and b that shares its blocks with c; a directory and an attribute in blocks of their own; closed.
fn image() -> Vec<u8> {
    let (engine, recorder) = open(volume_of(BYTES, Some(2)), Granularity::CacheLine).unwrap();
    let (root, new) = (engine.root(), New::default());
    let file = |name: &[u8]| engine.open_file(engine.create(root, name, &new).unwrap(), Open::WRITE).unwrap();
    let (a, b, c) = (file(b"a"), file(b"b"), file(b"c"));
    for block in 0..3 {
        a.write_at(block * BLOCK, &[0xa0 + block as u8; BLOCK as usize]).unwrap();
        b.write_at(block * BLOCK, &[0xb0 + block as u8; BLOCK as usize]).unwrap();
    }
    c.clone_range(0, &b, 0, 0).unwrap();
    // Extents in a tree.
    for extent in 0..20 {
        a.write_at((10 + 2 * extent) * BLOCK, &[extent as u8 + 1; BLOCK as usize]).unwrap();
    }
    for number in 0..12 {
        engine.create(root, format!("some name {number}").as_bytes(), &new).unwrap();
    }
    engine.set_attribute(c.inode(), b"user.a", &[7; 5000], SetAttribute::Create).unwrap();
    drop((a, b, c));
    engine.close().unwrap();
    recorder.now()
}

fn see(engine: &Engine) -> Seen {
    let mut seen = Seen::new();
    for name in engine.read_directory(engine.root(), 0, 1000).unwrap() {
        let file = engine.open_file(name.inode, Open::READ).unwrap();
        let mut blocks = vec![];
        for block in 0..file.size() / BLOCK {
            let mut bytes = vec![0; BLOCK as usize];
            blocks.push(match file.read_at(block * BLOCK, &mut bytes) {
                Ok(_) => Some(bytes),
                Err(Error::LostData { .. }) => None,
                Err(error) => panic!("{error}"),
            });
        }
        for attribute in engine.list_attributes(name.inode).unwrap() {
            blocks.push(Some(engine.get_attribute(name.inode, &attribute).unwrap()));
        }
        seen.insert(String::from_utf8(name.name).unwrap(), blocks);
    }
    seen
}

fn run(engine: &Engine, op: Op) {
    let root = engine.root();
    let open =
        |name: &str| engine.open_file(engine.lookup(root, name.as_bytes()).unwrap(), Open::WRITE).unwrap();
    match op {
        Op::Report(block) => drop(engine.report_media_error(block * BLOCK..(block + 1) * BLOCK).unwrap()),
        Op::Overwrite(name) => open(name).write_at(BLOCK, &[0x55; BLOCK as usize]).unwrap(),
        Op::Punch(name) => open(name).punch_hole(BLOCK..2 * BLOCK).unwrap(),
        Op::Unlink(name) => engine.unlink(root, name.as_bytes()).unwrap(),
        Op::Create => drop(engine.create(root, b"created", &New::default()).unwrap()),
        Op::Sync => engine.sync().unwrap(),
    }
}

/// What is wrong with a crash state, if anything is.
fn recovered(image: Vec<u8>, granularity: Granularity, states: &[Seen]) -> std::result::Result<(), String> {
    let (engine, recorder) = open(image, granularity).map_err(|error| format!("recovery: {error}"))?;
    let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| see(&engine)));
    let seen = seen.map_err(|_| "it cannot be read".to_owned())?;
    if !states.contains(&seen) {
        return Err("no state is like what is there".to_owned());
    }
    let created = engine.create(engine.root(), b"after", &New::default());
    let file = created.and_then(|inode| engine.open_file(inode, Open::WRITE));
    file.and_then(|file| file.write_at(0, &[1; 9000])).map_err(|error| format!("no writes: {error}"))?;
    engine.close().map_err(|error| format!("close: {error}"))?;
    let codes: BTreeSet<_> =
        findings(recorder.now()).unwrap().iter().map(|found| found.problem.code()).collect();
    let is_lost = seen.values().flatten().any(Option::is_none);
    let expected = if is_lost { BTreeSet::from(["PX-BAD-OWNED"]) } else { BTreeSet::new() };
    if codes == expected { Ok(()) } else { Err(format!("a check finds {codes:?}, not {expected:?}")) }
}

/// Runs operations, and tries the crash states; how many there were.
fn try_ops(start: &[u8], ops: &[Op], granularity: Granularity, most: usize) -> u64 {
    try_on(Recorder::new(start.to_vec(), granularity), ops, most)
}

/// As [`try_ops`], on a medium of which blocks may be bad.
fn try_on(recorder: Recorder, ops: &[Op], most: usize) -> u64 {
    let (start, granularity, recorder) = (recorder.now(), recorder.granularity(), Arc::new(recorder));
    let engine = engine_on(&recorder).unwrap();
    let mut states = vec![see(&engine)];
    recorder.mark(0);
    for (step, op) in (1..).zip(ops) {
        run(&engine, *op);
        states.push(see(&engine));
        recorder.mark(step);
    }
    engine.close().unwrap();
    let events = recorder.events();
    let mut rng = Rng::with_seed(1);
    let mut crash = Crash::new(&start, granularity);
    let (mut state, mut synced, mut tried) = (0, 0, 0);
    for (number, recorded) in events.iter().enumerate() {
        if let Event::Mark(mark) = recorded.event {
            state = mark as usize;
            if state > 0 && matches!(ops[state - 1], Op::Sync | Op::Report(_)) {
                synced = state;
            }
        }
        if recorded.event == Event::Fence || number + 1 == events.len() {
            let last = (state + 1).min(states.len() - 1);
            for (which, image) in crash.images(&mut rng, most).into_iter().enumerate() {
                tried += 1;
                recovered(image, granularity, &states[synced..=last]).unwrap_or_else(|error| {
                    panic!("{ops:?}, {granularity:?}, event {number}, image {which}, state {state}: {error}")
                });
            }
        }
        crash.apply(recorded);
    }
    tried
}

/// A block of each role, and the block of the device that block 1 of b is in.
fn places(image: &[u8]) -> (BTreeMap<String, u64>, u64) {
    let device = Device::memory(image.to_vec());
    let found = find(&device).unwrap();
    let volume = Volume::new(device, found.superblock, found.geometry);
    let mut roles = BTreeMap::new();
    let mut shared = 0;
    for owned in owners(&volume, 0..found.geometry.blocks, Source::ReverseMap) {
        let owned = owned.unwrap();
        let role = match &owned.role {
            Role::Metadata(metadata) => metadata.what.to_owned(),
            role => role.name().to_owned(),
        };
        if let Role::Data(data) = &owned.role
            && data.shared > 1
        {
            shared = owned.start + 1;
        }
        // The last: of superblocks a copy, of the journal the second slot.
        roles.insert(role, owned.start + owned.length - 1);
    }
    (roles, shared)
}

fn granularities() -> [Granularity; 2] {
    [Granularity::CacheLine, Granularity::Page]
}

fn most() -> usize {
    if std::env::var_os("PAXFS_CRASH").is_some_and(|value| value == "full") { 40 } else { 3 }
}

#[test]
fn recording_and_healing_data_is_before_or_after() {
    let start = image();
    let (_, bad) = places(&start);
    let mut tried = 0;
    for granularity in granularities() {
        for ops in [
            &[Op::Report(bad)][..],
            &[Op::Create, Op::Report(bad), Op::Overwrite("b"), Op::Sync],
            &[Op::Report(bad), Op::Overwrite("b"), Op::Overwrite("c"), Op::Sync, Op::Create, Op::Sync],
            &[Op::Report(bad), Op::Punch("c"), Op::Sync, Op::Unlink("b"), Op::Sync, Op::Create, Op::Sync],
            &[Op::Overwrite("b"), Op::Report(bad), Op::Unlink("c"), Op::Create, Op::Sync, Op::Sync],
            &[Op::Unlink("b"), Op::Unlink("c"), Op::Report(bad), Op::Create, Op::Sync],
        ] {
            tried += try_ops(&start, ops, granularity, most());
        }
    }
    println!("{tried} crash states");
}

#[test]
fn metadata_is_there_at_every_instant() {
    let start = image();
    let (roles, _) = places(&start);
    let mut tried = 0;
    for granularity in granularities() {
        for (role, block) in &roles {
            // By name, and after changes that are in the journal alone.
            let ops = [Op::Create, Op::Report(*block), Op::Overwrite("b"), Op::Sync];
            println!("{role} {block}");
            tried += try_ops(&start, &ops, granularity, most());
        }
        for block in [0, 1, 2, 3] {
            tried += try_ops(&start, &[Op::Create, Op::Sync, Op::Report(block)], granularity, most());
        }
    }
    println!("{tried} crash states");
}

/// A header that is lost when the volume is opened is written anew out of its copy.
#[test]
fn headers_are_there_at_every_instant_of_opening() {
    let start = image();
    let (roles, _) = places(&start);
    let mut tried = 0;
    for granularity in granularities() {
        let recorder = Recorder::new(start.clone(), granularity);
        recorder.spoil(roles["group"]..roles["group"] + 1, Cure::Heals);
        tried += try_on(recorder, &[Op::Create, Op::Sync], 4 * most());
    }
    println!("{tried} crash states");
}
