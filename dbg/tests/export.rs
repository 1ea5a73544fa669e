//! `export` brings out what mkfs took in, and nothing that a malicious image wants.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests say what they expect by failing"
)]

mod common;

use common::volume;
use paxfs_dbg::export::{Exported, Exporter};
use paxfs_format::device::Device;
use paxfs_format::entry::{DirectoryEntry, entries};
use paxfs_format::geometry::Geometry;
use paxfs_format::inode::{ForkFormat, Inode, Which};
use paxfs_format::time::Timestamp;
use paxfs_format::units::Uuid;
use paxfs_mkfs::builder::Builder;
use paxfs_mkfs::options::{Features, Options};
use paxfs_mkfs::recipe::Recipe;
use paxfs_mkfs::source::{Source, Watcher};
use rustix::fs::{AtFlags, Timespec, Timestamps};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use zerocopy::{FromBytes, IntoBytes};

struct Strict;

impl Watcher for Strict {
    fn fault(&mut self, path: &[u8], why: &str) {
        panic!("{}: {why}", String::from_utf8_lossy(path));
    }
    fn note(&mut self, _path: &[u8], _what: &str) {}
    fn progress(&mut self, _entries: u64, _bytes: u64) {}
}

/// A volume made of a directory.
fn image(source: &Path, bytes: usize, features: Features) -> Device {
    let mut device = Device::memory(vec![0; bytes]);
    let geometry = Geometry::choose(device.len(), None, features.csum).unwrap();
    let options = Options::new(geometry, features, Uuid([9; 16]), Timestamp::new(1_700_000_000, 0));
    let mut builder = Builder::new(&mut device, options, true).unwrap();
    let root = Source::open(source, false).unwrap().fill(&mut builder, &mut Strict).unwrap();
    builder.finish(root).unwrap();
    device
}

fn export(device: &Device, to: &Path) -> Exported {
    fs::create_dir(to).unwrap();
    let directory = File::open(to).unwrap();
    Exporter::new(&volume(device), device).run(directory.as_fd()).unwrap()
}

fn failures(exported: &Exported) -> Vec<(&str, &str)> {
    exported.failures.iter().map(|failure| (failure.path.as_str(), failure.error.as_str())).collect()
}

/// All that `export` promises to keep, of each file below a directory, by path.
fn tree(top: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut first_names = BTreeMap::new();
    let mut stack = vec![top.to_path_buf()];
    // Attributes before contents, and directories before what is below: looking changes times of access.
    while let Some(path) = stack.pop() {
        let metadata = path.symlink_metadata().unwrap();
        let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
        let is_directory = metadata.is_dir();
        let first = first_names.entry(metadata.ino()).or_insert_with(|| name.clone()).clone();
        let mut text = format!(
            "mode {:o} uid {} gid {} rdev {} atime {}.{:09} mtime {}.{:09}",
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            metadata.rdev(),
            metadata.atime(),
            metadata.atime_nsec(),
            metadata.mtime(),
            metadata.mtime_nsec(),
        );
        if !is_directory {
            text += &format!(" links {} first {first} size {}", metadata.nlink(), metadata.size());
        }
        text += &format!(" xattrs {:?}", xattrs(&path));
        if metadata.is_symlink() {
            text += &format!(" target {:?}", fs::read_link(&path).unwrap());
        } else if metadata.is_file() {
            let contents = fs::read(&path).unwrap();
            text += &format!(" blocks {} contents {:08x}", metadata.blocks() / 8, crc32c::crc32c(&contents));
        } else if is_directory {
            let mut below: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
            below.sort();
            stack.extend(below.into_iter().rev());
        }
        found.insert(name, text);
    }
    found
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, names.as_mut_slice()).unwrap();
    let names = names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 65536];
        let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).unwrap();
        value[..length].to_vec()
    };
    names.map(|name| (String::from_utf8(name.to_vec()).unwrap(), value(name))).collect()
}

fn set_times(path: &Path, accessed: (i64, u32), modified: (i64, u32)) {
    let time = |(tv_sec, nanoseconds): (i64, u32)| Timespec { tv_sec, tv_nsec: nanoseconds.into() };
    let times = Timestamps { last_access: time(accessed), last_modification: time(modified) };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
}

/// A directory with all that a file system can have (and this user may make).
fn fill(top: &Path) {
    let at = |name: &str| top.join(name);
    let is_root = rustix::process::geteuid().is_root();
    fs::write(at("file"), b"contents").unwrap();
    fs::create_dir_all(at("one/two")).unwrap();
    fs::hard_link(at("file"), at("one/two/again")).unwrap();
    fs::hard_link(at("file"), at("again")).unwrap();
    fs::write(at("empty"), b"").unwrap();
    fs::write(at("large"), (0..3_000_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>()).unwrap();
    symlink("file", at("link")).unwrap();
    symlink("/no/such/".to_owned() + &"x".repeat(3000), at("long link")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    drop(std::os::unix::net::UnixListener::bind(at("socket")).unwrap());
    for name in ["new\nline", "\\x41", "ü", "-rf", "*", "..."] {
        fs::write(at(name), name).unwrap();
    }
    fs::write(at(&"n".repeat(255)), b"n").unwrap();
    let sparse = File::create(at("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"middle", 5 << 20).unwrap();
    sparse.set_len(6 << 20).unwrap();
    drop(sparse);
    File::create(at("hole")).unwrap().set_len(12345).unwrap();
    fs::create_dir(at("many")).unwrap();
    for i in 0..3000 {
        fs::write(at(&format!("many/{i}")), b"").unwrap();
    }
    for i in 0..300 {
        fs::hard_link(at("many/7"), at(&format!("one/{i}"))).unwrap();
    }
    set_xattr(&at("file"), "user.short", b"value");
    set_xattr(&at("file"), "user.long", &[7; 3000]);
    set_xattr(&at("file"), "user.empty", b"");
    set_xattr(&at("one"), "user.directory", b"yes");
    // Default ACL: user::rwx, group::r-x, other::--x. It must not be inherited by what is made below.
    let acl = [
        &2u32.to_le_bytes()[..],
        &[1, 0, 7, 0, 255, 255, 255, 255, 4, 0, 5, 0, 255, 255, 255, 255, 32, 0, 1, 0, 255, 255, 255, 255],
    ]
    .concat();
    set_xattr(&at("one"), "system.posix_acl_default", &acl);
    if is_root {
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("null"),
            rustix::fs::FileType::CharacterDevice,
            rustix::fs::Mode::RUSR,
            rustix::fs::makedev(1, 3),
        )
        .unwrap();
        fs::write(at("owned"), b"").unwrap();
        std::os::unix::fs::chown(at("owned"), Some(1234), Some(70_000)).unwrap();
        std::os::unix::fs::lchown(at("link"), Some(5), Some(6)).unwrap();
        set_xattr(&at("link"), "trusted.link", b"of a symlink");
        set_xattr(&at("fifo"), "trusted.fifo", b"of a FIFO");
    }
    for (name, mode) in [("file", 0o6755), ("empty", 0o000), ("one/two", 0o1777), ("owned", 0o4711)] {
        if is_root || name != "owned" {
            fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
        }
    }
    set_times(&at("file"), (1, 2), (-3, 999_999_999));
    set_times(&at("link"), (1 << 31, 7), (1 << 33, 8));
    set_times(&at("one/two"), (44, 55), (66, 77));
    set_times(top, (4, 5), (6, 123_456_789));
}

#[test]
fn comes_out_as_it_went_in() {
    let directory = tempfile::tempdir().unwrap();
    let (source, out) = (directory.path().join("source"), directory.path().join("out"));
    fs::create_dir(&source).unwrap();
    fill(&source);
    for features in ["rmap,reflink", "csum", "^rmap,^reflink"] {
        // The round before read it.
        set_times(&source.join("link"), (1 << 31, 7), (1 << 33, 8));
        let device = image(&source, 64 << 20, common::features(features));
        let exported = export(&device, &out);
        assert_eq!(failures(&exported), []);
        let (expected, found) = (tree(&source), tree(&out));
        assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>());
        for (name, text) in &expected {
            // mkfs reads the source, which moves its times of access; so does the test between two rounds.
            let cut = |text: &str| {
                let (before, after) = text.split_once(" atime ").unwrap();
                format!("{before}{}", after.split_once(' ').unwrap().1)
            };
            assert_eq!(cut(text), cut(&found[name]), "{name}");
        }
        assert!(
            found["link"].contains(" atime 2147483648.000000007 mtime 8589934592.000000008 "),
            "{}",
            found["link"]
        );
        assert_eq!(exported.hard_links, 302);
        assert!(fs::symlink_metadata(out.join("socket")).unwrap().file_type().is_socket());
        fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn deeper_than_a_process_has_files_or_a_path_has_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let (source, out) = (directory.path().join("source"), directory.path().join("out"));
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), b"").unwrap();
    let depth = 1500;
    let mut below = rustix::fs::open(&source, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    let top = File::open(&source).unwrap();
    for _ in 0..depth {
        rustix::fs::mkdirat(&below, "down", rustix::fs::Mode::RWXU).unwrap();
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY;
        below = rustix::fs::openat(&below, "down", flags, rustix::fs::Mode::empty()).unwrap();
    }
    rustix::fs::linkat(&top, "file", &below, "bottom", AtFlags::empty()).unwrap();
    let device = image(&source, 16 << 20, Features::default());
    let exported = export(&device, &out);
    assert_eq!(failures(&exported), []);
    assert_eq!((exported.directories, exported.files, exported.hard_links), (depth + 1, 1, 1));
    assert_eq!(fs::symlink_metadata(out.join("file")).unwrap().nlink(), 2);
    // remove_dir_all goes by names, and wants a file for each level.
    for top in [source, out] {
        assert!(std::process::Command::new("rm").arg("-rf").arg(top).status().unwrap().success());
    }
}

/// Changes the entries of the root directory, which must be in its inode.
fn patch_root(device: &mut Device, change: impl Fn(&mut DirectoryEntry, &mut [u8])) {
    let (root, seed) = {
        let volume = volume(device);
        (volume.superblock.root.get(), volume.seed)
    };
    let bytes = device.bytes_mut(root * 512, 512).unwrap();
    let inode = Inode::mut_from_bytes(bytes).unwrap();
    assert_eq!(inode.data.format, ForkFormat::INLINE);
    let length = usize::from(inode.data.inline_bytes.get());
    let places: Vec<_> = entries::<DirectoryEntry>(&inode.payload.0[..length])
        .map(|entry| entry.map(|entry| (entry.offset, entry.name.len())).unwrap())
        .collect();
    for (offset, name) in places {
        let (head, rest) = DirectoryEntry::mut_from_prefix(&mut inode.payload.0[offset..]).unwrap();
        change(head, &mut rest[..name]);
    }
    seed.seal(inode.as_mut_bytes());
}

fn recipe(files: &str) -> Device {
    let head = "volume: {size: 8M, uuid: 00000000-0000-4000-8000-000000000001, epoch: 1700000000}\nfiles:\n";
    let recipe: Recipe = format!("{head}{files}").parse().unwrap();
    recipe.image().unwrap().0
}

#[test]
fn names_that_are_none_are_refused() {
    let mut device = recipe(
        "  - {path: /ab, content: one}
  - {path: /a_b, content: two}
  - {path: /a-b, content: three}
  - {path: /c, content: four}
  - {path: /good, content: five}
",
    );
    patch_root(&mut device, |_, name| match &*name {
        b"ab" => name.copy_from_slice(b".."),
        b"a_b" => name.copy_from_slice(b"a/b"),
        b"a-b" => name.copy_from_slice(b"a\0b"),
        b"c" => name.copy_from_slice(b"."),
        _ => {}
    });
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let exported = export(&device, &out);
    let mut refused: Vec<_> = failures(&exported).into_iter().map(|(path, _)| path).collect();
    refused.sort_unstable();
    assert_eq!(refused, ["/.", "/..", "/a/b", "/a\\x00b"]);
    let all: Vec<_> = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(all, ["good"]);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn symlinks_are_not_followed() {
    let mut device = recipe(
        "  - {path: /ab, target: ../outside}
  - {path: /ac, type: directory}
  - {path: /ac/file, content: escaped}
  - {path: /ad, content: escaped}
",
    );
    // The symlink, a directory and a file by one name, in whatever order they come.
    patch_root(&mut device, |_, name| name.copy_from_slice(b"ab"));
    let directory = tempfile::tempdir().unwrap();
    let outside = directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let exported = export(&device, &directory.path().join("out"));
    assert_eq!(exported.failures.len(), 2, "{exported:?}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn a_web_of_entries_comes_to_an_end() {
    let mut device = recipe(
        "  - {path: /ab, type: directory}
  - {path: /ac, type: directory}
  - {path: /ad, content: once}
  - {path: /ae, content: gone}
",
    );
    let number = |device: &Device, path: &[u8]| volume(device).resolve(path).unwrap();
    let root = volume(&device).superblock.root.get();
    let once = number(&device, b"/ad");
    patch_root(&mut device, |head, name| match &*name {
        b"ab" => head.inode = root.into(),
        b"ae" => head.inode = once.into(),
        _ => {}
    });
    let directory = tempfile::tempdir().unwrap();
    let exported = export(&device, &directory.path().join("out"));
    let mut failed = failures(&exported);
    failed.sort_unstable();
    let [cycle, twice] = failed.as_slice() else { panic!("{failed:?}") };
    assert_eq!(*cycle, ("/ab", format!("directory inode {root} has another name already").as_str()));
    assert_eq!(twice.1, format!("inode {once} has one link, and another name already"));
    assert_eq!((exported.directories, exported.files), (2, 1));
}

#[test]
fn broken_files_are_listed_and_the_rest_comes_out() {
    let mut device = recipe(
        "  - {path: /fragments, size: 600K, seed: 1, fragments: 150}
  - {path: /good, size: 600K, seed: 2, fragments: 150}
  - {path: /gone, content: nothing}
",
    );
    let (leaf, gone) = {
        let volume = volume(&device);
        let inode = volume.inode(volume.resolve(b"/fragments").unwrap()).unwrap();
        (inode.data.tree.block.get(), volume.resolve(b"/gone").unwrap())
    };
    let good = {
        let volume = volume(&device);
        let inode = volume.inode(volume.resolve(b"/good").unwrap()).unwrap();
        let mut contents = Vec::new();
        paxfs_dbg::commands::cat::print(&volume, &device, inode, &mut contents).unwrap();
        contents
    };
    device.bytes_mut(leaf * 4096 + 100, 1).unwrap()[0] ^= 1;
    device.bytes_mut(gone * 512 + 100, 1).unwrap()[0] ^= 1;
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let exported = export(&device, &out);
    let mut paths: Vec<_> = failures(&exported).into_iter().map(|(path, _)| path).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/fragments", "/gone"]);
    assert_eq!(fs::read(out.join("good")).unwrap(), good);
    assert_eq!(fs::metadata(out.join("fragments")).unwrap().len(), 600 << 10);
}

#[test]
fn failed_blocks_become_holes_and_cat_stops_at_them() {
    let device = recipe("  - {path: /file, size: 64K, seed: 1}\n  - {path: /other, size: 4K, seed: 2}\n");
    let (first, sparse) = {
        let volume = volume(&device);
        let inode = volume.inode(volume.resolve(b"/file").unwrap()).unwrap();
        let extent = volume.extents(inode).next().unwrap().unwrap();
        (extent.start.get(), inode.data.count.get())
    };
    assert_eq!(sparse, 1);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image");
    // Behind the end of a shortened file there is nothing to be read; the metadata lies before.
    let end = (first + 5) * 4096;
    fs::write(&path, device.bytes(0, usize::try_from(device.len()).unwrap()).unwrap()).unwrap();
    let image = path.to_str().unwrap().to_owned();
    let opened = Device::open(&path, paxfs_format::device::Access::ReadOnly).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(end).unwrap();
    let exported = export(&opened, &directory.path().join("out"));
    let failed = failures(&exported);
    assert!(
        failed.iter().any(|(path, error)| *path == "/file" && error.contains("byte 20480 of the file")),
        "{failed:?}"
    );
    let contents = fs::read(directory.path().join("out/file")).unwrap();
    let expected = device.bytes(first * 4096, 64 << 10).unwrap();
    assert_eq!(contents[..20480], expected[..20480]);
    assert_eq!(contents[20480..], vec![0; (64 << 10) - 20480]);

    let volume = volume(&opened);
    let inode = volume.inode(volume.resolve(b"/file").unwrap()).unwrap();
    let mut printed = Vec::new();
    let error = paxfs_dbg::commands::cat::print(&volume, &opened, inode, &mut printed).unwrap_err();
    assert!(error.to_string().contains("byte 20480 of the file"), "{error}");
    assert_eq!(printed, expected[..20480]);
    let cat = common::dbg(&[&image, "cat", "/file"]);
    assert_eq!(cat.status.code(), Some(1));
}

#[test]
fn the_command_wants_an_empty_directory() {
    let (directory, image, _) = common::sample_file(common::features("rmap,reflink"));
    let out = directory.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("mine"), b"").unwrap();
    let refused = common::dbg(&[&image, "export", out.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("not empty"));
    assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
}

#[test]
fn large_directories_come_out() {
    let device = recipe("  - {path: '/directory/{i}', repeat: 1000, content: x}\n");
    let volume = volume(&device);
    let inode = volume.inode(volume.resolve(b"/directory").unwrap()).unwrap();
    assert_eq!(inode.fork(Which::Data).format, ForkFormat::TREE);
    let directory = tempfile::tempdir().unwrap();
    let exported = export(&device, &directory.path().join("out"));
    assert_eq!((exported.files, exported.failures.len()), (1000, 0));
}
