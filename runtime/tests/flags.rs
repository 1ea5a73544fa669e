#![allow(clippy::unwrap_used)]
//! What the flags of an inode forbid.

mod common;

use common::{Disk, check};
use paxfs_format::inode::InodeFlags;
use paxfs_runtime::error::{Error, Result};
use paxfs_runtime::file::{Open, Set, Size};
use paxfs_runtime::namespace::New;

fn is_refused(answer: Result<()>) -> bool {
    matches!(answer, Err(Error::NotPermitted(_)))
}

#[test]
fn what_may_only_grow_keeps_its_contents() {
    let disk = Disk::new(8 << 20);
    let engine = disk.open();
    let [file, other] = [b"file".as_slice(), b"other"].map(|name| {
        let inode = engine.create(engine.root(), name, &New::default()).unwrap();
        engine.open_file(inode, Open::WRITE).unwrap()
    });
    file.write_at(0, &[1; 8192]).unwrap();
    other.write_at(0, &[2; 4096]).unwrap();
    let set = Set { flags: Some(InodeFlags::APPEND), ..Set::default() };
    engine.set_attributes(file.inode(), &set).unwrap();
    assert!(is_refused(file.write_at(0, &[2; 100])));
    assert!(is_refused(file.truncate(100)));
    assert!(is_refused(file.punch_hole(0..4096)));
    assert!(is_refused(file.zero_range(0..4096, Size::Stays)));
    assert!(is_refused(file.clone_range(4096, &other, 0, 0)));
    file.clone_range(8192, &other, 0, 0).unwrap();
    file.append(&[3; 4096]).unwrap();
    let mut bytes = vec![0; 4 * 4096];
    assert_eq!(file.read_at(0, &mut bytes).unwrap(), bytes.len());
    assert_eq!(bytes, [[1; 4096], [1; 4096], [2; 4096], [3; 4096]].concat());
    drop((file, other));
    engine.close().unwrap();
    check(&disk);
}
