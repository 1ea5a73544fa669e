//! How devices are opened, mapped, locked, and how they take faults.
//!
//! Some tests need root for a mount or a loop device; without they say so and pass. Some need a process of their
//! own, to hold a lock or to be killed: they run this test binary again, with [`ROLE`] set.
#![allow(unsafe_code, clippy::unwrap_used, reason = "a test says what it expects by failing")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use memmap2::MmapOptions;
use paxfs_format::device::{Access, Device, DeviceError, DeviceKind, InUse, MediumError};
use paxfs_format::geometry::BLOCK_SIZE;

const BLOCK: u64 = BLOCK_SIZE as u64;

/// The environment variable that gives a child its path.
const ROLE: &str = "PAXFS_DEVICE_TEST_PATH";

/// A directory, and the name of an image in it that is not there yet.
fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image");
    (directory, path)
}

/// An image of `blocks` blocks, each full of its own number.
fn numbered(path: &Path, blocks: u8) -> Device {
    let mut device = Device::create(path, u64::from(blocks) * BLOCK).unwrap();
    for block in 0..blocks {
        device.bytes_mut(u64::from(block) * BLOCK, BLOCK_SIZE).unwrap().fill(block);
    }
    device
}

/// This test binary again, running nothing but `test`, on `path`.
fn child(test: &str, path: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]).env(ROLE, path);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Runs a command that takes root; None, with a word, when it does not succeed.
fn as_root(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output();
    match output {
        Ok(output) if output.status.success() => {
            Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
        }
        output => {
            println!("skipped: {program} {arguments:?} does not work here: {output:?}");
            None
        }
    }
}

/// A command that undoes something when this is dropped, also by a failing test.
struct Undo(&'static str, Vec<String>);

impl Drop for Undo {
    fn drop(&mut self) {
        let _ = Command::new(self.0).args(&self.1).status();
    }
}

/// A loop device over the file `path`.
fn loop_device(path: &Path) -> Option<(PathBuf, Undo)> {
    let device = as_root("losetup", &["--find", "--show", path.to_str().unwrap()])?;
    let undo = Undo("losetup", vec!["--detach".to_owned(), device.clone()]);
    Some((device.into(), undo))
}

#[test]
fn a_file_is_made_filled_and_read_again() {
    let (_directory, path) = place();
    let mut device = numbered(&path, 8);
    assert_eq!((device.kind(), device.len(), device.path()), (DeviceKind::File, 8 * BLOCK, path.as_path()));
    device.sync().unwrap();
    drop(device);
    assert_eq!(fs::read(&path).unwrap()[3 * BLOCK_SIZE..4 * BLOCK_SIZE], [3; BLOCK_SIZE]);
    let device = Device::open(&path, Access::ReadOnly).unwrap();
    assert_eq!(device.len(), 8 * BLOCK);
    assert_eq!(device.block(7).unwrap(), &[7; BLOCK_SIZE]);
    assert_eq!(device.bytes(2 * BLOCK - 1, 2).unwrap(), [1, 2]);
    assert!(!device.faulted(0, 8 * BLOCK_SIZE));
    assert_eq!((device.fault_count(), device.faults()), (0, vec![]));
}

#[test]
fn a_made_file_is_sparse() {
    let (_directory, path) = place();
    let mut device = Device::create(&path, 1 << 40).unwrap();
    device.bytes_mut((1 << 40) - 1, 1).unwrap().fill(1);
    device.sync().unwrap();
    assert_eq!(device.len(), 1 << 40);
    assert!(fs::metadata(&path).unwrap().blocks() < 1000);
}

#[test]
fn making_refuses_what_is_there_and_leaves_nothing_behind() {
    let (directory, path) = place();
    fs::write(&path, "precious").unwrap();
    assert!(matches!(Device::create(&path, 1 << 20), Err(DeviceError::Exists { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    let other = directory.path().join("other");
    assert!(matches!(Device::create(&other, BLOCK - 1), Err(DeviceError::TooSmall { .. })));
    assert!(matches!(Device::create(&other, u64::MAX), Err(DeviceError::TooLarge { .. })));
    // Such a file may be made on some file systems, but never mapped.
    assert!(matches!(Device::create(&other, i64::MAX.unsigned_abs()), Err(DeviceError::TooLarge { .. })));
    assert!(!other.exists());
}

#[test]
fn resizing_keeps_what_fits() {
    let (_directory, path) = place();
    let mut device = numbered(&path, 4);
    device.resize(2 * BLOCK).unwrap();
    assert!(device.block(2).is_err());
    device.resize(8 * BLOCK).unwrap();
    assert_eq!(device.block(1).unwrap(), &[1; BLOCK_SIZE]);
    assert_eq!(device.block(2).unwrap(), &[0; BLOCK_SIZE]);
    assert!(matches!(device.resize(0), Err(DeviceError::TooSmall { .. })));
    assert!(matches!(Device::open(&path, Access::Exclusive), Err(DeviceError::Locked { .. })));
    let mut reader = Device::open(&path, Access::ReadOnly).unwrap();
    assert!(matches!(reader.resize(BLOCK), Err(DeviceError::NotResizable { .. })));
    assert!(matches!(Device::memory(vec![0; 8192]).resize(BLOCK), Err(DeviceError::NotResizable { .. })));
}

#[test]
fn an_empty_file_has_no_bytes() {
    let (_directory, path) = place();
    File::create(&path).unwrap();
    for access in [Access::ReadOnly, Access::Exclusive] {
        let mut device = Device::open(&path, access).unwrap();
        assert!(device.is_empty());
        assert_eq!(device.bytes(0, 0).unwrap(), [0_u8; 0]);
        assert_eq!(device.bytes(0, 1), Err(MediumError::OutOfRange { offset: 0, length: 1, device: 0 }));
        assert!(device.block(0).is_err());
        device.sync().unwrap();
    }
    let mut device = Device::open(&path, Access::Exclusive).unwrap();
    device.resize(BLOCK).unwrap();
    assert_eq!(device.block(0).unwrap(), &[0; BLOCK_SIZE]);
}

#[test]
fn no_range_reaches_past_the_end() {
    let mut device = Device::memory(vec![7; 2 * BLOCK_SIZE + 100]);
    let end = device.len();
    assert_eq!(device.bytes(end, 0).unwrap(), [0_u8; 0]);
    assert_eq!(device.bytes(end - 1, 1).unwrap(), [7]);
    assert_eq!(device.block(1).unwrap(), &[7; BLOCK_SIZE]);
    for (offset, length) in
        [(end, 1), (end - 1, 2), (end + 1, 0), (0, usize::MAX), (u64::MAX, 1), (u64::MAX, usize::MAX)]
    {
        let error = MediumError::OutOfRange { offset, length: length as u64, device: end };
        assert_eq!(device.bytes(offset, length), Err(error));
        assert_eq!(device.bytes_mut(offset, length), Err(error));
        assert_eq!(device.zero_range(offset, length as u64), Err(error));
        assert_eq!(device.regions_mut(&[(0, 1), (offset, length)]), Err(error));
        assert!(!device.faulted(offset, length));
    }
    for block in [2, 3, u64::MAX / BLOCK, u64::MAX / BLOCK + 1, u64::MAX] {
        let offset = block.saturating_mul(BLOCK);
        assert_eq!(device.block(block), Err(MediumError::OutOfRange { offset, length: BLOCK, device: end }));
    }
}

#[test]
fn memory_is_a_device() {
    let mut device = Device::memory(vec![1; 2 * BLOCK_SIZE]);
    assert_eq!((device.kind(), device.path()), (DeviceKind::Memory, Path::new("(memory)")));
    device.bytes_mut(BLOCK, 1).unwrap().fill(2);
    device.zero_range(0, 10).unwrap();
    device.sync().unwrap();
    assert_eq!((device.bytes(9, 2).unwrap(), device.block(1).unwrap()[0]), (&[0, 1][..], 2));
    assert!(Device::memory(vec![]).is_empty());
}

#[test]
fn stores_last_by_themselves_in_memory_and_on_tmpfs() {
    assert!(Device::memory(vec![0; BLOCK_SIZE]).is_byte_addressable());
    let Ok(directory) = tempfile::tempdir_in("/dev/shm") else {
        println!("skipped: no tmpfs here");
        return;
    };
    let path = directory.path().join("image");
    assert!(Device::create(&path, BLOCK).unwrap().is_byte_addressable());
    assert!(Device::open(&path, Access::ReadOnly).unwrap().is_byte_addressable());
}

#[test]
fn regions_ascend_and_do_not_overlap() {
    let mut device = Device::memory(vec![0; 100]);
    let mut regions = device.regions_mut(&[(0, 10), (10, 0), (10, 5), (95, 5)]).unwrap();
    std::thread::scope(|scope| {
        for (value, region) in (1..).zip(&mut regions) {
            scope.spawn(move || region.fill(value));
        }
    });
    assert_eq!(device.bytes(0, 16).unwrap(), [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 3, 3, 3, 0]);
    assert_eq!(device.bytes(94, 6).unwrap(), [0, 4, 4, 4, 4, 4]);
    let unordered = |offset, end| Err(MediumError::Unordered { offset, end });
    assert_eq!(device.regions_mut(&[(0, 10), (9, 5)]), unordered(9, 10));
    assert_eq!(device.regions_mut(&[(50, 10), (0, 5)]), unordered(0, 60));
    assert_eq!(device.regions_mut(&[]), Ok(vec![]));
}

#[test]
fn a_reader_changes_nothing() {
    let (_directory, path) = place();
    drop(numbered(&path, 4));
    // An access time older than the modification time is what relatime would update.
    let long_ago = SystemTime::now() - Duration::from_secs(1_000_000);
    let times = fs::FileTimes::new().set_accessed(long_ago).set_modified(long_ago);
    File::options().write(true).open(&path).unwrap().set_times(times).unwrap();
    let before = fs::metadata(&path).unwrap();
    let mut device = Device::open(&path, Access::ReadOnly).unwrap();
    assert_eq!(device.block(2).unwrap(), &[2; BLOCK_SIZE]);
    assert_eq!(device.bytes_mut(0, 1), Err(MediumError::ReadOnly));
    assert_eq!(device.regions_mut(&[(0, 1)]), Err(MediumError::ReadOnly));
    assert_eq!(device.zero_range(0, 1), Err(MediumError::ReadOnly));
    device.sync().unwrap();
    drop(device);
    let after = fs::metadata(&path).unwrap();
    assert_eq!(after.accessed().unwrap(), before.accessed().unwrap());
    assert_eq!(after.modified().unwrap(), before.modified().unwrap());
    assert_eq!((after.ctime(), after.ctime_nsec()), (before.ctime(), before.ctime_nsec()));
}

#[test]
fn one_exclusive_handle_at_a_time() {
    let (_directory, path) = place();
    let holder = numbered(&path, 1);
    let error = Device::open(&path, Access::Exclusive).unwrap_err();
    let DeviceError::Locked { holder: Some(who), .. } = &error else { panic!("{error:?}") };
    assert_eq!(who.pid, std::process::id());
    assert!(error.to_string().contains(&format!("locked by process {}", who.pid)), "{error}");
    // Our own use does not count as another's, and readers are not kept out.
    assert_eq!(Device::in_use(&path).unwrap(), None);
    Device::open(&path, Access::ReadOnly).unwrap();
    drop(holder);
    Device::open(&path, Access::Exclusive).unwrap();
}

#[test]
fn the_lock_of_another_process_is_seen() {
    let (_directory, path) = place();
    drop(numbered(&path, 1));
    let mut other = child("role_hold_the_lock", &path);
    // Kept until the other is done, which could not write its last words otherwise.
    let mut output = BufReader::new(other.stdout.take().unwrap());
    assert!(output.by_ref().lines().any(|line| line.unwrap().contains("locked it")));
    let used = Device::in_use(&path).unwrap();
    let Some(InUse::Locked { holder }) = &used else { panic!("{used:?}") };
    assert_eq!(holder.pid, other.id());
    assert!(holder.name.is_some());
    drop(other.stdin.take());
    assert!(other.wait().unwrap().success());
    assert_eq!(Device::in_use(&path).unwrap(), None);
}

#[test]
#[ignore = "a role of the_lock_of_another_process_is_seen"]
fn role_hold_the_lock() {
    let Some(path) = std::env::var_os(ROLE) else { return };
    let _device = Device::open(Path::new(&path), Access::Exclusive).unwrap();
    println!("locked it");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

#[test]
fn what_is_no_device_is_refused_without_waiting() {
    let (directory, path) = place();
    let fifo = directory.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    let socket = directory.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for access in [Access::ReadOnly, Access::Exclusive] {
        let refused = |path: &Path, noun: &str| {
            let error = Device::open(path, access).unwrap_err();
            assert!(matches!(&error, DeviceError::NotADevice { found, .. } if *found == noun), "{error:?}");
        };
        refused(directory.path(), "directory");
        refused(&fifo, "FIFO");
        refused(&socket, "socket");
        refused(Path::new("/dev/null"), "character device other than devdax");
        assert!(matches!(Device::open(&path, access), Err(DeviceError::NotFound { .. })));
    }
    assert!(matches!(Device::in_use(&path), Err(DeviceError::NotFound { .. })));
}

#[test]
fn a_file_made_smaller_reads_as_zeros_and_says_so() {
    let (_directory, path) = place();
    drop(numbered(&path, 200));
    let device = Device::open(&path, Access::ReadOnly).unwrap();
    assert_eq!(device.block(150).unwrap(), &[150; BLOCK_SIZE]);
    File::options().write(true).open(&path).unwrap().set_len(100 * BLOCK).unwrap();
    assert!(!device.faulted(0, usize::MAX));
    for block in [100, 163, 150, 199, 150] {
        assert_eq!(device.block(block).unwrap(), &[0; BLOCK_SIZE]);
        assert!(device.faulted(block * BLOCK + 5, 1));
    }
    assert_eq!((device.fault_count(), device.faults()), (4, vec![100, 150, 163, 199]));
    assert!(device.faulted(99 * BLOCK, BLOCK_SIZE + 1) && device.faulted(0, usize::MAX));
    assert!(!device.faulted(0, 100 * BLOCK_SIZE) && !device.faulted(101 * BLOCK, 49 * BLOCK_SIZE));
    assert_eq!(device.block(99).unwrap(), &[99; BLOCK_SIZE]);
}

#[test]
fn faults_of_many_threads_on_many_devices_stay_apart() {
    let (directory, _) = place();
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let path = directory.path().join(thread.to_string());
            scope.spawn(move || {
                for _ in 0..50 {
                    drop(numbered(&path, 64));
                    let device = Device::open(&path, Access::ReadOnly).unwrap();
                    File::options().write(true).open(&path).unwrap().set_len(32 * BLOCK).unwrap();
                    std::thread::scope(|scope| {
                        for _ in 0..2 {
                            scope.spawn(|| {
                                (0..64).map(|block| u64::from(device.block(block).unwrap()[9])).sum::<u64>()
                            });
                        }
                    });
                    assert_eq!(device.faults(), Vec::from_iter(32..64));
                    fs::remove_file(&path).unwrap();
                }
            });
        }
    });
}

#[test]
fn a_block_that_is_back_heals_and_keeps_what_is_stored() {
    let (_directory, path) = place();
    let mut device = numbered(&path, 4);
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(2 * BLOCK).unwrap();
    device.bytes_mut(2 * BLOCK, 2 * BLOCK_SIZE).unwrap().fill(9);
    assert_eq!(device.narrow(), [2, 3]);
    assert!(!device.heal(2));
    file.set_len(4 * BLOCK).unwrap();
    assert!(device.heal(2));
    assert_eq!(device.faults(), [3]);
    assert_eq!(device.block(2).unwrap(), &[0; BLOCK_SIZE]);
    device.bytes_mut(2 * BLOCK, BLOCK_SIZE).unwrap().fill(8);
    // One that was never bad is zeros afterwards, too.
    assert!(device.heal(3) && device.heal(1) && !device.heal(4) && !device.heal(u64::MAX));
    device.sync().unwrap();
    drop(device);
    let there = fs::read(&path).unwrap();
    let (blocks, _) = there.as_chunks::<BLOCK_SIZE>();
    assert_eq!((blocks[1], blocks[2], blocks[3]), ([0; BLOCK_SIZE], [8; BLOCK_SIZE], [0; BLOCK_SIZE]));
    assert!(!Device::open(&path, Access::ReadOnly).unwrap().heal(0));
}

#[test]
fn lost_stores_fail_the_sync() {
    let (_directory, path) = place();
    let mut device = numbered(&path, 4);
    File::options().write(true).open(&path).unwrap().set_len(2 * BLOCK).unwrap();
    device.bytes_mut(0, 4 * BLOCK_SIZE).unwrap().fill(9);
    let error = device.sync().unwrap_err();
    assert!(matches!(error, DeviceError::Faulted { blocks: 2, first: 2, .. }), "{error:?}");
    assert_eq!(fs::read(&path).unwrap(), [9; 2 * BLOCK_SIZE]);
    // Zeroed means zeroed, in the replacement pages too.
    device.zero_range(0, 4 * BLOCK).unwrap();
    assert_eq!(device.bytes(0, 4 * BLOCK_SIZE).unwrap(), [0; 4 * BLOCK_SIZE]);
    assert!(matches!(device.resize(8 * BLOCK), Err(DeviceError::Faulted { .. })));
}

#[test]
fn a_full_file_system_loses_stores_and_says_so() {
    let (directory, _) = place();
    let at = directory.path().to_str().unwrap();
    if as_root("mount", &["-t", "tmpfs", "-o", "size=1m", "paxfs-test", at]).is_none() {
        return;
    }
    let _undo = Undo("umount", vec!["--lazy".to_owned(), at.to_owned()]);
    let mut device = Device::create(&directory.path().join("image"), 4 << 20).unwrap();
    device.bytes_mut(0, 4 << 20).unwrap().fill(1);
    assert!(device.fault_count() >= 768, "{}", device.fault_count());
    assert_eq!(device.faults().len() as u64, device.fault_count());
    assert!(matches!(device.sync(), Err(DeviceError::Faulted { .. })));
}

#[test]
fn zeroing_gives_the_space_back() {
    let (_directory, path) = place();
    let mut device = Device::create(&path, 4 << 20).unwrap();
    device.bytes_mut(0, 4 << 20).unwrap().fill(1);
    device.sync().unwrap();
    let before = fs::metadata(&path).unwrap().blocks();
    device.zero_range(100, (3 << 20) - 200).unwrap();
    device.sync().unwrap();
    // Before the zeros are read: tmpfs allocates a hole that is read through a mapping.
    assert!(fs::metadata(&path).unwrap().blocks() < before / 2);
    let bytes = device.bytes(0, 4 << 20).unwrap();
    assert!(
        bytes.iter().enumerate().all(|(at, byte)| *byte == u8::from(!(100..(3 << 20) - 100).contains(&at)))
    );
    device.zero_range(5, 0).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 4 << 20);
}

#[test]
fn a_block_device_and_the_file_under_it() {
    let (directory, path) = place();
    drop(numbered(&path, 255));
    let Some((block_device, _undo)) = loop_device(&path) else { return };
    let Some(InUse::Loop { device, mounted_at: None }) = Device::in_use(&path).unwrap() else { panic!() };
    assert_eq!(device, block_device);
    assert_eq!(Device::in_use(&block_device).unwrap(), None);

    let mut device = Device::open(&block_device, Access::Exclusive).unwrap();
    assert_eq!((device.kind(), device.len()), (DeviceKind::Block, 255 * BLOCK));
    assert!(!device.is_byte_addressable());
    assert!(matches!(
        Device::open(&block_device, Access::Exclusive),
        Err(DeviceError::Busy { .. } | DeviceError::Locked { .. })
    ));
    assert!(matches!(device.resize(BLOCK), Err(DeviceError::NotResizable { .. })));
    device.zero_range(7 * BLOCK, 3 * BLOCK).unwrap();
    device.zero_range(20 * BLOCK + 1, 1).unwrap();
    device.bytes_mut(0, 5).unwrap().copy_from_slice(b"paxfs");
    device.sync().unwrap();
    for block in 0..255_u8 {
        let expected = if (7..10).contains(&block) { 0 } else { block };
        assert_eq!(device.block(u64::from(block)).unwrap()[9], expected);
    }
    drop(device);
    let bytes = fs::read(&path).unwrap();
    assert_eq!((&bytes[..5], &bytes[20 * BLOCK_SIZE..][..3]), (&b"paxfs"[..], &[20, 0, 20][..]));
    let reader = Device::open(&block_device, Access::ReadOnly).unwrap();
    assert_eq!(reader.bytes(0, 5).unwrap(), b"paxfs");
    drop(reader);

    let at = directory.path().join("mount point");
    fs::create_dir(&at).unwrap();
    if as_root("mkfs.ext4", &["-q", "-F", block_device.to_str().unwrap()]).is_none()
        || as_root("mount", &[block_device.to_str().unwrap(), at.to_str().unwrap()]).is_none()
    {
        return;
    }
    let _undo = Undo("umount", vec![at.to_str().unwrap().to_owned()]);
    assert_eq!(Device::in_use(&block_device).unwrap(), Some(InUse::Mounted { at: at.clone() }));
    assert_eq!(
        Device::in_use(&path).unwrap(),
        Some(InUse::Loop { device: block_device.clone(), mounted_at: Some(at.clone()) })
    );
    let error = Device::open(&block_device, Access::Exclusive).unwrap_err();
    assert!(matches!(&error, DeviceError::Mounted { at: found, .. } if *found == at), "{error:?}");
    Device::open(&block_device, Access::ReadOnly).unwrap();
    assert!(fs::metadata(&block_device).unwrap().file_type().is_block_device());
    // The kernel refuses MAP_SYNC there, and the file is mapped all the same.
    assert!(!numbered(&at.join("image"), 1).is_byte_addressable());
}

#[test]
fn swap_is_in_use() {
    let (_directory, path) = place();
    fs::write(&path, vec![0; 1 << 20]).unwrap();
    let name = path.to_str().unwrap();
    if as_root("mkswap", &[name]).is_none() || as_root("swapon", &[name]).is_none() {
        return;
    }
    let _undo = Undo("swapoff", vec![name.to_owned()]);
    assert_eq!(Device::in_use(&path).unwrap(), Some(InUse::Swap));
}

/// Each scattered fault splits the mapping, and the kernel counts the pieces.
#[test]
fn more_faults_than_the_kernel_has_room_for_lose_the_device_not_the_process() {
    let limit = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap().trim().parse::<u64>().unwrap();
    if limit > 100_000 {
        println!("skipped: it takes too long to reach vm.max_map_count = {limit}");
        return;
    }
    let (_directory, path) = place();
    drop(Device::create(&path, (limit + 100) * BLOCK).unwrap());
    let mut other = child("role_fault_here_and_there", &path);
    drop(other.stdin.take());
    let output = other.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("all faulted"), "{output:?}");
}

#[test]
#[ignore = "a role of more_faults_than_the_kernel_has_room_for_lose_the_device_not_the_process"]
fn role_fault_here_and_there() {
    let Some(path) = std::env::var_os(ROLE) else { return };
    let mut device = Device::open(Path::new(&path), Access::Exclusive).unwrap();
    let blocks = device.len() / BLOCK;
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    for block in (0..blocks).step_by(2) {
        device.bytes_mut(block * BLOCK, 1).unwrap().fill(1);
    }
    assert_eq!(device.fault_count(), blocks);
    assert!(device.faults().into_iter().eq(0..blocks));
    assert!(matches!(device.sync(), Err(DeviceError::Faulted { .. })));
    println!("all faulted");
}

#[test]
fn a_fault_that_is_not_ours_still_kills() {
    const SIGBUS: i32 = 7;
    let (_directory, path) = place();
    drop(numbered(&path, 2));
    let mut victim = child("role_fault_elsewhere", &path);
    drop(victim.stdin.take());
    let output = victim.wait_with_output().unwrap();
    assert_eq!(output.status.signal(), Some(SIGBUS), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("faults: [1]"), "{output:?}");
}

#[test]
#[ignore = "a role of a_fault_that_is_not_ours_still_kills"]
fn role_fault_elsewhere() {
    let Some(path) = std::env::var_os(ROLE) else { return };
    let device = Device::open(Path::new(&path), Access::ReadOnly).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let foreign = MmapOptions::new().len(2 * BLOCK_SIZE).map_raw_read_only(&file).unwrap();
    file.set_len(BLOCK).unwrap();
    // Ours is survived first, so that it is not for want of a handler that the other kills.
    assert_eq!(device.block(1).unwrap(), &[0; BLOCK_SIZE]);
    println!("faults: {:?}", device.faults());
    // SAFETY: within the mapping; that the page behind it is gone is what this test is about.
    let byte = unsafe { foreign.as_ptr().add(BLOCK_SIZE).read_volatile() };
    println!("survived a foreign fault, with {byte}");
}
