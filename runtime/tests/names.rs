#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
//! Names: what a system call would answer. That they lead where they should is for the model.

mod common;

use common::Disk;
use paxfs_runtime::namespace::New;

#[test]
fn a_name_that_is_too_long_is_not_just_missing() {
    let disk = Disk::new(8 << 20);
    let engine = disk.open();
    let root = engine.root();
    for (length, errno) in [(255, 2), (256, 36), (4000, 36)] {
        let name = vec![b'x'; length];
        assert_eq!(engine.lookup(root, &name).unwrap_err().errno(), errno);
        assert_eq!(engine.unlink(root, &name).unwrap_err().errno(), errno);
        assert_eq!(engine.create(root, &name, &New::default()).is_ok(), length == 255);
        if length == 255 {
            engine.unlink(root, &name).unwrap();
        }
    }
    engine.close().unwrap();
}
