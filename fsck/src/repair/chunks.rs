//! Where inodes are: the chunks of a group, from its inode index and, where that is damaged, from the inodes themselves.

use super::clusters;
use super::source::gather;
use paxfs_format::chunk::{CHUNK_BLOCKS, CHUNK_INODES, Chunk};
use paxfs_format::geometry::{Geometry, INODES_PER_BLOCK};
use paxfs_format::group::GroupTree;
use paxfs_format::image::Image;
use paxfs_format::record::Record;
use paxfs_format::units::Reserved;
use paxfs_format::volume::Volume;
use std::collections::BTreeMap;

/// Sound inodes, in use or freed, in a block.
pub(super) fn inodes_in(volume: &Volume<Image<'_>>, block: u64) -> usize {
    let slots = (0..INODES_PER_BLOCK).map(|slot| Geometry::inode_number(block, slot));
    slots.filter(|number| volume.inode(*number).is_ok()).count()
}

/// A chunk that covers no inode.
pub(super) fn chunk(start: u32, used: u64, orphans: u64) -> Chunk {
    Chunk { start: start.into(), reserved: Reserved::ZERO, used: used.into(), orphans: orphans.into() }
}

/// The chunks of a group.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By start.
    pub chunks: BTreeMap<u32, Chunk>,
    /// Starts of those that no record of the inode index tells of: what cannot be read there may be in use.
    pub unrecorded: Vec<u32>,
}

/// The chunks of a group. `doubted`: something was found there, so the inodes themselves are asked.
pub(super) fn known(volume: &Volume<Image<'_>>, group: u32, doubted: bool) -> Known {
    let mut found = BTreeMap::new();
    let mut unrecorded = Vec::new();
    let Ok(header) = volume.group(group) else { return Known::default() };
    let tree = gather(volume, &volume.group_tree::<Chunk>(group, header, GroupTree::Inodes));
    let space = volume.geometry.group_space(group);
    let whole = tree.faults == 0 && tree.doubtful.is_empty();
    for chunk in tree.sound {
        found.insert(chunk.start.get(), chunk);
    }
    if whole && !doubted {
        return Known { chunks: found, unrecorded };
    }
    // Records that are wrong in part still have bits.
    for mut chunk in tree.doubtful {
        chunk.orphans = (chunk.orphans.get() & chunk.used.get()).into();
        chunk.reserved = Reserved::ZERO;
        if chunk.check(&space).is_ok() {
            found.entry(chunk.start.get()).or_insert(chunk);
        }
    }
    // Chunks that overlap one that is known cannot be.
    for (start, bitmap) in clusters::known(volume, group, true) {
        for first in (0..512).step_by(CHUNK_BLOCKS as usize).filter(|first| clusters::has(&bitmap, *first)) {
            let start = start.saturating_add(first);
            if start.is_multiple_of(CHUNK_BLOCKS)
                && !found.contains_key(&start)
                && is_there(volume, group, start)
            {
                found.insert(start, chunk(start, 0, 0));
                unrecorded.push(start);
            }
        }
    }
    // A record that leads where no inode is has the wrong place, if there is one that no record leads to; else the inodes
    // are lost.
    if !unrecorded.is_empty() {
        found.retain(|start, chunk| chunk.used.get() == 0 || is_there(volume, group, *start));
    }
    for (start, chunk) in &mut found {
        let slots = (0..CHUNK_INODES).map(|slot| (slot, inode(volume, group, *start, slot)));
        for (slot, number) in slots {
            let bit = 1u64 << slot;
            let used = match volume.inode(number) {
                // Freed, but marked: who names it decides, so it is looked at.
                Ok(inode) => !inode.is_free() || chunk.used.get() & bit != 0,
                // What cannot be read is what the record says, or what it looks like.
                Err(_) => {
                    let looks = volume.inode_unverified(number).is_ok_and(|inode| {
                        inode.header.magic == paxfs_format::header::MAGIC && !inode.is_free()
                    });
                    chunk.used.get() & bit != 0 || looks
                }
            };
            let (mut bits, mut orphans) = (chunk.used.get() & !bit, chunk.orphans.get() & !bit);
            if used {
                bits |= bit;
                let nameless = volume.inode(number).is_ok_and(|inode| inode.links.get() == 0);
                let was = chunk.orphans.get() & bit != 0;
                if nameless && (was || chunk.used.get() & bit == 0) {
                    orphans |= bit;
                }
            }
            (chunk.used, chunk.orphans) = (bits.into(), orphans.into());
        }
    }
    Known { chunks: found, unrecorded }
}

/// Number of the inode in a slot of a chunk.
pub(super) fn inode(volume: &Volume<Image<'_>>, group: u32, start: u32, slot: u32) -> u64 {
    Geometry::inode_number(volume.geometry.volume_block(group, start), slot.into())
}

/// Whether any inode is in a chunk's blocks.
fn is_there(volume: &Volume<Image<'_>>, group: u32, start: u32) -> bool {
    let first = volume.geometry.volume_block(group, start);
    (0..u64::from(CHUNK_BLOCKS)).any(|block| inodes_in(volume, first.saturating_add(block)) > 0)
}
