//! Changing fields, with the checksum kept, fixed or broken.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests say what they expect by failing"
)]

mod common;

use common::{features, sample, volume};
use paxfs_format::device::Device;
use paxfs_format::field::edit::Verb;
use paxfs_format::header::{HeaderFault, Seed};
use paxfs_format::journal::{LINE_SIZE, Write, encode, replay};
use paxfs_format::path::{Change, Csum, EditError, edit, resolve};
use paxfs_format::volume::{StructureFault, read_superblock};
use zerocopy::IntoBytes;

fn device() -> Device {
    Device::memory(sample(features("rmap,reflink,csum")).0)
}

fn change(
    device: &mut Device,
    path: &str,
    change: &Change,
    csum: Csum,
) -> Result<(Vec<u8>, Vec<u8>), EditError> {
    let seed = volume(device).seed;
    let target = resolve(&volume(device), path).unwrap();
    let edited = edit(device, seed, &target, change, csum)?;
    assert_eq!(target.read(device).unwrap(), edited.after);
    Ok((edited.before, edited.after))
}

fn set(value: &str) -> Change {
    Change::Set(value.to_owned())
}

/// Stored and computed checksum over a path.
fn checksum(device: &Device, path: &str) -> (u32, u32) {
    let volume = volume(device);
    resolve(&volume, path).unwrap().seal.check(&volume.blocks, volume.seed).unwrap().unwrap()
}

#[test]
fn fixed() {
    let mut device = device();
    for path in [
        "rmap[0].leaf[0].rec[3].length",
        "inode[/greeting].uid",
        "group[1].free_blocks",
        "group_copy[0].header.generation",
        "inode[/many].directory.block[2].entry[1].inode",
        "inode[/many].directory.index.leaf[0].rec[2].block",
        "inode[/greeting].attributes.entry[0].cookie",
        "inode[/pieces].extents.leaf[1].rec[5].start",
    ] {
        let (before, after) = change(&mut device, path, &set("77"), Csum::Fix).unwrap();
        assert_ne!(before, after, "{path}");
        assert_eq!(after[0], 77);
        let (stored, computed) = checksum(&device, path);
        assert_eq!(stored, computed, "{path}");
    }
    assert!(volume(&device).group(1).is_ok());
}

#[test]
fn kept() {
    let mut device = device();
    let before = checksum(&device, "inode[/greeting]");
    change(&mut device, "inode[/greeting].mode", &set("100600"), Csum::Keep).unwrap();
    let (stored, computed) = checksum(&device, "inode[/greeting]");
    assert_eq!(stored, before.0);
    assert_ne!(stored, computed);
    let number = volume(&device).resolve(b"/greeting").unwrap();
    let fault = volume(&device).inode(number).unwrap_err();
    assert!(matches!(fault, StructureFault::Header(HeaderFault::Crc { .. })));
}

#[test]
fn broken() {
    let mut device = device();
    change(&mut device, "group[0].inodes_used", &set("5"), Csum::Break).unwrap();
    let (stored, computed) = checksum(&device, "group[0]");
    assert_eq!(stored ^ 1, computed);
}

#[test]
fn the_checksum_itself() {
    let mut device = device();
    let (_, computed) = checksum(&device, "group[0]");
    change(&mut device, "group[0].header.crc", &set("0x1234"), Csum::Fix).unwrap();
    assert_eq!(checksum(&device, "group[0]"), (0x1234, computed));
    change(&mut device, "group[0].header.crc", &set("0x1234"), Csum::Break).unwrap();
    assert_eq!(checksum(&device, "group[0]"), (computed ^ 1, computed));
}

#[test]
fn a_superblock_is_sealed_with_its_own_uuid() {
    let mut device = device();
    change(&mut device, "sb.uuid", &set("00000000-0000-0000-0000-0000000000ff"), Csum::Fix).unwrap();
    let (superblock, _) = read_superblock(&device, 0).unwrap();
    assert_eq!(superblock.uuid.0[15], 0xff);
    assert!(volume(&device).group(0).is_err());
}

#[test]
fn verbs() {
    let mut device = device();
    let path = "refcount[0].leaf[0].rec[0].count";
    let (before, after) = change(&mut device, path, &Change::Do(Verb::Lastbit), Csum::Fix).unwrap();
    assert_eq!(before[0] ^ 1, after[0]);
    change(&mut device, path, &Change::Do(Verb::Zeroes), Csum::Keep).unwrap();
    let (stored, computed) = checksum(&device, path);
    assert_ne!(stored, computed);
}

#[test]
fn refused() {
    let mut device = device();
    let error = change(&mut device, "sum[700].crc", &set("1"), Csum::Break).unwrap_err();
    assert_eq!(error.to_string(), "sum[700].crc is covered by no checksum that could be broken");
    let before = device.block(1).unwrap().to_vec();
    let error = change(&mut device, "group[0].group", &set("x"), Csum::Fix).unwrap_err();
    assert!(error.to_string().starts_with("group[0].group: `x` is no number"), "{error}");
    let error = change(&mut device, "group[0].free", &set("1"), Csum::Fix).unwrap_err();
    assert!(error.to_string().contains("several"), "{error}");
    assert_eq!(device.block(1).unwrap().as_slice(), before);
    change(&mut device, "sum[700].crc", &set("1"), Csum::Fix).unwrap();
}

#[test]
fn a_journal_record() {
    let mut device = device();
    let (seed, geometry) = (volume(&device).seed, volume(&device).geometry);
    let place = geometry.journal().start;
    let writes = [
        Write { block: 700, lines: 0b101, data: &[3; 2 * LINE_SIZE] },
        Write { block: 701, lines: 0b1, data: &[4; LINE_SIZE] },
    ];
    let (mut head, body) = encode(seed, place, 8, &writes).unwrap();
    head.commit = 8.into();
    let all = [head.as_bytes(), &body].concat();
    device.bytes_mut(place * 4096, all.len()).unwrap().copy_from_slice(&all);
    let slot = |device: &Device, seed: Seed| {
        let bytes =
            device.bytes(place * 4096, usize::try_from(geometry.journal_blocks).unwrap() * 4096).unwrap();
        format!("{:?}", replay(bytes, [None; 2], &geometry, seed, 1).slots[0])
    };
    let made = slot(&device, seed);
    assert!(made.starts_with("Committed"), "{made}");
    let second = resolve(&volume(&device), "journal.slot[0].rec[1].block").unwrap();
    assert_eq!(second.read(&device).unwrap()[..2], 701u16.to_le_bytes());
    change(&mut device, "journal.slot[0].rec[1].block", &set("702"), Csum::Fix).unwrap();
    change(&mut device, "journal.slot[0].rec[0].data", &Change::Do(Verb::Ones), Csum::Fix).unwrap();
    let changed = slot(&device, seed);
    assert!(changed.starts_with("Committed") && changed.contains("block: 702"), "{changed}");
    change(&mut device, "journal.slot[0].rec[1].block", &set("703"), Csum::Break).unwrap();
    assert!(slot(&device, seed).starts_with("Broken") && slot(&device, seed).contains("Crc"));
}
