#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
//! Files of a mount, by the system calls of any program.

mod common;

use common::{Place, can_mount};
use rustix::fs::{
    CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags, SeekFrom, XattrFlags, copy_file_range,
    fallocate, mknodat, renameat_with, seek,
};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};

/// A test on a mount of its own, if there can be one: afterwards nothing is wrong with the volume.
fn mounted(size: &str, options: &str, test: impl FnOnce(&common::Mount)) {
    if !can_mount() {
        return;
    }
    let place = Place::new(size);
    let mount = place.mount(options);
    test(&mount);
    mount.end();
    place.check();
}

fn open(mount: &common::Mount, name: &str) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(mount.path(name)).unwrap()
}

#[test]
fn names_of_all_kinds() {
    mounted("64M", "", |mount| {
        let directory = mount.path("directory");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("file"), "text").unwrap();
        fs::hard_link(directory.join("file"), mount.path("linked")).unwrap();
        symlink("directory/file", mount.path("symbolic")).unwrap();
        assert_eq!(fs::read_to_string(mount.path("symbolic")).unwrap(), "text");
        assert_eq!(fs::metadata(mount.path("linked")).unwrap().nlink(), 2);
        mknodat(CWD, mount.path("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
        if rustix::process::geteuid().is_root() {
            let numbers = rustix::fs::makedev(259, 70_000);
            mknodat(CWD, mount.path("device"), FileType::CharacterDevice, Mode::RUSR, numbers).unwrap();
            assert_eq!(fs::metadata(mount.path("device")).unwrap().rdev(), numbers);
        }
        assert_eq!(fs::remove_dir(&directory).unwrap_err().raw_os_error(), Some(39));
        assert_eq!(fs::read_link(mount.path("symbolic")).unwrap().to_str(), Some("directory/file"));

        let rename =
            |old: &str, new: &str, flags| renameat_with(CWD, mount.path(old), CWD, mount.path(new), flags);
        assert_eq!(rename("fifo", "linked", RenameFlags::NOREPLACE), Err(Errno::EXIST));
        rename("fifo", "directory", RenameFlags::EXCHANGE).unwrap();
        assert!(fs::metadata(mount.path("fifo/file")).unwrap().is_file());
        rename("fifo", "directory", RenameFlags::EXCHANGE).unwrap();
        assert_eq!(rename("fifo", "gone", RenameFlags::WHITEOUT), Err(Errno::INVAL));
        fs::rename(mount.path("linked"), mount.path("directory/file")).unwrap();
        let long = "x".repeat(256);
        assert_eq!(fs::metadata(mount.path(&long)).unwrap_err().raw_os_error(), Some(36));
    });
}

#[test]
fn what_is_removed_lives_on_while_it_is_used() {
    mounted("64M", "", |mount| {
        let file = open(mount, "file");
        file.write_all_at(&[7; 100_000], 0).unwrap();
        fs::remove_file(mount.path("file")).unwrap();
        let mut bytes = Vec::new();
        (&file).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, [7; 100_000]);
        file.write_all_at(b"more", 200_000).unwrap();
        assert_eq!((file.metadata().unwrap().nlink(), file.metadata().unwrap().len()), (0, 200_004));

        // A directory that is somebody's place, and others get no file of its number meanwhile.
        fs::create_dir(mount.path("directory")).unwrap();
        let directory = File::open(mount.path("directory")).unwrap();
        let inode = directory.metadata().unwrap().ino();
        fs::remove_dir(mount.path("directory")).unwrap();
        for index in 0..50 {
            fs::write(mount.path(&index.to_string()), "").unwrap();
            assert_ne!(fs::metadata(mount.path(&index.to_string())).unwrap().ino(), inode);
        }
        let metadata = directory.metadata().unwrap();
        assert!(metadata.is_dir() && metadata.nlink() == 0 && metadata.ino() == inode);

        // And what is only looked at.
        symlink("nowhere", mount.path("symbolic")).unwrap();
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let seen = rustix::fs::open(mount.path("symbolic"), flags, Mode::empty()).unwrap();
        fs::remove_file(mount.path("symbolic")).unwrap();
        assert_eq!(rustix::fs::fstat(&seen).unwrap().st_nlink, 0);
    });
}

#[test]
fn a_directory_is_read_while_it_changes() {
    const FILES: usize = 3000;
    mounted("64M", "", |mount| {
        for index in 0..FILES {
            fs::write(mount.path(&format!("file {index}")), "").unwrap();
        }
        let mut seen = BTreeSet::new();
        let mut directory = fs::read_dir(&mount.point).unwrap();
        // Half of them, and what was read is removed: the rest is all there, each once.
        for entry in directory.by_ref().take(FILES / 2) {
            let entry = entry.unwrap();
            assert!(seen.insert(entry.file_name()));
            fs::remove_file(entry.path()).unwrap();
        }
        for entry in directory {
            assert!(seen.insert(entry.unwrap().file_name()));
        }
        assert_eq!(seen.len(), FILES);
        assert_eq!(fs::read_dir(&mount.point).unwrap().count(), FILES - FILES / 2);
    });
}

#[test]
fn space_is_given_and_taken() {
    mounted("64M", "", |mount| {
        let file = open(mount, "file");
        fallocate(&file, FallocateFlags::empty(), 0, 1 << 20).unwrap();
        let metadata = file.metadata().unwrap();
        assert_eq!((metadata.len(), metadata.blocks()), (1 << 20, 2048));
        fallocate(&file, FallocateFlags::KEEP_SIZE, 1 << 20, 1 << 20).unwrap();
        let metadata = file.metadata().unwrap();
        assert_eq!((metadata.len(), metadata.blocks()), (1 << 20, 4096));
        file.write_all_at(&[1; 100_000], 0).unwrap();
        fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 4096, 8192).unwrap();
        fallocate(&file, FallocateFlags::ZERO_RANGE, 20_000, 100).unwrap();
        let mut bytes = vec![9; 100_000];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let expected = |at: usize| u8::from(!(4096..12_288).contains(&at) && !(20_000..20_100).contains(&at));
        assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == expected(at)));
        assert_eq!(seek(&file, SeekFrom::Hole(0)).unwrap(), 4096);
        assert_eq!(seek(&file, SeekFrom::Data(4096)).unwrap(), 12_288);
        assert_eq!(seek(&file, SeekFrom::Data(1 << 20)), Err(Errno::NXIO));
        let inserted = fallocate(&file, FallocateFlags::INSERT_RANGE, 0, 4096);
        assert_eq!(inserted, Err(Errno::OPNOTSUPP));
        file.set_len(10).unwrap();
        assert_eq!(file.metadata().unwrap().blocks(), 8);
    });
}

#[test]
fn a_copy_shares_what_it_can() {
    const BLOCK: u64 = 4096;
    mounted("64M", "", |mount| {
        let source = open(mount, "source");
        let bytes: Vec<u8> = (0..1_000_003_u32).map(|at| (at % 251) as u8).collect();
        source.write_all_at(&bytes, 0).unwrap();
        let free = || rustix::fs::statvfs(&mount.point).unwrap().f_bfree;
        let used_for = |from: u64, to: u64, length: usize| {
            let target = open(mount, "target");
            source.sync_all().unwrap();
            let before = free();
            let (mut at, mut place, mut rest) = (from, to, length);
            while rest > 0 {
                let done = copy_file_range(&source, Some(&mut at), &target, Some(&mut place), rest).unwrap();
                assert!(done > 0);
                rest -= done;
            }
            let mut copied = vec![0; length];
            target.read_exact_at(&mut copied, to).unwrap();
            let from = usize::try_from(from).unwrap();
            assert!(copied == bytes[from..from + length], "from {from} to {to}");
            drop(target);
            // What it was given ahead of its end goes when the kernel has said that it is closed.
            let shared = (0..100).any(|_| {
                std::thread::sleep(std::time::Duration::from_millis(5));
                before - free() < 8
            });
            let used = before - free();
            fs::remove_file(mount.path("target")).unwrap();
            source.sync_all().unwrap();
            assert_eq!(shared, used < 8);
            used
        };
        // All of it; from a block on; unaligned alike; not alike: that has to be copied.
        assert!(used_for(0, 0, bytes.len()) < 8);
        assert!(used_for(3 * BLOCK, 9 * BLOCK, 500_000) < 8);
        assert!(used_for(100, 100, 900_000) < 8);
        assert!(used_for(100, 200, 900_000) > 200);
        // A change of one is none of the other.
        let copy = open(mount, "copy");
        assert_eq!(
            std::io::copy(&mut File::open(mount.path("source")).unwrap(), &mut &copy).unwrap(),
            1_000_003
        );
        source.write_all_at(b"changed", 5000).unwrap();
        let mut there = [0; 7];
        copy.read_exact_at(&mut there, 5000).unwrap();
        assert_eq!(there, bytes[5000..5007]);
    });
}

#[test]
fn attributes_and_times_are_kept() {
    mounted("64M", "", |mount| {
        let path = mount.path("file");
        fs::write(&path, "text").unwrap();
        rustix::fs::setxattr(&path, "user.a", b"value", XattrFlags::CREATE).unwrap();
        assert_eq!(rustix::fs::setxattr(&path, "user.a", b"", XattrFlags::CREATE), Err(Errno::EXIST));
        assert_eq!(rustix::fs::setxattr(&path, "user.b", b"", XattrFlags::REPLACE), Err(Errno::NODATA));
        let mut value = [0; 5];
        assert_eq!(rustix::fs::getxattr(&path, "user.a", &mut value), Ok(5));
        assert_eq!(&value, b"value");
        assert_eq!(rustix::fs::getxattr(&path, "user.a", &mut [0_u8; 4]), Err(Errno::RANGE));
        let file = open(mount, "file");
        for (seconds, nanoseconds) in [(-1_234_567_890, 123_456_789), (-1, 999_999_999), (0, 0), (1 << 33, 5)]
        {
            let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
            let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
            rustix::fs::futimens(&file, &times).unwrap();
            let metadata = file.metadata().unwrap();
            assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (seconds, nanoseconds));
            assert_eq!((metadata.atime(), metadata.atime_nsec()), (seconds, nanoseconds));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4751)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o4751);
    });
}

#[test]
fn appends_of_many_threads_lose_nothing() {
    mounted("64M", "threads=8", |mount| {
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                scope.spawn(move || {
                    let mut file =
                        OpenOptions::new().append(true).create(true).open(mount.path("log")).unwrap();
                    for _ in 0..500 {
                        file.write_all(&[thread; 10]).unwrap();
                    }
                });
            }
        });
        let bytes = fs::read(mount.path("log")).unwrap();
        assert_eq!(bytes.len(), 4 * 500 * 10);
        assert!(bytes.chunks(10).all(|line| line.iter().all(|byte| *byte == line[0])));
    });
}

#[test]
fn a_full_volume_says_so_at_once() {
    mounted("16M", "", |mount| {
        let mut file = open(mount, "file");
        let error = std::iter::repeat_with(|| file.write_all(&[1; 1 << 20])).find_map(Result::err).unwrap();
        assert_eq!(error.raw_os_error(), Some(28));
        drop(file);
        fs::remove_file(mount.path("file")).unwrap();
        fs::write(mount.path("again"), vec![2; 4 << 20]).unwrap();
    });
}
