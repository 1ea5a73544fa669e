#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
//! Dedupe compares what a reader would read, not what the medium holds.

mod common;

use common::{Disk, check};
use paxfs_format::geometry::BLOCK_BYTES;
use paxfs_runtime::engine::Engine;
use paxfs_runtime::file::{File, Open, Size};
use paxfs_runtime::medium::Medium;
use paxfs_runtime::namespace::New;
use paxfs_runtime::share::Dedupe;

const BLOCK: usize = 4096;

fn create(engine: &Engine, name: &[u8]) -> File {
    let inode = engine.create(engine.root(), name, &New::default()).unwrap();
    engine.open_file(inode, Open::WRITE).unwrap()
}

fn contents(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.size()).unwrap()];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

/// Linux (seen on 6.1 and 7.2) compares the stale bytes under unwritten extents, finds them equal to data, and replaces the
/// data by zeros. Here the medium under an unwritten extent is made to hold exactly the data that it is compared with.
#[test]
fn stale_bytes_under_unwritten_extents_are_not_what_is_compared() {
    let disk = Disk::new(8 << 20);
    let engine = disk.open();
    let data = create(&engine, b"data");
    data.write_at(0, &[7; 4 * BLOCK]).unwrap();
    let unwritten = create(&engine, b"unwritten");
    unwritten.allocate(0..4 * BLOCK as u64, Size::Grows).unwrap();
    engine.sync().unwrap();
    for extent in unwritten.extents().unwrap() {
        assert!(extent.flags.is_unwritten());
        let blocks = usize::try_from(extent.length.get()).unwrap();
        disk.medium.store_nt(extent.start.get() * BLOCK_BYTES, &vec![7; blocks * BLOCK]);
    }
    let all = 4 * BLOCK as u64;
    assert_eq!(data.dedupe_range(0, &unwritten, 0, all).unwrap(), Dedupe::Differs);
    assert_eq!(unwritten.dedupe_range(0, &data, 0, all).unwrap(), Dedupe::Differs);
    assert_eq!(contents(&data), [7; 4 * BLOCK]);
    assert_eq!(contents(&unwritten), [0; 4 * BLOCK]);
    drop((data, unwritten));
    engine.close().unwrap();
    check(&disk);
}

/// A hole, an unwritten extent over stale bytes, and written zeros are the same to a reader, and so to dedupe.
#[test]
fn holes_unwritten_extents_and_written_zeros_are_the_same() {
    let make: [fn(&File); 3] = [
        |file| file.truncate(2 * BLOCK as u64).unwrap(),
        |file| file.allocate(0..2 * BLOCK as u64, Size::Grows).unwrap(),
        |file| file.write_at(0, &[0; 2 * BLOCK]).unwrap(),
    ];
    for one in make {
        for other in make {
            let disk = Disk::new(8 << 20);
            let engine = disk.open();
            let (to, from) = (create(&engine, b"to"), create(&engine, b"from"));
            one(&to);
            other(&from);
            for extent in to.extents().unwrap().iter().chain(&from.extents().unwrap()) {
                if extent.flags.is_unwritten() {
                    disk.medium.store_nt(extent.start.get() * BLOCK_BYTES, &[9; BLOCK]);
                }
            }
            let answer = to.dedupe_range(0, &from, 0, 2 * BLOCK as u64).unwrap();
            assert!(matches!(answer, Dedupe::Same { .. }));
            assert_eq!((contents(&to), contents(&from)), (vec![0; 2 * BLOCK], vec![0; 2 * BLOCK]));
            // What they share now is written by one of them alone.
            to.write_at(5, &[1; 10]).unwrap();
            assert_eq!(contents(&from), [0; 2 * BLOCK]);
            drop((to, from));
            engine.close().unwrap();
            check(&disk);
        }
    }
}

/// However long they are.
#[test]
fn holes_are_passed_over() {
    let disk = Disk::new(8 << 20);
    let engine = disk.open();
    let files = [b"to", b"by"].map(|name| {
        let file = create(&engine, name);
        file.write_at(1 << 60, &[7; 100]).unwrap();
        file.write_at(0, &[7; BLOCK]).unwrap();
        file
    });
    let [to, from] = files;
    let answer = to.dedupe_range(0, &from, 0, to.size()).unwrap();
    assert_eq!(answer, Dedupe::Same { shared: 2 * BLOCK as u64 });
    to.unshare(0..u64::MAX).unwrap();
    assert_eq!((to.seek_data(1).unwrap(), to.seek_data(BLOCK as u64).unwrap()), (1, 1 << 60));
    assert_eq!((to.seek_hole(0).unwrap(), to.seek_hole(1 << 60).unwrap()), (BLOCK as u64, to.size()));
    assert!(to.extents().unwrap().iter().zip(from.extents().unwrap()).all(|(a, b)| a.start != b.start));
    drop((to, from));
    engine.close().unwrap();
    check(&disk);
}
