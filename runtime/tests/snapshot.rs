#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::cast_possible_truncation)]
//! Snapshots of trees: equal to their source at one instant, apart from it afterwards, and gone as a whole.

mod common;

use common::{Disk, check};
use paxfs_format::inode::FileType;
use paxfs_runtime::attributes::SetAttribute;
use paxfs_runtime::engine::Engine;
use paxfs_runtime::error::Error;
use paxfs_runtime::file::{Open, Set, Size};
use paxfs_runtime::namespace::New;
use paxfs_runtime::snapshot::Access;
use std::collections::BTreeMap;

const BLOCK: u64 = 4096;

/// What can be seen of an inode but its number: kind, permissions, size, modification time, attributes, contents; and for
/// files with several names the first of them.
type Seen = BTreeMap<Vec<u8>, String>;

fn see(engine: &Engine, root: u64) -> Seen {
    let mut seen = Seen::new();
    let mut first: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut todo = vec![(root, Vec::new())];
    while let Some((inode, path)) = todo.pop() {
        let mut names = engine.read_directory(inode, 0, usize::MAX).unwrap();
        names.sort_by(|a, b| a.name.cmp(&b.name));
        for name in names {
            let path = [path.as_slice(), b"/", name.name.as_slice()].concat();
            let attributes = engine.attributes(name.inode).unwrap();
            let same = first.entry(name.inode).or_insert_with(|| path.clone()).clone();
            let mut values: Vec<_> = engine.list_attributes(name.inode).unwrap();
            values.sort();
            let values: Vec<_> = values
                .iter()
                .map(|name_| (name_, engine.get_attribute(name.inode, name_).unwrap()))
                .collect();
            let contents = match name.kind {
                FileType::Regular => {
                    let file = engine.open_file(name.inode, Open::READ).unwrap();
                    let mut bytes = vec![0; file.size() as usize];
                    file.read_at(0, &mut bytes).unwrap();
                    bytes
                }
                FileType::Symlink => engine.read_link(name.inode).unwrap(),
                FileType::Directory => {
                    todo.push((name.inode, path.clone()));
                    Vec::new()
                }
                _ => Vec::new(),
            };
            let size = if name.kind == FileType::Directory { 0 } else { attributes.size };
            let text = format!(
                "{:?} {:o} {size} {:?} {:?} {values:?} {same:?} {contents:?}",
                name.kind, attributes.permissions, attributes.modified, attributes.device
            );
            seen.insert(path, text);
        }
    }
    seen
}

/// A tree with one of everything. Returns its directory.
fn tree(engine: &Engine) -> u64 {
    let new = New::default();
    let tree = engine.make_directory(engine.root(), b"tree", &New { permissions: 0o755, ..new }).unwrap();
    let deep = engine.make_directory(tree, b"deep", &new).unwrap();
    let deeper = engine.make_directory(deep, b"deeper", &new).unwrap();
    let file = |directory, name: &[u8]| {
        engine.open_file(engine.create(directory, name, &new).unwrap(), Open::WRITE).unwrap()
    };
    let plain = file(tree, b"plain");
    plain.write_at(0, &[1; 3 * BLOCK as usize + 5]).unwrap();
    file(deeper, b"clone").clone_range(0, &plain, 0, 0).unwrap();
    let sparse = file(deep, b"sparse");
    sparse.write_at(7 * BLOCK, &[2; 100]).unwrap();
    sparse.allocate(2 * BLOCK..4 * BLOCK, Size::Grows).unwrap();
    sparse.allocate(20 * BLOCK..30 * BLOCK, Size::Stays).unwrap();
    let scattered = file(deep, b"scattered");
    for extent in 0..60 {
        scattered.write_at(extent * 2 * BLOCK, &[extent as u8; 10]).unwrap();
    }
    engine.link(plain.inode(), deeper, b"other name").unwrap();
    engine.link(sparse.inode(), engine.root(), b"outside").unwrap();
    engine.symlink(tree, b"short", b"plain", &new).unwrap();
    engine.symlink(deep, b"long", &[b'x'; 4000], &new).unwrap();
    engine.make_node(tree, b"device", FileType::Block, (8, 1), &new).unwrap();
    engine.set_attribute(plain.inode(), b"user.small", b"value", SetAttribute::Any).unwrap();
    engine.set_attribute(deep, b"user.large", &[3; 60_000], SetAttribute::Any).unwrap();
    for number in 0..500 {
        engine.create(deeper, format!("one of many files, number {number}").as_bytes(), &new).unwrap();
    }
    engine.set_attributes(deep, &Set { permissions: Some(0o700), ..Set::default() }).unwrap();
    tree
}

#[test]
fn a_snapshot_is_its_source_at_one_instant() {
    let disk = Disk::new(32 << 20);
    let engine = disk.open();
    let (source, root) = (tree(&engine), engine.root());
    let before = see(&engine, source);
    let free = engine.statistics().unwrap().free;
    let copy = engine.snapshot(source, root, b"copy", Access::Writable).unwrap();
    let frozen = engine.snapshot(source, root, b"frozen", Access::ReadOnly).unwrap();
    assert_eq!(see(&engine, copy), before);
    assert_eq!(see(&engine, frozen), before);
    assert_eq!(engine.snapshot(source, root, b"copy", Access::Writable).unwrap_err().errno(), 17);

    // Apart from now on.
    let file = engine.open_file(engine.resolve(b"copy/plain").unwrap(), Open::WRITE).unwrap();
    file.write_at(10, b"changed").unwrap();
    engine.unlink(source, b"plain").unwrap();
    engine.unlink(engine.resolve(b"tree/deep").unwrap(), b"scattered").unwrap();
    let changed = see(&engine, copy);
    assert_ne!(changed, before);
    assert_eq!(see(&engine, frozen), before);

    // Nothing in a read-only one changes, not by any call.
    let inside = engine.resolve(b"frozen/plain").unwrap();
    assert_eq!(engine.open_file(inside, Open::WRITE).unwrap_err().errno(), 30);
    assert_eq!(engine.unlink(frozen, b"plain").unwrap_err().errno(), 30);
    assert_eq!(engine.create(frozen, b"new", &New::default()).unwrap_err().errno(), 30);
    assert_eq!(
        engine.set_attributes(inside, &Set { flags: Some(0), ..Set::default() }).unwrap_err().errno(),
        30
    );
    assert_eq!(engine.set_attribute(inside, b"user.a", b"", SetAttribute::Any).unwrap_err().errno(), 30);
    assert_eq!(engine.remove_directory(root, b"frozen").unwrap_err().errno(), 30);

    // A writable one of it is a way back.
    let back = engine.snapshot(frozen, root, b"back", Access::Writable).unwrap();
    assert_eq!(see(&engine, back), before);
    engine.close().unwrap();
    check(&disk);

    let engine = disk.open();
    assert_eq!(see(&engine, frozen), before);
    assert_eq!(see(&engine, copy), changed);
    let open = engine.open_file(engine.resolve(b"frozen/plain").unwrap(), Open::READ).unwrap();
    for name in [&b"frozen"[..], b"copy", b"back", b"tree"] {
        engine.remove_tree(root, name).unwrap();
    }
    let mut bytes = [0; 4];
    open.read_at(BLOCK, &mut bytes).unwrap();
    assert_eq!(bytes, [1; 4]);
    drop(open);
    assert_eq!(see(&engine, root).keys().collect::<Vec<_>>(), [b"/outside"]);
    engine.sync().unwrap();
    engine.sync().unwrap();
    assert!(engine.statistics().unwrap().free > free);
    engine.close().unwrap();
    check(&disk);
}

#[test]
fn snapshots_of_the_root_do_not_hold_each_other() {
    let disk = Disk::new(16 << 20);
    let engine = disk.open();
    let root = engine.root();
    let file = engine.open_file(engine.create(root, b"file", &New::default()).unwrap(), Open::WRITE).unwrap();
    for number in 0..20_u8 {
        file.write_at(0, &[number; 5000]).unwrap();
        engine.snapshot(root, root, format!("snapshot {number}").as_bytes(), Access::ReadOnly).unwrap();
    }
    drop(file);
    for number in 0..20_u8 {
        let path = format!("snapshot {number}/file");
        let file = engine.open_file(engine.resolve(path.as_bytes()).unwrap(), Open::READ).unwrap();
        let mut bytes = vec![0; 5000];
        file.read_at(0, &mut bytes).unwrap();
        assert!(bytes.iter().all(|byte| *byte == number));
    }
    assert_eq!(engine.statistics().unwrap().inodes, 2 + 20 * 2);
    engine.close().unwrap();
    check(&disk);
}

#[test]
fn a_snapshot_of_many_files_is_one_transaction() {
    const FILES: u64 = 4000;
    // A slot has 256 KiB; the new inodes alone have 2 MiB.
    let disk = Disk::new(128 << 20);
    let engine = disk.open();
    let (root, new) = (engine.root(), New::default());
    let tree = engine.make_directory(root, b"tree", &new).unwrap();
    for number in 0..FILES {
        let name = format!("file {number}");
        let file =
            engine.open_file(engine.create(tree, name.as_bytes(), &new).unwrap(), Open::WRITE).unwrap();
        file.write_at(0, name.as_bytes()).unwrap();
        file.write_at(2 * BLOCK, name.as_bytes()).unwrap();
    }
    engine.sync().unwrap();
    let before = engine.statistics().unwrap();
    let transaction = engine.transactions();
    engine.snapshot(tree, root, b"snapshot", Access::ReadOnly).unwrap();
    engine.sync().unwrap();
    assert_eq!(engine.transactions(), transaction + 1);
    let source = see(&engine, tree);
    assert_eq!(see(&engine, engine.lookup(root, b"snapshot").unwrap()), source);
    assert_eq!(source.len() as u64, FILES);
    engine.close().unwrap();
    check(&disk);

    let engine = disk.open();
    let transaction = engine.transactions();
    engine.remove_tree(root, b"snapshot").unwrap();
    engine.sync().unwrap();
    assert_eq!(engine.transactions(), transaction + 1);
    engine.sync().unwrap();
    let after = engine.statistics().unwrap();
    assert_eq!(after.inodes, before.inodes);
    assert!(after.free + 300 > before.free, "{after:?} {before:?}");
    engine.close().unwrap();
    check(&disk);
}

#[test]
fn what_finds_no_space_makes_no_snapshot() {
    let disk = Disk::new(16 << 20);
    let engine = disk.open();
    tree(&engine);
    let (root, new) = (engine.root(), New::default());
    let mut made = 0;
    let error = loop {
        match engine.snapshot(
            engine.lookup(root, b"tree").unwrap(),
            root,
            format!("{made}").as_bytes(),
            Access::Writable,
        ) {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::NoSpace), "{error}");
    assert!(made > 3, "{made}");
    assert_eq!(engine.read_directory(root, 0, usize::MAX).unwrap().len(), made + 2);
    engine.sync().unwrap();
    engine.remove_tree(root, b"0").unwrap();
    engine.sync().unwrap();
    engine.create(root, b"room again", &new).unwrap();
    engine.close().unwrap();
    check(&disk);
}
