#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
//! Extended attributes: what a system call would answer, and what becomes of their blocks. That they hold what was set,
//! after crashes too, is for the model and the crash tester.

mod common;

use common::{Disk, check};
use paxfs_format::inode::InodeFlags;
use paxfs_runtime::attributes::SetAttribute;
use paxfs_runtime::engine::Engine;
use paxfs_runtime::file::{Open, Set};
use paxfs_runtime::namespace::New;

fn with_file() -> (Disk, Engine, u64) {
    let disk = Disk::new(8 << 20);
    let engine = disk.open();
    let file = engine.create(engine.root(), b"file", &New::default()).unwrap();
    (disk, engine, file)
}

fn free(engine: &Engine) -> u64 {
    engine.sync().unwrap();
    engine.statistics().unwrap().free
}

fn errno<T: core::fmt::Debug>(answer: paxfs_runtime::error::Result<T>) -> i32 {
    answer.unwrap_err().errno()
}

#[test]
fn a_change_moves_the_change_time_alone() {
    let (disk, engine, file) = with_file();
    let before = engine.attributes(file).unwrap();
    let step = || std::thread::sleep(std::time::Duration::from_millis(2));
    step();
    engine.set_attribute(file, b"user.a", b"1", SetAttribute::Any).unwrap();
    let set = engine.attributes(file).unwrap();
    assert_ne!(set.changed, before.changed);
    assert_eq!((set.modified, set.accessed), (before.modified, before.accessed));
    step();
    engine.remove_attribute(file, b"user.a").unwrap();
    let removed = engine.attributes(file).unwrap();
    assert_ne!(removed.changed, set.changed);
    assert_eq!(removed.modified, before.modified);
    engine.close().unwrap();
    check(&disk);
}

#[test]
fn what_must_not_change_keeps_its_attributes() {
    let (_disk, engine, file) = with_file();
    engine.set_attribute(file, b"user.a", b"1", SetAttribute::Any).unwrap();
    for flag in [InodeFlags::IMMUTABLE, InodeFlags::APPEND] {
        engine.set_attributes(file, &Set { flags: Some(flag), ..Set::default() }).unwrap();
        assert_eq!(errno(engine.set_attribute(file, b"user.a", b"2", SetAttribute::Any)), 1);
        assert_eq!(errno(engine.remove_attribute(file, b"user.a")), 1);
        assert_eq!(engine.get_attribute(file, b"user.a").unwrap(), b"1");
    }
    let symlink = engine.symlink(engine.root(), b"symlink", b"file", &New::default()).unwrap();
    assert_eq!(errno(engine.set_attribute(symlink, b"user.a", b"1", SetAttribute::Any)), 1);
    engine.set_attribute(symlink, b"security.a", b"1", SetAttribute::Any).unwrap();
}

#[test]
fn limits_are_those_of_the_format() {
    let (disk, engine, file) = with_file();
    let longest = [b"user.".as_slice(), &[b'n'; 250]].concat();
    engine.set_attribute(file, &longest, &[1; 65536], SetAttribute::Create).unwrap();
    assert_eq!(engine.get_attribute(file, &longest).unwrap(), [1; 65536]);
    assert_eq!(errno(engine.set_attribute(file, &longest, &[1; 65537], SetAttribute::Any)), 7);
    let longer = [longest.as_slice(), b"n"].concat();
    assert_eq!(errno(engine.set_attribute(file, &longer, b"", SetAttribute::Any)), 34);
    assert_eq!(errno(engine.get_attribute(file, &longer)), 34);
    assert_eq!(errno(engine.set_attribute(file, b"", b"", SetAttribute::Any)), 34);
    assert_eq!(errno(engine.get_attribute(file, b"user.other")), 61);
    assert_eq!(errno(engine.set_attribute(file, b"other.a", b"", SetAttribute::Any)), 95);
    engine.close().unwrap();
    check(&disk);
}

#[test]
fn a_name_of_a_file_is_no_attribute() {
    let disk = Disk::new(8 << 20);
    let engine = disk.open();
    let file = engine.create(engine.root(), b"user.a", &New::default()).unwrap();
    assert!(engine.list_attributes(file).unwrap().is_empty());
    assert_eq!(errno(engine.get_attribute(file, b"user.a")), 61);
    engine.set_attribute(file, b"user.a", b"value", SetAttribute::Create).unwrap();
    engine.remove_attribute(file, b"user.a").unwrap();
    assert_eq!(engine.lookup(engine.root(), b"user.a").unwrap(), file);
    engine.close().unwrap();
    check(&disk);
}

/// Many values under an index, replaced by longer and shorter ones, removed, and gone with their file: each time all
/// their blocks come back.
#[test]
fn blocks_of_values_come_back() {
    let (disk, engine, file) = with_file();
    let name = |number: usize| format!("user.{number}").into_bytes();
    let empty = free(&engine);
    for length in [700, 5000, 20, 30_000, 1024, 1025] {
        for number in 0..40 {
            engine.set_attribute(file, &name(number), &vec![7; length + number], SetAttribute::Any).unwrap();
        }
        assert!(free(&engine) < empty);
        assert_eq!(engine.list_attributes(file).unwrap().len(), 40);
        assert_eq!(engine.get_attribute(file, &name(39)).unwrap(), vec![7; length + 39]);
    }
    for number in 0..40 {
        engine.remove_attribute(file, &name(number)).unwrap();
    }
    assert!(engine.list_attributes(file).unwrap().is_empty());
    // The name of the file is still in a block, and that under an index.
    assert_eq!(empty - free(&engine), 2);
    for number in 0..40 {
        engine.set_attribute(file, &name(number), &[7; 9000], SetAttribute::Create).unwrap();
    }
    let handle = engine.open_file(file, Open::READ).unwrap();
    engine.unlink(engine.root(), b"file").unwrap();
    // An open file without a name keeps its attributes, and gets new ones.
    assert_eq!(engine.get_attribute(file, &name(3)).unwrap(), [7; 9000]);
    engine.set_attribute(file, &name(3), &[8; 9000], SetAttribute::Replace).unwrap();
    drop(handle);
    assert_eq!(free(&engine), empty);
    assert_eq!(errno(engine.set_attribute(file, &name(3), b"", SetAttribute::Any)), 116);
    engine.close().unwrap();
    check(&disk);
}

/// A full volume refuses a value whole: the old one stays, and nothing leaks.
#[test]
fn a_full_volume_keeps_the_old_value() {
    let (disk, engine, file) = with_file();
    engine.set_attribute(file, b"user.a", &[1; 3000], SetAttribute::Any).unwrap();
    let other = engine.create(engine.root(), b"other", &New::default()).unwrap();
    let full = (0..2000).find_map(|number| {
        let name = format!("user.{number}").into_bytes();
        engine.set_attribute(other, &name, &[2; 65536], SetAttribute::Any).err()
    });
    assert_eq!(full.unwrap().errno(), 28);
    let there = engine.list_attributes(other).unwrap().len();
    assert_eq!(errno(engine.set_attribute(file, b"user.a", &[3; 65536], SetAttribute::Any)), 28);
    assert_eq!(engine.get_attribute(file, b"user.a").unwrap(), [1; 3000]);
    assert_eq!(engine.list_attributes(other).unwrap().len(), there);
    engine.close().unwrap();
    check(&disk);
    let engine = disk.open();
    assert_eq!(engine.get_attribute(file, b"user.a").unwrap(), [1; 3000]);
    engine.unlink(engine.root(), b"other").unwrap();
    engine.set_attribute(file, b"user.a", &[3; 65536], SetAttribute::Any).unwrap();
    engine.close().unwrap();
    check(&disk);
}
