//! The space of a volume being made: who gets which blocks. The policy of the allocator is here and in [`runs`].
//!
//! * Clusters go to a zone at each group's start (one block in sixteen), and only when that is full among the data.
//! * A file's piece of 2 MiB or more gets blocks congruent with its offset modulo 2 MiB, in one run if there is one.
//! * Smaller pieces are packed into odd ends of runs, then one after the other into frames of 2 MiB.
//! * When neither is left, anything free is taken, longest runs first, the zones last.
//! * Groups are filled one after the other. Whoever fills an empty volume alone gains nothing from spreading files (that
//!   is for writers side by side), and what is left free stays in whole groups.
//!
//! Nothing here touches the device.

pub mod group;
pub mod runs;

use crate::error::Error;
use group::GroupSpace;
use paxfs_format::chunk::CHUNK_INODES;
use paxfs_format::geometry::Geometry;
use runs::{FRAME, Runs};
use std::collections::BTreeMap;

/// Blocks that were found for a part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where in the file, in blocks.
    pub offset: u64,
    /// First block on the volume.
    pub start: u64,
    /// How many.
    pub blocks: u32,
}

/// The chunk that inodes come from.
#[derive(Debug, Clone, Copy)]
struct Slots {
    group: u32,
    chunk: u32,
    next: u32,
}

/// The space of a volume being made.
#[derive(Debug)]
pub struct Space {
    /// Where things are.
    pub geometry: Geometry,
    groups: BTreeMap<u32, GroupSpace>,
    /// The group being filled.
    current: u32,
    slots: Option<Slots>,
}

impl Space {
    /// The space of an empty volume.
    pub fn new(geometry: Geometry) -> Self {
        Space { geometry, groups: BTreeMap::new(), current: 0, slots: None }
    }

    /// What is known of a group.
    pub fn group(&mut self, group: u32) -> &mut GroupSpace {
        let geometry = &self.geometry;
        self.groups.entry(group).or_insert_with(|| GroupSpace::new(geometry, group))
    }

    /// Forgets a group that is finished, and returns what was known of it.
    pub fn finish_group(&mut self, group: u32) -> GroupSpace {
        self.groups.remove(&group).unwrap_or_else(|| GroupSpace::new(&self.geometry, group))
    }

    fn volume_block(&self, group: u32, block: u32) -> u64 {
        self.geometry.volume_block(group, block)
    }

    /// Groups, from the one being filled to the last.
    fn current_and_later(&self) -> impl Iterator<Item = u32> + use<> {
        self.current..self.geometry.group_numbers().end
    }

    /// All groups, from the one being filled around to the one before.
    fn around_current(&self) -> impl Iterator<Item = u32> + use<> {
        self.current_and_later().chain(0..self.current)
    }

    /// Blocks for the `blocks` of a file from block `offset` on, in the order of the file.
    ///
    /// # Errors
    ///
    /// [`Error::Full`].
    pub fn data(&mut self, offset: u64, blocks: u64) -> Result<Vec<Piece>, Error> {
        let mut pieces = Vec::with_capacity(1);
        let (mut offset, mut left) = (offset, blocks);
        while left > 0 {
            let piece = match u32::try_from(left) {
                Ok(few) if few < FRAME => self.small(offset, few),
                _ => self.large(offset, left),
            };
            let piece = piece.or_else(|| self.scrap(offset, left)).ok_or_else(|| self.full(blocks))?;
            offset += u64::from(piece.blocks);
            left -= u64::from(piece.blocks);
            pieces.push(piece);
        }
        Ok(pieces)
    }

    fn full(&self, blocks: u64) -> Error {
        Error::Full { what: format!("{blocks} blocks of data") }
    }

    /// Less than a frame, in one run, in the first group that has one.
    fn small(&mut self, offset: u64, blocks: u32) -> Option<Piece> {
        for group in self.current_and_later() {
            let data = &mut self.group(group).data;
            if let Some(start) = data.small(blocks).filter(|&start| data.take(start, blocks)) {
                self.current = group;
                return Some(Piece { offset, start: self.volume_block(group, start), blocks });
            }
        }
        None
    }

    /// A frame at least, congruent with its offset: all in one run, or as much as one run has.
    fn large(&mut self, offset: u64, blocks: u64) -> Option<Piece> {
        let phase = u32::try_from(offset % u64::from(FRAME)).unwrap_or(0);
        let mut best: Option<(u32, u32, u32)> = None;
        for group in self.current_and_later() {
            let pristine = !self.groups.contains_key(&group);
            let data = &mut self.group(group).data;
            let whole =
                u32::try_from(blocks).ok().and_then(|blocks| Some((blocks, data.congruent(blocks, phase)?)));
            if let Some((blocks, start)) = whole.filter(|&(blocks, start)| data.take(start, blocks)) {
                return Some(Piece { offset, start: self.volume_block(group, start), blocks });
            }
            if let Some((start, most)) = data.most_congruent(phase)
                && best.is_none_or(|(_, _, before)| most > before)
            {
                best = Some((group, start, most));
            }
            if pristine && group > 0 {
                break; // The groups behind it are as empty, and no larger.
            }
        }
        let (group, start, most) = best?;
        // Cut where a frame of the file ends, so that the rest begins with a whole one.
        let odd = u32::try_from((offset + u64::from(most)) % u64::from(FRAME)).unwrap_or(0);
        let blocks = u32::try_from(blocks).unwrap_or(u32::MAX).min(most - if most > odd { odd } else { 0 });
        self.group(group).data.take(start, blocks).then(|| Piece {
            offset,
            start: self.volume_block(group, start),
            blocks,
        })
    }

    /// Part of the longest free run there is; of the zones only when nothing else is free.
    fn scrap(&mut self, offset: u64, blocks: u64) -> Option<Piece> {
        let parts: [fn(&mut GroupSpace) -> &mut Runs; 2] = [|group| &mut group.data, |group| &mut group.zone];
        let numbers = self.geometry.group_numbers();
        for part in parts {
            let longest =
                |group| part(self.group(group)).longest().map(|(start, length)| (length, group, start));
            let all = numbers.clone().filter_map(longest);
            if let Some((length, group, start)) =
                all.max_by_key(|&(length, group, _)| (length, u32::MAX - group))
            {
                let blocks = u32::try_from(blocks).unwrap_or(u32::MAX).min(length);
                // The zone is eaten from its end.
                let start = start + (length - blocks);
                return part(self.group(group)).take(start, blocks).then(|| Piece {
                    offset,
                    start: self.volume_block(group, start),
                    blocks,
                });
            }
        }
        None
    }

    /// Takes exactly these blocks of the volume; false when one is not free, or they are not all in one group.
    pub fn take(&mut self, start: u64, blocks: u32) -> bool {
        let Some(place) = self.geometry.locate(start) else { return false };
        let end = u64::from(place.block) + u64::from(blocks);
        end <= self.geometry.group_len(place.group) && self.group(place.group).take(place.block, blocks)
    }

    /// Makes blocks free again.
    pub fn give_back(&mut self, start: u64, blocks: u32) {
        if let Some(place) = self.geometry.locate(start) {
            self.group(place.group).give_back(place.block, blocks);
        }
    }

    /// A block in a cluster, of the group being filled if it has one.
    ///
    /// # Errors
    ///
    /// [`Error::Full`].
    pub fn node(&mut self) -> Result<u64, Error> {
        self.node_near(self.current)
    }

    /// A block in a cluster, of that group if it has one.
    ///
    /// # Errors
    ///
    /// [`Error::Full`].
    pub fn node_near(&mut self, group: u32) -> Result<u64, Error> {
        for group in core::iter::once(group).chain(self.around_current()) {
            if let Some(block) = self.group(group).node() {
                return Ok(self.volume_block(group, block));
            }
        }
        Err(Error::Full { what: "metadata".to_owned() })
    }

    /// Gives a block of a cluster back that nothing was written to.
    pub fn release_node(&mut self, block: u64) {
        if let Some(place) = self.geometry.locate(block) {
            self.group(place.group).mark(place.block, false);
        }
    }

    /// So many blocks in clusters.
    ///
    /// # Errors
    ///
    /// [`Error::Full`].
    pub fn nodes(&mut self, count: u64) -> Result<Vec<u64>, Error> {
        (0..count).map(|_| self.node()).collect()
    }

    /// The number of a new inode. Its slot does not count as used yet.
    ///
    /// # Errors
    ///
    /// [`Error::Full`].
    pub fn inode(&mut self) -> Result<u64, Error> {
        let mut slots = match self.slots {
            Some(slots) if slots.next < CHUNK_INODES => slots,
            _ => self.chunk()?,
        };
        let first = Geometry::inode_number(self.volume_block(slots.group, slots.chunk), 0);
        let number = first + u64::from(slots.next);
        slots.next += 1;
        self.slots = Some(slots);
        Ok(number)
    }

    fn chunk(&mut self) -> Result<Slots, Error> {
        for group in self.around_current() {
            if let Some(chunk) = self.group(group).chunk() {
                return Ok(Slots { group, chunk, next: 0 });
            }
        }
        Err(Error::Full { what: "inodes".to_owned() })
    }

    /// Marks an inode as in use, and maybe as an orphan.
    pub fn use_inode(&mut self, number: u64, orphan: bool) {
        let block = number / paxfs_format::geometry::INODES_PER_BLOCK;
        if let Some(place) = self.geometry.locate(block) {
            let chunk = place.block - place.block % paxfs_format::chunk::CHUNK_BLOCKS;
            let slot = number % u64::from(CHUNK_INODES);
            let bit = 1 << slot;
            self.group(place.group).chunk_bits(chunk, bit, if orphan { bit } else { 0 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(mib: u64, groups: u64) -> Space {
        Space::new(Geometry::choose(mib << 20, Some(groups), false).unwrap())
    }

    #[test]
    fn large_pieces_are_congruent_and_whole() {
        let mut space = space(1024, 4);
        for (offset, blocks) in [(0, 512), (0, 10_000), (7, 5000), (511, 513)] {
            let pieces = space.data(offset, blocks).unwrap();
            assert_eq!(pieces.len(), 1, "{pieces:?}");
            assert_eq!(pieces[0].start % 512, offset % 512);
        }
    }

    #[test]
    fn small_pieces_are_packed() {
        let mut space = space(1024, 4);
        let starts: Vec<u64> = (0..100).map(|_| space.data(0, 5).unwrap()[0].start).collect();
        assert!(starts.windows(2).all(|pair| pair[1] == pair[0] + 5), "{starts:?}");
    }

    #[test]
    fn a_file_larger_than_a_group_is_cut_at_frames() {
        let mut space = space(64, 4);
        let pieces = space.data(3, 12_000).unwrap();
        assert!(pieces.len() <= 4, "{pieces:?}");
        for piece in &pieces {
            assert_eq!(piece.start % 512, piece.offset % 512, "{pieces:?}");
        }
    }

    #[test]
    fn all_blocks_are_given_once_and_then_it_is_full() {
        let mut space = space(4, 2);
        let mut seen = std::collections::BTreeSet::new();
        let root = space.inode().unwrap();
        assert_eq!(root % 64, 0);
        while let Ok(pieces) = space.data(0, 3) {
            for piece in pieces {
                for block in piece.start..piece.start + u64::from(piece.blocks) {
                    assert!(seen.insert(block));
                }
            }
        }
        let free: u64 =
            (0..2).map(|group| space.group(group).data.blocks() + space.group(group).zone.blocks()).sum();
        assert!(free < 3, "{free}");
        while space.chunk().is_ok() {}
        assert!(matches!(space.node(), Err(Error::Full { .. })));
    }

    #[test]
    fn exact_places() {
        let mut space = space(64, 4);
        assert!(space.take(5000, 100));
        assert!(!space.take(5050, 1));
        space.give_back(5050, 10);
        assert!(space.take(5055, 5) && !space.take(0, 1) && !space.take(4096 * 3 + 4090, 10));
    }
}
