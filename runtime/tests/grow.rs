#![allow(clippy::unwrap_used, clippy::panic)]
//! Files that grow side by side end in few extents, and what they did not use is free again when they are closed, or when
//! somebody else needs it.

mod common;

use common::{Disk, check};
use paxfs_runtime::engine::Engine;
use paxfs_runtime::error::Error;
use paxfs_runtime::file::{File, Open, Size};
use paxfs_runtime::namespace::New;

const BLOCK: u64 = 4096;
/// Data of a block.
const DATA: &[u8] = &[1; 4096];

#[test]
fn files_that_grow_in_turn_have_few_extents() {
    let disk = Disk::new(64 << 20);
    let engine = disk.open();
    let open = |name: &[u8]| {
        engine.open_file(engine.create(engine.root(), name, &New::default()).unwrap(), Open::WRITE).unwrap()
    };
    let files: Vec<File> = [b"a", b"b", b"c"].into_iter().map(|name| open(name)).collect();
    for step in 0..1000_u64 {
        for file in &files {
            file.append(&step.to_le_bytes().repeat(512)).unwrap();
        }
        if step % 100 == 0 {
            engine.sync().unwrap();
        }
    }
    for file in &files {
        let extents = file.extents().unwrap();
        assert!(extents.len() < 16, "{} extents", extents.len());
        let mut word = [0; 8];
        for step in 0..1000 {
            file.read_at(step * BLOCK, &mut word).unwrap();
            assert_eq!(u64::from_le_bytes(word), step);
        }
    }
    // What they were given to grow into is theirs while they are open, but it is no data.
    let ahead: u64 = files.iter().map(|file| file.attributes().unwrap().blocks - 1000).sum();
    assert!(ahead > 0);
    assert!(files.iter().all(|file| file.seek_hole(0).unwrap() == 1000 * BLOCK));
    let open = engine.statistics().unwrap();
    drop(files);
    let closed = engine.statistics().unwrap();
    assert_eq!(open.free + ahead, closed.free);
    engine.sync().unwrap();
    assert_eq!(open.available + ahead, engine.statistics().unwrap().available);
    engine.close().unwrap();
    check(&disk);
}

fn grown(engine: &Engine, name: &[u8], blocks: u64) -> File {
    let inode = engine.create(engine.root(), name, &New::default()).unwrap();
    let file = engine.open_file(inode, Open::WRITE).unwrap();
    for _ in 0..blocks {
        file.append(DATA).unwrap();
    }
    file
}

fn blocks(file: &File) -> u64 {
    file.attributes().unwrap().blocks
}

#[test]
fn who_finds_no_space_gets_what_others_have_ahead() {
    let disk = Disk::new(16 << 20);
    let engine = disk.open();
    let growing = grown(&engine, b"growing", 100);
    assert!(blocks(&growing) > 100);
    let filling = grown(&engine, b"filling", 0);
    let full = loop {
        if let Err(error) = filling.append(&DATA.repeat(16)) {
            break error;
        }
    };
    assert!(matches!(full, Error::NoSpace));
    assert_eq!(blocks(&growing), 100);
    drop((growing, filling));
    engine.close().unwrap();
    check(&disk);
}

#[test]
fn what_was_allocated_on_purpose_stays() {
    let disk = Disk::new(16 << 20);
    let engine = disk.open();
    // Before and after it was given some ahead.
    let early = grown(&engine, b"early", 10);
    early.allocate(30 * BLOCK..40 * BLOCK, Size::Stays).unwrap();
    let before = blocks(&early);
    early.append(DATA).unwrap();
    let late = grown(&engine, b"late", 100);
    late.allocate(0..120 * BLOCK, Size::Stays).unwrap();
    let inodes = [early.inode(), late.inode()];
    drop((early, late));
    let [early, late] = inodes.map(|inode| engine.attributes(inode).unwrap().blocks);
    assert!(early >= before && late >= 120);
    engine.close().unwrap();
    check(&disk);
}

#[test]
fn a_volume_closed_before_its_files_has_nothing_ahead() {
    let disk = Disk::new(16 << 20);
    let engine = disk.open();
    let file = grown(&engine, b"file", 100);
    let inode = file.inode();
    engine.close().unwrap();
    drop(file);
    check(&disk);
    assert_eq!(disk.open().attributes(inode).unwrap().blocks, 100);
}
