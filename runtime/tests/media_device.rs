#![allow(clippy::unwrap_used, clippy::panic)]
//! Media errors that the kernel tells of: a file that is shorter than it was is a medium that fails at its end.

mod common;

use common::media::{Media, Volume};
use paxfs_runtime::engine::Dax;
use paxfs_runtime::error::Error;
use paxfs_runtime::file::Open;
use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

const BLOCK: u64 = 4096;
const BYTES: usize = 8 << 20;

#[test]
fn what_the_kernel_cannot_reach_is_recorded_and_heals() {
    for media in Media::all().into_iter().filter(|media| *media != Media::Shim) {
        let volume = Volume::new(media, BYTES);
        let (inode, last) = volume.fill();
        let (block, device) = last[0];
        let image = File::options().write(true).open(volume.path()).unwrap();
        let engine = volume.open(Dax::Inode);
        let told = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&told);
        engine.on_media_error(Box::new(move |error| all.lock().unwrap().push(error.offset)));
        let file = engine.open_file(inode, Open::WRITE).unwrap();
        image.set_len(device * BLOCK).unwrap();

        let error = file.read_at(block * BLOCK, &mut [0; 10]).unwrap_err();
        assert!(matches!(error, Error::LostData { offset, .. } if offset == block * BLOCK), "{error}");
        assert_eq!(*told.lock().unwrap(), [block * BLOCK]);
        // A store there goes nowhere, and whoever syncs hears of it.
        let (stored, _) = last[1];
        file.write_at(stored * BLOCK, &[8; 10]).unwrap();
        assert!(matches!(file.sync(), Err(Error::LostWrites(_))));
        assert_eq!(engine.statistics().unwrap().bad, 2);
        assert_eq!(told.lock().unwrap().len(), 2);

        // It is let go of, and not given to anybody; when the device is whole again, the next to open it heals it.
        file.punch_hole(block * BLOCK..(block + 1) * BLOCK).unwrap();
        file.punch_hole(stored * BLOCK..(stored + 1) * BLOCK).unwrap();
        file.sync().unwrap();
        let _ = engine.sync();
        engine.sync().unwrap();
        assert_eq!(engine.statistics().unwrap().bad, 2);
        image.set_len(BYTES as u64).unwrap();
        drop(file);
        engine.close().unwrap();
        let engine = volume.open(Dax::Inode);
        assert_eq!(engine.statistics().unwrap().bad, 0);
        let file = engine.open_file(inode, Open::WRITE).unwrap();
        file.write_at(block * BLOCK, &[9; 8192]).unwrap();
        let mut bytes = [0; 10];
        file.read_at(block * BLOCK, &mut bytes).unwrap();
        assert_eq!(bytes, [9; 10]);
        drop(file);
        engine.close().unwrap();
        volume.check();
    }
}

/// Faults of many threads at one time, in blocks that heal.
#[test]
fn threads_meet_faults() {
    let volume = Volume::new(Media::File, BYTES);
    let (inode, last) = volume.fill();
    let image = File::options().write(true).open(volume.path()).unwrap();
    let engine = volume.open(Dax::Inode);
    let told = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&told);
    // Neighbours that are met at once are told of as one.
    engine.on_media_error(Box::new(move |error| {
        count.fetch_add(error.length / BLOCK, Ordering::Relaxed);
    }));
    let file = engine.open_file(inode, Open::WRITE).unwrap();
    image.set_len(last[0].1 * BLOCK).unwrap();
    std::thread::scope(|scope| {
        let file = &file;
        for block in last.iter().map(|(block, _)| *block) {
            for _ in 0..2 {
                scope.spawn(move || file.read_at(block * BLOCK, &mut [0; 10]).unwrap_err());
            }
        }
    });
    assert_eq!(told.load(Ordering::Relaxed), 3);
    image.set_len(BYTES as u64).unwrap();
    for (block, _) in &last {
        file.write_at(block * BLOCK, &[3; 4096]).unwrap();
    }
    let _ = file.sync();
    let _ = engine.sync();
    engine.sync().unwrap();
    assert_eq!(engine.statistics().unwrap().bad, 0);
    drop(file);
    engine.close().unwrap();
    volume.check();
}
