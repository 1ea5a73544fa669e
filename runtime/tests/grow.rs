#![allow(clippy::unwrap_used, clippy::panic)]
//! Files that grow side by side end in few extents, and what they did not use is free again when they are closed.

mod common;

use common::{Disk, check};
use paxfs_runtime::file::{File, Open};
use paxfs_runtime::namespace::New;

const BLOCK: u64 = 4096;

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
    let open = engine.statistics().unwrap();
    drop(files);
    let closed = engine.statistics().unwrap();
    // Windows are free on the medium, and count as free.
    assert_eq!((open.free, open.available), (closed.free, closed.available));
    engine.close().unwrap();
    check(&disk);
}
