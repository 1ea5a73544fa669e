//! Signatures of what else may be on a device: file systems, swap, encryption, volume managers, partition tables.
//!
//! Weak magics (two bytes) are believed only with something else that fits.

use paxfs_format::device::{Device, DeviceKind};
use paxfs_format::geometry::{BLOCK_BYTES, Geometry};
use paxfs_format::header::MAGIC;
use paxfs_format::volume::{self, read_superblock};
use std::fmt;

/// Something known that is on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// What.
    pub name: &'static str,
    /// Where its signature is, in bytes from the device's start.
    pub offset: u64,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {})", self.name, self.offset)
    }
}

/// Magics of four bytes or more, at fixed places.
const MAGICS: &[(&str, u64, &[u8])] = &[
    ("XFS", 0, b"XFSB"),
    ("btrfs", 0x10040, b"_BHRfS_M"),
    ("Linux swap", 4086, b"SWAPSPACE2"),
    ("Linux swap", 4086, b"SWAP-SPACE"),
    ("Linux swap", 8182, b"SWAPSPACE2"),
    ("Linux swap", 16374, b"SWAPSPACE2"),
    ("Linux swap", 65526, b"SWAPSPACE2"),
    ("LUKS encryption", 0, b"LUKS\xba\xbe"),
    ("LUKS2 encryption (second header)", 0x4000, b"SKUL\xba\xbe"),
    ("LUKS2 encryption (second header)", 0x8000, b"SKUL\xba\xbe"),
    ("LUKS2 encryption (second header)", 0x10000, b"SKUL\xba\xbe"),
    ("LUKS2 encryption (second header)", 0x20000, b"SKUL\xba\xbe"),
    ("LUKS2 encryption (second header)", 0x40000, b"SKUL\xba\xbe"),
    ("LUKS2 encryption (second header)", 0x80000, b"SKUL\xba\xbe"),
    ("LUKS2 encryption (second header)", 0x10_0000, b"SKUL\xba\xbe"),
    ("LUKS2 encryption (second header)", 0x20_0000, b"SKUL\xba\xbe"),
    ("LUKS2 encryption (second header)", 0x40_0000, b"SKUL\xba\xbe"),
    ("BitLocker encryption", 3, b"-FVE-FS-"),
    ("GPT partition table", 512, b"EFI PART"),
    ("GPT partition table", 4096, b"EFI PART"),
    ("ISO 9660", 0x8001, b"CD001"),
    ("UDF", 0x8001, b"BEA01"),
    ("exFAT", 3, b"EXFAT   "),
    ("NTFS", 3, b"NTFS    "),
    ("FAT", 54, b"FAT12   "),
    ("FAT", 54, b"FAT16   "),
    ("FAT", 82, b"FAT32   "),
    ("F2FS", 0x400, b"\x10\x20\xf5\xf2"),
    ("bcache", 0x1018, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"),
    ("bcachefs", 0x1018, b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"),
    ("RAID member (md 1.1)", 0, b"\xfc\x4e\x2b\xa9\x01\0\0\0"),
    ("RAID member (md 1.2)", 4096, b"\xfc\x4e\x2b\xa9\x01\0\0\0"),
    ("squashfs", 0, b"hsqs"),
    ("EROFS", 1024, b"\xe2\xe1\xf5\xe0"),
    ("JFS", 0x8000, b"JFS1"),
    ("ReiserFS", 0x10034, b"ReIsEr"),
    ("GFS2", 0x10000, b"\x01\x16\x19\x70"),
    ("OCFS2", 0x2000, b"OCFSV2"),
    ("APFS", 32, b"NXSB"),
    ("HFS+", 1024, b"H+\0\x04"),
    ("HFSX", 1024, b"HX\0\x05"),
    ("cramfs", 0, b"\x45\x3d\xcd\x28"),
    ("romfs", 0, b"-rom1fs-"),
    ("dm-integrity", 0, b"integrt\0"),
    ("dm-verity", 0, b"verity\0\0"),
];

/// What is known on a device, in the order of the places.
pub fn find(device: &Device) -> Vec<Found> {
    let magics = MAGICS.iter().filter(|(_, offset, magic)| has(device, *offset, magic));
    let mut found: Vec<Found> = magics.map(|&(name, offset, _)| Found { name, offset }).collect();
    found.extend(ext(device));
    found.extend(lvm(device));
    found.extend(raid_at_end(device));
    found.extend(gpt_at_end(device));
    found.extend(zfs(device));
    found.extend(paxfs(device));
    // A boot sector of FAT or NTFS ends like a partition table.
    if !found.iter().any(|one| matches!(one.name, "FAT" | "NTFS" | "exFAT" | "BitLocker encryption")) {
        found.extend(mbr(device));
    }
    found.sort_unstable_by_key(|one| one.offset);
    found
}

/// Whether these bytes are there. Holes are not read: reading one through a mapping costs tmpfs a page.
fn has(device: &Device, offset: u64, magic: &[u8]) -> bool {
    let end = offset.saturating_add(u64::try_from(magic.len()).unwrap_or(u64::MAX));
    device.next_data(offset).is_some_and(|data| data < end)
        && device.bytes(offset, magic.len()).is_ok_and(|bytes| bytes == magic)
}

fn word(device: &Device, offset: u64) -> Option<u32> {
    device.bytes(offset, 4).ok()?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

/// ext2, ext3, ext4: told apart by their features.
fn ext(device: &Device) -> Option<Found> {
    const SUPERBLOCK: u64 = 1024;
    if !has(device, SUPERBLOCK + 0x38, b"\x53\xef") || word(device, SUPERBLOCK + 0x18)? > 6 {
        return None;
    }
    let (compatible, incompatible) = (word(device, SUPERBLOCK + 0x5c)?, word(device, SUPERBLOCK + 0x60)?);
    let name = if incompatible & !0x1f != 0 {
        "ext4"
    } else if compatible & 0x4 != 0 {
        "ext3"
    } else {
        "ext2"
    };
    Some(Found { name, offset: SUPERBLOCK + 0x38 })
}

fn lvm(device: &Device) -> Option<Found> {
    let label = |sector: u64| sector * 512;
    let holds = |&sector: &u64| {
        has(device, label(sector), b"LABELONE") && has(device, label(sector) + 24, b"LVM2 001")
    };
    (0..4).find(holds).map(|sector| Found { name: "LVM2 physical volume", offset: label(sector) })
}

/// The versions of md that keep their superblock at the end.
fn raid_at_end(device: &Device) -> Vec<Found> {
    const MAGIC: &[u8] = b"\xfc\x4e\x2b\xa9";
    const SLOT: u64 = 64 << 10;
    let old = (device.len() / SLOT).checked_sub(1).map(|slot| ("RAID member (md 0.9)", slot * SLOT));
    let new =
        (device.len() / 512).checked_sub(16).map(|sector| ("RAID member (md 1.0)", (sector & !7) * 512));
    let both = old.into_iter().chain(new).filter(|(_, offset)| has(device, *offset, MAGIC));
    both.map(|(name, offset)| Found { name, offset }).collect()
}

fn gpt_at_end(device: &Device) -> Option<Found> {
    let place = |sector: &u64| device.len().checked_sub(*sector).map(|end| end - device.len() % sector);
    [512, 4096]
        .iter()
        .filter_map(place)
        .find(|offset| has(device, *offset, b"EFI PART"))
        .map(|offset| Found { name: "GPT partition table (backup)", offset })
}

/// A partition table with at least one partition, and only those that can be.
fn mbr(device: &Device) -> Option<Found> {
    let sector = device.bytes(0, 512).ok()?;
    let table = sector.get(446..510)?;
    let sound = table.chunks_exact(16).all(|entry| matches!(entry.first(), Some(0 | 0x80)));
    let used = table.chunks_exact(16).any(|entry| entry.get(4).is_some_and(|kind| *kind != 0));
    (has(device, 510, b"\x55\xaa") && sound && used)
        .then_some(Found { name: "MBR partition table", offset: 510 })
}

/// An uberblock in one of the four labels.
fn zfs(device: &Device) -> Option<Found> {
    const LABEL: u64 = 256 << 10;
    const RING: u64 = 128 << 10;
    let end = device.len() - device.len() % LABEL;
    let labels = [Some(0), Some(LABEL), end.checked_sub(2 * LABEL), end.checked_sub(LABEL)];
    // Looking at each slot of the ring would touch a megabyte; pools write the slots in turn, and the first soon.
    let slots =
        labels.into_iter().flatten().flat_map(|label| (0..4).map(move |slot| label + RING + slot * 1024));
    let magics: [&[u8]; 2] = [b"\x0c\xb1\xba\0\0\0\0\0", b"\0\0\0\0\0\xba\xb1\x0c"];
    slots
        .into_iter()
        .find(|offset| magics.iter().any(|magic| has(device, *offset, magic)))
        .map(|offset| Found { name: "ZFS", offset })
}

/// Our own superblock, or a copy. Of a disk only the places are looked at where a volume of this size has copies: all
/// multiples of 2 MiB would take a head a long time.
fn paxfs(device: &Device) -> Option<Found> {
    let copy = |block: u64| Found {
        name: "paxfs (a copy of its superblock)",
        offset: block.saturating_mul(BLOCK_BYTES),
    };
    if has(device, 0, &MAGIC.0) && read_superblock(device, 0).is_ok() {
        return Some(Found { name: "paxfs", offset: 0 });
    }
    if device.kind() != DeviceKind::Block {
        return volume::find(device).ok().map(|found| copy(found.block));
    }
    let geometry = Geometry::choose(device.len(), None, false).ok()?;
    let copies = geometry.group_numbers().skip(1).map(|group| geometry.superblock(group));
    copies.into_iter().find(|&block| read_superblock(device, block).is_ok()).map(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(places: &[(u64, &[u8])]) -> Vec<&'static str> {
        let mut bytes = vec![0; 5 << 20];
        for (offset, magic) in places {
            let start = usize::try_from(*offset).unwrap();
            bytes[start..start + magic.len()].copy_from_slice(magic);
        }
        find(&Device::memory(bytes)).iter().map(|found| found.name).collect()
    }

    #[test]
    fn each_magic_is_found_alone() {
        for (name, offset, magic) in MAGICS {
            assert_eq!(with(&[(*offset, magic)]), [*name]);
        }
        assert_eq!(with(&[]), [""; 0]);
    }

    #[test]
    fn those_with_conditions() {
        assert_eq!(with(&[(1080, b"\x53\xef")]), ["ext2"]);
        assert_eq!(with(&[(1080, b"\x53\xef"), (1116, b"\x04")]), ["ext3"]);
        assert_eq!(with(&[(1080, b"\x53\xef"), (1120, b"\x40")]), ["ext4"]);
        assert_eq!(with(&[(1080, b"\x53\xef"), (1048, b"\x07")]), [""; 0], "no such block size");
        assert_eq!(with(&[(512, b"LABELONE"), (536, b"LVM2 001")]), ["LVM2 physical volume"]);
        assert_eq!(with(&[(512, b"LABELONE")]), [""; 0]);
        assert_eq!(with(&[(510, b"\x55\xaa"), (450, b"\x83")]), ["MBR partition table"]);
        assert_eq!(with(&[(510, b"\x55\xaa")]), [""; 0]);
        assert_eq!(with(&[(510, b"\x55\xaa"), (450, b"\x83"), (3, b"NTFS    ")]), ["NTFS"]);
        let end = 5 << 20;
        assert_eq!(with(&[(end - 512, b"EFI PART")]), ["GPT partition table (backup)"]);
        assert_eq!(with(&[(end - (64 << 10), b"\xfc\x4e\x2b\xa9")]), ["RAID member (md 0.9)"]);
        assert_eq!(with(&[(end - 8192, b"\xfc\x4e\x2b\xa9")]), ["RAID member (md 1.0)"]);
        assert_eq!(with(&[(128 << 10, b"\x0c\xb1\xba\0\0\0\0\0")]), ["ZFS"]);
    }

    #[test]
    fn a_device_too_short_for_most_places() {
        for length in [0, 1, 511, 512, 4096, 100_000] {
            assert_eq!(find(&Device::memory(vec![0; length])), []);
        }
    }
}
