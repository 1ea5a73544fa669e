#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::cast_possible_truncation)]
//! Media errors under anything: each block of a volume fails in turn, and nothing is lost that something else tells.

mod common;

use common::{findings, volume_of};
use paxfs_format::device::Device;
use paxfs_format::inode::FileType;
use paxfs_format::owners::{Role, Source, owners};
use paxfs_format::volume::{Volume, find};
use paxfs_runtime::attributes::SetAttribute;
use paxfs_runtime::engine::{Engine, Options};
use paxfs_runtime::error::{Error, Result};
use paxfs_runtime::file::Open;
use paxfs_runtime::medium::{Cure, Granularity, Medium, Recorder};
use paxfs_runtime::namespace::New;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const BLOCK: u64 = 4096;
const BYTES: usize = 8 << 20;
const BLOCKS: u64 = BYTES as u64 / BLOCK;

fn open(medium: &Arc<Recorder>) -> Result<Engine> {
    let medium: Arc<dyn Medium> = medium.clone();
    Engine::on_medium(medium, Options { interval: Duration::ZERO, ..Options::default() })
}

fn forgetful(image: &[u8]) -> Arc<Recorder> {
    Arc::new(Recorder::forgetful(image.to_vec(), Granularity::CacheLine))
}

/// A volume with every form of every structure, closed: trees of two levels, directories and attributes in one block and
/// under an index, values in blocks, shared extents.
fn image() -> Vec<u8> {
    let medium = forgetful(&volume_of(BYTES, Some(2)));
    let engine = open(&medium).unwrap();
    let (root, new) = (engine.root(), New::default());
    let create = |name: &[u8]| {
        let inode = engine.create(root, name, &new).unwrap();
        engine.open_file(inode, Open::WRITE).unwrap()
    };
    let small = create(b"small");
    small.write_at(0, &[1; 9000]).unwrap();
    let sparse = create(b"sparse");
    for extent in 0..200 {
        sparse.write_at(extent * 2 * BLOCK, &[extent as u8 + 1; 100]).unwrap();
    }
    for name in [b"clone1", b"clone2"] {
        create(name).clone_range(0, &sparse, 0, 0).unwrap();
    }
    let directory = engine.make_directory(root, b"many", &new).unwrap();
    for number in 0..150 {
        engine.create(directory, format!("name {number} of one in a directory").as_bytes(), &new).unwrap();
    }
    let block = engine.make_directory(root, b"block", &new).unwrap();
    for number in 0..20 {
        engine.create(block, format!("name {number}").as_bytes(), &new).unwrap();
    }
    engine.symlink(root, b"long", &[b'x'; 4000], &new).unwrap();
    let set = |inode, name: &[u8], value: &[u8]| {
        engine.set_attribute(inode, name, value, SetAttribute::Create).unwrap();
    };
    set(small.inode(), b"user.value", &[7; 9000]);
    for number in 0..40 {
        set(sparse.inode(), format!("user.{number}").as_bytes(), &[number; 300]);
    }
    engine.sync().unwrap();
    // A free inode in a chunk, and a hole in free space.
    engine.unlink(block, b"name 3").unwrap();
    drop((small, sparse));
    engine.close().unwrap();
    medium.now()
}

/// What each block is for.
fn roles(image: &[u8]) -> BTreeMap<u64, String> {
    let device = Device::memory(image.to_vec());
    let found = find(&device).unwrap();
    let volume = Volume::new(device, found.superblock, found.geometry);
    let mut roles = BTreeMap::new();
    for owned in owners(&volume, 0..BLOCKS, Source::ReverseMap) {
        let owned = owned.unwrap();
        for block in owned.start..owned.start + owned.length {
            let role = match &owned.role {
                Role::Metadata(metadata) => metadata.what.to_owned(),
                role => role.name().to_owned(),
            };
            roles.insert(block, role);
        }
    }
    roles
}

/// What can be seen of an inode: everything, or that the medium lost it.
type Seen = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// What does not work because the medium lost it.
fn known<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            assert_eq!(error.errno(), 5, "{error}");
            assert!(!matches!(error, Error::ShutDown), "{error}");
            None
        }
    }
}

fn see(engine: &Engine) -> Seen {
    let mut seen = Seen::new();
    let mut todo = vec![(engine.root(), Vec::new())];
    while let Some((directory, path)) = todo.pop() {
        let Some(names) = known(engine.read_directory(directory, 0, 10_000)) else {
            seen.insert(path, None);
            continue;
        };
        for name in names {
            let path = [path.as_slice(), b"/", name.name.as_slice()].concat();
            seen.insert(path.clone(), known(look(engine, name.inode, name.kind)));
            if name.kind == FileType::Directory {
                todo.push((name.inode, path));
            }
        }
    }
    seen
}

fn look(engine: &Engine, inode: u64, kind: FileType) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    let attributes = engine.attributes(inode)?;
    all.extend(attributes.size.to_le_bytes());
    let mut names = engine.list_attributes(inode)?;
    names.sort();
    for name in names {
        all.extend(engine.get_attribute(inode, &name)?);
    }
    match kind {
        FileType::Regular => {
            let file = engine.open_file(inode, Open::READ)?;
            let mut bytes = vec![0; file.size() as usize];
            file.read_at(0, &mut bytes)?;
            all.extend(bytes);
        }
        FileType::Symlink => all.extend(engine.read_link(inode)?),
        _ => {}
    }
    Ok(all)
}

/// That the volume takes changes of all kinds that need its trees.
fn use_it(engine: &Engine) -> Result<()> {
    let root = engine.root();
    let new = engine.open_file(engine.create(root, b"new", &New::default())?, Open::WRITE)?;
    new.write_at(0, &[1; 100_000])?;
    let copy = engine.open_file(engine.create(root, b"copy", &New::default())?, Open::WRITE)?;
    copy.clone_range(0, &new, 0, 0)?;
    copy.write_at(5 * BLOCK, &[2; 100])?;
    engine.unlink(root, b"copy")?;
    drop(copy);
    synced(engine)
}

/// Syncs, twice when the first says what was lost.
fn synced(engine: &Engine) -> Result<()> {
    match engine.sync() {
        Err(Error::LostWrites(_)) => engine.sync(),
        synced => synced,
    }
}

/// The paths of which something was seen before that is not now. Nothing may have changed.
fn lost(before: &Seen, after: &Seen) -> BTreeSet<Vec<u8>> {
    let differs = |(path, seen): &(&Vec<u8>, &Option<Vec<u8>>)| match after.get(*path) {
        Some(Some(now)) => {
            assert_eq!(Some(now), seen.as_ref(), "{} changed", String::from_utf8_lossy(path));
            false
        }
        _ => true,
    };
    before.iter().filter(differs).map(|(path, _)| path.clone()).collect()
}

fn codes(medium: &Recorder) -> BTreeSet<&'static str> {
    findings(medium.now()).unwrap().iter().map(|found| found.problem.code()).collect()
}

/// Roles of which nothing is lost that only one block holds.
const REDUNDANT: [&str; 13] = [
    "superblock",
    "group",
    "group copy",
    "journal",
    "free tree",
    "refcount tree",
    "rmap tree",
    "inode tree",
    "cluster tree",
    "bad tree",
    "extent tree",
    "free",
    "unused",
];

/// A list of errors names each block in turn; the bytes are still there. Nothing but data is lost.
#[test]
fn each_block_is_said_to_be_bad() {
    let image = image();
    let roles = roles(&image);
    let before = see(&open(&forgetful(&image)).unwrap());
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for block in 0..BLOCKS {
        let role = roles[&block].as_str();
        *counts.entry(role).or_default() += 1;
        let medium = forgetful(&image);
        let engine = open(&medium).unwrap();
        let hit = engine.report_media_error(block * BLOCK..(block + 1) * BLOCK);
        let hit = hit.unwrap_or_else(|error| panic!("{role} {block}: {error}"));
        assert_eq!(hit.is_empty(), role != "data", "{role} {block}: {hit:#?}");
        let lost = lost(&before, &see(&engine));
        let owners: BTreeSet<Vec<u8>> = hit.iter().map(|hit| hit.path.clone().unwrap()).collect();
        assert_eq!(lost, owners, "{role} {block}");
        use_it(&engine).unwrap_or_else(|error| panic!("{role} {block}: {error}"));
        let expected = if role == "data" { 1 } else { 0 };
        assert_eq!(engine.statistics().unwrap().bad, expected, "{role} {block}");
        engine.close().unwrap();
        let expected = if role == "data" { vec!["PX-BAD-OWNED"] } else { vec![] };
        assert_eq!(codes(&medium), expected.into_iter().collect(), "{role} {block}");
    }
    println!("{counts:?}");
}

/// Each block but most of the free ones, with what it is for.
fn each(roles: &BTreeMap<u64, String>) -> impl Iterator<Item = (u64, &str)> {
    let chosen = |(block, role): &(&u64, &String)| *role != "free" || *block % 37 == 0;
    roles.iter().filter(chosen).map(|(block, role)| (*block, role.as_str()))
}

/// How a test lets the engine learn of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// By use.
    Used,
    /// By a report, before anything else.
    Reported,
}

/// Each block fails in turn while the volume is open, and what it held is gone from the medium.
#[test]
fn each_block_fails_and_heals() {
    fail_each(1);
}

/// The same where others are lost with it, until that is dealt with.
#[test]
fn each_block_fails_with_those_beside_it() {
    fail_each(64);
}

fn fail_each(unit: u64) {
    let image = image();
    let roles = roles(&image);
    let before = see(&open(&forgetful(&image)).unwrap());
    for heard in [Heard::Used, Heard::Reported] {
        for (block, role) in each(&roles) {
            let place = format!("{heard:?} {role} {block}");
            let medium = Recorder::forgetful(image.clone(), Granularity::CacheLine).of_units(unit);
            let medium = Arc::new(medium);
            let engine = open(&medium).unwrap();
            medium.spoil(block..block + 1, Cure::Heals);
            if heard == Heard::Reported {
                engine.report_media_error(block * BLOCK..(block + 1) * BLOCK).unwrap();
            }
            let used = use_it(&engine);
            let after = see(&engine);
            let lost = lost(&before, &after);
            let fine = |result: Result<()>| result.unwrap_or_else(|error| panic!("{place}: {error}"));
            if REDUNDANT.contains(&role) {
                fine(used);
                assert!(lost.is_empty(), "{place}: {lost:?}");
                fine(synced(&engine));
                fine(engine.close());
                assert_eq!(codes(&medium), BTreeSet::new(), "{place}");
            } else if role == "data" {
                assert!((1..=3).contains(&lost.len()), "{place}: {lost:?}");
                fine(synced(&engine));
                fine(engine.close());
                assert_eq!(codes(&medium), BTreeSet::from(["PX-BAD-OWNED"]), "{place}");
            } else if ["value", "attributes", "attribute index"].contains(&role) {
                // That file; what else is on the volume goes on.
                fine(used);
                assert_eq!(lost.len(), 1, "{place}: {lost:?}");
                fine(synced(&engine));
                fine(engine.close());
            } else {
                // Inodes and directories: nothing is seen that is not so, and nothing hangs on the rest.
                assert!(["inodes", "directory", "directory index"].contains(&role), "{place}");
                let _ = synced(&engine);
                let _ = engine.close();
            }
        }
    }
}

/// Roles of which each block has to be where it is.
const NEEDED: [&str; 4] = ["superblock", "group", "journal", "inodes"];

/// Each block fails in turn and does not heal: what can lie elsewhere does, and without what cannot the volume is shut down.
#[test]
fn each_block_fails_for_good() {
    fail_each_for_good(1);
}

#[test]
fn each_block_fails_for_good_with_those_beside_it() {
    fail_each_for_good(64);
}

fn fail_each_for_good(unit: u64) {
    let image = image();
    let roles = roles(&image);
    let before = see(&open(&forgetful(&image)).unwrap());
    for (block, role) in each(&roles) {
        let medium = Recorder::forgetful(image.clone(), Granularity::CacheLine).of_units(unit);
        let medium = Arc::new(medium);
        let engine = open(&medium).unwrap();
        medium.spoil(block..block + 1, Cure::Never);
        let reported = engine.report_media_error(block * BLOCK..(block + 1) * BLOCK);
        let is_copy = role == "superblock" && block > 0;
        if NEEDED.contains(&role) && !is_copy {
            let error = reported.err().unwrap_or_else(|| panic!("{role} {block}: still there"));
            assert_eq!(error.errno(), 5, "{role} {block}: {error}");
            assert_is_shut(&engine, &medium);
            continue;
        }
        reported.unwrap_or_else(|error| panic!("{role} {block}: {error}"));
        assert_eq!(engine.statistics().unwrap().bad, 1, "{role} {block}");
        let lost = lost(&before, &see(&engine));
        if REDUNDANT.contains(&role) {
            use_it(&engine).unwrap_or_else(|error| panic!("{role} {block}: {error}"));
            assert!(lost.is_empty(), "{role} {block}: {lost:?}");
        }
        let _ = engine.close();
        if REDUNDANT.contains(&role) && !is_copy && role != "group copy" {
            assert_eq!(codes(&medium), BTreeSet::from(["PX-BAD-FREE"]), "{role} {block}");
        }
        // What is bad stays so for the next to open it, who reads it no more.
        if role != "directory" {
            let engine = open(&medium).unwrap_or_else(|error| panic!("{role} {block}: {error}"));
            assert_eq!(engine.statistics().unwrap().bad, 1, "{role} {block}");
        }
    }
}

/// That every call says that the volume is shut down, and that none stores anything.
fn assert_is_shut(engine: &Engine, medium: &Recorder) {
    let before = medium.now();
    let root = engine.root();
    let shut = |result: Result<()>| match result {
        Err(error @ Error::ShutDown) => assert_eq!(error.errno(), 5),
        other => panic!("{other:?}"),
    };
    shut(engine.sync());
    shut(engine.create(root, b"x", &New::default()).map(drop));
    shut(engine.lookup(root, b"small").map(drop));
    shut(engine.read_directory(root, 0, 10).map(drop));
    shut(engine.attributes(root).map(drop));
    shut(engine.get_attribute(root, b"user.x").map(drop));
    shut(engine.open_file(root, Open::READ).map(drop));
    shut(engine.unlink(root, b"small"));
    shut(engine.statistics().map(drop));
    shut(engine.bad_ranges().map(drop));
    shut(engine.report_media_error(0..1).map(drop));
    assert!(before == medium.now(), "something was stored");
}

/// Each block is bad already when the volume is opened.
#[test]
fn each_block_is_bad_before() {
    let image = image();
    let roles = roles(&image);
    let before = see(&open(&forgetful(&image)).unwrap());
    let mut refused = BTreeMap::new();
    for (block, role) in each(&roles) {
        let medium = forgetful(&image);
        medium.spoil(block..block + 1, Cure::Heals);
        let engine = match open(&medium) {
            Ok(engine) => engine,
            Err(error) => {
                assert_eq!(error.errno(), 5, "{role} {block}: {error}");
                *refused.entry(role).or_insert(0) += 1;
                continue;
            }
        };
        let used = use_it(&engine);
        let lost = lost(&before, &see(&engine));
        if REDUNDANT.contains(&role) {
            used.unwrap_or_else(|error| panic!("{role} {block}: {error}"));
            assert!(lost.is_empty(), "{role} {block}: {lost:?}");
            synced(&engine).unwrap();
            engine.close().unwrap_or_else(|error| panic!("{role} {block}: {error}"));
            assert_eq!(codes(&medium), BTreeSet::new(), "{role} {block}");
        }
    }
    // What is only in memory while a volume is open cannot be made anew before.
    let refused: Vec<&str> = refused.into_keys().collect();
    assert_eq!(refused, ["cluster tree", "free tree", "inode tree"]);
}

/// What was recorded as bad is found out again when the record is lost.
#[test]
fn a_lost_record_of_bad_blocks_is_made_anew() {
    let medium = forgetful(&image());
    let engine = open(&medium).unwrap();
    let file = engine.open_file(engine.resolve(b"/small").unwrap(), Open::READ).unwrap();
    let bad = file.extents().unwrap()[0].start.get();
    medium.spoil(bad..bad + 1, Cure::Never);
    engine.report_media_error(bad * BLOCK..(bad + 1) * BLOCK).unwrap();
    drop(file);
    engine.close().unwrap();
    let roles = roles(&medium.now());
    let (record, _) = roles.iter().find(|(_, role)| *role == "bad tree").unwrap();
    medium.spoil(*record..*record + 1, Cure::Heals);
    let engine = open(&medium).unwrap();
    assert_eq!(engine.statistics().unwrap().bad, 0);
    let file = engine.open_file(engine.resolve(b"/small").unwrap(), Open::READ).unwrap();
    let error = file.read_at(0, &mut [0]).unwrap_err();
    assert!(matches!(error, Error::LostData { offset: 0, .. }), "{error}");
    assert_eq!(engine.statistics().unwrap().bad, 1);
    drop(file);
    engine.close().unwrap();
    assert_eq!(codes(&medium), BTreeSet::from(["PX-BAD-OWNED"]));
}

/// Shut down while others are at work: what they do is no longer stored.
#[test]
fn a_volume_that_is_shut_down_takes_nothing() {
    let recorder = Arc::new(Recorder::new(image(), Granularity::CacheLine));
    let engine = open(&recorder).unwrap();
    let file = engine.open_file(engine.resolve(b"/small").unwrap(), Open::WRITE).unwrap();
    file.write_at(0, &[5; 100]).unwrap();
    recorder.spoil(3..4, Cure::Never);
    assert!(engine.report_media_error(3 * BLOCK..4 * BLOCK).is_err());
    let events = recorder.events().len();
    for result in [
        file.write_at(0, &[6; 100]),
        file.append(b"x").map(drop),
        file.truncate(5),
        file.sync(),
        file.read_at(0, &mut [0]).map(drop),
        file.attributes().map(drop),
        engine.freeze().map(drop),
        engine.sync(),
    ] {
        assert!(matches!(result, Err(Error::ShutDown)), "{result:?}");
    }
    drop(file);
    assert!(matches!(engine.close(), Err(Error::ShutDown)));
    assert_eq!(recorder.events().len(), events);
}
