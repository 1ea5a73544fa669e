#![allow(clippy::unwrap_used, clippy::panic)]
//! Views whose memory is handed to system calls, and ranges that are pinned for that.

mod common;

use common::media::{Media, Volume, each};
use common::{create, read};
use paxfs_runtime::engine::Dax;
use paxfs_runtime::error::Error;
use paxfs_runtime::views::{Mechanism, Sharing};
use std::io::{Read, Seek, Write};

const BLOCK: u64 = 4096;

/// A buffer of a system call, or of our own operations.
#[test]
fn a_view_may_be_handed_to_calls() {
    each(|engine| {
        let file = create(engine, "a");
        file.write_at(0, &[1; 8192]).unwrap();
        file.truncate(6 * BLOCK).unwrap();
        let view = file.map(0..6 * BLOCK, Sharing::Shared).unwrap();
        let Some(address) = view.address() else { return };
        let mut other = tempfile::tempfile().unwrap();
        other.write_all(&[9; 12_288]).unwrap();
        other.rewind().unwrap();
        {
            let whole =
                (engine.mechanism() != Mechanism::Userfault).then(|| view.pin(BLOCK..4 * BLOCK).unwrap());
            // SAFETY: the view is there, and nobody else uses it.
            #[allow(unsafe_code)]
            let bytes = unsafe { std::slice::from_raw_parts_mut(address.as_ptr().add(4096), 3 * 4096) };
            other.read_exact(bytes).unwrap();
            if whole.is_some() {
                let copy = create(engine, "busy");
                assert!(matches!(copy.clone_range(0, &file, 0, 0), Err(Error::Busy)));
                assert!(matches!(file.punch_hole(0..2 * BLOCK), Err(Error::Busy)));
                assert!(matches!(engine.freeze(), Err(Error::Busy)));
                view.sync(0..6 * BLOCK).unwrap();
            }
            other.write_all(bytes).unwrap();
            // Between two places of the same file, through locks that a fault would wait for.
            file.write_at(5 * BLOCK, bytes.get(..4096).unwrap()).unwrap();
            file.read_at(0, bytes.get_mut(..4096).unwrap()).unwrap();
        }
        let mut expected = vec![1; 8192];
        expected.extend([9; 8192]);
        expected.extend([0; 4096]);
        expected.extend([9; 4096]);
        assert_eq!(read(&file, 0, 6 * 4096), expected);
        drop(engine.freeze().unwrap());
    });
}

/// As of memory that is not there: no signal, and no waiting for what never comes.
#[test]
fn a_call_that_is_handed_what_cannot_be_had_fails() {
    each(|engine| {
        let file = create(engine, "a");
        file.write_at(0, &[1; 4096]).unwrap();
        let view = file.map(0..4 * BLOCK, Sharing::Shared).unwrap();
        let Some(address) = view.address() else { return };
        // Where a frame is mapped whole what is behind the end can be reached.
        let beyond = file.map(512 * BLOCK..516 * BLOCK, Sharing::Shared).unwrap();
        let read_only = file.map(0..BLOCK, Sharing::ReadOnly).unwrap();
        let mut other = tempfile::tempfile().unwrap();
        other.write_all(&[9; 4096]).unwrap();
        let mut read_to = |at: core::ptr::NonNull<u8>| {
            other.rewind().unwrap();
            // SAFETY: the view is there, and nobody else uses it.
            #[allow(unsafe_code)]
            let bytes = unsafe { std::slice::from_raw_parts_mut(at.as_ptr(), 4096) };
            other.read_exact(bytes).map_err(|error| error.raw_os_error())
        };
        for _ in 0..2 {
            assert_eq!(read_to(beyond.address().unwrap()), Err(Some(libc::EFAULT)));
            assert_eq!(read_to(read_only.address().unwrap()), Err(Some(libc::EFAULT)));
        }
        // The file grows, and another access is answered.
        file.write_at(512 * BLOCK, &[2; 4096]).unwrap();
        let mut byte = [0];
        beyond.load(0, &mut byte).unwrap();
        assert_eq!(byte, [2]);
        read_only.load(0, &mut byte).unwrap();
        assert_eq!(byte, [1]);
        // SAFETY: as above.
        #[allow(unsafe_code)]
        unsafe {
            beyond.address().unwrap().as_ptr().write_volatile(3);
            address.as_ptr().write_volatile(4);
        }
        assert_eq!((read(&file, 512 * BLOCK, 1), read(&file, 0, 1)), (vec![3], vec![4]));
    });
}

/// What changes of a frame takes all of it away where nothing less is mapped.
#[test]
fn what_is_pinned_holds_its_frame_on_devdax() {
    let volume = Volume::new(Media::Coarse, 32 << 20);
    let engine = volume.open(Dax::Always);
    let file = create(&engine, "a");
    file.write_at(0, &vec![1; 4 << 20]).unwrap();
    let view = file.map(0..4 << 20, Sharing::Shared).unwrap();
    let pinned = view.pin(0..BLOCK).unwrap();
    assert!(matches!(file.punch_hole(8 * BLOCK..9 * BLOCK), Err(Error::Busy)));
    file.punch_hole(2 << 20..3 << 20).unwrap();
    drop(pinned);
    file.punch_hole(8 * BLOCK..9 * BLOCK).unwrap();
}
