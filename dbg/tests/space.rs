//! `space`, `owner`, `sharing`, `huge`, `freesp` and `extents` agree with each other and with a naive count.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests say what they expect by failing"
)]

mod common;

use common::{features, sample, volume};
use paxfs_dbg::commands::extents::parts;
use paxfs_dbg::commands::freesp::FreeSpace;
use paxfs_dbg::commands::huge::Reached;
use paxfs_dbg::commands::space::{Conflict, Row, conflicts, rows};
use paxfs_dbg::faults::Faults;
use paxfs_dbg::holders;
use paxfs_dbg::reach::Reach;
use paxfs_dbg::sharing::{Sharing, Usage};
use paxfs_format::blocks::Blocks;
use paxfs_format::device::Device;
use paxfs_format::inode::FileType;
use paxfs_format::owners::{Role, Source, inodes, owners};
use paxfs_format::volume::Volume;
use paxfs_mkfs::recipe::Recipe;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use zerocopy::FromBytes;

fn all_rows<B: Blocks>(volume: &Volume<B>) -> Vec<Row> {
    let mut faults = Faults::default();
    let mut all = Vec::new();
    let told = rows(volume, &mut faults, |row| {
        all.push(row.clone());
        Ok(true)
    });
    told.unwrap();
    assert_eq!(faults.kept(), [] as [String; 0]);
    all
}

fn recipe(files: &str) -> Device {
    let head = "volume: {size: 24M, uuid: 00000000-0000-4000-8000-000000000001, epoch: 1700000000}\nfiles:\n";
    let recipe: Recipe = format!("{head}{files}").parse().unwrap();
    recipe.image().unwrap().0
}

/// Blocks shared in all ways: whole files, parts, parts of parts, one file with itself.
fn shared() -> Device {
    recipe(
        "  - {path: /one, size: 400K, seed: 1}
  - {path: /two, reflink: {of: /one}}
  - {path: /directory/three, size: 120K, seed: 2, reflink: {of: /one, offset: 80K, length: 80K, to: 40K}}
  - {path: '/directory/{i}', repeat: 5, reflink: {of: /one, offset: 120K, length: 160K}}
  - {path: /self, reflink: [{of: /one, length: 20K}, {of: /one, length: 20K, to: 20K}]}
  - {path: /alone, size: 100K, seed: 3}
  - {path: /empty}
",
    )
}

/// Every block is in exactly one row, or, for data, in one for each owner; and `owner` says the same.
fn check_space(device: &Device) {
    let volume = volume(device);
    let all = all_rows(&volume);
    let mut at = 0;
    let mut index = 0;
    while let Some(row) = all.get(index) {
        assert_eq!(row.start, at, "{row:?}");
        let times = usize::try_from(row.shared.unwrap_or(1)).unwrap();
        let owners = &all[index..index + times];
        assert!(owners.iter().all(|other| (other.start, other.length) == (row.start, row.length)));
        let distinct: BTreeSet<_> = owners.iter().map(|row| (row.inode, row.offset)).collect();
        assert!(distinct.len() == times || row.role != "data");
        at += row.length;
        index += times;
    }
    assert_eq!(at, volume.geometry.blocks);
    assert_eq!(conflicts(&volume), (vec![], 0));

    let source = Source::best(&volume);
    for row in &all {
        for block in row.start..row.start + row.length {
            let found = owners(&volume, block..block + 1, source).any(|owned| {
                let role = owned.unwrap().role;
                let data = match &role {
                    Role::Data(data) => (Some(data.inode), Some(data.offset - (block - row.start) * 4096)),
                    _ => (row.inode, None),
                };
                role.name() == row.role && data == (row.inode, row.offset)
            });
            assert!(found, "block {block}: {row:?}");
        }
    }
}

#[test]
fn every_block_is_accounted_for_once() {
    for change in ["rmap,reflink", "rmap,reflink,csum", "^reflink", "^rmap,^reflink"] {
        check_space(&Device::memory(sample(features(change)).0));
    }
    check_space(&shared());
}

#[test]
fn rows_of_the_program_are_those_of_owner() {
    let (_directory, image, _) = common::sample_file(features("rmap,reflink"));
    let space = common::json(&["-J", &image, "space"]);
    let volume_bytes = space["volume_bytes"].as_u64().unwrap();
    let sum: u64 = space["bytes"].as_object().unwrap().values().map(|bytes| bytes.as_u64().unwrap()).sum();
    assert_eq!(sum, volume_bytes);
    let owner = common::json(&["-J", &image, "owner", &format!("0..{}", volume_bytes / 4096)]);
    let data = |rows: &serde_json::Value| -> Vec<_> {
        let rows = rows.as_array().unwrap().iter().filter(|row| row["role"] == "data");
        let part = |row: &serde_json::Value| {
            ["start", "length", "inode", "offset", "shared", "unwritten"].map(|key| row[key].to_string())
        };
        rows.map(part).collect()
    };
    assert_eq!(data(&space["space"]), data(&owner["owners"]));
    let summary = common::json(&["-J", &image, "space", "-s"]);
    assert_eq!(summary["bytes"], space["bytes"]);
}

#[test]
fn lost_and_doubly_claimed_blocks_are_told() {
    let mut device = recipe("  - {path: /one, size: 400K, seed: 1}\n  - {path: /two, size: 40K, seed: 2}\n");
    let (block, seed, free, rmap, blocks) = {
        let volume = volume(&device);
        let header = volume.group(0).unwrap();
        let inode = volume.inode(volume.resolve(b"/two").unwrap()).unwrap();
        let two = volume.extents(inode).next().unwrap().unwrap().start.get();
        (two, volume.seed, header.free.block.get(), header.rmap.block.get(), volume.geometry.blocks)
    };
    // The first free run begins 3 blocks early or late.
    let first_free = |device: &Device| {
        let bytes = device.block(free).unwrap();
        u32::from_le_bytes(bytes[40..44].try_into().unwrap())
    };
    let start = first_free(&device);
    let shift = |device: &mut Device, to: u32, length: i64| {
        let block = device.bytes_mut(free * 4096, 4096).unwrap();
        block[40..44].copy_from_slice(&to.to_le_bytes());
        let old = u32::from_le_bytes(block[44..48].try_into().unwrap());
        block[44..48].copy_from_slice(&u32::try_from(i64::from(old) + length).unwrap().to_le_bytes());
        seed.seal(block);
    };
    shift(&mut device, start + 3, -3);
    let lost: Vec<_> = all_rows(&volume(&device)).into_iter().filter(|row| row.role == "unknown").collect();
    assert_eq!(lost.iter().map(|row| (row.start, row.length)).collect::<Vec<_>>(), [(start.into(), 3)]);
    shift(&mut device, start - 2, 5);
    let (found, count) = conflicts(&volume(&device));
    assert_eq!(count, 1);
    assert_eq!((found[0].start, found[0].length), (u64::from(start) - 2, 2));
    assert!(found[0].claims.contains(&"free"));
    // Two files on a volume that shares nothing cannot be told from sharing here; metadata and data can.
    let leaf = device.bytes_mut(rmap * 4096, 4096).unwrap();
    let record =
        leaf[40..].chunks_exact_mut(28).find(|record| record[8..16] == (u64::MAX - 3).to_le_bytes()).unwrap();
    let cluster = u32::from_le_bytes(record[..4].try_into().unwrap());
    record[4..8].copy_from_slice(&(u32::try_from(block).unwrap() + 1 - cluster).to_le_bytes());
    seed.seal(leaf);
    let (found, _) = conflicts(&volume(&device));
    let both = Conflict { start: block, length: 1, claims: vec!["data", "metadata"] };
    assert!(found.contains(&both) || block < u64::from(cluster), "{found:?}");
    assert!(blocks > block);
}

/// Who holds each block, by the extents of the files.
fn by_block<B: Blocks>(volume: &Volume<B>) -> BTreeMap<u64, Vec<u64>> {
    let mut blocks: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for number in inodes(volume) {
        let inode = volume.inode(number.unwrap()).unwrap();
        if inode.file_type() != Some(FileType::Regular) {
            continue;
        }
        for extent in volume.extents(inode) {
            let extent = extent.unwrap();
            let start = extent.start.get();
            for block in start..start + u64::from(extent.length.get()) {
                blocks.entry(block).or_default().push(inode.header.place.get());
            }
        }
    }
    blocks
}

fn check_sharing(device: &Device, members: Option<&BTreeSet<u64>>) {
    let volume = volume(device);
    let mut faults = Faults::default();
    let sharing = Sharing::of(holders::held(&volume), volume.geometry.blocks, members, &mut faults);
    assert_eq!(faults.count(), 0);
    let is_member = |inode: &u64| members.is_none_or(|members| members.contains(inode));
    let mut files: HashMap<u64, Usage> = HashMap::new();
    let mut sets: BTreeMap<Vec<u64>, u64> = BTreeMap::new();
    let (mut bytes, mut shared, mut referenced, mut exclusive) = (0, 0, 0, 0);
    for holders in by_block(&volume).values() {
        let distinct: BTreeSet<u64> = holders.iter().copied().collect();
        for inode in distinct.iter().copied().filter(is_member) {
            let usage = files.entry(inode).or_default();
            usage.bytes += 4096;
            if distinct.len() == 1 {
                usage.exclusive += 4096;
            } else {
                usage.shared += 4096;
            }
        }
        let of_members = holders.iter().copied().filter(is_member).count() as u64;
        if of_members == 0 {
            continue;
        }
        bytes += 4096;
        shared += if holders.len() > 1 { 4096 } else { 0 };
        referenced += of_members * 4096;
        exclusive += if distinct.iter().all(is_member) { 4096 } else { 0 };
        if distinct.len() > 1 {
            *sets.entry(distinct.into_iter().collect()).or_default() += 4096;
        }
    }
    assert_eq!(sharing.files, files);
    let found: BTreeMap<_, _> = sharing.sets.iter().map(|set| (set.inodes.clone(), set.bytes)).collect();
    assert_eq!(found, sets);
    let total = sharing.total;
    assert_eq!(
        (total.bytes, total.shared, total.referenced, total.saved, total.exclusive),
        (bytes, shared, referenced, referenced - bytes, exclusive)
    );
}

#[test]
fn sharing_sums_up() {
    let shared = shared();
    check_sharing(&shared, None);
    let below = {
        let volume = volume(&shared);
        paxfs_dbg::files::below(&volume, volume.resolve(b"/directory").unwrap(), &mut Faults::default())
    };
    assert_eq!(below.len(), 7);
    check_sharing(&shared, Some(&below));
    check_sharing(&Device::memory(sample(features("^rmap,^reflink")).0), None);
    check_sharing(&Device::memory(sample(features("rmap,reflink")).0), None);
}

#[test]
fn extents_are_cut_where_the_count_changes() {
    let device = shared();
    let volume = volume(&device);
    let blocks = by_block(&volume);
    for path in ["/one", "/two", "/directory/three", "/self", "/alone"] {
        let inode = volume.inode(volume.resolve(path.as_bytes()).unwrap()).unwrap();
        for extent in volume.extents(inode) {
            let extent = extent.unwrap();
            let parts = parts(&volume, &extent).unwrap();
            let mut at = extent.start.get();
            for part in &parts {
                assert_eq!(part.start, at);
                assert_eq!(part.offset, (extent.offset.get() + at - extent.start.get()) * 4096);
                for block in at..at + part.length {
                    assert_eq!(part.shared, blocks[&block].len() as u64);
                }
                assert_eq!(part.congruent, part.offset / 4096 % 512 == part.start % 512);
                at += part.length;
            }
            assert_eq!(at, extent.start.get() + u64::from(extent.length.get()));
        }
    }
}

/// The same as [`Reach::of`], window by window and block by block.
fn naive_reach<B: Blocks>(volume: &Volume<B>, path: &str) -> Reach {
    let inode = volume.inode(volume.resolve(path.as_bytes()).unwrap()).unwrap();
    let shared = by_block(volume);
    let mut map: BTreeMap<u64, (u64, bool)> = BTreeMap::new();
    for extent in volume.extents(inode) {
        let extent = extent.unwrap();
        for i in 0..u64::from(extent.length.get()) {
            map.insert(extent.offset.get() + i, (extent.start.get() + i, extent.flags.is_unwritten()));
        }
    }
    let size = inode.size.get().div_ceil(4096);
    let mut reach = Reach { data: map.len() as u64 * 4096, ..Reach::default() };
    let windows: BTreeSet<u64> = map.keys().map(|block| block / 512).collect();
    for window in windows {
        let blocks: Vec<_> = map.range(window * 512..(window + 1) * 512).collect();
        let bytes = blocks.len() as u64 * 4096;
        let (first, _) = *blocks[0].1;
        let one_run = (0..).zip(&blocks).all(|(i, (_, (block, _)))| *block == first + i);
        let unwritten = blocks.iter().any(|(_, (_, unwritten))| *unwritten);
        let part = if (window + 1) * 512 > size {
            if size < 512 { &mut reach.small } else { &mut reach.tail }
        } else if blocks.len() < 512 {
            &mut reach.hole
        } else if unwritten {
            &mut reach.unwritten
        } else if !one_run {
            &mut reach.fragmented
        } else if first % 512 != 0 {
            &mut reach.incongruent
        } else {
            if blocks.iter().any(|(_, (block, _))| shared[block].len() > 1) {
                reach.huge_shared += bytes;
            }
            &mut reach.huge
        };
        *part += bytes;
    }
    reach
}

#[test]
fn reach_is_what_each_window_says() {
    let head = "volume: {size: 96M, uuid: 00000000-0000-4000-8000-000000000001, epoch: 1700000000}\nfiles:\n";
    let files = "  - {path: /whole, size: 9M, seed: 1}
  - {path: /small, size: 100K, seed: 2}
  - {path: /cut, size: 5M, seed: 3, holes: [{offset: 3M, length: 4K}]}
  - {path: /unwritten, size: 6M, seed: 4, unwritten: [{offset: 2M, length: 2M}]}
  - {path: /pieces, size: 6M, seed: 5, fragments: 3}
  - {path: /copy, reflink: {of: /whole, length: 4M}}
  - {path: /shifted, reflink: {of: /whole, offset: 4K, length: 6M}}
  - {path: /sparse, size: 4G, holes: [{offset: 0, length: 4095M}]}
";
    let recipe: Recipe = format!("{head}{files}").parse().unwrap();
    let (device, _) = recipe.image().unwrap();
    let volume = volume(&device);
    let mut total = Reach::default();
    let mut reasons = BTreeSet::new();
    for path in ["/whole", "/small", "/cut", "/unwritten", "/pieces", "/copy", "/shifted", "/sparse"] {
        let inode = volume.inode(volume.resolve(path.as_bytes()).unwrap()).unwrap();
        let reach = Reach::of(&volume, inode, &mut Faults::default());
        assert_eq!(reach, naive_reach(&volume, path), "{path}");
        let sum: u64 = reach.reasons().iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(sum, reach.missed(), "{path}");
        reasons.extend(reach.reasons().into_iter().map(|(reason, _)| reason));
        total += reach;
    }
    assert!(total.huge > 0 && total.huge_shared > 0);
    let all = ["fragmented", "hole", "incongruent", "small", "tail", "unwritten"];
    assert!(reasons.is_subset(&all.into()) && reasons.len() >= 5, "{reasons:?}");
    let reached = Reached::of(&volume, inodes(&volume), 3, &mut Faults::default());
    assert_eq!((reached.files, reached.total), (8, total));
}

#[test]
fn free_space_is_what_the_headers_say() {
    let device = shared();
    let volume = volume(&device);
    let space = FreeSpace::of(&volume, None, &mut Faults::default());
    assert_eq!(space.blocks, space.header_blocks);
    assert_eq!(space.blocks, space.buckets.iter().map(|bucket| bucket.blocks).sum::<u64>());
    let free: u64 = all_rows(&volume).iter().filter(|row| row.role == "free").map(|row| row.length).sum();
    assert_eq!(space.blocks, free);
    assert!(space.huge_blocks <= space.blocks && space.huge_runs * 512 == space.huge_blocks);
    assert!(space.buckets.iter().all(|bucket| bucket.blocks >= bucket.runs * bucket.from));
}

#[test]
fn a_volume_a_million_times_larger_than_its_device_ends_soon() {
    let (_directory, image, _) = common::sample_file(features("rmap,reflink"));
    let mut bytes = std::fs::read(&image).unwrap();
    let seed = volume(&Device::memory(bytes.clone())).seed;
    let superblock = paxfs_format::superblock::Superblock::mut_from_bytes(&mut bytes[..4096]).unwrap();
    superblock.blocks = (1 << 51).into();
    superblock.group_blocks = (1 << 28).into();
    superblock.groups = (1 << 23).into();
    seed.seal(&mut bytes[..4096]);
    std::fs::write(&image, &bytes).unwrap();
    let out = std::path::Path::new(&image).with_file_name("out");
    let dump = std::path::Path::new(&image).with_file_name("dump");
    let (out, dump) = (out.to_str().unwrap(), dump.to_str().unwrap());
    let commands: &[&[&str]] = &[
        &["ls", "-lR"],
        &["space"],
        &["freesp"],
        &["huge"],
        &["sharing"],
        &["journal"],
        &["extents", "/pieces"],
        &["export", out],
        &["dump", dump],
    ];
    for command in commands {
        let started = std::time::Instant::now();
        let output = common::dbg(&[&[image.as_str()], *command].concat());
        assert!(matches!(output.status.code(), Some(0 | 1)), "{command:?}");
        assert!(started.elapsed().as_secs() < 30, "{command:?} took {:?}", started.elapsed());
        assert!(output.stderr.len() < 1 << 20, "{command:?}");
    }
    let space = common::dbg(&["-J", &image, "space"]);
    let space: serde_json::Value = serde_json::from_slice(&space.stdout).unwrap();
    assert_eq!(space["volume_bytes"], 1u64 << 63);
    assert_eq!(space["space"].as_array().unwrap().last().unwrap()["role"], "missing");
}
