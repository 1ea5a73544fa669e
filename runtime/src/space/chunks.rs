//! The inodes of a group: chunks of 64, in clusters.

use super::{Context, Group, SpaceError};
use crate::pages::Pages;
use paxfs_format::chunk::{CHUNK_BLOCKS, CHUNK_INODES};
use paxfs_format::geometry::{Geometry, INODES_PER_BLOCK};

/// A chunk of inodes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Chunk {
    /// Inodes in use.
    pub used: u64,
    /// Those without a name.
    pub orphans: u64,
    /// Inodes that are freed, but not to be used again before that is durable.
    pub held: u64,
    /// Whether it is among those that may have an inode to give out.
    pub roomy: bool,
}

impl Group {
    /// A number for a new inode, and the block of its slot if that has never been used before.
    pub fn allocate_inode(&mut self, pages: &Pages, context: &Context) -> Result<u64, SpaceError> {
        loop {
            let Some(&start) = self.roomy.last() else {
                self.add_chunk(pages, context)?;
                continue;
            };
            // A chunk whose last inode went is gone.
            if let Some(chunk) = self.chunks.get_mut(&start) {
                let slot = (!(chunk.used | chunk.held)).trailing_zeros();
                if slot < CHUNK_INODES {
                    chunk.used |= 1 << slot;
                    self.chunk_log.insert(start);
                    self.header.inodes_used = (self.header.inodes_used.get() + 1).into();
                    self.changed = true;
                    let block = context.geometry.volume_block(self.number, start)
                        + u64::from(slot) / INODES_PER_BLOCK;
                    return Ok(Geometry::inode_number(block, u64::from(slot) % INODES_PER_BLOCK));
                }
                chunk.roomy = false;
            }
            self.roomy.pop();
        }
    }

    /// Makes a chunk of inodes, from which the next are given out.
    pub fn add_chunk(&mut self, pages: &Pages, context: &Context) -> Result<(), SpaceError> {
        let start = self.allocate_metadata(CHUNK_BLOCKS, context)?;
        for block in start..start + CHUNK_BLOCKS {
            self.new_page(pages, context, block);
        }
        self.chunks.insert(start, Chunk { roomy: true, ..Chunk::default() });
        self.chunk_log.insert(start);
        self.roomy.push(start);
        Ok(())
    }

    /// Gives back the blocks of chunks that have no inode left, but for the last that has room.
    pub(super) fn remove_empty_chunks(&mut self, pages: &Pages, context: &Context) -> Result<(), SpaceError> {
        let changed: Vec<u32> = self.chunk_log.iter().copied().collect();
        for start in changed {
            let others = self.roomy.iter().any(|roomy| *roomy != start && self.chunks.contains_key(roomy));
            if others && self.chunks.get(&start).is_some_and(|chunk| chunk.used == 0) {
                self.chunks.remove(&start);
                for block in start..start + CHUNK_BLOCKS {
                    self.free_metadata(block)?;
                    pages.forget(context.geometry.volume_block(self.number, block));
                }
            }
        }
        Ok(())
    }

    /// Chunk and bit of an inode of this group.
    fn chunk_of(&mut self, inode: u64, context: &Context) -> Option<(u32, u32)> {
        let place = context.geometry.locate(inode / INODES_PER_BLOCK)?;
        let start = place.block - place.block % CHUNK_BLOCKS;
        let slot = (place.block % CHUNK_BLOCKS) * 8 + u32::try_from(inode % INODES_PER_BLOCK).ok()?;
        self.chunks.contains_key(&start).then_some((start, slot))
    }

    /// Inodes in use in the chunk at `start`.
    pub fn inodes_in(&self, start: u32) -> u64 {
        self.chunks.get(&start).map_or(0, |chunk| chunk.used.count_ones().into())
    }

    /// Whether an inode of this group is in use.
    pub fn inode_in_use(&mut self, inode: u64, context: &Context) -> bool {
        self.chunk_of(inode, context)
            .and_then(|(start, slot)| Some(self.chunks.get(&start)?.used >> slot & 1 != 0))
            .unwrap_or(false)
    }

    /// Frees an inode of this group.
    pub fn free_inode(&mut self, inode: u64, context: &Context) {
        self.set_orphan(inode, false, context);
        let Some((start, slot)) = self.chunk_of(inode, context) else { return };
        if let Some(chunk) = self.chunks.get_mut(&start)
            && chunk.used >> slot & 1 != 0
        {
            chunk.used &= !(1 << slot);
            chunk.held |= 1 << slot;
            self.inodes_pending.push((start, slot));
            self.chunk_log.insert(start);
            self.header.inodes_used = self.header.inodes_used.get().saturating_sub(1).into();
            self.changed = true;
        }
    }

    /// Says whether an inode of this group is an orphan.
    pub fn set_orphan(&mut self, inode: u64, orphan: bool, context: &Context) {
        let Some((start, slot)) = self.chunk_of(inode, context) else { return };
        if let Some(chunk) = self.chunks.get_mut(&start)
            && (chunk.orphans >> slot & 1 != 0) != orphan
        {
            chunk.orphans ^= 1 << slot;
            self.chunk_log.insert(start);
            let count = self.header.orphans.get();
            self.header.orphans = if orphan { count + 1 } else { count.saturating_sub(1) }.into();
            self.changed = true;
        }
    }

    /// Numbers of all orphans of this group.
    pub fn orphans(&self, context: &Context) -> Vec<u64> {
        let bits = |mask: u64| (0..u64::from(CHUNK_INODES)).filter(move |slot| mask >> slot & 1 != 0);
        let number = |start: u32, slot: u64| {
            let block = context.geometry.volume_block(self.number, start) + slot / INODES_PER_BLOCK;
            Geometry::inode_number(block, slot % INODES_PER_BLOCK)
        };
        let chunks = self.chunks.iter();
        chunks.flat_map(|(start, chunk)| bits(chunk.orphans).map(move |slot| number(*start, slot))).collect()
    }
}
