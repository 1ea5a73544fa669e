//! A dump is all metadata, and the same again after it was restored; obfuscated, it gives nothing away and is sound.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests say what they expect by failing"
)]

mod common;

use common::{features, sample, volume};
use paxfs_dbg::cli::View;
use paxfs_dbg::commands::dump::dump;
use paxfs_dbg::commands::restore::restore;
use paxfs_dbg::dump::write::Dumped;
use paxfs_dbg::faults::Faults;
use paxfs_dbg::session::Session;
use paxfs_format::blocks::Blocks;
use paxfs_format::device::{Access, Device};
use paxfs_format::entry::{AttributeEntry, AttributeKind, DirectoryEntry, Head};
use paxfs_format::field::doc::table;
use paxfs_format::fork::BodyPlace;
use paxfs_format::hash::DISAMBIGUATOR;
use paxfs_format::image::Image;
use paxfs_format::inode::{FileType, Inode, Which};
use paxfs_format::names::Parent;
use paxfs_format::owners::{Role, Source, inodes, owners};
use paxfs_format::volume::Volume;
use paxfs_mkfs::recipe::Recipe;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeSet;
use std::path::Path;

/// A dump, with what was told of it.
fn dumped(bytes: &[u8], obfuscate: bool) -> (Vec<u8>, Dumped, Faults) {
    let session = Session::on(Device::memory(bytes.to_vec())).unwrap();
    let (mut out, mut faults) = (Vec::new(), Faults::default());
    let dumped = dump(&session, obfuscate, &mut out, &mut faults).unwrap();
    assert_eq!(dumped.bytes, out.len() as u64);
    (out, dumped, faults)
}

fn restored(dump: &[u8], directory: &Path) -> Vec<u8> {
    let path = directory.join("restored");
    let _ = std::fs::remove_file(&path);
    restore(&mut &*dump, &path, false).unwrap();
    std::fs::read(path).unwrap()
}

fn recipe(files: &str) -> Vec<u8> {
    let head = "volume: {size: 24M, label: secret label, uuid: 00000000-0000-4000-8000-000000000001, epoch: 1700000000}\nfiles:\n";
    let recipe: Recipe = format!("{head}{files}").parse().unwrap();
    bytes_of(&recipe.image().unwrap().0)
}

fn bytes_of(device: &Device) -> Vec<u8> {
    device.bytes(0, usize::try_from(device.len()).unwrap()).unwrap().to_vec()
}

/// Blocks that `owner` says are metadata in use.
fn metadata(device: &Device) -> BTreeSet<u64> {
    let volume = volume(device);
    let blocks = owners(&volume, 0..volume.geometry.blocks, Source::best(&volume)).map(Result::unwrap);
    let metadata = blocks.filter(|owned| matches!(owned.role, Role::Metadata(_)));
    metadata.flat_map(|owned| owned.start..owned.start + owned.length).collect()
}

#[test]
fn all_metadata_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    for change in ["rmap,reflink", "rmap,reflink,csum", "^rmap,^reflink"] {
        let (good, _) = sample(features(change));
        let (dump, told, faults) = dumped(&good, false);
        assert_eq!((faults.count(), told.lost), (0, 0));
        let again = restored(&dump, directory.path());
        assert_eq!(dumped(&again, false).0, dump);
        assert_eq!(again.len(), good.len());
        let metadata = metadata(&Device::memory(good.clone()));
        for (number, (old, new)) in (0..).zip(good.chunks_exact(4096).zip(again.chunks_exact(4096))) {
            if metadata.contains(&number) {
                assert!(old == new, "block {number}");
            } else {
                assert!(new.iter().all(|&byte| byte == 0), "block {number}");
            }
        }
        // The contents of /greeting.
        assert!(!dump.windows(10).any(|bytes| bytes == b"paxfspaxfs"));
    }
}

#[test]
fn damaged_volumes_come_back_as_damaged() {
    let (good, _) = sample(features("rmap,reflink,csum"));
    let device = Device::memory(good.clone());
    let seed = volume(&device).seed;
    let used: Vec<usize> = (0..)
        .zip(good.chunks_exact(4096))
        .filter(|(_, block)| block.starts_with(b"PAXF"))
        .map(|(block, _)| block)
        .collect();
    let directory = tempfile::tempdir().unwrap();
    let cases = std::env::var("PAXFS_DAMAGE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(30);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let change = (any::<prop::sample::Index>(), 0usize..600, any::<u8>(), any::<bool>());
    let result = runner.run(&prop::collection::vec(change, 1..30), |changes| {
        let mut bytes = good.clone();
        for (block, at, value, sealed) in &changes {
            let block = &mut bytes[used[block.index(used.len())] * 4096..][..4096];
            block[*at] = *value;
            if *sealed {
                seed.seal(block);
                if block[8] == 15 {
                    block.chunks_exact_mut(512).for_each(|inode| seed.seal(inode));
                }
            }
        }
        let (dump, _, faults) = dumped(&bytes, false);
        let again = restored(&dump, directory.path());
        let (second, _, same_faults) = dumped(&again, false);
        prop_assert!(second == dump);
        prop_assert_eq!(faults, same_faults);
        // Obfuscated it may differ, but it must come to an end and be one.
        let (obfuscated, _, _) = dumped(&bytes, true);
        restored(&obfuscated, directory.path());
        Ok(())
    });
    result.unwrap();
}

#[test]
fn without_trees_of_clusters_and_inodes_the_rest_is_found() {
    let (mut bytes, _) = sample(features("rmap,reflink"));
    let (metadata, roots) = {
        let device = Device::memory(bytes.clone());
        let volume = volume(&device);
        let roots: Vec<_> = volume
            .geometry
            .group_numbers()
            .flat_map(|group| {
                let header = volume.group(group).unwrap();
                [header.clusters.block.get(), header.inodes.block.get()]
            })
            .filter(|block| *block != 0)
            .collect();
        (metadata(&device), roots)
    };
    for root in &roots {
        bytes[usize::try_from(root * 4096 + 41).unwrap()] ^= 1;
    }
    let (dump, _, faults) = dumped(&bytes, false);
    assert!(faults.count() > 0);
    let directory = tempfile::tempdir().unwrap();
    let again = restored(&dump, directory.path());
    for block in metadata {
        let place = usize::try_from(block * 4096).unwrap();
        assert!(bytes[place..place + 4096] == again[place..place + 4096], "block {block}");
    }
    assert_eq!(dumped(&again, false).0, dump);
}

/// All that names of a sound volume have to fulfil.
fn check_names<B: Blocks>(volume: &Volume<B>) {
    let (mut down, mut up) = (BTreeSet::new(), BTreeSet::new());
    for number in inodes(volume) {
        let number = number.unwrap();
        let inode = volume.inode(number).unwrap();
        if inode.file_type() == Some(FileType::Directory) {
            check_fork::<_, DirectoryEntry>(volume, inode, Which::Data, |entry| {
                volume.hash.directory(entry.name)
            });
            for entry in volume.directory(inode) {
                let entry = entry.unwrap();
                assert!(down.insert((number, entry.name.to_vec(), entry.head.inode.get())));
            }
        }
        check_fork::<_, AttributeEntry>(volume, inode, Which::Attributes, |entry| {
            volume.hash.attribute(
                entry.head.kind,
                Parent::of(entry).map(|parent| parent.directory),
                entry.name,
            )
        });
        for parent in volume.parents(inode) {
            assert!(up.insert((parent.directory, parent.name.to_vec(), number)));
        }
        for entry in volume.attributes(inode) {
            let entry = entry.unwrap();
            if entry.head.kind != AttributeKind::PARENT {
                volume.attribute_value(inode, &entry).unwrap();
            }
        }
        if inode.file_type() == Some(FileType::Symlink) {
            assert_eq!(volume.target(inode).unwrap().len() as u64, inode.size.get());
        }
    }
    assert_eq!(down, up);
}

fn check_fork<B: Blocks, H: Head>(
    volume: &Volume<B>,
    inode: &Inode,
    which: Which,
    cookie: impl Fn(&paxfs_format::entry::Entry<'_, H>) -> u64,
) {
    let mut cookies = BTreeSet::new();
    for body in volume.bodies(inode, which, 0) {
        let body = body.unwrap();
        for entry in body.entries::<H>() {
            let entry = entry.unwrap();
            if entry.head.is_live() {
                let found = entry.head.cookie();
                assert!((body.low..=body.high).contains(&found));
                assert_eq!(found & !DISAMBIGUATOR, cookie(&entry));
                assert!(cookies.insert(found));
            }
        }
    }
}

/// A volume with secrets wherever there can be any.
fn secrets() -> Vec<u8> {
    recipe(
        "  - {path: /lost+found, type: directory}
  - {path: /secret-directory, type: directory}
  - {path: '/secret-directory/secret-name-{i}', repeat: 3000, content: secret contents}
  - {path: /secret-file, content: secret contents, xattrs: {user.secret: a secret value, trusted.secret: another secret, security.selinux: secret label, user.long: {size: 9000, seed: 4}}}
  - {path: /a, content: x}
  - {path: /b, content: x}
  - {path: '/secret-directory/secret-link-{i}', repeat: 400, link: /secret-file}
  - {path: /secret-symlink, target: /secret/target}
  - {path: /secret-long-symlink, target: '/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret/secret'}
",
    )
}

#[test]
fn obfuscated_dumps_are_sound_and_give_nothing_away() {
    let good = secrets();
    {
        let device = Device::memory(good.clone());
        check_names(&volume(&device));
    }
    let (dump, told, faults) = dumped(&good, true);
    assert_eq!((faults.count(), told.lost), (0, 0));
    let has = |secret: &[u8]| dump.windows(secret.len()).any(|bytes| bytes == secret);
    assert!(
        !has(b"secret")
            && !has(b"selin\0")
            && has(b"security.selinux")
            && has(b"lost+found")
            && has(b"trusted.")
    );
    let directory = tempfile::tempdir().unwrap();
    let again = Device::memory(restored(&dump, directory.path()));
    let (old, new) = (Device::memory(good), again);
    let (old, new) = (volume(&old), volume(&new));
    check_names(&new);
    let numbers = |volume: &Volume<Image<'_>>| inodes(volume).map(Result::unwrap).collect::<Vec<_>>();
    assert_eq!(numbers(&old), numbers(&new));
    for number in numbers(&old) {
        let (one, other) = (old.inode(number).unwrap(), new.inode(number).unwrap());
        let shape = |inode: &Inode| {
            (inode.mode, inode.links, inode.size, inode.modified, inode.data, inode.attributes)
        };
        assert_eq!(shape(one), shape(other));
        let names = |volume: &Volume<Image<'_>>, number| {
            volume
                .parents(volume.inode(number).unwrap())
                .map(|parent| parent.name.to_vec())
                .collect::<Vec<_>>()
        };
        for (one, other) in names(&old, number).into_iter().zip(names(&new, number)) {
            assert_eq!(one.len(), other.len());
            assert!(
                one != other || one == b"lost+found" || one.len() < 4,
                "{}",
                String::from_utf8_lossy(&one)
            );
        }
    }
    assert_eq!(new.superblock.label.as_bytes_trimmed(), b"xxxxxxxxxxxx");
    // The same secrets give the same dump, so that two of them can be compared.
    assert_eq!(dumped(&secrets(), true).0, dump);
}

#[test]
fn the_journal_is_applied_and_left_out_when_obfuscated() {
    let made = |journal: &str| {
        let head = "volume: {size: 8M, uuid: 00000000-0000-4000-8000-000000000001, epoch: 1700000000";
        let files = "files:\n  - {path: '/secret-name-{i}', repeat: 100, content: x}\n";
        let recipe: Recipe = format!("{head}, journal: {journal}}}\n{files}").parse().unwrap();
        bytes_of(&recipe.image().unwrap().0)
    };
    let block = {
        let device = Device::memory(made("[]"));
        let volume = volume(&device);
        let root = volume.inode(volume.superblock.root.get()).unwrap();
        let entries = volume.bodies(root, Which::Data, 0).last().unwrap().unwrap().place;
        match entries {
            BodyPlace::Block { block, .. } => block,
            BodyPlace::Inline => panic!("inline"),
        }
    };
    // The block of entries is nowhere but in the journal.
    let bytes = made(&format!("[{{sequence: 2, blocks: [{block}], stale: true}}]"));
    let has = |dump: &[u8]| dump.windows(6).any(|bytes| bytes == b"secret");
    assert!(has(&dumped(&bytes, false).0));
    let (dump, _, faults) = dumped(&bytes, true);
    assert!(!has(&dump));
    assert_eq!(faults.count(), 0);
    let directory = tempfile::tempdir().unwrap();
    let device = Device::memory(restored(&dump, directory.path()));
    check_names(&volume(&device));
}

#[test]
fn blocks_that_do_not_verify_are_blanked_when_obfuscated() {
    let mut bytes = secrets();
    let block = {
        let device = Device::memory(bytes.clone());
        let volume = volume(&device);
        let inode = volume.inode(volume.resolve(b"/secret-directory").unwrap()).unwrap();
        match volume.bodies(inode, Which::Data, 0).nth(3).unwrap().unwrap().place {
            BodyPlace::Block { block, .. } => block,
            BodyPlace::Inline => panic!("inline"),
        }
    };
    bytes[usize::try_from(block * 4096 + 2000).unwrap()] ^= 1;
    let (dump, _, _) = dumped(&bytes, true);
    assert!(!dump.windows(6).any(|bytes| bytes == b"secret"));
}

#[test]
fn blocks_that_the_medium_does_not_give_are_noted() {
    let (directory, image, _) = common::sample_file(features("rmap,reflink"));
    let session = Session::open(Path::new(&image), &View::default()).unwrap();
    let inodes = {
        let device = Device::open(Path::new(&image), Access::ReadOnly).unwrap();
        metadata(&device).into_iter().next_back().unwrap()
    };
    // What lies behind the end of a shortened file cannot be read.
    std::fs::File::options().write(true).open(&image).unwrap().set_len(inodes * 4096).unwrap();
    let (mut dump_bytes, mut faults) = (Vec::new(), Faults::default());
    let told = dump(&session, false, &mut dump_bytes, &mut faults).unwrap();
    assert!(told.lost > 0);
    let path = directory.path().join("restored");
    let restored = restore(&mut dump_bytes.as_slice(), &path, false).unwrap();
    assert_eq!((restored.lost, restored.blocks), (told.lost, told.blocks));
}

#[test]
fn damaged_dumps_are_refused() {
    let (good, _) = sample(features("rmap,reflink"));
    let (dump, _, _) = dumped(&good, false);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("device");
    let refused = |dump: &[u8]| {
        let error = restore(&mut &*dump, &path, false).unwrap_err().to_string();
        assert!(!path.exists());
        error
    };
    assert_eq!(refused(b""), "the dump is cut short");
    assert_eq!(refused(&[0; 64]), "that is no paxfs dump");
    assert_eq!(refused(&dump[..dump.len() - 1]), "the dump is cut short");
    for at in [13, 40, 70, 100, 5000, dump.len() - 3] {
        let mut damaged = dump.clone();
        damaged[at] ^= 1;
        let error = refused(&damaged);
        assert!(
            error.contains("checksum") || error.contains("too long") || error.contains("short"),
            "{at}: {error}"
        );
    }
    let longer = [dump.as_slice(), b"x"].concat();
    assert_eq!(refused(&longer), "the dump is damaged: bytes follow its end");
}

#[test]
fn the_program_dumps_and_restores() {
    let (directory, image, _) = common::sample_file(features("rmap,reflink"));
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (first, device, second) = (at("first"), at("device"), at("second"));
    let before = std::fs::read(&image).unwrap();
    common::printed(&[&image, "dump", &first]);
    assert_eq!(std::fs::read(&image).unwrap(), before);
    assert_eq!(common::dbg(&[&image, "dump", &first]).status.code(), Some(1), "it is there already");
    let told = common::json(&["-J", &device, "restore", &first]);
    assert_eq!(told["restored"]["device_bytes"], 24 << 20);
    assert_eq!(common::dbg(&[&device, "restore", &first]).status.code(), Some(1), "it is there already");
    common::printed(&[&device, "restore", "-f", &first]);
    common::printed(&[&device, "dump", &second]);
    assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap());
    let out = common::dbg(&[&device, "dump", "-"]);
    assert!(out.status.success());
    assert_eq!(out.stdout, std::fs::read(&first).unwrap());
    // Opened to look, as any other volume.
    assert!(Device::open(Path::new(&device), Access::ReadOnly).is_ok());
    assert!(common::printed(&[&device, "ls", "/"]).contains("greeting"));
}

/// `docs/DUMP.md` has the field tables of the declarations.
#[test]
fn the_document_is_up_to_date() {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/DUMP.md")).unwrap();
    use paxfs_dbg::dump::{DumpChunk, DumpHeader};
    use paxfs_format::declare::OnDisk;
    for layout in [&DumpHeader::LAYOUT, &DumpChunk::LAYOUT] {
        assert!(document.contains(&table(layout)), "{}:\n{}", layout.name, table(layout));
    }
}
