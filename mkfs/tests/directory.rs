//! Volumes filled from directories, read back and compared with the source.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

mod common;

use common::{Verified, verify, verify_file};
use paxfs_format::device::{Access, Device};
use paxfs_format::inode::Inode;
use rustix::fs::{AtFlags, CWD, FileType, Mode, XattrFlags, mknodat, setxattr, utimensat};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const MKFS: &str = env!("CARGO_BIN_EXE_mkfs-paxfs");

fn mkfs(arguments: &[&str]) -> Output {
    Command::new(MKFS).args(arguments).env_remove("SOURCE_DATE_EPOCH").output().unwrap()
}

fn made(arguments: &[&str]) -> String {
    let output = mkfs(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A place with a directory to copy, and a path for an image beside it.
struct Place {
    _directory: tempfile::TempDir,
    source: PathBuf,
    image: PathBuf,
}

fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let (source, image) = (directory.path().join("source"), directory.path().join("image"));
    fs::create_dir(&source).unwrap();
    Place { _directory: directory, source, image }
}

impl Place {
    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.source.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn make(&self, size: &str, more: &[&str]) -> String {
        let fixed = ["-d", self.source.to_str().unwrap(), self.image.to_str().unwrap(), size];
        made(&[more, &fixed].concat())
    }

    fn refused(&self, size: &str) -> String {
        let output = mkfs(&["-d", self.source.to_str().unwrap(), self.image.to_str().unwrap(), size]);
        assert_eq!(output.status.code(), Some(1));
        assert!(!self.image.exists(), "something was left");
        String::from_utf8(output.stderr).unwrap()
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Compares everything in the volume with the source.
fn compare(source: &Path, device: &Device, verified: &Verified) {
    let mut names = BTreeMap::new();
    let mut stack = vec![source.to_path_buf()];
    while let Some(directory) = stack.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                stack.push(path.clone());
            }
            let name = [b"/", path.strip_prefix(source).unwrap().as_os_str().as_bytes()].concat();
            names.insert(name, (path, metadata));
        }
    }
    assert!(names.keys().eq(verified.names.keys()), "names differ");
    for (name, (path, metadata)) in &names {
        let inode = verified.inode(device, name);
        same_attributes(&inode, metadata, path);
        if metadata.is_file() {
            assert!(verified.read(device, name) == fs::read(path).unwrap(), "{path:?}");
        } else if metadata.is_symlink() {
            assert_eq!(verified.target(device, name), fs::read_link(path).unwrap().as_os_str().as_bytes());
        }
    }
}

fn same_attributes(inode: &Inode, metadata: &fs::Metadata, path: &Path) {
    assert_eq!(inode.mode.get(), metadata.mode(), "{path:?}");
    assert_eq!((inode.uid.get(), inode.gid.get()), (metadata.uid(), metadata.gid()), "{path:?}");
    let times = [
        (inode.modified, metadata.mtime(), metadata.mtime_nsec()),
        (inode.changed, metadata.ctime(), metadata.ctime_nsec()),
    ];
    for (ours, seconds, nanoseconds) in times {
        assert_eq!(
            (ours.seconds.get(), i64::from(ours.nanoseconds.get())),
            (seconds, nanoseconds),
            "{path:?}"
        );
    }
    if !metadata.is_dir() {
        assert_eq!(u64::from(inode.links.get()), metadata.nlink(), "{path:?}");
        assert_eq!(inode.size.get(), metadata.size(), "{path:?}");
    }
    let device = metadata.rdev();
    assert_eq!(
        (inode.major.get(), inode.minor.get()),
        (rustix::fs::major(device), rustix::fs::minor(device))
    );
}

#[test]
fn everything_that_a_directory_can_hold() {
    let place = place();
    place.write("empty", "");
    place.write("small", "some words");
    place.write("block", vec![1; 4096]);
    place.write("odd", vec![2; 4097]);
    place.write("large", (0..5_000_000u32).map(|i| (i / 7) as u8).collect::<Vec<_>>());
    place.write("a/b/c/deep", "deep");
    place.write("a/readonly", "x");
    fs::set_permissions(place.source.join("a/readonly"), fs::Permissions::from_mode(0o4511)).unwrap();
    fs::create_dir(place.source.join("nothing")).unwrap();
    fs::write(place.source.join(std::ffi::OsStr::from_bytes(b"raw-\xff-\n")), "raw").unwrap();
    fs::write(place.source.join("n".repeat(255)), "long name").unwrap();
    symlink("small", place.source.join("short")).unwrap();
    symlink("t/".repeat(2047), place.source.join("long")).unwrap();
    symlink("small", place.source.join("s".repeat(255))).unwrap();
    fs::hard_link(place.source.join("small"), place.source.join("a/other")).unwrap();
    fs::hard_link(place.source.join("short"), place.source.join("a/short-too")).unwrap();
    for i in 0..300 {
        place.write(&format!("many/file-{i}"), format!("{i}"));
    }
    mknodat(CWD, place.source.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(place.source.join("socket")).unwrap();
    if is_root() {
        let number = rustix::fs::makedev(8, 300);
        mknodat(CWD, place.source.join("disk"), FileType::BlockDevice, Mode::RUSR, number).unwrap();
        mknodat(CWD, place.source.join("tty"), FileType::CharacterDevice, Mode::RUSR, 5).unwrap();
        std::os::unix::fs::chown(place.source.join("odd"), Some(12345), Some(4_000_000_000)).unwrap();
    } else {
        println!("not root: no device nodes, no foreign owners");
    }
    let old = rustix::fs::Timespec { tv_sec: -5, tv_nsec: 123_456_789 };
    let times = rustix::fs::Timestamps { last_access: old, last_modification: old };
    utimensat(CWD, place.source.join("odd"), &times, AtFlags::empty()).unwrap();
    place.make("64M", &["-O", "csum"]);
    let (device, verified) = verify_file(&place.image);
    compare(&place.source, &device, &verified);
    let odd = verified.inode(&device, b"/odd");
    assert_eq!((odd.accessed.seconds.get(), odd.accessed.nanoseconds.get()), (-5, 123_456_789));
    assert_eq!(verified.names[b"/small".as_slice()], verified.names[b"/a/other".as_slice()]);
    let root = verified.names.values().min().copied().unwrap() - 1;
    assert_eq!(root % 64, 0);
}

#[test]
fn attributes_and_acls() {
    let place = place();
    let file = place.write("file", "x");
    let large = vec![7; 60_000];
    let mut expected: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut set =
        |path: &Path, name: &str, value: &[u8]| match setxattr(path, name, value, XattrFlags::empty()) {
            Ok(()) => {
                expected.insert(name.into(), value.into());
            }
            Err(error) => println!("{name} with {} bytes is not possible here: {error}", value.len()),
        };
    set(&file, "user.small", b"value");
    set(&file, "user.empty", b"");
    set(&file, "user.middle", &large[..900]);
    set(&file, "user.large", &large);
    set(&file, &format!("user.{}", "n".repeat(250)), b"\0\xff");
    // An ACL: version 2; user::rw, user:1000:r, group::r, mask::r, other::-.
    let acl = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\xe8\x03\0\0\x04\0\x04\0\xff\xff\xff\xff\x10\0\x04\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";
    set(&file, "system.posix_acl_access", acl);
    if is_root() {
        set(&file, "trusted.own", b"t");
    }
    let directory = place.source.join("directory");
    fs::create_dir(&directory).unwrap();
    let on_directory = setxattr(&directory, "user.d", b"dir", XattrFlags::empty()).is_ok();
    place.make("16M", &[]);
    let (device, verified) = verify_file(&place.image);
    assert_eq!(verified.xattrs(&device, b"/file"), expected);
    assert_eq!(verified.xattrs(&device, b"/directory").len(), usize::from(on_directory));
}

#[test]
fn sparse_files_stay_sparse() {
    let place = place();
    let file = fs::File::create(place.source.join("sparse")).unwrap();
    file.set_len(1 << 40).unwrap();
    file.write_all_at(b"begin", 0).unwrap();
    file.write_all_at(b"middle", 3 << 20).unwrap();
    file.write_all_at(&vec![5; 3 << 20], 1 << 30).unwrap();
    fs::File::create(place.source.join("hole")).unwrap().set_len(1 << 20).unwrap();
    fs::File::create(place.source.join("tiny hole")).unwrap().set_len(100).unwrap();
    // Allocated behind its end, so that its blocks say nothing of the holes in it.
    let behind = fs::File::create(place.source.join("behind")).unwrap();
    behind.write_all_at(&[1; 4096], 1 << 20).unwrap();
    let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
    let _ = rustix::fs::fallocate(&behind, flags, (1 << 20) + 4096, 2 << 20);
    for features in ["", "csum"] {
        place.make("64M", &["-f", "-O", features]);
        let (_, verified) = verify_file(&place.image);
        let extents = &verified.extents[&verified.names[b"/sparse".as_slice()]];
        let shape: Vec<_> = extents.iter().map(|one| (one.offset.get(), one.length.get())).collect();
        assert_eq!(shape, [(0, 1), (768, 1), (1 << 18, 768)]);
        assert_eq!(extents[2].start.get() % 512, 0);
        for name in [b"/hole".as_slice(), b"/tiny hole"] {
            assert_eq!(verified.extents[&verified.names[name]], []);
        }
        let behind = &verified.extents[&verified.names[b"/behind".as_slice()]];
        assert_eq!(
            behind.iter().map(|one| (one.offset.get(), one.length.get())).collect::<Vec<_>>(),
            [(256, 1)]
        );
    }
}

#[test]
fn equal_contents_are_shared() {
    let place = place();
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    let large: Vec<u8> = (0..5_000_001).map(|_| random()).collect();
    place.write("a", &large);
    place.write("b/c", &large);
    // The same but for one byte in the second frame.
    let mut other = large.clone();
    other[3_000_000] ^= 1;
    place.write("d", &other);
    place.write("small 1", "small");
    place.write("small 2", "small");
    place.write("small 3", "Small");
    let words = place.make("64M", &["-s"]);
    // All of one (1221 blocks), of the other the first frame and the last piece (709), and a block.
    assert!(
        words.contains(&format!("shared     {} saved", paxfs_mkfs::size::human((1221 + 709 + 1) * 4096))),
        "{words}"
    );
    let (device, verified) = verify_file(&place.image);
    compare(&place.source, &device, &verified);
    let output =
        mkfs(&["-s", "-O", "^reflink", "-d", place.source.to_str().unwrap(), "/nonexistent/x", "64M"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_file_that_repeats_itself_shares_with_itself() {
    let place = place();
    place.write("zeros", vec![0; 8 << 20]);
    place.make("64M", &["-s"]);
    let (device, verified) = verify_file(&place.image);
    compare(&place.source, &device, &verified);
    assert_eq!(verified.extents[&verified.names[b"/zeros".as_slice()]].len(), 4);
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let place = place();
    for i in 0..3000 {
        place.write(&format!("d{}/e{}/f{i}", i % 7, i % 11), vec![i as u8; i * 7 % 9000]);
    }
    fs::hard_link(place.source.join("d0/e0/f0"), place.source.join("d1/link")).unwrap();
    let image = |threads: &str| {
        let path = place.image.with_extension(threads);
        let uuid = "11111111-2222-4333-8444-555555555555";
        let arguments =
            ["-q", "-s", "-U", uuid, "-d", place.source.to_str().unwrap(), path.to_str().unwrap(), "64M"];
        let output = Command::new(MKFS)
            .args(arguments)
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .env("RAYON_NUM_THREADS", threads)
            .output()
            .unwrap();
        assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty());
        fs::read(path).unwrap()
    };
    let one = image("1");
    assert!(one == image("2") && one == image("5"));
    let device = Device::memory(one);
    let verified = verify(&device);
    assert_eq!(verified.inode(&device, b"/d0").changed.seconds.get(), 1_700_000_000);
}

#[test]
fn unreadable_files_are_all_named() {
    let place = place();
    for name in ["good", "bad 1", "dir/bad 2", "closed/x"] {
        place.write(name, "x");
    }
    for name in ["bad 1", "dir/bad 2", "closed"] {
        fs::set_permissions(place.source.join(name), fs::Permissions::from_mode(0o000)).unwrap();
    }
    let mut command = Command::new(MKFS);
    command.arg("-d").args([&place.source, &place.image]).arg("16M");
    if is_root() {
        use std::os::unix::process::CommandExt;
        let directory = place.source.parent().unwrap();
        fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
        command.uid(65534).gid(65534);
    }
    // The binary may be in a place that only root reaches; then there is nothing to be learned.
    let Ok(output) = command.output() else { return println!("the unprivileged user cannot run {MKFS}") };
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{words}");
    for name in ["bad 1", "dir/bad 2", "closed"] {
        assert!(words.contains(&format!("{name}: Permission denied")), "{words}");
    }
    assert!(words.contains("3 of the files could not be read"), "{words}");
    assert!(!words.contains("good") && !place.image.exists());
    fs::set_permissions(place.source.join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_volume_that_is_too_small() {
    let place = place();
    place.write("big", vec![1; 5 << 20]);
    assert!(place.refused("5M").contains("no room for 1280 blocks of data"));
    for i in 0..2000 {
        place.write(&format!("f{i}"), "x");
    }
    assert!(place.refused("8M").contains("too small"));
    place.make("16M", &[]);
    let (device, verified) = verify_file(&place.image);
    compare(&place.source, &device, &verified);
}

#[test]
fn the_image_itself_is_left_out() {
    let place = place();
    place.write("file", "x");
    let image = place.source.join("image");
    made(&["-d", place.source.to_str().unwrap(), image.to_str().unwrap(), "8M"]);
    let (_, verified) = verify_file(&image);
    assert_eq!(verified.names.keys().collect::<Vec<_>>(), [b"/file"]);
}

#[test]
fn many_names_and_a_large_directory() {
    let place = place();
    let first = place.write("first", "x");
    for i in 0..10_000 {
        fs::hard_link(&first, place.source.join(format!("name-{i}"))).unwrap();
    }
    for i in 0..20_000 {
        place.write(&format!("large/file-{i}"), "");
    }
    // Of these two names one lies outside.
    fs::hard_link(place.write("inside", "y"), place.image.with_extension("outside")).unwrap();
    place.make("64M", &[]);
    let (device, verified) = verify_file(&place.image);
    assert_eq!(verified.inode(&device, b"/first").links.get(), 10_001);
    assert_eq!(verified.inode(&device, b"/inside").links.get(), 1);
    assert_eq!(verified.names.len(), 30_003);
}

#[test]
fn a_deep_directory() {
    let place = place();
    let name = "d".repeat(200);
    let mut at = fs::File::open(&place.source).unwrap();
    for _ in 0..50 {
        rustix::fs::mkdirat(&at, &*name, Mode::RWXU).unwrap();
        let flags = rustix::fs::OFlags::DIRECTORY;
        at = rustix::fs::openat(&at, &*name, flags, Mode::empty()).unwrap().into();
    }
    mknodat(&at, "fifo", FileType::Fifo, Mode::RUSR, 0).unwrap();
    place.make("16M", &[]);
    let (_, verified) = verify_file(&place.image);
    assert_eq!(verified.names.len(), 51);
    let _ = Device::open(&place.image, Access::ReadOnly).unwrap();
}

#[test]
fn interrupted_it_leaves_nothing() {
    let place = place();
    for i in 0..3000 {
        place.write(&format!("d{}/f{i}", i % 100), vec![1; 20_000]);
    }
    let mut interrupted = 0;
    for delay in [0, 2, 5, 10, 20, 40, 80] {
        let mut child = Command::new(MKFS)
            .args(["-q", "-d", place.source.to_str().unwrap(), place.image.to_str().unwrap(), "256M"])
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(delay));
        let process = rustix::process::Pid::from_child(&child);
        let _ = rustix::process::kill_process(process, rustix::process::Signal::INT);
        let status = child.wait().unwrap();
        if status.success() {
            verify_file(&place.image);
            fs::remove_file(&place.image).unwrap();
        } else {
            interrupted += i32::from(status.code() == Some(1));
            assert!(!place.image.exists(), "something was left");
        }
    }
    println!("interrupted {interrupted} times");
}
