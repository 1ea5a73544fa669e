//! Which inodes and groups there are.

use crate::faults::Faults;
use paxfs_format::blocks::Blocks;
use paxfs_format::inode::FileType;
use paxfs_format::volume::Volume;
use std::collections::BTreeSet;
use std::ops::Range;

/// The groups whose header the device reaches; a device may be shorter than its volume, by millions of groups.
pub fn groups<B: Blocks>(volume: &Volume<B>) -> Range<u32> {
    let Range { start, end } = volume.geometry.group_numbers();
    let reached = volume.blocks.blocks().saturating_add(1).div_ceil(volume.geometry.group_blocks.max(1));
    start..end.min(u32::try_from(reached).unwrap_or(u32::MAX))
}

/// The numbers of a file and, if it is a directory, of all below it.
pub fn below<B: Blocks>(volume: &Volume<B>, top: u64, faults: &mut Faults) -> BTreeSet<u64> {
    let mut found = BTreeSet::from([top]);
    let mut directories = vec![top];
    while let Some(number) = directories.pop() {
        let inode = match volume.inode(number) {
            Ok(inode) => inode,
            Err(fault) => {
                faults.note(format!("inode {number}: {fault}"));
                continue;
            }
        };
        if inode.file_type() != Some(FileType::Directory) {
            continue;
        }
        for entry in volume.directory(inode) {
            match entry {
                Ok(entry) => {
                    let below = entry.head.inode.get();
                    // What its name says is a directory is looked at again as an inode.
                    if found.insert(below) && entry.head.kind.0 == FileType::Directory.number() {
                        directories.push(below);
                    }
                }
                Err(fault) => faults.note(format!("directory inode {number}: {fault}")),
            }
        }
    }
    found
}
