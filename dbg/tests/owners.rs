//! Who owns each block of a small volume, against what it was made of.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests say what they expect by failing"
)]

mod common;

use common::{Truth, features, sample, volume};
use paxfs_format::device::Device;
use paxfs_format::field::edit::Verb;
use paxfs_format::free::Free;
use paxfs_format::group::GroupTree;
use paxfs_format::owners::{Data, Owned, Role, Source, owners};
use paxfs_format::path::{Change, Csum, edit, group_header, resolve};
use paxfs_format::record::{Key, Record};
use std::collections::{BTreeMap, BTreeSet};

/// Owners of one block: inode, byte offset, unwritten.
type DataOwners = BTreeSet<(u64, u64, bool)>;

fn expected(truth: &Truth) -> BTreeMap<u64, DataOwners> {
    let mut blocks: BTreeMap<u64, DataOwners> = BTreeMap::new();
    for (&inode, extents) in &truth.files {
        for extent in extents {
            for i in 0..u64::from(extent.length.get()) {
                let offset = (extent.offset.get() + i) * 4096;
                let owner = (inode, offset, extent.flags.is_unwritten());
                assert!(blocks.entry(extent.start.get() + i).or_default().insert(owner));
            }
        }
    }
    blocks
}

/// Data owners and other roles of each block, from the answers for a range.
fn found(answers: &[Owned]) -> (BTreeMap<u64, DataOwners>, BTreeMap<u64, Vec<String>>) {
    let mut data: BTreeMap<u64, DataOwners> = BTreeMap::new();
    let mut roles: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for owned in answers {
        for i in 0..owned.length {
            match &owned.role {
                Role::Data(Data { inode, offset, unwritten, .. }) => {
                    let owner = (*inode, offset + i * 4096, *unwritten);
                    assert!(data.entry(owned.start + i).or_default().insert(owner), "{owned:?} twice");
                }
                role => roles.entry(owned.start + i).or_default().push(role.name().to_owned()),
            }
        }
    }
    (data, roles)
}

fn answers(device: &Device, range: std::ops::Range<u64>, source: Source) -> Vec<Owned> {
    owners(&volume(device), range, source).map(|owned| owned.unwrap()).collect()
}

fn free_blocks(device: &Device) -> BTreeSet<u64> {
    let volume = volume(device);
    let mut free = BTreeSet::new();
    for group in volume.geometry.group_numbers() {
        let (header, _) = group_header(&volume, group).unwrap();
        let tree = volume.group_tree::<Free>(group, header, GroupTree::Free);
        for at in tree.range(&volume.blocks, Key::MIN) {
            let record = at.unwrap().record;
            let start = volume.geometry.group_start(group);
            free.extend(start + record.key().start..start + record.end());
        }
    }
    free
}

fn check_all(change: &str, source: Source) {
    let (bytes, truth) = sample(features(change));
    let device = Device::memory(bytes);
    let blocks = volume(&device).geometry.blocks;
    let all = answers(&device, 0..blocks, source);
    let (data, roles) = found(&all);
    assert_eq!(data, expected(&truth));
    let free = free_blocks(&device);
    for block in 0..blocks {
        match roles.get(&block).map(Vec::as_slice) {
            None => assert!(data.contains_key(&block), "block {block} has nothing"),
            Some([role]) => {
                assert!(!data.contains_key(&block), "block {block} is data and {role}");
                assert_eq!(role == "free", free.contains(&block), "block {block} is {role}");
                assert_ne!(role, "unknown");
                assert_ne!(role, "metadata", "block {block}");
            }
            Some(more) => panic!("block {block} is {more:?}"),
        }
    }
    // Share counts, and runs of one set of owners.
    for owned in &all {
        if let Role::Data(found) = &owned.role {
            let sets: BTreeSet<_> = (0..owned.length).map(|i| data[&(owned.start + i)].len()).collect();
            assert_eq!(sets, BTreeSet::from([usize::try_from(found.shared).unwrap()]), "{owned:?}");
        }
    }
    // One block alone, and odd ranges, say the same.
    for block in 0..blocks {
        let (one, other) = found(&answers(&device, block..block + 1, source));
        assert_eq!(one.get(&block), data.get(&block));
        assert_eq!(other.get(&block), roles.get(&block));
        if source == Source::Files && block % 97 != 0 {
            continue;
        }
        let (some, others) = found(&answers(&device, block..(block + 13).min(blocks), source));
        assert!(some.iter().all(|(block, owners)| data.get(block) == Some(owners)));
        assert!(others.iter().all(|(block, names)| roles.get(block) == Some(names)));
    }
}

#[test]
fn every_block_by_the_reverse_map() {
    check_all("rmap,reflink", Source::ReverseMap);
}

#[test]
fn every_block_by_the_files() {
    check_all("rmap,reflink", Source::Files);
}

#[test]
fn every_block_without_reverse_map() {
    check_all("^rmap,^reflink", Source::Files);
}

#[test]
fn every_block_with_checksums() {
    check_all("rmap,reflink,csum", Source::ReverseMap);
}

#[test]
fn all_kinds_of_metadata_are_named() {
    let (bytes, _) = sample(features("rmap,reflink,csum"));
    let device = Device::memory(bytes);
    let all = answers(&device, 0..volume(&device).geometry.blocks + 5, Source::ReverseMap);
    let roles: BTreeSet<_> = all.iter().map(|owned| owned.role.name()).collect();
    let expected = [
        "attribute index",
        "attributes",
        "checksums",
        "cluster tree",
        "data",
        "directory",
        "directory index",
        "extent tree",
        "free",
        "free tree",
        "group",
        "group copy",
        "inode tree",
        "inodes",
        "journal",
        "outside",
        "refcount tree",
        "rmap tree",
        "superblock",
        "unused",
        "value",
    ];
    assert_eq!(roles.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn metadata_says_which_path_it_has() {
    let (bytes, _) = sample(features("rmap,reflink,csum"));
    let device = Device::memory(bytes);
    let volume = volume(&device);
    for owned in answers(&device, 0..volume.geometry.blocks, Source::ReverseMap) {
        let Role::Metadata(metadata) = &owned.role else { continue };
        match (metadata.what, resolve(&volume, &metadata.at)) {
            // A block of inodes has no fields of its own.
            ("inodes", Err(_)) => {
                resolve(&volume, &format!("{}.inode[0].header", metadata.at)).unwrap();
            }
            ("checksums", Ok(target)) => assert_eq!(target.offset, owned.start * 4096),
            (_, target) => {
                let block = target.unwrap().offset / 4096;
                assert_eq!(block, owned.start, "{metadata:?}");
            }
        }
    }
}

#[test]
fn a_broken_leaf_leaves_its_blocks_unknown_and_the_rest_known() {
    let (bytes, truth) = sample(features("rmap,reflink"));
    let mut device = Device::memory(bytes);
    let seed = volume(&device).seed;
    let whole = found(&answers(&device, 0..volume(&device).geometry.blocks, Source::ReverseMap)).0;
    let target = resolve(&volume(&device), "rmap[0].leaf[1].rec[0].start").unwrap();
    edit(&mut device, seed, &target, &Change::Do(Verb::Ones), Csum::Keep).unwrap();
    let (mut faults, mut known) = (0, 0);
    for owned in owners(&volume(&device), 0..volume(&device).geometry.blocks, Source::ReverseMap) {
        match owned {
            Err(_) => faults += 1,
            Ok(Owned { start, role: Role::Data(data), .. }) => {
                known += 1;
                assert!(whole[&start].contains(&(data.inode, data.offset, data.unwritten)));
            }
            Ok(_) => {}
        }
    }
    assert_eq!(faults, 1);
    assert!(known > 0 && known < expected(&truth).len());
}
