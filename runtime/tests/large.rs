#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::cast_possible_truncation)]
//! Operations whose transaction does not fit a journal slot.

mod common;

use common::{Disk, check};
use paxfs_runtime::engine::Engine;
use paxfs_runtime::file::{File, Open};
use paxfs_runtime::namespace::New;

const BLOCK: u64 = 4096;

fn file(engine: &Engine, name: &[u8]) -> File {
    let inode = match engine.lookup(engine.root(), name) {
        Ok(inode) => inode,
        Err(_) => engine.create(engine.root(), name, &New::default()).unwrap(),
    };
    engine.open_file(inode, Open::WRITE).unwrap()
}

/// A file with an extent in every second block.
fn scattered(engine: &Engine, name: &[u8], extents: u64) -> File {
    let file = file(engine, name);
    for extent in 0..extents {
        file.write_at(extent * 2 * BLOCK, &contents(extent)).unwrap();
    }
    file
}

fn contents(extent: u64) -> Vec<u8> {
    extent.to_le_bytes().repeat(BLOCK as usize / 8)
}

fn holds(file: &File, extents: u64) {
    assert_eq!(file.extents().unwrap().len() as u64, extents);
    let mut bytes = vec![0; BLOCK as usize];
    for extent in 0..extents {
        file.read_at(extent * 2 * BLOCK, &mut bytes).unwrap();
        assert!(bytes == contents(extent), "extent {extent}");
    }
}

#[test]
fn a_clone_of_many_extents_is_one_transaction() {
    const EXTENTS: u64 = 20_000;
    // A slot has half a MiB. Of the reverse map alone 160 nodes change.
    let disk = Disk::new(256 << 20);
    let engine = disk.open();
    let source = scattered(&engine, b"source", EXTENTS);
    engine.sync().unwrap();
    let before = engine.transactions();
    file(&engine, b"copy").clone_range(0, &source, 0, 0).unwrap();
    engine.sync().unwrap();
    assert_eq!(engine.transactions(), before + 1);
    drop(source);
    engine.close().unwrap();
    check(&disk);

    let engine = disk.open();
    holds(&file(&engine, b"source"), EXTENTS);
    holds(&file(&engine, b"copy"), EXTENTS);
    let free = engine.statistics().unwrap().free;
    // The last owner gone, all comes back.
    engine.unlink(engine.root(), b"source").unwrap();
    engine.sync().unwrap();
    holds(&file(&engine, b"copy"), EXTENTS);
    engine.unlink(engine.root(), b"copy").unwrap();
    engine.sync().unwrap();
    assert!(engine.statistics().unwrap().free > free + EXTENTS);
    engine.close().unwrap();
    check(&disk);
}
