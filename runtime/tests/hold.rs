#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
//! Inodes that are held by number: they live on without a name, whatever they are, and go when nobody holds them.

mod common;

use common::{Disk, check, findings};
use paxfs_format::inode::FileType;
use paxfs_runtime::engine::Engine;
use paxfs_runtime::file::{Open, Set};
use paxfs_runtime::namespace::{New, Rename};

/// One inode of each type in the root, by name.
fn one_of_each(engine: &Engine) -> Vec<(&'static [u8], u64)> {
    let (root, new) = (engine.root(), New::default());
    vec![
        (b"file", engine.create(root, b"file", &new).unwrap()),
        (b"directory", engine.make_directory(root, b"directory", &new).unwrap()),
        (b"symlink", engine.symlink(root, b"symlink", &[b'x'; 2000], &new).unwrap()),
        (b"fifo", engine.make_node(root, b"fifo", FileType::Fifo, (0, 0), &new).unwrap()),
    ]
}

/// A check of a volume that is open finds its journal, and nothing else.
fn check_open(disk: &Disk) {
    let findings = findings(disk.medium.now()).unwrap();
    assert!(findings.iter().all(|finding| finding.at.starts_with("journal")), "{findings:#?}");
}

fn remove(engine: &Engine, name: &[u8]) {
    if name == b"directory" {
        engine.remove_directory(engine.root(), name).unwrap();
    } else {
        engine.unlink(engine.root(), name).unwrap();
    }
}

#[test]
fn what_is_held_lives_on_without_a_name() {
    let disk = Disk::new(8 << 20);
    let engine = disk.open();
    let before = engine.statistics().unwrap().inodes;
    for (name, inode) in one_of_each(&engine) {
        let (held, again) = (engine.hold(inode).unwrap(), engine.hold(inode).unwrap());
        remove(&engine, name);
        assert_eq!(held.attributes().unwrap().links, 0);
        engine.set_attributes(inode, &Set { uid: Some(7), ..Set::default() }).unwrap();
        assert_eq!(engine.attributes(inode).unwrap().uid, 7);
        // Its number is nobody else's.
        let other = engine.create(engine.root(), b"other", &New::default()).unwrap();
        assert_ne!(other, inode);
        engine.unlink(engine.root(), b"other").unwrap();
        drop(held);
        assert_eq!(again.attributes().unwrap().links, 0);
        drop(again);
        assert_eq!(engine.attributes(inode).unwrap_err().errno(), 116);
        assert_eq!(engine.hold(inode).unwrap_err().errno(), 116);
    }
    assert_eq!(engine.statistics().unwrap().inodes, before);
    engine.close().unwrap();
    check(&disk);
}

#[test]
fn a_crash_leaves_orphans_that_the_next_frees() {
    let disk = Disk::new(8 << 20);
    let engine = disk.open();
    let before = engine.statistics().unwrap().inodes;
    let held: Vec<_> = one_of_each(&engine)
        .into_iter()
        .map(|(name, inode)| {
            let held = engine.hold(inode).unwrap();
            remove(&engine, name);
            held
        })
        .collect();
    engine.sync().unwrap();
    check_open(&disk);
    let crashed = disk.copy();
    let next = crashed.open();
    assert_eq!(next.statistics().unwrap().inodes, before);
    next.close().unwrap();
    check(&crashed);
    drop(held);
    engine.close().unwrap();
    check(&disk);
}

#[test]
fn an_open_file_and_a_hold_end_in_any_order() {
    let disk = Disk::new(8 << 20);
    let engine = disk.open();
    for held_first in [false, true] {
        let inode = engine.create(engine.root(), b"file", &New::default()).unwrap();
        let held = engine.hold(inode).unwrap();
        let file = engine.open_file(inode, Open::WRITE).unwrap();
        file.write_at(0, &[1; 10_000]).unwrap();
        engine.unlink(engine.root(), b"file").unwrap();
        if held_first {
            drop(held);
            assert_eq!(file.size(), 10_000);
            drop(file);
        } else {
            drop(file);
            assert_eq!(held.attributes().unwrap().size, 10_000);
            // Who has looked it up may yet open it.
            assert_eq!(engine.open_file(inode, Open::READ).unwrap().size(), 10_000);
            drop(held);
        }
        assert!(engine.attributes(inode).is_err());
    }
    engine.close().unwrap();
    check(&disk);
}

#[test]
fn what_is_replaced_and_what_goes_with_its_tree() {
    let disk = Disk::new(8 << 20);
    let engine = disk.open();
    let (root, new) = (engine.root(), New::default());
    let (one, two) = (engine.create(root, b"one", &new).unwrap(), engine.create(root, b"two", &new).unwrap());
    let held = engine.hold(two).unwrap();
    engine.rename(root, b"one", root, b"two", Rename::Replace).unwrap();
    assert_eq!(held.attributes().unwrap().links, 0);
    assert_eq!(engine.lookup(root, b"two").unwrap(), one);

    let top = engine.make_directory(root, b"top", &new).unwrap();
    let inner = engine.create(top, b"inner", &new).unwrap();
    let (held_top, held_inner) = (engine.hold(top).unwrap(), engine.hold(inner).unwrap());
    engine.remove_tree(root, b"top").unwrap();
    assert_eq!(held_inner.attributes().unwrap().links, 0);
    assert!(held_top.attributes().is_err());
    engine.sync().unwrap();
    check_open(&disk);
    drop((held, held_top, held_inner));
    engine.close().unwrap();
    check(&disk);
}

#[test]
fn a_directory_knows_the_one_it_is_in() {
    let disk = Disk::new(8 << 20);
    let engine = disk.open();
    let (root, new) = (engine.root(), New::default());
    let outer = engine.make_directory(root, b"outer", &new).unwrap();
    let inner = engine.make_directory(outer, b"inner", &new).unwrap();
    assert_eq!((engine.parent(inner).unwrap(), engine.parent(outer).unwrap()), (outer, root));
    assert_eq!(engine.parent(root).unwrap(), root);
    engine.rename(outer, b"inner", root, b"moved", Rename::Replace).unwrap();
    assert_eq!(engine.parent(inner).unwrap(), root);
    let held = engine.hold(inner).unwrap();
    engine.remove_directory(root, b"moved").unwrap();
    assert_eq!(engine.parent(inner).unwrap_err().errno(), 2);
    drop(held);
    let file = engine.create(root, b"file", &new).unwrap();
    assert_eq!(engine.parent(file).unwrap_err().errno(), 20);
    engine.close().unwrap();
    check(&disk);
}
