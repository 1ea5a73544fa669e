#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
//! How a mount begins and ends: what is refused, and what each end leaves.

mod common;

use common::{Place, can_mount, is_mounted, succeed, wait_for};
use rustix::process::Signal;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

#[test]
fn the_process_that_was_called_returns_when_the_mount_stands() {
    if !can_mount() {
        return;
    }
    let place = Place::new("64M");
    let output = succeed(place.command("noexec,nosuid").arg("-v"));
    assert!(is_mounted(&place.point()));
    assert!(String::from_utf8(output.stdout).unwrap().contains("read-write"));
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts.lines().find(|line| line.contains(place.point().to_str().unwrap())).unwrap();
    let expected =
        format!("{} {} fuse.paxfs rw,nosuid,noexec", place.image().display(), place.point().display());
    assert!(line.starts_with(&expected), "{line}");
    fs::write(place.point().join("file"), "text").unwrap();
    // A second one finds it in use.
    let said = place.command("").output().unwrap();
    assert_eq!(said.status.code(), Some(32));
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.starts_with("mount.paxfs: ") && said.contains("locked by process"), "{said}");
    succeed(Command::new("umount").arg(place.point()));
    wait_for(&place.image());
    place.check();
}

#[test]
fn what_cannot_be_mounted_is_refused_in_words() {
    if !can_mount() {
        return;
    }
    let place = Place::new("64M");
    let bytes = fs::read(place.image()).unwrap();
    // An incompatible feature that nobody knows, with a checksum that fits.
    let refused = |what: &str| {
        let said = place.refused("");
        assert!(said.contains(what), "{said}");
    };
    fs::write(place.image(), vec![0; 1 << 20]).unwrap();
    refused("no paxfs superblock");
    fs::remove_file(place.image()).unwrap();
    refused("no such file or device; check the name");
    fs::write(place.image(), &bytes).unwrap();
    fs::remove_dir(place.point()).unwrap();
    refused("make the directory first");
    fs::write(place.point(), "").unwrap();
    refused("not a directory");
    let usage = place.command("data=journal").output().unwrap();
    assert_eq!(usage.status.code(), Some(1));
    assert!(String::from_utf8(usage.stderr).unwrap().contains("there is no option data=journal"));
}

#[test]
fn unknown_features_are_refused() {
    if !can_mount() {
        return;
    }
    let place = Place::new("64M");
    use paxfs_format::device::{Access, Device};
    use paxfs_format::header::Seed;
    use paxfs_format::volume::read_superblock;
    use zerocopy::IntoBytes;
    let mut device = Device::open(&place.image(), Access::Exclusive).unwrap();
    let (mut superblock, _) = read_superblock(&device, 0).unwrap();
    superblock.incompatible = (superblock.incompatible.get() | 1 << 40).into();
    Seed::new(&superblock.uuid).seal(superblock.as_mut_bytes());
    device.bytes_mut(0, 4096).unwrap().copy_from_slice(superblock.as_bytes());
    drop(device);
    let said = place.refused("");
    assert!(said.contains("incompatible features 0x10000000000"), "{said}");
}

#[test]
fn a_signal_ends_it_clean() {
    if !can_mount() {
        return;
    }
    let place = Place::new("64M");
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut mount = place.mount("");
        fs::write(mount.path("file"), vec![1; 100_000]).unwrap();
        mount.signal(signal);
        mount.ends_with(0);
        assert_eq!(mount.said(), "");
        place.check();
    }
}

#[test]
fn a_signal_ends_it_clean_while_files_are_open() {
    if !can_mount() {
        return;
    }
    let place = Place::new("64M");
    let mut mount = place.mount("");
    let mut file = File::create_new(mount.path("file")).unwrap();
    file.write_all(&[1; 100_000]).unwrap();
    fs::remove_file(mount.path("file")).unwrap();
    mount.signal(Signal::TERM);
    mount.ends_with(0);
    assert!(mount.said().contains("in use; who has files open there loses them"));
    assert!(file.write_all(&[1]).is_err());
    place.check();
}

#[test]
fn killed_at_any_time_it_leaves_what_the_check_finishes() {
    if !can_mount() {
        return;
    }
    let place = Place::new("64M");
    for round in 0..5_usize {
        let mut mount = place.mount("");
        for index in 0..200 * round {
            fs::write(mount.path(&format!("{round}-{index}")), vec![3; index * 10]).unwrap();
        }
        let synced = File::create_new(mount.path(&format!("synced {round}"))).unwrap();
        (&synced).write_all(&[7; 50_000]).unwrap();
        synced.sync_all().unwrap();
        let open = File::create_new(mount.path("orphan")).unwrap();
        (&open).write_all(&[8; 50_000]).unwrap();
        fs::remove_file(mount.path("orphan")).unwrap();
        mount.signal(Signal::KILL);
        mount.wait();
        drop((synced, open));
        assert!(fs::read_dir(&mount.point).is_err());
        succeed(Command::new("umount").arg(&mount.point));
        drop(mount);
        assert!([0, 1].contains(&place.fsck("-p", "-f")));
        place.check();
        let mount = place.mount("");
        for earlier in 0..=round {
            assert_eq!(fs::read(mount.path(&format!("synced {earlier}"))).unwrap(), [7; 50_000]);
        }
        mount.end();
    }
}

#[test]
fn a_volume_that_is_only_read_is_not_changed() {
    if !can_mount() {
        return;
    }
    let place = Place::new("64M");
    let mut mount = place.mount("");
    fs::write(mount.path("file"), vec![7; 50_000]).unwrap();
    File::open(mount.path("file")).unwrap().sync_all().unwrap();
    // A journal that is to be replayed.
    mount.signal(Signal::KILL);
    mount.wait();
    succeed(Command::new("umount").arg(&mount.point));
    drop(mount);
    let before = fs::read(place.image()).unwrap();
    fs::set_permissions(place.image(), fs::Permissions::from_mode(0o444)).unwrap();
    let mount = place.mount("ro");
    let mut bytes = Vec::new();
    File::open(mount.path("file")).unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, [7; 50_000]);
    assert_eq!(fs::write(mount.path("new"), "").unwrap_err().raw_os_error(), Some(30));
    // Others may read it, too, and nobody may write.
    let said = place.command("").stdin(Stdio::null()).output().unwrap();
    assert_eq!(said.status.code(), Some(32));
    assert!(String::from_utf8(said.stderr).unwrap().contains("locked by"));
    mount.end();
    assert!(fs::read(place.image()).unwrap() == before, "the image was changed");
    place.mount("").end();
    place.check();
}
