#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
//! An engine on a device that is open for reading only: it works, and the device stays as it is.

mod common;

use common::{Disk, create, read};
use paxfs_format::device::Device;
use paxfs_runtime::engine::{Engine, Options};
use paxfs_runtime::file::Open;
use paxfs_runtime::medium::{Medium, Overlay};
use std::sync::Arc;

fn overlaid(bytes: &[u8]) -> (Arc<Overlay>, Engine) {
    let medium = Arc::new(Overlay::new(Device::memory(bytes.to_vec())));
    let engine = Engine::on_medium(medium.clone() as Arc<dyn Medium>, Options::default()).unwrap();
    (medium, engine)
}

#[test]
fn what_a_crash_left_is_recovered_in_memory() {
    let disk = Disk::new(8 << 20);
    let engine = disk.open();
    let file = create(&engine, "file");
    file.write_at(0, &[7; 100_000]).unwrap();
    create(&engine, "orphan").write_at(0, &[8; 5000]).unwrap();
    let orphan = engine.open_file(engine.resolve(b"/orphan").unwrap(), Open::READ).unwrap();
    engine.unlink(engine.root(), b"orphan").unwrap();
    engine.sync().unwrap();
    // A transaction in the journal, and the volume not closed.
    let crashed = disk.medium.now();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image");
    std::fs::write(&path, &crashed).unwrap();

    let device = Device::open(&path, paxfs_format::device::Access::ReadOnly).unwrap();
    let medium: Arc<dyn Medium> = Arc::new(Overlay::new(device));
    let reader = Engine::on_medium(medium, Options::default()).unwrap();
    let there = reader.open_file(reader.resolve(b"/file").unwrap(), Open::READ).unwrap();
    assert_eq!(read(&there, 0, 200_000), [7; 100_000]);
    assert!(reader.resolve(b"/orphan").is_err());
    drop(there);
    reader.close().unwrap();
    assert!(std::fs::read(&path).unwrap() == crashed, "the device was changed");
    drop(orphan);
}

#[test]
fn what_is_stored_reads_back_and_is_gone_with_it() {
    let disk = Disk::new(8 << 20);
    let bytes = disk.medium.now();
    let (medium, engine) = overlaid(&bytes);
    create(&engine, "file").write_at(4095, &[3; 4098]).unwrap();
    engine.sync().unwrap();
    let file = engine.open_file(engine.resolve(b"/file").unwrap(), Open::READ).unwrap();
    assert_eq!(read(&file, 4095, 5000), [3; 4098]);
    let mut there = vec![0; bytes.len()];
    medium.load(0, &mut there);
    assert!(there != bytes);
    drop(file);
    engine.close().unwrap();
    let (medium, _engine) = overlaid(&bytes);
    // Past the end there is nothing, and nothing is kept.
    medium.store(bytes.len() as u64 - 2, &[1; 4]);
    let mut end = [9; 4];
    medium.load(bytes.len() as u64 - 2, &mut end);
    assert_eq!(end, [1, 1, 0, 0]);
}
