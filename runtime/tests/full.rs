#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::cast_possible_truncation)]
//! Volumes that are full: what finds no space changes nothing, and what gives space back still works.

mod common;

use common::{Disk, check};
use paxfs_format::inode::FileType;
use paxfs_runtime::attributes::SetAttribute;
use paxfs_runtime::engine::Engine;
use paxfs_runtime::error::Error;
use paxfs_runtime::file::{File, Open, Size};
use paxfs_runtime::namespace::{New, Rename};
use paxfs_runtime::snapshot::Access;
use std::collections::BTreeMap;

const BLOCK: u64 = 4096;

fn open(engine: &Engine, name: &[u8]) -> Result<File, Error> {
    engine.open_file(engine.lookup(engine.root(), name)?, Open::WRITE)
}

fn create(engine: &Engine, name: &[u8]) -> Result<File, Error> {
    engine.open_file(engine.create(engine.root(), name, &New::default())?, Open::WRITE)
}

/// Fills a file until there is no space, ever smaller.
fn fill(engine: &Engine, name: &[u8]) -> u64 {
    let file = create(engine, name).unwrap();
    let mut step = 256 * BLOCK;
    while step >= BLOCK {
        match file.append(&vec![7; step as usize]) {
            Ok(_) => {}
            Err(Error::NoSpace) => step /= 2,
            Err(error) => panic!("{error}"),
        }
    }
    file.size()
}

/// All that can be seen, by path.
fn see(engine: &Engine) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut seen = BTreeMap::new();
    let mut todo = vec![(engine.root(), Vec::new())];
    while let Some((inode, path)) = todo.pop() {
        for name in engine.read_directory(inode, 0, usize::MAX).unwrap() {
            let path = [path.as_slice(), b"/", name.name.as_slice()].concat();
            let mut bytes = Vec::new();
            if name.kind == FileType::Regular {
                let file = engine.open_file(name.inode, Open::READ).unwrap();
                bytes.resize(file.size() as usize, 0);
                file.read_at(0, &mut bytes).unwrap();
            } else {
                todo.push((name.inode, path.clone()));
            }
            seen.insert(path, bytes);
        }
    }
    seen
}

#[test]
fn a_full_volume_gives_space_back() {
    let disk = Disk::new(24 << 20);
    let engine = disk.open();
    let shared = create(&engine, b"shared").unwrap();
    shared.write_at(0, &vec![1; 8 * BLOCK as usize]).unwrap();
    create(&engine, b"clone").unwrap().clone_range(0, &shared, 0, 0).unwrap();
    let empty = engine.statistics().unwrap();
    let filled = fill(&engine, b"large");
    let full = engine.statistics().unwrap();
    assert!(full.available < 32, "{full:?}");
    assert!(filled / BLOCK + 64 > empty.available, "{filled} bytes of {empty:?}");
    engine.sync().unwrap();

    // A copy on write takes what is kept back.
    shared.write_at(BLOCK, &[2; 100]).unwrap();
    let large = open(&engine, b"large").unwrap();
    large.punch_hole(3 * BLOCK..5 * BLOCK).unwrap();
    large.truncate(filled / 2 + 17).unwrap();
    engine.sync().unwrap();
    assert!(engine.statistics().unwrap().available > full.available + filled / BLOCK / 3);
    large.write_at(filled / 2, &vec![3; 64 * BLOCK as usize]).unwrap();
    drop((large, shared));
    engine.unlink(engine.root(), b"large").unwrap();
    engine.sync().unwrap();
    let after = engine.statistics().unwrap();
    assert!(after.free + 64 > empty.free, "{after:?} {empty:?}");
    engine.close().unwrap();
    check(&disk);
}

#[test]
fn names_until_there_is_no_space_and_none_afterwards() {
    let disk = Disk::new(8 << 20);
    let engine = disk.open();
    let empty = engine.statistics().unwrap();
    let mut made: u64 = 0;
    let name = |number: u64| format!("a name that is not short, number {number}").into_bytes();
    let error = loop {
        match engine.create(engine.root(), &name(made), &New::default()) {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.errno(), 28);
    assert!(made > 2000, "{made} files");
    assert_eq!(engine.read_directory(engine.root(), 0, usize::MAX).unwrap().len() as u64, made);
    engine.close().unwrap();
    check(&disk);

    let engine = disk.open();
    for number in 0..made {
        engine.unlink(engine.root(), &name(number)).unwrap();
    }
    engine.sync().unwrap();
    engine.sync().unwrap();
    let after = engine.statistics().unwrap();
    assert!(after.free + 64 > empty.free, "{after:?} {empty:?}");
    engine.close().unwrap();
    check(&disk);
}

/// What the engine did so far is whole on the medium when it is committed, and nothing else is.
fn check_committed(engine: &Engine, disk: &Disk) {
    engine.sync().unwrap();
    let crashed = disk.copy();
    crashed.open().close().unwrap();
    check(&crashed);
}

/// It zeros the rest of the last block before it finds none: in a copy, when others have the block, too.
#[test]
fn a_write_far_behind_the_end_that_finds_no_space_leaves_the_file_what_it_has() {
    let disk = Disk::new(8 << 20);
    let engine = disk.open();
    let file = create(&engine, b"file").unwrap();
    file.write_at(0, &[1; 100]).unwrap();
    create(&engine, b"clone").unwrap().clone_range(0, &file, 0, 0).unwrap();
    fill(&engine, b"large");
    engine.sync().unwrap();
    let answer = file.write_at(2 * BLOCK, &vec![2; 8 * BLOCK as usize]);
    assert!(matches!(answer, Err(Error::NoSpace)));
    check_committed(&engine, &disk);
    assert_eq!(file.size(), 100);
    drop(file);
    engine.close().unwrap();
    check(&disk);
}

/// It may have made some of its inodes by then: what groups have left is enough for all, but not in one of them.
#[test]
fn a_snapshot_that_finds_no_space_leaves_nothing() {
    let disk = Disk::of_groups(16 << 20, 8);
    let engine = disk.open();
    let source = engine.make_directory(engine.root(), b"source", &New::default()).unwrap();
    // They spread over the groups.
    for number in 0..8 {
        let name = format!("directory {number}").into_bytes();
        let directory = engine.make_directory(source, &name, &New::default()).unwrap();
        for number in 0..8 {
            engine.create(directory, format!("file {number}").as_bytes(), &New::default()).unwrap();
        }
    }
    let blocks = fill(&engine, b"large") / BLOCK;
    let large = open(&engine, b"large").unwrap();
    let mut refused = 0;
    while let Err(error) = engine.snapshot(source, engine.root(), b"snapshot", Access::Writable) {
        assert!(matches!(error, Error::NoSpace));
        check_committed(&engine, &disk);
        for group in 0..8 {
            let at = group * blocks / 8 + refused * 8;
            large.punch_hole(at * BLOCK..(at + 8) * BLOCK).unwrap();
        }
        refused += 1;
    }
    assert!(refused > 3, "{refused}");
    drop(large);
    engine.close().unwrap();
    check(&disk);
}

#[test]
fn what_finds_no_space_changes_nothing() {
    let seeds = std::env::var("PAXFS_FULL_SEEDS").map_or(12, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        let mut rng = fastrand::Rng::with_seed(seed);
        let disk = Disk::new(8 << 20);
        let engine = disk.open();
        fill(&engine, b"0");
        let mut refused = 0;
        for _ in 0..400 {
            let name = |rng: &mut fastrand::Rng| rng.u8(b'0'..=b'8').to_string().into_bytes();
            let (one, other) = (name(&mut rng), name(&mut rng));
            let (at, length) = (rng.u64(0..60) * BLOCK, rng.u64(1..40 * BLOCK));
            let root = engine.root();
            let before = see(&engine);
            let result = match rng.u8(0..15) {
                12 => engine.snapshot(root, root, &one, Access::Writable).map(drop),
                13 => engine.remove_tree(root, &one),
                14 => engine.lookup(root, &one).and_then(|inode| {
                    engine.set_attribute(
                        inode,
                        b"user.a",
                        &vec![1; length as usize % 60_000],
                        SetAttribute::Any,
                    )
                }),
                0 => create(&engine, &one).map(drop),
                1 => engine.make_directory(root, &one, &New::default()).map(drop),
                2 => engine.unlink(root, &one),
                3 => engine.rename(root, &one, root, &other, Rename::Replace),
                4 => engine.lookup(root, &one).and_then(|inode| engine.link(inode, root, &other)),
                5 | 6 => open(&engine, &one).and_then(|file| file.write_at(at, &vec![8; length as usize])),
                7 => open(&engine, &one).and_then(|file| file.append(&vec![9; length as usize])).map(drop),
                8 => open(&engine, &one).and_then(|file| file.truncate(at)),
                9 => open(&engine, &one).and_then(|file| file.allocate(at..at + length, Size::Grows)),
                10 => open(&engine, &one).and_then(|file| file.zero_range(at..at + length, Size::Grows)),
                _ => open(&engine, &other)
                    .and_then(|source| open(&engine, &one)?.clone_range(0, &source, 0, 0)),
            };
            match result {
                Err(Error::NoSpace) => {
                    refused += 1;
                    assert!(see(&engine) == before, "seed {seed}");
                    if refused % 8 == 0 {
                        check_committed(&engine, &disk);
                    }
                }
                Err(error @ (Error::Damaged { .. } | Error::ShutDown)) => panic!("seed {seed}: {error}"),
                _ => {}
            }
        }
        assert!(refused > 10, "seed {seed}: {refused}");
        engine.close().unwrap();
        check(&disk);
    }
}
